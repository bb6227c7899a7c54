from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug.errors import InputError
from synthaug.metrics.fidelity import (
    boundaries,
    boundary_recall,
    edges,
    flat_grain,
    tile_shifts,
    untouched_difference,
)


def moved(picture: np.ndarray, by: float) -> np.ndarray:
    """Across, by the phase of the spectrum."""
    turn = np.exp(-2j * np.pi * by * np.fft.rfftfreq(picture.shape[1]))[None, :, None]
    return to_bytes(np.fft.irfft(np.fft.rfft(picture, axis=1) * turn, picture.shape[1], axis=1))


def to_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def noisy(picture: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    return to_bytes(picture + np.random.default_rng(seed).normal(0, sigma, picture.shape))


@pytest.fixture(scope="module")
def textured() -> np.ndarray:
    """Octaves of noise, as rough as a street."""
    rng = np.random.default_rng(3)
    picture = np.full((256, 384, 3), 128.0)
    for octave in range(2, 9):
        side = 2**octave
        picture += cv2.resize(rng.normal(size=(side, side, 3)), (384, 256), interpolation=cv2.INTER_CUBIC) * 60 / octave
    return to_bytes(picture)


@pytest.fixture(scope="module")
def streets(data_root: Path) -> list[np.ndarray]:
    files = sorted((data_root / "carla" / "images").iterdir())[::27]
    return [np.asarray(cv2.imread(str(f), cv2.IMREAD_COLOR_RGB)) for f in files]


@pytest.mark.parametrize("by", [0.25, 0.5, 1.0, -1.5])
def test_a_real_shift_measures_what_it_is(textured: np.ndarray, by: float) -> None:
    found = tile_shifts(textured, moved(textured, by))
    assert len(found) == 64
    assert np.median(found) == pytest.approx(abs(by), abs=0.05)


def test_a_picture_has_not_moved_from_itself_nor_from_its_blur(textured: np.ndarray) -> None:
    assert tile_shifts(textured, textured).max() < 1e-6
    assert np.median(tile_shifts(textured, cv2.GaussianBlur(textured, (0, 0), 1.0))) < 0.06


def test_shifts_down_count_as_much(textured: np.ndarray) -> None:
    turned = np.ascontiguousarray(textured.transpose(1, 0, 2))
    back = np.ascontiguousarray(moved(textured, 0.5).transpose(1, 0, 2))
    assert np.median(tile_shifts(turned, back)) == pytest.approx(0.5, abs=0.03)


def test_on_streets_half_a_pixel_and_noise_are_told_apart(streets: list[np.ndarray]) -> None:
    """The figures of the doc string; `centroid` is what others measure with, and cannot tell them apart."""

    def measured(change: Callable[[np.ndarray], np.ndarray], peak: Literal["sinc", "centroid"]) -> tuple[float, float]:
        every = np.concatenate([tile_shifts(p, change(p), peak=peak) for p in streets])
        return float(np.median(every)), float(np.percentile(every, 99))

    assert measured(lambda p: moved(p, 0.5), "sinc") == pytest.approx((0.5, 0.52), abs=0.03)
    median, worst = measured(lambda p: noisy(p, 6), "sinc")
    assert median < 0.05
    assert worst < 0.35
    assert measured(lambda p: moved(p, 0.5), "centroid") == pytest.approx((0.19, 0.83), abs=0.05)
    assert measured(lambda p: noisy(p, 6), "centroid") == pytest.approx((0.09, 0.29), abs=0.06)


def test_tiles_without_texture_do_not_count(textured: np.ndarray) -> None:
    half = textured.copy()
    half[:128] = 90
    assert len(tile_shifts(half, half)) == 32
    assert len(tile_shifts(np.full_like(half, 9), half)) == 0


@given(st.integers(0, 2**32 - 1))
def test_boundaries_are_both_sides_of_every_change(seed: int) -> None:
    ids = np.random.default_rng(seed).integers(0, 3, (6, 7))
    slow = np.zeros(ids.shape, bool)
    for y in range(6):
        for x in range(7):
            beside = [(y + dy, x + dx) for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))]
            slow[y, x] = any(ids[p] != ids[y, x] for p in beside if 0 <= p[0] < 6 and 0 <= p[1] < 7)
    assert (boundaries(ids) == slow).all()


