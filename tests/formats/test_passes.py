"""Label passes as files: what is stored comes back, to the bit or within the stated error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from synthaug.errors import ConfigError, Rejected
from synthaug.formats import npy, passes, png
from synthaug.labels import PASSES

SIZE = (23, 31)


def example(name: str) -> NDArray[Any]:
    """A pass with something invalid in it where the pass may be invalid."""
    rng = np.random.default_rng(sum(name.encode()))
    spec = PASSES[name]
    if spec.dtype == np.bool_:
        return rng.random(SIZE) < 0.3
    if spec.kind == "ids":
        return rng.integers(0, 300, SIZE).astype(np.int32)
    shape = (*SIZE, spec.channels) if spec.channels else SIZE
    values = rng.uniform(0.5, 20, shape).astype(np.float32)
    if name == "normals":
        values = rng.normal(size=shape).astype(np.float32)
        values /= np.linalg.norm(values, axis=2, keepdims=True)
    if name not in ("alpha", "albedo"):
        values[3, 4] = np.nan
    return values


@pytest.mark.parametrize("name", PASSES)
def test_defaults_are_exact(name: str) -> None:
    array = example(name)
    suffix, data = passes.encode_pass(name, array)
    back = passes.decode_pass(name, data)
    assert suffix == {"png": ".png", "npy": ".npy"}[passes.DEFAULTS[name]]
    assert back.dtype == PASSES[name].dtype
    assert np.array_equal(back, array, equal_nan=array.dtype.kind == "f")
    assert passes.encode_pass(name, array.copy()) == (suffix, data)


@pytest.mark.parametrize("unit", [0.001, 0.0001, 0.005, 1 / 256])
def test_depth_as_png_errs_by_half_a_step_and_says_so(unit: float) -> None:
    depth = np.random.default_rng(1).uniform(unit, 60000 * unit, SIZE).astype(np.float32)
    depth[2, :] = np.nan
    suffix, data = passes.encode_pass("depth", depth, "png16", unit)
    back = passes.decode_pass("depth", data, unit=unit)
    assert suffix == ".png"
    assert png.decode(data).dtype == np.uint16
    assert np.array_equal(np.isnan(back), np.isnan(depth))
    worst = float(np.nanmax(np.abs(back.astype(np.float64) - depth)))
    assert unit / 4 < worst <= unit / 2 * 1.01


def test_depth_that_does_not_fit_is_refused_with_a_unit_that_does() -> None:
    depth = np.full(SIZE, 100.0, np.float32)
    with pytest.raises(Rejected, match="a unit of ") as caught:
        passes.encode_pass("depth", depth, "png16")
    unit = float(caught.value.message.split("a unit of ")[1].split(" ")[0])
    assert png.decode(passes.encode_pass("depth", depth, "png16", unit)[1]).max() > 60000
    with pytest.raises(Rejected, match="would read as invalid"):
        passes.encode_pass("depth", np.full(SIZE, 0.0001, np.float32), "png16")
    nothing = np.full(SIZE, np.nan, np.float32)
    assert np.isnan(passes.decode_pass("depth", passes.encode_pass("depth", nothing, "png16")[1])).all()


def test_normals_as_png_stay_within_a_hundredth_of_a_degree() -> None:
    normals = example("normals")
    suffix, data = passes.encode_pass("normals", normals, "png16")
    back = passes.decode_pass("normals", data)
    assert suffix == ".png"
    assert np.array_equal(np.isnan(back), np.isnan(normals))
    cosine = np.clip(np.nansum(back.astype(np.float64) * normals, axis=2), -1, 1)
    cosine = cosine[~np.isnan(normals[:, :, 0])]
    assert np.degrees(np.arccos(cosine)).max() < 0.03
    assert np.nanmax(np.abs(back - normals)) < 4e-5


def test_what_a_way_cannot_hold_is_refused() -> None:
    for name, how in (("depth", "png"), ("uv", "png16"), ("albedo", "png"), ("instance", "png16"), ("colour", "npy")):
        with pytest.raises(ConfigError):
            passes.encode_pass(name, np.zeros(SIZE, np.float32), how)  # type: ignore[arg-type]
    with pytest.raises(Rejected):
        passes.encode_pass("instance", np.full(SIZE, 70000, np.int32))
    assert passes.encode_pass("instance", np.full(SIZE, 70000, np.int32), "npy")[0] == ".npy"


def test_files_of_another_kind_are_refused() -> None:
    ids = png.encode(np.zeros((8, 8), np.uint8))
    for name, data in (
        ("colour", ids),
        ("uv", ids),
        ("depth", npy.encode(np.zeros((8, 8), np.float64))),
        ("instance", npy.encode(np.zeros((8, 8), np.float32))),
        ("instance", b"garbage"),
        ("instance", png.encode(np.zeros((8, 8, 3), np.uint8))),
        ("depth", b""),
    ):
        with pytest.raises(Rejected):
            passes.decode_pass(name, data)
