"""Periods of crops: found to a fraction of a pixel, not found where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from synthaug.texture.period import fitted, period
from tests.texture.examples import bricks, grain


@pytest.mark.parametrize("length", [11.0, 16.4, 23.7, 40.0])
def test_waves(length: float) -> None:
    x = np.arange(160)
    wave = 0.5 + 0.4 * np.sin(2 * np.pi * x / length)[None, :, None]
    crop = (np.broadcast_to(wave, (64, 160, 3)) + 0.1 * (grain(160)[:64] - 0.5)).astype(np.float32)
    found = period(crop, 1)
    assert found == pytest.approx(length, abs=0.15)
    assert period(crop, 0) is None


def test_two_courses_of_bricks_are_one_period() -> None:
    assert period(bricks(128, (24, 32), offset=(5, 9)), 0) == pytest.approx(24, abs=0.2)
    assert period(bricks(128, (24, 32), offset=(5, 9)), 1) == pytest.approx(32, abs=0.2)


@pytest.mark.parametrize("seed", range(4))
def test_grain_has_none(seed: int) -> None:
    assert period(grain(128, seed), 0) is None
    crop = grain(128, seed)
    assert fitted(crop, (500, 500))[0] is crop


def test_a_crop_is_scaled_to_whole_periods() -> None:
    crop, periods = fitted(bricks(128, (24, 32)), (250, 512))
    assert (250 / periods[0], 512 / periods[1]) == pytest.approx((10, 16))
    assert crop.shape[0] == round(128 * 25 / period(bricks(128, (24, 32)), 0))  # type: ignore[operator]
    assert period(crop, 0) == pytest.approx(25, abs=0.3)
    assert fitted(bricks(128, (24, 32)), (34, 512))[1][0] == 0, "a stretch by two fifths is none of ours"
