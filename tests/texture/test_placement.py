"""Where a tile lies: in its real size, as JSON, measured alike in any view."""

from __future__ import annotations

import numpy as np
import pytest

from synthaug.errors import InputError
from synthaug.texture.importing import About, made
from synthaug.texture.placement import GRID, Placement, metres_per_uv, place, snapped
from tests.texture.pictures import noise
from tests.texture.staged import Stage, plain

ENTRY = made("x", {"albedo": noise(1, (32, 64))}, About("CC0-1.0", "here", "wood", metres=0.5)).entry


def test_a_tile_has_its_size_in_the_world() -> None:
    """0.5 m wide and 0.25 m high, on a surface whose unit of u is 2 m and of v 1 m."""
    placement = place(ENTRY, (2.0, 1.0), 0.0, (0.0, 0.0))
    assert placement.apply(np.array([[0.0, 0.0], [0.25, 0.0], [0.0, 0.25]])) == pytest.approx(
        np.array([[0, 0], [1, 0], [0, 1]])
    )
    turned = place(ENTRY, (2.0, 1.0), np.pi / 2, (0.1, 0.2))
    assert turned.apply(np.array([[0.125, 0.0], [0.0, 0.5]])) == pytest.approx(np.array([[0.1, 1.2], [-0.9, 0.2]]))
    assert turned.apply(np.zeros((1, 2), np.float32)).dtype == np.float32


def test_a_placement_survives_json() -> None:
    placement = place(ENTRY, (0.3, 0.7), 0.4, (0.1, 0.9), "object")
    assert Placement.from_json(placement.to_json()) == placement
    for broken in (None, {"entry": "x"}, {**placement.to_json(), "mode": "x"}, {**placement.to_json(), "matrix": [1]}):
        with pytest.raises(InputError, match="placement"):
            Placement.from_json(broken)


@pytest.mark.parametrize("tilt", [0.0, 40.0, 75.0])
def test_metres_are_measured_alike_from_anywhere(tilt: float) -> None:
    for turn in (0.0, 20.0):
        labels = Stage(96, tilt=tilt, turn=turn).labels(plain)
        uv, position = labels.passes["uv"], labels.passes["position"]
        found = metres_per_uv(uv, position, labels.passes["instance"] == 1)
        assert found == pytest.approx((0.4, 0.4), rel=1e-4)
        assert metres_per_uv(uv * [2, 0.5], position, labels.passes["instance"] == 1) == pytest.approx(
            (0.2, 0.8), rel=1e-4
        )


def test_what_cannot_be_measured_is_none() -> None:
    uv = np.zeros((8, 8, 2), np.float32)
    position = np.random.default_rng(0).random((8, 8, 3)).astype(np.float32)
    assert metres_per_uv(uv, position, np.ones((8, 8), bool)) is None
    assert metres_per_uv(np.full_like(uv, np.nan), position, np.ones((8, 8), bool)) is None
    assert metres_per_uv(uv, position, np.zeros((8, 8), bool)) is None


def test_sizes_snap_to_steps_that_measurements_share() -> None:
    rng = np.random.default_rng(0)
    sizes = np.exp(rng.uniform(-6, 3, 1000))
    steps = [snapped((s, s))[0] for s in sizes]
    assert np.abs(np.log2(np.array(steps) / sizes)).max() <= 0.5 / GRID + 1e-9
    again = [snapped((s * (1 + 1e-5), s))[0] for s in sizes]
    assert np.mean(np.array(steps) == again) > 0.995
