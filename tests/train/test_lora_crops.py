"""Crops for adapters: where they lie, what XL is told of it, and that they are a function of their number."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from synthaug.train.lora_crops import SaidCrops
from synthaug.train.lora_words import words_for
from synthaug.train.photos import Folder, find
from tests.train.photos import make_photos


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos in which every pixel tells where it is: red is x, green is y."""
    root = make_photos(tmp_path_factory.mktemp("data") / "photos", 8, (90, 120))
    ys, xs = np.mgrid[0:90, 0:120]
    for file in root.iterdir():
        cv2.imwrite(str(file.with_suffix(".png")), np.stack([0 * xs, 2 * ys, 2 * xs], 2).astype(np.uint8))
        file.unlink()
    return root


def crops(folder: Path, crop: int = 32, share: float = 0.5, flip: bool = True, seed: int = 0) -> SaidCrops:
    photos = find([Folder(str(folder))], crop)
    return SaidCrops(photos, words_for(photos, ["a", "b"], [""]), crop, share, flip, seed)


@examples(max_examples=40, deadline=None)
@given(step=st.integers(-3, 10**6), share=st.floats(0.05, 1), crop=st.sampled_from([16, 45, 90]), flip=st.booleans())
def test_the_told_place_is_where_the_pixels_are_from(
    folder: Path, step: int, share: float, crop: int, flip: bool
) -> None:
    said = crops(folder, crop, share, flip).draw(step, 1)
    assert said.pixels.shape == (crop, crop, 3)
    height, width, top, left, *own = said.sizes
    assert (height, width, *own) == (90, 120, crop, crop)
    xs, ys = (said.pixels[..., channel].astype(np.float64) * 127.5 for channel in range(2))
    scale = (ys[-1, 0] - ys[0, 0]) / (crop - 1)
    assert max(share * 90, crop) - 1.5 <= scale * crop <= 90.5
    mirrored = bool(xs[0, 0] > xs[0, -1])
    # The first pixel is the mean of its place; what is told is rounded to the crop's pixels. Of a mirrored photo, the
    # place in the mirror image.
    first = np.array([ys[0, 0], 119 - xs[0, 0] if mirrored else xs[0, 0]]) - (scale - 1) / 2
    assert np.abs(np.array([top, left]) * scale - first).max() <= scale / 2 + 0.3
    assert flip or not mirrored


def test_a_crop_depends_on_seed_step_and_place_alone(folder: Path) -> None:
    one, again = crops(folder).draw(3, 1), crops(folder).draw(3, 1)
    assert np.array_equal(one.pixels, again.pixels)
    assert (one.prompt, one.sizes) == (again.prompt, again.sizes)
    for other in (crops(folder).draw(4, 1), crops(folder).draw(3, 2), crops(folder, seed=1).draw(3, 1)):
        assert not np.array_equal(one.pixels, other.pixels)
    assert {crops(folder).draw(step, 0).prompt for step in range(20)} == {"a", "b"}