def disc(level: int = 60) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:96, :96]
    ids = (np.hypot(y - 48, x - 48) < 25).astype(np.int32)
    return ids, np.where(ids[..., None] > 0, 120 + level, 120).repeat(3, 2).astype(np.uint8)


def test_outlines_that_are_seen_are_found_and_noise_is_no_outline() -> None:
    ids, picture = disc()
    found = boundary_recall(ids, picture, noisy(picture, 6))
    assert found is not None
    assert found.pixels == boundaries(ids).sum()
    assert found.reference == 1.0
    assert found.kept > 0.97
    assert found.chance < 0.25
    assert edges(noisy(np.full_like(picture, 128), 6)).mean() < 0.02


@pytest.mark.parametrize("normal", [(0, 1), (1, 0), (1, 1), (1, -1)])
def test_an_edge_is_thin_and_in_its_place(normal: tuple[int, int]) -> None:
    y, x = np.mgrid[-32:32, -32:32]
    side = y * normal[0] + x * normal[1]
    found = edges(np.where(side[..., None] >= 0, 160, 100).repeat(3, 2).astype(np.uint8))[8:-8, 8:-8]
    assert np.abs(side[8:-8, 8:-8][found] + 0.5).max() <= 1.5
    assert 48 <= found.sum() <= 2 * 48


def test_an_outline_that_moved_or_faded_is_not_kept() -> None:
    ids, picture = disc()
    for changed in (np.roll(picture, 5, 1), np.full_like(picture, 120)):
        found = boundary_recall(ids, picture, changed)
        assert found is not None
        assert found.kept < 0.35
    unseen = boundary_recall(ids, np.full_like(picture, 120), picture)
    assert unseen is not None
    assert unseen.reference == 0.0
    assert np.isnan(unseen.kept)


def test_no_instance_no_recall() -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    assert boundary_recall(np.zeros((8, 8), np.int32), picture, picture) is None


def test_grain_of_flat_regions_is_that_of_the_noise(textured: np.ndarray) -> None:
    """What a blur at scale 2 leaves of white noise: (1 - 2 g(0) + sum g^2) of its variance."""
    flat = np.full((256, 256, 3), 128, np.uint8)
    one = np.random.default_rng(0).normal(0, 3, (256, 256, 1))
    line = cv2.getGaussianKernel(17, 2.0)[:, 0]
    share = 1 - 2 * line[8] ** 2 + (line**2).sum() ** 2
    found = flat_grain(to_bytes(flat + one))
    assert len(found) > 200
    assert np.sqrt(np.mean(found**2)) == pytest.approx(np.sqrt((9 + 1 / 12) * share), rel=0.01)
    assert flat_grain(flat).tolist() == [0.0] * 256
    assert len(flat_grain(textured)) < 10


@pytest.mark.parametrize("level", [5, 250])
def test_dark_and_clipped_tiles_say_nothing_about_grain(level: int) -> None:
    assert len(flat_grain(np.full((64, 64, 3), level, np.uint8))) == 0


def test_untouched_is_to_the_bit() -> None:
    ids, picture = disc()
    other = picture.copy()
    other[ids == 0] ^= 255
    assert untouched_difference(picture, other, ids > 0) == 0
    other[48, 48, 2] -= 3
    assert untouched_difference(picture, other, ids > 0) == 3
    with pytest.raises(InputError, match="0 pixels"):
        untouched_difference(picture, other, ids > 7)


def test_what_cannot_be_compared_is_refused() -> None:
    a = np.zeros((64, 64, 3), np.uint8)
    for other in (a[:32], a.astype(np.float32), a[..., 0]):
        with pytest.raises(InputError, match="expected"):
            tile_shifts(a, other)
    with pytest.raises(InputError, match="16 or more"):
        tile_shifts(a, a)
    with pytest.raises(InputError, match="one size"):
        boundary_recall(np.zeros((3, 3), int), a, a)
