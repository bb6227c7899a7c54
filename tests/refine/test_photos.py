"""Folders of photos: what is used, what is passed over, and what is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synthaug import seeds
from synthaug.errors import ConfigError, InputError
from synthaug.refine import photos


def save(path: Path, height: int = 6, width: int = 4, orientation: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b/c.png", "b/a10.png", "b/a9.png", "e.png"):
        save(tmp_path / name)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (tmp_path / "notes.txt").write_text("x")
    save(tmp_path / "dot.png", 1, 1)
    return tmp_path


def test_photos_that_can_be_read_are_used_and_others_are_named(folder: Path) -> None:
    found = photos.find(str(folder), 100)
    assert list(found.files) == ["a.png", "b/a9.png", "b/a10.png", "b/c.png", "e.png"]
    assert list(found.skipped) == ["broken.jpg", "dot.png"]
    assert "1x1, expected sides of at least 4 pixels" in found.skipped["dot.png"]
    identity = found.identity()
    assert (identity["used"], identity["skipped"]) == (5, 2)


def test_identity_is_what_is_in_the_files_and_their_names(folder: Path, tmp_path: Path) -> None:
    first = photos.find(str(folder), 100).identity()
    assert photos.find(str(folder), 100).identity() == first
    (folder / "a.png").rename(folder / "z.png")
    second = photos.find(str(folder), 100).identity()
    assert second != first
    save(folder / "z.png", 9)
    assert photos.find(str(folder), 100).identity() not in (first, second)


def test_draws_are_even_and_follow_the_seed(folder: Path) -> None:
    found = photos.find(str(folder), 100)
    drawn = [found.draw(seeds.from_seed(i)) for i in range(500)]
    assert drawn == [found.draw(seeds.from_seed(i)) for i in range(500)]
    counts = [drawn.count(name) for name in found.files]
    assert min(counts) > 60, "a fifth of 500 each is expected"


def test_the_limit_takes_photos_evenly(folder: Path) -> None:
    assert list(photos.find(str(folder), 2).files) == ["a.png", "e.png"]


@pytest.mark.parametrize(
    ("orientation", "shape", "corner"), [(1, (6, 4), (0, 0)), (6, (4, 6), (0, 5)), (3, (6, 4), (0, 0))]
)
def test_a_photo_that_lies_on_its_side_is_turned(
    tmp_path: Path, orientation: int, shape: tuple[int, int], corner: tuple[int, int]
) -> None:
    pixels = photos.decode(save(tmp_path / "a.png", orientation=orientation).read_bytes())
    assert pixels.shape[:2] == shape
    assert pixels[corner].min() == 255


def test_a_folder_without_one_readable_photo_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="0 pictures, none of which can be read; expected photos"):
        photos.find(str(tmp_path), 10)
    (tmp_path / "x.jpg").write_bytes(b"GIF89a")
    with pytest.raises(ConfigError, match=r"(?s)1 pictures, none.*- x\.jpg: decode"):
        photos.find(str(tmp_path), 10)
    with pytest.raises(InputError, match="expected a folder"):
        photos.find(str(tmp_path / "none"), 10)


def test_a_photo_that_changes_after_planning_stops_the_run(folder: Path) -> None:
    found = photos.find(str(folder), 100)
    save(folder / "a.png", 9)
    with pytest.raises(InputError, match=r"a\.png has changed since the run was planned"):
        found.read("a.png")
    (folder / "a.png").unlink()
    with pytest.raises(InputError, match="missing"):
        found.read("a.png")


def test_real_photos_are_found(data_root: Path) -> None:
    found = photos.find(str(data_root / "grocery"), 4)
    assert len(found.files) == 4
    assert min(found.read(next(iter(found.files))).shape[:2]) > 100
