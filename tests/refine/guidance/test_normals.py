"""Normals: which side of a ball is red, green and blue, by convention."""

from __future__ import annotations

import numpy as np
import pytest

from synthaug.errors import ConfigError
from synthaug.refine.guidance.normals import CONVENTIONS, Normals
from tests.refine.guidance.scenes import GREY, ball, only

RED, GREEN, BLUE = 0, 1, 2


def sides(image: np.ndarray) -> dict[str, np.ndarray]:
    """Colours near the ball's left, right, upper and lower outline, and in its middle."""
    ids = ball().passes["instance"]
    rows, columns = np.nonzero(ids)
    middle = (int(rows.mean().round()), int(columns.mean().round()))
    places = {
        "left": (middle[0], columns.min() + 1),
        "right": (middle[0], columns.max() - 1),
        "top": (rows.min() + 1, middle[1]),
        "bottom": (rows.max() - 1, middle[1]),
        "middle": middle,
    }
    return {name: image[:, y, x] for name, (y, x) in places.items()}


def test_bae_is_red_left_green_top_blue_front() -> None:
    at = sides(Normals("bae").guide(ball(), GREY).image)
    assert at["left"][RED] > 0.9 > 0.1 > at["right"][RED]
    assert at["top"][GREEN] > 0.9 > 0.1 > at["bottom"][GREEN]
    assert at["middle"][BLUE] > 0.99
    np.testing.assert_allclose(at["middle"], [0.5, 0.5, 1.0], atol=0.03)


def test_midas_is_bae_with_red_and_blue_swapped() -> None:
    bae, midas = (Normals(c).guide(ball(), GREY).image for c in ("bae", "midas"))
    np.testing.assert_array_equal(bae[::-1], midas)


def test_opengl_is_red_right_green_top_and_directx_green_bottom() -> None:
    gl = sides(Normals("opengl").guide(ball(), GREY).image)
    assert gl["right"][RED] > 0.9 > 0.1 > gl["left"][RED]
    assert gl["top"][GREEN] > 0.9
    assert gl["middle"][BLUE] > 0.99
    dx = sides(Normals("directx").guide(ball(), GREY).image)
    assert dx["right"][RED] > 0.9
    assert dx["bottom"][GREEN] > 0.9
    assert dx["middle"][BLUE] > 0.99


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_colours_decode_to_the_pass_and_sky_faces_the_camera(convention: str) -> None:
    labels = ball()
    image = Normals(convention).guide(labels, GREY).image
    decoded = np.empty((*labels.size, 3))
    for channel, (axis, sign) in enumerate(CONVENTIONS[convention]):
        decoded[..., axis] = (image[channel] * 2 - 1) * sign
    n = labels.passes["normals"]
    valid = np.isfinite(n[..., 0])
    np.testing.assert_allclose(decoded[valid], n[valid], atol=1e-6)
    np.testing.assert_allclose(decoded[~valid], np.broadcast_to([0, 0, -1], decoded[~valid].shape), atol=1e-6)


def test_derived_normals_give_nearly_the_same_colours() -> None:
    labels = ball(sky=False)
    true, derived = (Normals().guide(x, GREY) for x in (labels, only(labels, "depth")))
    assert derived.facts["from"] == "depth and camera"
    inside = labels.passes["normals"][..., 2] < -0.5
    assert np.abs(true.image - derived.image)[:, inside].max() < 4 / 255


def test_unknown_convention() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'opengl'"):
        Normals("openGl")
