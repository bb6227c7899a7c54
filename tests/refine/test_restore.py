"""The stage around the refiner: its fields, its draws, its promises."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from synthaug import seeds, testing
from synthaug.contracts import Painted
from synthaug.errors import ConfigError, InputError, SynthaugError
from synthaug.labels import Labels
from synthaug.models.maps import UNKNOWN, MapSpec, relative
from synthaug.refine.restore import SHIPPED, Restore
from tests.models.tiny_refiner import build_tiny_refiner
from tests.refine.dots import dots

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


def _done(stage: Restore, labels: Labels, names: str = "ab") -> tuple[torch.Tensor, Painted]:
    stage.load("cpu")
    generator = torch.Generator().manual_seed(3)
    images = torch.rand((len(names), 3, *labels.size), generator=generator)
    draws = [stage.draw(seeds.generator(0, name, 0, "refine"), labels, 0) for name in names]
    return images, stage.paint(images.clone(), [labels] * len(names), draws)


def test_what_must_not_be_touched_is_the_input_to_the_bit(folder: Path) -> None:
    labels = dots([(10, 10, 30, 30), (60, 40, 90, 70)])  # a car, a road, and a wall that no rule names
    rules = {"never_classes": ["car"], "classes": {"road": 0.5}}
    held = Restore(model=str(folder), steps=2, feather=3, protect=rules)
    held.expect(labels.categories, tuple(labels.passes))
    assert set(held.wants) >= {"instance", "semantic"}
    images, done = _done(held, labels)
    free = _done(Restore(model=str(folder), steps=2), labels)[1]
    never, road = (torch.from_numpy(labels.passes["instance"] == number) for number in (1, 2))
    assert never.any()
    assert torch.equal(done.images[..., never], images[..., never])
    assert not torch.equal(free.images[..., never], images[..., never])
    half = images + (free.images - images) / 2
    assert (done.images - half)[..., road].abs().max() < 1e-6
    rest = torch.from_numpy(cv2.dilate(never.numpy().astype(np.uint8), np.ones((9, 9))) == 0) & ~road
    assert torch.equal(done.images[..., rest], free.images[..., rest])
    assert set(done.facts[0]["protect"]) >= {"never", "mean_strength", "seam", "seam_before", "ring_change"}


def test_protection_keeps_the_contract(folder: Path) -> None:
    stage = Restore(model=str(folder), steps=2, protect={"never_classes": ["disc"], "keypoint_radius": 3})
    stage.load("cpu")
    testing.check(stage)


def test_protection_with_nothing_in_the_picture_is_no_protection_to_the_bit(folder: Path) -> None:
    labels = Labels((24, 40), testing.CATEGORIES)
    _, done = _done(Restore(model=str(folder), steps=2, protect={"never_classes": ["disc"]}), labels)
    assert torch.equal(done.images, _done(Restore(model=str(folder), steps=2), labels)[1].images)


def test_a_protected_picture_that_is_not_finite_is_rejected(folder: Path) -> None:
    labels = dots()
    stage = Restore(model=str(folder), steps=2, protect={"never_classes": ["car"]})
    stage.load("cpu")
    images = torch.rand(2, 3, *labels.size)
    images[0, 0, 0, 0] = torch.nan
    draws = [stage.draw(seeds.generator(0, name, 0, "refine"), labels, 0) for name in "ab"]
    done = stage.paint(images, [labels] * 2, draws)
    assert done.reasons == ("nonfinite", "")
    assert "seam" in done.facts[1]["protect"]


def test_noise_and_grain_stick_to_surfaces(folder: Path) -> None:
    """A wall that a camera passes in steps of whole pixels gets the same noise, wherever it is on the screen."""
    stage = Restore(model=str(folder), steps=2, sequence=True)
    assert stage.scope == "group"
    stage.load("cpu")
    aside = [dots((), k * 8 * 4.0 / 150) for k in range(2)]
    images = torch.full((2, 3, *aside[0].size), 0.5)
    draws = [stage.draw(seeds.generator(0, "group", 0, "refine"), labels, 0) for labels in aside]
    assert draws[0] == draws[1]
    done = stage.paint(images, aside, draws)
    alone = stage.paint(images[1:], aside[1:], draws[1:])
    assert torch.equal(alone.images[0], done.images[1])
    assert "sequence" in done.facts[0]
    first, second = done.images
    # The camera went to the right by 8 pixels, the wall goes to the left.
    along, still = correlation(first[..., 8:], second[..., :-8]), correlation(first, second)
    assert along > 0.6
    assert abs(still) < 0.2


def correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(np.corrcoef(one.reshape(-1), other.reshape(-1))[0, 1])


def test_what_the_plan_can_know_it_refuses(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"no class 'lorry'"):
        Restore(model=str(folder), protect={"never_classes": ["lorry"]}).expect(testing.CATEGORIES, ())
    with pytest.raises(ConfigError, match=r"depth or position; the input has instance.*sequence=false"):
        Restore(model=str(folder), sequence=True).expect(testing.CATEGORIES, ("instance",))
    with pytest.raises(ConfigError, match=r"protect\.nevr_classes: no such field"):
        Restore(protect={"nevr_classes": ["a"]})
    with pytest.raises(ConfigError, match="feather=300"):
        Restore(feather=300)
