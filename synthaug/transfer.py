"""The sRGB transfer curve (IEC 61966-2-1), in one place: display values to linear light and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def linear_from_srgb(values: ArrayLike) -> NDArray[Any]:
    """sRGB in [0, 1] to linear light in [0, 1], any shape; float32 stays float32."""
    x = np.asarray(values)
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(_float(x), copy=False)


def srgb_from_linear(values: ArrayLike) -> NDArray[Any]:
    """Linear light to sRGB in [0, 1], any shape; what lies outside [0, 1] is clipped first."""
    x = np.clip(values, 0.0, 1.0)
    return np.where(x <= 0.0031308, x * 12.92, 1.055 * x ** (1 / 2.4) - 0.055).astype(_float(x), copy=False)


def _float(x: NDArray[Any]) -> type[np.floating[Any]]:
    return np.float32 if x.dtype == np.float32 else np.float64
