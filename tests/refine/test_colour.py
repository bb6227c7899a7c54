"""Colour conversions against OpenCV as oracle, and maps that stay on the screen."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from synthaug.refine.colour import lab_from_srgb, mapped, srgb_from_lab

ALL = np.stack(np.meshgrid(*(np.linspace(0, 1, 33, dtype=np.float32),) * 3)).reshape(3, -1)


def test_lab_equals_opencv() -> None:
    expected = cv2.cvtColor(np.ascontiguousarray(ALL.T)[None], cv2.COLOR_RGB2Lab)[0].T
    assert np.abs(lab_from_srgb(ALL) - expected).max() < 0.25


def test_known_colours() -> None:
    red, white, grey = lab_from_srgb(np.array([[1, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5]], np.float32).T).T
    assert np.allclose(red, [53.24, 80.09, 67.20], atol=0.05)
    assert np.allclose(white, [100, 0, 0], atol=0.05)
    assert np.allclose(grey, [53.39, 0, 0], atol=0.05)


def test_round_trip_is_below_half_a_level() -> None:
    assert np.abs(srgb_from_lab(lab_from_srgb(ALL)) - ALL).max() < 0.5 / 255


@given(st.tuples(st.floats(-50, 150), st.floats(-150, 150), st.floats(-150, 150)))
def test_any_lab_gives_a_colour(lab: tuple[float, float, float]) -> None:
    rgb = srgb_from_lab(np.array(lab, np.float32)[:, None])
    assert np.isfinite(rgb).all()
    assert rgb.min() >= 0
    assert rgb.max() <= 1


def test_too_bright_yellow_stays_yellow() -> None:
    too_bright = np.array([[108.0], [0.0], [70.0]], np.float32)
    red, green, blue = srgb_from_lab(too_bright)[:, 0]
    assert min(red, green) - blue > 0.2


def test_identity_map_changes_nothing_visible() -> None:
    planes = ALL.reshape(3, 33, -1)
    assert np.abs(mapped(planes, np.eye(3), np.zeros(3)) - planes).max() < 0.5 / 255


def test_vivid_colours_take_less_of_a_cast() -> None:
    planes = np.array([[0.5, 0.0], [0.5, 0.2], [0.5, 1.0]], np.float32)[:, None]
    cast = np.array([0.0, 20.0, 0.0])
    before = lab_from_srgb(planes[:, 0])
    after = lab_from_srgb(mapped(planes, np.eye(3), cast, vivid=50.0)[:, 0])
    assert after[1, 0] - before[1, 0] > 19
    assert after[1, 1] - before[1, 1] < 5
