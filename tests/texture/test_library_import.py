"""Files from outside become maps by rule, or are named with their reason; nothing is lost."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from synthaug.errors import ConfigError, Rejected
from synthaug.formats import png
from synthaug.formats.inputs import InputRoot
from synthaug.texture.importing import About, Incoming, Refused, read_folder, survey
from synthaug.texture.suffixes import Claim
from synthaug.texture.surfaces import Limits, albedo, data_map
from tests.texture.pictures import ABOUT, flat_normals, noise, save

LIMITS = Limits()


def imported(
    folder: Path, limits: Limits = LIMITS, about: About = ABOUT
) -> tuple[dict[str, Incoming], dict[str, Refused]]:
    root = InputRoot(folder)
    found = survey(root)
    items = list(read_folder(root, found.groups, about, limits))
    refused = [*found.refused, *(i for i in items if isinstance(i, Refused))]
    return {i.entry.name: i for i in items if isinstance(i, Incoming)}, {i.path: i for i in refused}


def pixels(texture: Incoming, kind: str = "albedo") -> np.ndarray:
    return png.decode(texture.objects[texture.entry.maps[kind]])


def encoded(array: np.ndarray, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, array)[1].tobytes()


def test_every_file_of_a_bad_folder_is_taken_or_named(tmp_path: Path) -> None:
    good = noise(1)
    save(tmp_path / "good.png", good)
    save(tmp_path / "good_height.png", (np.arange(32 * 32, dtype=np.uint16) * 60).reshape(32, 32))
    save(tmp_path / "good_roughness.jpg", good)
    save(tmp_path / "good_normal.png", np.zeros((32, 32, 3), np.uint8))
    save(tmp_path / "good_ao.png", np.zeros((32, 48), np.uint8))
    (tmp_path / "torn.png").write_bytes(png.encode(good)[:-40])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    save(tmp_path / "dot.png", np.zeros((1, 1, 3), np.uint8))
    save(tmp_path / "nothing.png", np.zeros((32, 32, 4), np.uint8))
    save(tmp_path / "nothing_height.png", np.zeros((32, 32), np.uint8))
    (tmp_path / "old.tga").write_bytes(b"tga")
    (tmp_path / "LICENSE").write_text("mine")
    taken, refused = imported(tmp_path)
    assert {name: i.entry.files for name, i in taken.items()} == {
        "good": {"albedo": "good.png", "height": "good_height.png"}
    }
    assert {path: i.reason for path, i in refused.items()} == {
        "good_roughness.jpg": "channels", "good_normal.png": "normal", "good_ao.png": "size", "torn.png": "decode",
        "text.png": "decode", "empty.jpg": "decode", "dot.png": "budget", "nothing.png": "alpha",
        "nothing_height.png": "alone", "old.tga": "format",
    }  # fmt: skip
    assert survey(InputRoot(tmp_path)).others == ["LICENSE"]
    assert (pixels(taken["good"]) == good).all()
    assert pixels(taken["good"], "height").dtype == np.uint16


def test_grey_and_deep_pictures_become_8_bit_rgb() -> None:
    grey = albedo(encoded(np.full((16, 16), 7, np.uint8)), LIMITS)
    assert grey.pixels.shape == (16, 16, 3)
    assert grey.notes == ("grey, made RGB",)
    deep = albedo(encoded(np.full((16, 16, 3), 257 * 9, np.uint16)), LIMITS)
    assert (deep.pixels == 9).all()
    assert deep.notes == ("16 bits, made 8",)


def test_transparency_is_kept_dropped_or_refused() -> None:
    cut = np.dstack([noise(2), np.full((32, 32), 255, np.uint8)])
    assert albedo(encoded(cut), LIMITS).opacity is None
    cut[:8, :, 3] = 0
    kept = albedo(encoded(cut), LIMITS)
    assert kept.opacity is not None
    assert (kept.opacity == cut[:, :, 3]).all()
    assert kept.notes == ("25.0% transparent, kept as opacity map",)
    dropped = albedo(encoded(cut), Limits(alpha="drop"))
    assert dropped.opacity is None
    assert "25.0% dropped" in dropped.notes[0]
    with pytest.raises(Rejected, match="say alpha=keep or alpha=drop"):
        albedo(encoded(cut), Limits(alpha="refuse"))


def test_huge_pictures_are_reduced_and_say_so(tmp_path: Path) -> None:
    save(tmp_path / "big.png", noise(3, (100, 200), 25))
    save(tmp_path / "big_height.png", noise(3, (50, 100), 25)[:, :, 0])
    save(tmp_path / "big_normal.png", flat_normals((100, 200)))
    taken, refused = imported(tmp_path, Limits(largest=80))
    assert refused == {}
    entry = taken["big"].entry
    assert (entry.height, entry.width) == (40, 80)
    assert entry.notes == (
        "reduced from 200x100", "height: reduced from 100x50", "normal: reduced from 200x100",
    )  # fmt: skip
    assert pixels(taken["big"], "normal").shape == (40, 80, 3)


def test_normals_that_point_down_are_turned_up() -> None:
    up = flat_normals()
    array, notes = data_map(png.encode(up), Claim("a", "normal", downward=True), (32, 32), LIMITS)
    assert (array[:, :, 1] == 255 - up[:, :, 1]).all()
    assert (array[:, :, [0, 2]] == up[:, :, [0, 2]]).all()
    assert "DirectX" in notes[0]


def test_gloss_becomes_roughness() -> None:
    deep = np.arange(1024, dtype=np.uint16).reshape(32, 32)
    array, _ = data_map(png.encode(deep), Claim("a", "roughness", inverted=True), (64, 64), LIMITS)
    assert (array == 65535 - deep).all()


def test_maps_of_a_reduced_albedo_are_held_against_its_size_in_the_file(tmp_path: Path) -> None:
    save(tmp_path / "odd.png", noise(5, (33, 97), 8))
    save(tmp_path / "odd_ao.png", noise(5, (33, 97), 8)[:, :, 0])
    taken, refused = imported(tmp_path, Limits(largest=64))
    assert refused == {}
    assert set(taken["odd"].entry.maps) == {"albedo", "occlusion"}


def test_facts_of_an_entry(tmp_path: Path) -> None:
    save(tmp_path / "rooms" / "OakPlanks_2.png", noise(4))
    taken, _ = imported(tmp_path, about=About("CC0-1.0", "me", metres=0.5, tags=("Floor",)))
    entry = taken["rooms/OakPlanks_2"].entry
    assert (entry.material, entry.metres, entry.licence, entry.source) == ("wood", 0.5, "CC0-1.0", "me")
    assert entry.tags == ("floor", "oak", "planks", "rooms")


@pytest.mark.parametrize("licence", ["", "  ", "none", "Unknown", "?", "x" * 3000])
def test_no_texture_without_a_licence(licence: str) -> None:
    with pytest.raises(ConfigError, match="every texture enters with its licence"):
        About(licence)


@pytest.mark.parametrize(
    "values", [{"metres": 0}, {"metres": float("nan")}, {"material": "two words"}, {"tags": ("",)}]
)
def test_facts_that_mean_nothing_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        About("CC0-1.0", **values)  # type: ignore[arg-type]
