"""Exact re-texturing: nothing but the look changes, and the tile lies where its placement says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthaug.engine.shelf import Shelf
from synthaug.errors import ConfigError, InputError
from synthaug.render.reader import DiceReader, TabletopReader
from synthaug.render.scene_reader import SceneReader
from synthaug.sample import Sample
from synthaug.texture.importing import About, made
from synthaug.texture.library import Library
from synthaug.texture.placement import Placement, place
from synthaug.texture.rerender import Tile, rerender, retextured
from synthaug.transfer import linear_from_srgb
from tests.render.test_mitsuba_backend import sampled

SMALL: dict[str, Any] = {
    "scenes": 1,
    "width": 96,
    "height": 72,
    "samples_per_pixel": 1,
    "variant": "scalar_rgb",
    "denoise": False,
    "seed": 4,
}
SAMPLE = "scene-000000/view-0"
GEOMETRY = ("instance", "semantic", "depth", "normals", "uv", "position")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.integers(40, 220, (8, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    dark = (smooth // 4).astype(np.uint8)
    shelf = Shelf(tmp_path_factory.mktemp("library") / "lib")
    about = About(licence="own work", metres=0.3, material="patches", tileable=True)
    shelf.add([made(name, {"albedo": pixels}, about) for name, pixels in (("light", smooth), ("dark", dark))])
    return shelf.library()


def entry(library: Library, name: str) -> Any:
    return next(e for e in library.entries if e.name == name)


@pytest.fixture(scope="module")
def tabletop() -> TabletopReader:
    pytest.importorskip("mitsuba", reason="Mitsuba 3 is not installed (pip install 'synthaug[render]')")
    return TabletopReader(**SMALL, views=1, coverage=0)


@pytest.fixture(scope="module")
def before(tabletop: SceneReader) -> Sample:
    return tabletop.read(SAMPLE)


def lying(library: Library, labels: Any, name: str = "light") -> dict[str, Placement]:
    """A placement for every second object."""
    found = entry(library, name)
    return {
        i.object_id: place(found, tuple(i.attributes["metres_per_uv"]), 0.3 * i.id, (0.1 * i.id, 0.7))
        for i in labels.instances[::2]
    }


def test_only_picture_and_albedo_change(tabletop: SceneReader, before: Sample, library: Library) -> None:
    placements = lying(library, before.labels)
    after = rerender(tabletop, SAMPLE, library, placements)
    for name in GEOMETRY:
        assert after.labels.passes[name].tobytes() == before.labels.passes[name].tobytes(), name
    assert after.labels.instances == before.labels.instances
    assert (after.labels.camera, after.labels.categories) == (before.labels.camera, before.labels.categories)
    assert (after.id, after.group, after.view) == (before.id, before.group, before.view)
    changed = np.isin(before.labels.passes["instance"], [i.id for i in before.labels.instances[::2]])
    assert np.array_equal(after.labels.passes["albedo"][~changed], before.labels.passes["albedo"][~changed])
    assert (after.image.pixels != before.image.pixels)[changed].mean() > 0.9


def test_the_tile_lies_where_the_placement_says(tabletop: SceneReader, before: Sample, library: Library) -> None:
    placements = lying(library, before.labels)
    albedo = rerender(tabletop, SAMPLE, library, placements).labels.passes["albedo"]
    tile = linear_from_srgb(library.read(entry(library, "light")).astype(np.float32) / 255)
    uv = before.labels.passes["uv"].astype(np.float64)
    compared = 0
    for instance in before.labels.instances[::2]:
        mask = before.labels.passes["instance"] == instance.id
        expected = sampled(tile, placements[instance.object_id].apply(uv))
        if instance.attributes["coat"] == 1.0:
            assert np.abs(albedo - expected)[mask].max() < 1e-3
            compared += int(mask.sum())
    assert compared > 1000


def test_a_scene_stays_a_value(tabletop: SceneReader, before: Sample, library: Library) -> None:
    scene = tabletop.scene(0)
    placements = lying(library, before.labels)
    new = retextured(scene, library, placements)
    assert new == retextured(scene, library, placements)
    assert hash(new) == hash(retextured(scene, library, placements))
    assert new != scene
    short = {name.split("/")[1]: placement for name, placement in placements.items()}
    assert new == retextured(scene, library, short), "names of bodies serve as well as object ids"
    assert [b.pose for b in new.bodies] == [b.pose for b in scene.bodies]
    assert [b.material.roughness for b in new.bodies] == [b.material.roughness for b in scene.bodies]
    assert retextured(scene, library, {}) == scene


def test_exposure_is_that_of_the_old_surfaces(tabletop: SceneReader, before: Sample, library: Library) -> None:
    """With nothing changed the picture is the same to the byte, and a darker one is not metered up."""
    assert np.array_equal(rerender(tabletop, SAMPLE, library, {}).image.pixels, before.image.pixels)
    table = {"table": place(entry(library, "dark"), (3.2, 1.8), 0.0, (0.0, 0.0))}
    held = rerender(tabletop, SAMPLE, library, table).image.pixels
    metered = tabletop.shoot(SAMPLE, retextured(tabletop.scene(0), library, table)).image.pixels
    assert held.mean() < metered.mean() - 5


def test_pips_stay_on_dice(library: Library) -> None:
    pytest.importorskip("mitsuba", reason="Mitsuba 3 is not installed (pip install 'synthaug[render]')")
    reader = DiceReader(**SMALL, zoom=4.0, dice=(3, 3))
    scene = reader.scene(0)
    placements = {b.name: place(entry(library, "light"), (0.5, 0.3), 0.0, (0.0, 0.0)) for b in scene.bodies[:3]}
    old = reader.read(SAMPLE).labels
    kept, bare, inked = (
        reader.shoot(SAMPLE, retextured(scene, library, placements, inks, marks=marks)).labels.passes["albedo"]
        for marks, inks in ((True, None), (False, None), (True, dict.fromkeys(placements, (0.9, 0.0, 0.9))))
    )
    dice = old.passes["instance"] > 0
    pips = dice & (np.abs(kept - bare).max(axis=-1) > 0.02)
    assert 0.03 < pips.sum() / dice.sum() < 0.5
    assert np.abs(kept - old.passes["albedo"])[pips].max(axis=-1).mean() < 0.25
    assert np.abs(inked[pips] - np.array([0.9, 0.0, 0.9])).max(axis=-1).mean() < 0.25
    assert np.abs(kept - bare)[dice & ~pips].max() < 0.2


def test_what_does_not_fit_is_named(tabletop: SceneReader, library: Library) -> None:
    scene, good = tabletop.scene(0), place(entry(library, "light"), (1.0, 1.0), 0.0, (0.0, 0.0))
    with pytest.raises(ConfigError, match=r"no body called 'tabel'.*table"):
        retextured(scene, library, {"tabel": good})
    with pytest.raises(ConfigError, match="0 textures"):
        retextured(scene, library, {"table": replace(good, entry="f" * 64)})
    with pytest.raises(ConfigError, match="mode uv"):
        retextured(scene, library, {"table": replace(good, mode="world")})


def test_a_tile_reads_the_library_when_it_is_painted(tmp_path: Path, library: Library) -> None:
    tile = Tile(str(library.root), entry(library, "light").id)
    assert tile.paint() == pytest.approx(linear_from_srgb(library.read(entry(library, "light")) / 255), abs=1e-6)
    assert tile.paint().dtype == np.float32
    with pytest.raises((ConfigError, InputError)):
        replace(tile, library=str(tmp_path)).paint()
