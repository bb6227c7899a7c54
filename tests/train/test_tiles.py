"""Textures as batches: what is rolled, reduced, cut, refused, and by which classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from synthaug.errors import ConfigError, InputError
from synthaug.train.photos import Folder
from synthaug.train.tiles import FEWEST, Tiles, find_tiles, wraps
from tests.train.tiles import make_textures, texture

COUNT = FEWEST + 2


def tiles(*folders: Path, **changes: Any) -> Tiles:
    given: dict[str, Any] = {"side": 16, "zoom": 1.0, "by_class": True, "seed": 0, "mirror": False, **changes}
    return find_tiles([Folder(str(folder)) for folder in folders], given.pop("side"), **given)


def rolls_of(tile: Any) -> np.ndarray:
    """[N, H, W, 3] of a tile in every place."""
    side = len(tile)
    return np.array([np.roll(tile, (y, x), (0, 1)) for y in range(side) for x in range(side)])


def test_a_batch_is_whole_tiles_rolled_and_a_function_of_its_place(tmp_path: Path) -> None:
    found = tiles(make_textures(tmp_path / "t", COUNT))
    assert all(all(one.wraps) for one in found.textures)
    pixels, labels = found.batch(3, range(6))
    assert pixels.shape == (6, 3, 16, 16)
    assert pixels.dtype == np.float32
    assert not labels.any()
    every = np.concatenate([rolls_of(texture(number)) for number in range(COUNT)])
    whole = np.rint((pixels.transpose(0, 2, 3, 1) + 1) * 127.5).astype(np.uint8)
    places = [int(np.flatnonzero((every == tile).all((1, 2, 3)))[0]) for tile in whole]
    assert len({place // 256 for place in places}) > 2
    assert len({place % 256 for place in places}) > 4
    again = tiles(tmp_path / "t").batch(3, [5, 2])
    assert np.array_equal(again[0], pixels[[5, 2]])
    assert not np.array_equal(found.batch(4, range(6))[0], pixels)


def test_half_of_the_tiles_are_mirrored(tmp_path: Path) -> None:
    plain, mirrored = (tiles(make_textures(tmp_path / "t", COUNT), mirror=mirror) for mirror in (False, True))
    same = flipped = 0
    for place in range(40):
        (a, _), (b, _) = plain.batch(0, [place]), mirrored.batch(0, [place])
        same += np.array_equal(a, b)
        flipped += np.array_equal(a[..., ::-1], b)
    assert same + flipped == 40
    assert 10 < flipped < 30


def test_what_does_not_wrap_is_not_rolled(tmp_path: Path) -> None:
    slope = np.repeat(np.linspace(20, 220, 16)[None, :, None], 16, 0).repeat(3, 2)
    grain = np.random.default_rng(0).normal(0, 3, slope.shape)
    ramp = np.rint(slope + grain).astype(np.uint8)
    assert wraps(ramp) == (True, False)
    assert wraps(ramp.transpose(1, 0, 2)) == (False, True)
    assert wraps(texture(1)) == (True, True)
    for number in range(FEWEST):
        cv2.imwrite(str(tmp_path / f"{number}.png"), ramp)
    pixels, _ = tiles(tmp_path).batch(0, range(12))
    assert (pixels[:, 0, :, 0] < -0.6).all()
    assert (pixels[:, 0, :, -1] > 0.6).all()
    assert len({one.tobytes() for one in pixels}) > 4  # rolled down, where it wraps


def test_large_pictures_are_reduced_whole_or_cut(tmp_path: Path) -> None:
    folder = make_textures(tmp_path / "t", COUNT, side=64)
    small = tiles(folder)
    assert {one.pixels.shape for one in small.textures} == {(16, 16, 3)}
    assert all(all(one.wraps) for one in small.textures)
    # In linear light, so that a mean is never darker than the mean of the numbers.
    assert abs(float(small.textures[0].pixels.mean()) - float(texture(0, 64).mean())) < 6
    cut = tiles(folder, zoom=2.0)
    assert {one.pixels.shape for one in cut.textures} == {(32, 32, 3)}
    assert cut.batch(0, range(3))[0].shape == (3, 3, 16, 16)
    long = np.concatenate([texture(0, 64), texture(1, 64)], 1)
    for number in range(FEWEST):
        cv2.imwrite(str(folder / f"long{number}.png"), long)
    shapes = {one.pixels.shape for one in tiles(folder).textures}
    assert shapes == {(16, 16, 3), (16, 32, 3)}
    assert tiles(folder).batch(1, range(30))[0].shape == (30, 3, 16, 16)


def test_folders_are_classes_where_every_picture_lies_in_one(tmp_path: Path) -> None:
    for number, name in enumerate(("wood", "brick")):
        make_textures(tmp_path / "t" / name, 10, first=20 * number)
    found = tiles(tmp_path / "t")
    assert found.classes == ["brick", "wood"]
    assert [one.label for one in found.textures] == [0] * 10 + [1] * 10
    assert set(found.batch(0, range(20))[1]) == {0, 1}
    assert tiles(tmp_path / "t", by_class=False).classes == []
    assert tiles(tmp_path / "t" / "wood", tmp_path / "t" / "brick").classes == []
    make_textures(tmp_path / "t", 1)
    assert tiles(tmp_path / "t").classes == []


def test_odd_pictures_are_taken_and_told(tmp_path: Path) -> None:
    folder = make_textures(tmp_path / "t", FEWEST)
    grey, alpha = texture(50)[..., 0], np.dstack([texture(51), np.full((16, 16), 128, np.uint8)])
    cv2.imwrite(str(folder / "grey.png"), grey)
    cv2.imwrite(str(folder / "alpha.png"), alpha)
    cv2.imwrite(str(folder / "deep.png"), texture(52).astype(np.uint16) * 257)
    found = tiles(folder)
    assert found.photos.count == FEWEST + 3
    assert not found.photos.broken
    assert {name: note.split(",")[0] for name, note in found.notes.items()} == {
        "t/grey.png": "grey", "t/alpha.png": "transparency of 100.0% dropped", "t/deep.png": "16 bits"
    }  # fmt: skip
    by_name = dict(zip(found.photos.names[0], found.textures, strict=True))
    assert np.array_equal(by_name["grey.png"].pixels, grey[..., None].repeat(3, 2))
    assert np.array_equal(by_name["deep.png"].pixels[..., ::-1], texture(52))
    assert np.array_equal(by_name["alpha.png"].pixels[..., ::-1], texture(51))


def test_broken_pictures_cost_themselves_alone(tmp_path: Path) -> None:
    folder = make_textures(tmp_path / "t", FEWEST + 1)
    whole = (folder / "tile003.png").read_bytes()
    (folder / "torn.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_bytes(b"no picture")
    cv2.imwrite(str(folder / "tiny.png"), texture(0, 8))
    found = tiles(folder)
    assert found.photos.count == len(found.textures) == FEWEST + 1
    assert set(found.photos.broken) == {"t/torn.png", "t/text.png", "t/tiny.png"}
    assert "8x8, smaller than 16" in found.photos.broken["t/tiny.png"]
    assert len(found.batch(0, range(50))[0]) == 50


def test_too_little_to_learn_from(tmp_path: Path) -> None:
    eleven = make_textures(tmp_path / "t", 11)
    with pytest.raises(ConfigError, match=r"11 usable textures among 11 pictures, expected 16 or more.*Add pictures"):
        tiles(eleven)
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfigError, match="0 usable textures among 0"):
        tiles(tmp_path / "none")
    with pytest.raises(InputError, match="nowhere"):
        tiles(tmp_path / "nowhere")
    larger = make_textures(tmp_path / "larger", FEWEST)
    with pytest.raises(ConfigError, match=r"0 usable(.|\n)*16x16, smaller than 32"):
        tiles(larger, side=32)
