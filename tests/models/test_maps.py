"""Maps as channels: what is invalid is absent, depth has no scale, a mirror swaps what it must."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug.errors import ConfigError, InputError
from synthaug.models import maps
from synthaug.models.maps import MapSpec

ALL = MapSpec(("depth", "normals", "classes"), ("road", "car"))
SIZE = (5, 7)


def arrays(seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    normals = rng.normal(size=(*SIZE, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    depth = maps.relative(rng.uniform(0.5, 50, SIZE).astype(np.float32))
    return {"depth": depth, "normals": normals, "classes": rng.integers(0, 3, SIZE).astype(np.int32)}


def test_channels_and_their_order() -> None:
    assert ALL.channels == 2 + 4 + 3
    assert ALL.spans() == {"depth": slice(0, 2), "normals": slice(2, 6), "classes": slice(6, 9)}
    assert ALL.passes == ("depth", "normals", "semantic")
    given_ = arrays()
    out = ALL.encode(given_, SIZE)
    assert out.shape == (9, *SIZE)
    assert np.array_equal(out[0], given_["depth"])
    assert np.array_equal(out[2:5].transpose(1, 2, 0), given_["normals"])
    assert np.array_equal(out[6], given_["classes"] == 1)
    assert np.array_equal(out[7], given_["classes"] == 2)
    assert out[[1, 5, 8]].min() == 1
    assert np.abs(out).max() <= 1


def test_what_is_missing_or_invalid_is_zero_and_absent() -> None:
    given_ = arrays()
    given_["depth"][1, 2] = np.nan
    given_["normals"][0, 0, 1] = np.inf
    given_["classes"][4, 6] = maps.UNKNOWN
    out = ALL.encode(given_, SIZE)
    for span, (y, x) in zip(ALL.spans().values(), ((1, 2), (0, 0), (4, 6)), strict=True):
        assert not out[span, y, x].any()
        assert out[span][-1].sum() == 5 * 7 - 1
    for kind, span in ALL.spans().items():
        without = ALL.encode({k: v for k, v in given_.items() if k != kind}, SIZE)
        assert not without[span].any()
        others = [c for c in range(9) if not span.start <= c < span.stop]
        assert np.array_equal(without[others], out[others])


@given(st.floats(0.01, 100), st.integers(0, 20))
def test_relative_depth_has_no_scale(scale: float, seed: int) -> None:
    depth = np.random.default_rng(seed).uniform(2, 30, SIZE).astype(np.float32)
    found = maps.relative(depth)
    assert np.allclose(maps.relative(depth * np.float32(scale)), found, atol=1e-5)
    assert np.median(found) == pytest.approx(0, abs=1e-6)
    assert np.array_equal(np.argsort(found.ravel(), kind="stable"), np.argsort(depth.ravel(), kind="stable"))


def test_relative_depth_by_hand() -> None:
    depth = np.array([[1.0, 2.0, 4.0, np.nan], [2.0, 2.0, 0.0, 1e9]], np.float32)
    assert np.allclose(maps.relative(depth), [[-0.25, 0, 0.25, np.nan], [0, 0, np.nan, 1]], equal_nan=True)
    assert np.isnan(maps.relative(np.full((2, 2), -1, np.float32))).all()


def test_a_mirror_swaps_sides_and_the_sign_of_x_alone() -> None:
    given_ = arrays(3)
    plain, turned = ALL.encode(given_, SIZE), ALL.encode(maps.mirrored(given_), SIZE)
    expected = plain[:, :, ::-1].copy()
    expected[2] *= -1
    assert np.array_equal(turned, expected)
    twice = maps.mirrored(maps.mirrored(given_))
    assert all(np.array_equal(twice[kind], given_[kind]) for kind in given_)


def test_classes_are_known_by_name() -> None:
    table = ALL.known(["sky", "car", "road"])
    assert table.tolist() == [0, maps.UNKNOWN, 2, 1]


@pytest.mark.parametrize(
    ("kinds", "classes", "match"),
    [
        (("dept",), (), "dept.*depth"), (("normals", "depth"), (), "order"), (("depth", "depth"), (), "once"),
        (("classes",), (), "need the names"), ((), ("car",), "names need"), (("classes",), ("a", "a"), "different"),
        (("classes",), tuple(map(str, range(65))), "up to 64"),
    ],
)  # fmt: skip
def test_specs_that_make_no_sense(kinds: tuple[str, ...], classes: tuple[str, ...], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        MapSpec(kinds, classes)


def test_peek(tmp_path: Path) -> None:
    assert maps.peek(tmp_path) == maps.NONE
    (tmp_path / maps.FACTS).write_text(json.dumps({"maps": {"kinds": ["depth"], "classes": []}}))
    assert maps.peek(tmp_path) == MapSpec(("depth",))
    for bad in ({"maps": 3}, [], {"maps": {"kinds": ["smell"]}}, {"maps": {"kinds": 7}}):
        (tmp_path / maps.FACTS).write_text(json.dumps(bad))
        with pytest.raises(InputError, match=r"refiner\.json"):
            maps.peek(tmp_path)
