"""Figures of tiles: 0 for the same, what is said of the rest, in numbers that can be worked out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.errors import InputError
from synthaug.metrics import texture


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """[H, W, 3] that wraps: noise without high frequencies."""
    rng = np.random.default_rng(seed)
    y, x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    low = np.exp(-2 * (np.pi * 2.0) ** 2 * (y**2 + x**2))[..., None]
    noise = np.fft.irfft2(
        np.fft.rfft2(rng.standard_normal((height, width, 3)), axes=(0, 1)) * low, (height, width), axes=(0, 1)
    )
    return np.clip(0.5 + 0.15 * noise / noise.std(), 0, 1).astype(np.float32)


@settings(max_examples=15)
@given(down=st.integers(0, 255), right=st.integers(0, 255))
def test_a_tile_that_wraps_has_no_seam_wherever_it_is_rolled_to(down: int, right: int) -> None:
    tile = np.roll(smooth(256, 256), (down, right), (0, 1))
    assert texture.seam_energy(tile) < 1.3
    assert texture.seam_contrast(tile) < 1.15


def test_seams_average_to_one_over_all_rolls() -> None:
    tile = smooth(64, 64)
    assert np.mean([texture.seam_energy(np.roll(tile, k, 0)) for k in range(64)]) < 1.2
    rows = np.linspace(0.2, 0.8, 32)[:, None, None] + np.zeros((32, 32, 3))
    assert texture.seam_energy(rows) == pytest.approx(31), "a ramp: thirty-one steps back in one"


def test_the_seam_of_a_set_is_one_where_its_tiles_wrap_and_shows_where_they_do_not() -> None:
    rng = np.random.default_rng(0)
    whole = smooth(256, 256)
    crops = [whole[y : y + 64, x : x + 64] for y, x in rng.integers(192, size=(40, 2))]
    tile = smooth(64, 64)
    rolled = [np.roll(tile, rng.integers(64, size=2), (0, 1)) for _ in range(400)]
    assert texture.mean_seam_energy(rolled) == pytest.approx(1, abs=0.05)
    assert texture.mean_seam_energy(crops) > 1.5
    # Cells of 8 with steps between them: the wrap is one of these, and no seam.
    cells = [np.kron(rng.uniform(0.2, 0.8, (8, 8, 1)), np.ones((8, 8, 3))) for _ in range(300)]
    assert texture.mean_seam_energy(cells) > 5
    assert texture.mean_seam_energy(cells, 8) == pytest.approx(1, abs=0.05)
    flat = np.full((64, 64, 3), 9, np.uint8)
    with pytest.raises(InputError, match="no tiles"):
        texture.mean_seam_energy([])
    for period in (0, 7, 64):
        with pytest.raises(InputError, match="expected a divisor"):
            texture.mean_seam_energy([tile], period)
    assert texture.mean_seam_energy([flat]) == 0
    assert texture.mean_seam_energy([flat, tile]) == texture.mean_seam_energy([tile])
    # A seam in one direction is not averaged away by the other.
    open_below = [np.tile(np.linspace(0.2, 0.8, 32)[:, None, None], (1, 32, 3))]
    assert texture.mean_seam_energy(open_below) == pytest.approx(31)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_visible_seam(axis: int) -> None:
    crop = np.ascontiguousarray(smooth(256, 256).take(range(100), axis))
    assert texture.seam_energy(crop) > 1.5
    assert texture.seam_contrast(crop) > 1.5


def test_a_flat_tile_and_a_line_at_the_wrap() -> None:
    flat = np.full((32, 32, 3), 9, np.uint8)
    assert texture.seam_energy(flat) == 0
    assert texture.join_energy(flat, flat) == 0
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[::8] = 255
    assert texture.seam_energy(stripes) > 3, "the mean knows no pattern"
    assert texture.seam_contrast(stripes) == 1, "the lines beside the wrap do"


def test_join_energy_sees_cuts_and_blur() -> None:
    tile = smooth(128, 128)
    blocks = tile.reshape(8, 16, 8, 16, 3).swapaxes(1, 2).reshape(64, 16, 16, 3)
    mixed = np.random.default_rng(0).permutation(blocks).reshape(8, 8, 16, 16, 3)
    cut = mixed.swapaxes(1, 2).reshape(128, 128, 3)
    assert texture.join_energy(tile, tile) == pytest.approx(1, abs=0.02)
    assert texture.join_energy(cut, tile) > 1.05
    assert texture.join_energy(0.5 * tile + 0.25, tile) == pytest.approx(0.5, abs=0.02)


def test_a_picture_is_not_apart_from_itself() -> None:
    tile = smooth(64, 80)
    eight = (tile * 255).round().astype(np.uint8)
    assert texture.pyramid_distance(tile, tile) == 0
    assert texture.autocorrelation_distance(tile, tile) == 0
    assert texture.pyramid_distance(eight, eight / np.float32(255)) == pytest.approx(0, abs=1e-6)


def test_pyramid_distance_orders_what_the_eye_orders() -> None:
    real, other, paler = smooth(128, 128, 1), smooth(128, 128, 2), 0.5 * smooth(128, 128, 2) + 0.25
    shuffled = np.random.default_rng(0).permutation(real.reshape(-1, 3)).reshape(real.shape)
    figures = [texture.pyramid_distance(p, real) for p in (other, paler, shuffled)]
    assert figures[0] < 0.35 * figures[1] < figures[2], figures


def test_pyramid_distance_of_another_brightness() -> None:
    """Only the last level has a mean; there a patch of 147 values moves by d / spread along each axis."""
    real = smooth(16, 16)
    moved = real * 0.9 + np.float32(0.05)
    once = texture.pyramid_distance(moved, real)
    assert texture.pyramid_distance(real * 0.8 + np.float32(0.1), real) == pytest.approx(2 * once, rel=0.02)


def test_autocorrelation_tells_directions_and_periods() -> None:
    y, x = np.mgrid[:96, :96]

    def wave(phase: np.ndarray) -> np.ndarray:
        return np.repeat(0.5 + 0.3 * np.sin(phase)[..., None], 3, 2).astype(np.float32)

    base = wave(x * 2 * np.pi / 12)
    assert texture.autocorrelation_distance(wave(x * 2 * np.pi / 12 + 1), base) < 0.03, "moved is the same"
    assert texture.autocorrelation_distance(0.5 * base + 0.1, base) < 1e-6, "and so is paler"
    crossed, finer = wave(y * 2 * np.pi / 12), wave(x * 2 * np.pi / 9)
    # cos(ax) - cos(ay): each has a mean square of one half, and they are independent.
    assert texture.autocorrelation_distance(crossed, base) == pytest.approx(1, abs=0.1)
    assert texture.autocorrelation_distance(finer, base) > 0.5


def test_a_rolled_copy_is_found() -> None:
    known = [smooth(32, 32, seed) for seed in range(4)]
    copy = np.roll(known[2], (11, -7), (0, 1))
    far = texture.nearest_distances(known, known, skip=True)
    found = texture.nearest_distances([copy, smooth(32, 32, 9)], known)
    assert found[0] < 1e-3 < 0.05 < far.min()
    assert found[1] > 0.5 * far.min()
    assert np.all(texture.nearest_distances(known, known) < 1e-3)


def test_nearest_distance_is_the_least_over_rolls() -> None:
    one, other = smooth(16, 16, 1), smooth(16, 16, 2)
    rolled = [np.roll(other, (a, b), (0, 1)) for a in range(16) for b in range(16)]
    by_hand = min(float(np.sqrt(np.mean((one - r) ** 2))) for r in rolled)
    assert texture.nearest_distances([one], [other])[0] == pytest.approx(by_hand, rel=1e-4)


def test_pictures_of_another_form_are_refused() -> None:
    with pytest.raises(InputError, match="one size"):
        texture.nearest_distances([smooth(32, 32)], [smooth(32, 48)])
    with pytest.raises(InputError, match="one size"):
        texture.nearest_distances([smooth(32, 32)], [smooth(32, 32)], skip=True)
    for call in (texture.seam_energy, texture.seam_contrast):
        with pytest.raises(InputError, match="expected"):
            call(np.zeros((64, 64), np.uint8))
