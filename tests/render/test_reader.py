"""The readers: ids, descriptions, labels of whole scenes, the same bytes wherever they run."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from synthaug.errors import ConfigError, InputError, Rejected
from synthaug.render import tabletop, variants
from synthaug.render.reader import DiceReader, TabletopReader
from synthaug.render.scene_reader import PASSES, SceneReader
from synthaug.sample import Sample

SMALL: dict[str, Any] = {"width": 96, "height": 64, "samples_per_pixel": 1, "variant": "scalar_rgb", "denoise": False}


def needs_mitsuba() -> None:
    pytest.importorskip("mitsuba", reason="Mitsuba 3 is not installed (pip install 'synthaug[render]')")


def digest(sample: Sample) -> str:
    state = hashlib.sha256(sample.image.pixels.tobytes())
    for name in sorted(sample.labels.passes):
        state.update(sample.labels.passes[name].tobytes())
    state.update(repr((sample.labels.instances, sample.labels.camera)).encode())
    return state.hexdigest()


def test_ids_and_descriptions_need_no_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "installed", lambda: True)
    reader = DiceReader(scenes=2, views=2, **SMALL)
    assert list(reader.ids()) == [f"scene-00000{s}/view-{v}" for s in range(2) for v in range(2)]
    described = reader.describe("scene-000001/view-1")
    assert described.size == (64, 96)
    assert (described.group, described.view, described.passes) == ("scene-000001", "view-1", PASSES)
    assert [c.name for c in reader.categories()] == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize("sample_id", ["scene-000002/view-0", "scene-000000/view-2", "scene-000000", "../x", ""])
def test_unknown_ids_are_rejected(sample_id: str) -> None:
    with pytest.raises(Rejected, match="no such sample"):
        DiceReader(scenes=2, views=2, **SMALL).describe(sample_id)


@pytest.mark.parametrize(
    "facts",
    [
        {"scenes": 0},
        {"views": 0},
        {"width": 8},
        {"height": 10_000},
        {"samples_per_pixel": 0},
        {"dice": (5, 3)},
        {"dice": (0, 3)},
        {"dice": (1, 2, 3)},
        {"zoom": 0.0},
        {"variety": 1.5},
        {"variant": "gpu"},
    ],
)
def test_bad_fields_are_named(facts: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(facts))):
        DiceReader(**facts)


def test_a_missing_map_is_refused_before_rendering(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(variants, "installed", lambda: True)
    with pytest.raises(InputError, match="is not a file"):
        DiceReader(environment=str(tmp_path / "none.hdr")).ids()


def test_without_mitsuba_the_plan_hears_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants, "installed", lambda: False)
    with pytest.raises(ConfigError, match="pip install"):
        DiceReader().ids()


@pytest.mark.parametrize(
    "facts", [{"objects": (9, 5)}, {"objects": (0, 3)}, {"objects": (1, 99)}, {"coated": 2.0}, {"coverage": 9}]
)
def test_bad_fields_of_the_table_are_named(facts: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(facts))):
        TabletopReader(**facts)


def test_rays_that_do_not_fit_in_memory_are_refused() -> None:
    TabletopReader(width=2048, coverage=4)
    with pytest.raises(ConfigError, match=r"coverage=4.*read.coverage=2 or less"):
        TabletopReader(width=4096, coverage=4)


@pytest.mark.parametrize(("name", "reader"), [("dice", DiceReader), ("tabletop", TabletopReader)])
def test_configuration_lists_every_field_with_its_default(name: str, reader: type[SceneReader]) -> None:
    import inspect

    path = Path(__file__).parents[2] / "conf" / "read" / f"{name}.yaml"
    listed = yaml.safe_load(path.read_text())
    assert listed.pop("_target_") == f"synthaug.render.reader.{reader.__name__}"
    defaults = {k: p.default for k, p in inspect.signature(reader).parameters.items()}
    assert listed.pop("seed") == "${seed}"
    defaults.pop("seed")
    assert {k: tuple(v) if isinstance(v, list) else v for k, v in listed.items()} == defaults


@pytest.fixture(scope="module")
def samples() -> dict[str, Sample]:
    needs_mitsuba()
    reader = DiceReader(scenes=3, views=2, seed=5, zoom=1.5, dice=(5, 12), **SMALL)
    return {sample_id: reader.read(sample_id) for sample_id in reader.ids()}


def test_labels_hold_their_promises(samples: dict[str, Sample]) -> None:
    for sample_id, sample in samples.items():
        labels = sample.labels
        labels.check()
        assert (sample.id, sample.group) == (sample_id, sample_id.split("/")[0])
        assert set(labels.passes) == set(PASSES)
        assert sample.image.pixels.dtype == np.uint8
        ids, semantic = labels.passes["instance"], labels.passes["semantic"]
        assert {int(v) for v in np.unique(ids) if v} == {i.id for i in labels.instances}
        assert labels.instances
        for instance in labels.instances:
            rows, columns = np.nonzero(ids == instance.id)
            assert instance.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert set(np.unique(semantic[ids == instance.id])) == {instance.class_id}
            assert instance.attributes["up_face"] == instance.class_id
        assert (semantic[ids == 0] == 0).all()


def test_everything_on_the_table_has_an_instance() -> None:
    needs_mitsuba()
    reader = TabletopReader(scenes=1, views=2, seed=5, **SMALL)
    assert [c.name for c in reader.categories()] == list(tabletop.CLASSES)
    seen: dict[str, Any] = {}
    for sample_id in reader.ids():
        sample = reader.read(sample_id)
        labels = sample.labels
        assert set(labels.passes) == set(reader.describe(sample_id).passes) == {*PASSES, "alpha"}
        labels.check(thorough=True)
        hit = np.isfinite(labels.passes["depth"])
        assert hit.mean() > 0.95
        assert ((labels.passes["instance"] > 0) == hit).all()
        alpha = labels.passes["alpha"]
        assert 0 < alpha.min() < 0.7 < np.median(alpha) == alpha.max() == 1
        for instance in labels.instances:
            facts = instance.attributes
            assert len(facts["metres_per_uv"]) == 2
            assert facts["coat"] in (1.0, 1.5)
            assert seen.setdefault(instance.object_id, facts) == facts
            mask = labels.passes["instance"] == instance.id
            points = labels.passes["position"][mask].astype(np.float64)
            to_body = np.linalg.inv(np.array(instance.pose))
            local = np.abs(points @ to_body[:3, :3].T + to_body[:3, 3])
            assert instance.extent is not None
            assert (local < np.array(instance.extent) / 2 + 1e-5).all()
    assert {"table", "wall"} < {name.split("/")[1] for name in seen}


def test_depth_is_the_z_of_position(samples: dict[str, Sample]) -> None:
    for sample in samples.values():
        passes = sample.labels.passes
        assert np.array_equal(passes["depth"], passes["position"][..., 2], equal_nan=True)
        assert np.nanmin(passes["depth"]) > 0


def test_poses_carry_the_visible_surface(samples: dict[str, Sample]) -> None:
    """Every pixel of a die lies on its own cube, in the axes of its pose."""
    for sample in samples.values():
        for instance in sample.labels.instances:
            mask = sample.labels.passes["instance"] == instance.id
            points = sample.labels.passes["position"][mask].astype(np.float64)
            to_body = np.linalg.inv(np.array(instance.pose))
            local = np.abs(points @ to_body[:3, :3].T + to_body[:3, 3])
            assert instance.extent is not None
            half = instance.extent[0] / 2
            assert local.max() < half + 1e-6
            assert (local.max(axis=1) > 0.8 * half).all()


def test_views_of_a_scene_share_object_ids_and_facts(samples: dict[str, Sample]) -> None:
    for scene in range(3):
        views = [samples[f"scene-{scene:06d}/view-{v}"].labels for v in range(2)]
        facts = [{i.object_id: (i.id, i.class_id, i.attributes) for i in labels.instances} for labels in views]
        shared = set(facts[0]) & set(facts[1])
        assert len(shared) >= 3
        assert all(name.startswith(f"scene-{scene:06d}/die-") for name in shared)
        assert all(facts[0][name] == facts[1][name] for name in shared)
        assert views[0].camera != views[1].camera


def test_any_order_gives_the_same_bytes(samples: dict[str, Sample]) -> None:
    reader = DiceReader(scenes=3, views=2, seed=5, zoom=1.5, dice=(5, 12), **SMALL)
    for sample_id in reversed(list(samples)[2:]):
        assert digest(reader.read(sample_id)) == digest(samples[sample_id]), sample_id


def test_a_fresh_process_with_one_thread_gives_the_same_bytes() -> None:
    needs_mitsuba()
    denoise = bool(__import__("importlib.util").util.find_spec("pyoidn"))
    facts = {**SMALL, "denoise": denoise, "samples_per_pixel": 4}
    code = (
        "import mitsuba as mi, drjit as dr; mi.set_variant('scalar_rgb'); dr.set_thread_count(1);"
        "from synthaug.render.reader import DiceReader; from tests.render.test_reader import digest;"
        f"print(digest(DiceReader(scenes=2, seed=9, **{facts!r}).read('scene-000001/view-0')))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    reader = DiceReader(scenes=2, seed=9, **facts)
    reader.read("scene-000000/view-0")
    assert done.stdout.strip() == digest(reader.read("scene-000001/view-0"))


def test_other_seeds_are_other_pictures() -> None:
    needs_mitsuba()
    one, two = (DiceReader(seed=s, **SMALL).read("scene-000000/view-0") for s in (1, 2))
    assert digest(one) != digest(two)


def test_linear_pictures_are_scene_linear() -> None:
    needs_mitsuba()
    reader = DiceReader(linear=True, **SMALL)
    sample = reader.read("scene-000000/view-0")
    assert sample.image.space == reader.describe(sample.id).space == "linear"
    assert sample.image.pixels.dtype == np.float32
    assert sample.image.pixels.min() >= 0


def test_identity_names_variant_versions_and_map(tmp_path: Path) -> None:
    needs_mitsuba()
    facts = DiceReader(**SMALL).identity()
    assert facts["variant"] == "scalar_rgb"
    assert facts["mitsuba"]
    path = tmp_path / "sky.hdr"
    path.write_bytes(b"one")
    lit = DiceReader(environment=str(path), **SMALL)
    first = lit.identity()["environment"]
    path.write_bytes(b"two")
    assert lit.identity()["environment"] != first
    assert "environment" in DiceReader.operational


@pytest.mark.slow
def test_every_map_of_the_collection_lights_a_scene(data_root: Path) -> None:
    needs_mitsuba()
    for path in sorted((data_root / "hdri").glob("*.hdr")):
        sample = DiceReader(environment=str(path), **SMALL).read("scene-000000/view-0")
        assert 60 < sample.image.pixels.mean() < 235, path.name
