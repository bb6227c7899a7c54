"""The stage around the refiner: its fields, its draws, its promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from synthaug import seeds, testing
from synthaug.errors import ConfigError, SynthaugError
from synthaug.labels import Labels
from synthaug.refine.restore import SHIPPED, Restore
from tests.models.tiny_refiner import build_tiny_refiner

torch.set_num_threads(1)
LABELS = Labels((24, 40))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_refiner(tmp_path_factory.mktemp("refiner") / "model")


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"strength": 0.0}, "strength=0"), ({"strength": 1.5}, "strength=1.5"), ({"steps": 0}, "steps=0"),
        ({"colour": 2.0}, "colour=2"), ({"smooth": -0.1}, "smooth=-0.1"), ({"grain": (0.6, 0.4)}, "grain"),
        ({"grain": (0.5,)}, "grain"), ({"strength_decay": 0.0}, "strength_decay"), ({"dtype": "float8"}, "dtype"),
    ],
)  # fmt: skip
def test_fields_out_of_range(fields: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Restore(**fields)  # pyright: ignore[reportArgumentType]


def test_building_loads_nothing() -> None:
    stage = Restore(model="does/not/exist")
    with pytest.raises(SynthaugError, match="before load"):
        stage.paint(torch.zeros(1, 3, 8, 8), [LABELS], [{"strength": 0.5, "seed": 1, "grain": 0.5}])
    with pytest.raises(ConfigError, match="does/not/exist"):
        stage.identity()


def test_draws_depend_on_the_sample_alone_and_repairs_weaken() -> None:
    stage = Restore(strength=0.8, strength_decay=0.5, grain=(0.2, 0.6))
    draws = [stage.draw(seeds.generator(0, "a", 0, "refine", k), LABELS, k) for k in range(3)]
    assert [d["strength"] for d in draws] == [0.8, 0.4, 0.2]
    assert all(0.2 <= d["grain"] <= 0.6 for d in draws)
    assert len({d["seed"] for d in draws}) == 3
    assert draws[0] == stage.draw(seeds.generator(0, "a", 0, "refine", 0), LABELS, 0)


def test_contract(folder: Path) -> None:
    stage = Restore(model=str(folder), steps=2)
    stage.load("cpu")
    testing.check(stage)


def test_identity_follows_the_content_not_the_path(folder: Path, tmp_path: Path) -> None:
    copy = build_tiny_refiner(tmp_path / "other")
    assert Restore(model=str(folder)).identity() == Restore(model=str(copy)).identity()


def test_brightness_and_colours_stay(folder: Path) -> None:
    stage = Restore(model=str(folder), steps=2)
    stage.load("cpu")
    images = torch.rand(2, 3, 8, 8).repeat_interleave(8, -1).repeat_interleave(8, -2) * 0.6 + 0.2
    draws = [stage.draw(seeds.generator(0, str(i), 0, "refine"), LABELS, 0) for i in range(2)]
    done = stage.paint(images, [LABELS] * 2, draws).images
    assert not torch.equal(done, images)
    assert (done.mean((2, 3)) - images.mean((2, 3))).abs().max() < 1 / 255


@pytest.mark.skipif(not SHIPPED.is_dir(), reason="this checkout comes without weights")
def test_the_shipped_refiner_holds_shapes_still() -> None:
    import cv2

    stage = Restore()
    stage.load("cpu")
    sample = testing.make_sample(0, (256, 256))
    planes = torch.from_numpy(testing.planes(sample))[None]
    draw = stage.draw(seeds.generator(0, "s", 0, "refine"), sample.labels, 0)
    done = stage.paint(planes, [sample.labels], [draw]).images
    window = cv2.createHanningWindow((256, 256), cv2.CV_32F)
    grey = [np.ascontiguousarray(p[0].mean(0).numpy()) for p in (planes, done)]
    (dx, dy), _ = cv2.phaseCorrelate(grey[0], grey[1], window)
    assert np.hypot(dx, dy) < 0.1
    assert sum(f.stat().st_size for f in SHIPPED.rglob("*") if f.is_file()) <= 12 * 2**20
