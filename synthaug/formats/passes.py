"""Label passes as files beside a format that cannot hold them.

instance, semantic   png    grey, 8 bits where the ids fit, else 16
ignore               png    0 or 255
depth                npy    float32 metres, exact; or png16: 16-bit grey in `unit`, 0 invalid
normals              npy    float32, exact; or png16: 16-bit RGB, 0.5 n + 0.5, black invalid
all others           npy    float32, exact
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import ConfigError, Rejected
from synthaug.formats import maps, npy, png
from synthaug.labels import PASSES

How = Literal["png", "png16", "npy"]
DEFAULTS: Mapping[str, How] = MappingProxyType(
    {name: "png" if spec.kind == "ids" else "npy" for name, spec in PASSES.items()}
)
"""How each pass is stored unless the configuration says otherwise: everything exact."""
DEPTH_UNIT = 0.001
"""Metres per step of a 16-bit depth PNG: up to 65.535 m."""
_FULL = 65535
_PNG16 = ("depth", "normals")


def encode_pass(name: str, array: NDArray[Any], how: How | None = None, unit: float = DEPTH_UNIT) -> tuple[str, bytes]:
    """The file of one pass.

    Args:
        name: One of `labels.PASSES`.
        array: As `labels.PASSES` describes it.
        how: None for the default.
        unit: Metres per step, for depth as `png16`.

    Returns:
        Suffix with its dot, and the bytes. Deterministic.

    Raises:
        ConfigError: The pass cannot be stored in that way.
        Rejected: Under `label`: ids or depths that do not fit.
    """
    chosen = _check_how(name, how or DEFAULTS.get(name, "npy"))
    if chosen == "npy":
        return ".npy", npy.encode(array)
    if name == "ignore":
        return ".png", png.encode(array.astype(np.uint8) * np.uint8(255))
    if name == "depth":
        valid, _, steps = _steps(array, unit)
        return ".png", png.encode(steps.astype(np.uint16) * valid)
    if name == "normals":
        return ".png", png.encode(_quantise_normals(array))
    return ".png", png.id_png(array)


def decode_pass(name: str, data: bytes, how: How | None = None, unit: float = DEPTH_UNIT) -> NDArray[Any]:
    """The array behind a file that `encode_pass` wrote, dtype and channels as `labels.PASSES` says.

    Args:
        name: One of `labels.PASSES`.
        data: The file.
        how: None takes what the file is.
        unit: Metres per step, for depth as `png16`.

    Raises:
        Rejected: Under `decode` or `label`: not such a file.
    """
    spec = PASSES.get(name)
    if spec is None:
        raise Rejected("label", f"unknown label pass '{name}'; known: {', '.join(PASSES)}")
    if how == "npy" or (how is None and data.startswith(b"\x93NUMPY")):
        array = npy.decode(data)
        if array.dtype != spec.dtype:
            raise Rejected("label", f"pass '{name}' stored as {array.dtype}, expected {np.dtype(spec.dtype)}")
        return array
    if name == "ignore":
        return maps.decode_ids(data) != 0
    if name == "depth":
        return maps.decode_depth(data, unit=unit)
    if name == "normals":
        return maps.decode_vectors(data, "unit")
    if spec.kind != "ids":
        raise Rejected("label", f"pass '{name}' in a picture; expected npy")
    return maps.decode_ids(data)


def _steps(
    depth: NDArray[np.float32], unit: float
) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.float64]]:
    """Where there is a depth, the depth with 1 step elsewhere, and both in whole steps."""
    valid = np.isfinite(depth)
    metres = np.where(valid, depth, np.float32(unit))
    steps = np.divide(metres, unit, dtype=np.float64)
    np.rint(steps, out=steps)
    low, high = float(steps.min(initial=1)), float(steps.max(initial=1))
    if high > _FULL:
        fits = float(f"{float(metres.max()) / _FULL * 1.0005:.3g}")
        raise Rejected(
            "label",
            f"depth up to {metres.max():.6g} m does not fit 16 bits in steps of {unit:g} m; "
            f"a unit of {fits:g} would, and npy holds every depth",
        )
    if low < 1:
        raise Rejected("label", f"depth of {metres.min():.6g} m in steps of {unit:g} m would read as invalid; use npy")
    return valid, metres, steps


def _quantise_normals(normals: NDArray[np.float32]) -> NDArray[np.uint16]:
    valid = np.isfinite(normals).all(axis=2, keepdims=True)
    levels = np.rint((np.clip(np.where(valid, normals, 0), -1, 1).astype(np.float64) * 0.5 + 0.5) * _FULL)
    return np.where(valid, levels, 0).astype(np.uint16)


def _check_how(name: str, how: How) -> How:
    if name not in PASSES:
        raise ConfigError(f"unknown label pass '{name}'; known: {', '.join(PASSES)}")
    fits = how == "npy" or (how == "png" and PASSES[name].kind == "ids") or (how == "png16" and name in _PNG16)
    if not fits:
        raise ConfigError(f"pass '{name}' cannot be stored as '{how}'; expected {DEFAULTS[name]} or npy")
    return how
