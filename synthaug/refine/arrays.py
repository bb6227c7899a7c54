"""Pixels as numpy arrays or as torch tensors, by one code and without importing torch: by their methods alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def where(condition: Any, yes: Any, no: Any) -> Any:
    """`yes` where `condition`, else `no`: all three arrays, or all three tensors of one device."""
    return np.where(condition, yes, no) if isinstance(yes, np.ndarray) else yes.where(condition, no)


def like(values: NDArray[Any], images: Any) -> Any:
    """`values` with the type of `images`, on its device. A tensor is copied there, which waits for the device."""
    if isinstance(images, np.ndarray):
        return values.astype(images.dtype, copy=False)
    return images.new_tensor(np.ascontiguousarray(values))


def zeros(shape: tuple[int, ...], images: Any) -> Any:
    """Zeros with the type of `images`, on its device."""
    return np.zeros(shape, images.dtype) if isinstance(images, np.ndarray) else images.new_zeros(shape)


def copied(images: Any) -> Any:
    """The same values in memory of its own."""
    return images.copy() if isinstance(images, np.ndarray) else images.clone()
