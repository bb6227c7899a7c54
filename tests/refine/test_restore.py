"""The stage around the refiner: its fields, its draws, its promises."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from synthaug import seeds, testing
from synthaug.errors import ConfigError, InputError, SynthaugError
from synthaug.labels import Labels
from synthaug.models.maps import UNKNOWN, MapSpec, relative
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
        ({"strength": 0.0}, "strength=0"), ({"strength": 1.5}, "strength=1.5"), ({"steps": -1}, "steps=-1"),
        ({"steps": 1001}, "steps=1001"),
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


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = MapSpec(("depth", "normals", "classes"), ("square", "disc"))
    return build_tiny_refiner(tmp_path_factory.mktemp("refiner") / "told", spec)


def test_a_refiner_with_maps_wants_their_passes_and_keeps_the_contract(folder: Path, told: Path) -> None:
    assert Restore().wants == Restore(model=str(folder)).wants == ()
    stage = Restore(model=str(told), steps=2)
    assert stage.wants == ("depth", "normals", "semantic")
    assert stage.needs == ()
    stage.load("cpu")
    testing.check(stage)


def test_what_a_picture_lacks_is_absent_whoever_is_beside_it(told: Path) -> None:
    stage = Restore(model=str(told), steps=2)
    stage.load("cpu")
    sample = testing.make_sample(0)
    planes = torch.from_numpy(testing.planes(sample))[None].repeat(4, 1, 1, 1)
    draw = stage.draw(seeds.generator(0, "s", 0, "refine"), sample.labels, 0)
    views = [sample.labels.copy(names) for names in ((), ("depth",), ("semantic", "depth"), stage.wants)]
    done = stage.paint(planes, views, [draw] * 4)
    assert [fact["maps"] for fact in done.facts] == [
        [], ["depth"], ["depth", "classes"], ["depth", "normals", "classes"]
    ]  # fmt: skip
    for i, view in enumerate(views):
        assert torch.equal(stage.paint(planes[:1], [view], [draw]).images[0], done.images[i])
        assert all(not torch.equal(done.images[i], done.images[j]) for j in range(i))


def test_classes_go_by_name_and_depth_by_ratio(told: Path) -> None:
    stage = Restore(model=str(told))
    labels = testing.make_sample(0).labels
    known = [category.name for category in labels.categories]
    found = stage._arrays(labels.copy(stage.wants))
    expected = {name: number for number, name in enumerate(("square", "disc"), start=1)}
    for number, name in enumerate(known, start=1):
        there = found["classes"][labels.passes["semantic"] == number]
        assert (there == expected.get(name, UNKNOWN)).all()
    assert (found["classes"][labels.passes["semantic"] == 0] == 0).all()
    assert np.allclose(found["depth"], relative(labels.passes["depth"] * np.float32(4)), atol=1e-6)


def test_a_model_that_changed_after_planning_is_refused(told: Path, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    stage = Restore(model=str(copy))
    shutil.rmtree(copy)
    shutil.copytree(told, copy)
    with pytest.raises(ConfigError, match="other maps"):
        stage.load("cpu")
    (copy / "refiner.json").write_text("{")
    with pytest.raises(InputError, match=r"refiner\.json"):
        Restore(model=str(copy))


@pytest.mark.skipif(not SHIPPED.is_dir(), reason="this checkout comes without weights")
def test_the_shipped_refiner_takes_no_maps_and_is_still_the_same() -> None:
    stage = Restore()
    assert stage.wants == ()
    # Of refiner.json and the weights: runs that were made with it can be gone on with.
    assert stage.identity() == {"refiner": "31dab6dd16beebb8edcf7008a450133ef17768127e7c84d9e6d6f5b667b6cf36"}
    stage.load("cpu")
    sample = testing.make_sample(0, (32, 32))
    planes = torch.from_numpy(testing.planes(sample))[None]
    draw = stage.draw(seeds.generator(0, "s", 0, "refine"), sample.labels, 0)
    bare = stage.paint(planes, [LABELS], [draw])
    assert torch.equal(stage.paint(planes, [sample.labels], [draw]).images, bare.images)
    assert bare.facts == ()


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
