"""Float maps of one channel as TIFF (Adobe TIFF 6.0, sample format 3): every value exact, NaN included."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synthaug.errors import Rejected
from synthaug.formats import npy, rasters
from synthaug.formats.loose import same


def encode(plane: NDArray[np.float32]) -> bytes:
    """The uncompressed TIFF of a [H, W] float32 map, decoded again and compared."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(plane)).save(buffer, "TIFF")
    data = buffer.getvalue()
    if not same(decode(data), plane):
        raise Rejected("encode", "float map read back from TIFF differs from the one written")
    return data


def decode(data: bytes) -> NDArray[np.float32]:
    """The map behind `encode`. Raises `Rejected` under `decode` or `label`."""
    array = rasters.read(data).array
    if array.dtype != np.float32 or array.ndim != 2:
        raise Rejected("label", f"float map as {array.dtype} {array.shape}, expected float32 [H, W]")
    return array


def to_npy(data: bytes) -> bytes:
    """The same map as a npy file, which is how every other format stores it."""
    return npy.encode(decode(data))
