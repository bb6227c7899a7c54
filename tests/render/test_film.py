"""The small camera: exposure, fall-off, tone curve."""

from __future__ import annotations

import numpy as np
import pytest

from synthaug.camera import from_fov
from synthaug.render.film import MIDDLE, WHITE_FLOOR, develop, expose, meter
from synthaug.render.scene import View
from synthaug.transfer import srgb_from_linear


def view(**facts: object) -> View:
    return View("view-0", (8, 12), from_fov(12, 8, 50), **facts)  # pyright: ignore[reportArgumentType]


def flat(level: float) -> np.ndarray:
    return np.full((8, 12, 3), level, np.float32)


def test_a_pale_floor_lands_on_the_target() -> None:
    assert expose(flat(WHITE_FLOOR), view()).mean() == pytest.approx(MIDDLE, rel=1e-5)
    assert expose(flat(WHITE_FLOOR), view(exposure=1.0)).mean() == pytest.approx(2 * MIDDLE, rel=1e-5)


def test_a_dark_floor_is_lifted_and_stays_darker() -> None:
    dark = expose(flat(WHITE_FLOOR / 10), view()).mean()
    assert MIDDLE / 10 < dark < MIDDLE


def test_one_picture_can_be_exposed_like_another() -> None:
    bright, dark = flat(0.8), flat(0.1)
    alike = expose(dark, view(), meter(bright))
    assert alike.mean() / expose(bright, view()).mean() == pytest.approx(1 / 8)
    assert np.array_equal(expose(dark, view(), meter(dark)), expose(dark, view()))
    assert np.array_equal(develop(dark, view(), meter(dark)), develop(dark, view()))


def test_cast_is_a_gain_per_channel() -> None:
    red, green, blue = expose(flat(0.5), view(cast=(1.1, 1.0, 0.9)))[0, 0]
    assert red / green == pytest.approx(1.1)
    assert blue / green == pytest.approx(0.9)


def test_vignette_is_cos_to_the_fourth() -> None:
    picture = develop(flat(0.3), view(vignette=1.0)).astype(float)
    assert picture[0, 0, 0] < picture[4, 6, 0]
    camera = view().camera
    cosines = [1 / np.linalg.norm(camera.rays(np.array([p]))[0]) for p in ((0.5, 0.5), (6.5, 4.5))]
    codes = [np.rint(srgb_from_linear(np.array(expose(flat(0.3), view())[0, 0, 0] * c**4)) * 255) for c in cosines]
    assert abs(picture[0, 0, 0] - codes[0]) <= 1
    assert abs(picture[4, 6, 0] - codes[1]) <= 1


def test_highlights_roll_off_without_clipping() -> None:
    ramp = np.linspace(0, 3, 96, dtype=np.float32).reshape(8, 12, 1).repeat(3, axis=2)
    values = develop(ramp, view(exposure=-0.5))[..., 0].ravel().astype(int)
    assert (np.diff(values) >= 0).all()
    assert values[-1] > 240


def test_srgb_encoding_at_known_points() -> None:
    assert srgb_from_linear(np.array([0.0, 0.0031308, 0.2140, 1.0, 2.0])) == pytest.approx(
        [0, 0.04045, 0.5, 1, 1], abs=2e-4
    )
