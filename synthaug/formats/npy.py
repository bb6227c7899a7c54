"""NPY files (NumPy format specification, NEP 1): plain numbers only, never an object, never a pickle."""

from __future__ import annotations

import io
import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import Rejected

_MAX_HEADER = 4096
_MAX_DIMENSIONS = 4
_DICTIONARY = re.compile(
    rb"\{\s*'descr':\s*'(?P<descr>\|[biu]1|[<>=](?:[iu][1248]|f[248]))'\s*,"
    rb"\s*'fortran_order':\s*(?P<fortran>True|False)\s*,"
    rb"\s*'shape':\s*\((?P<shape>\s*|\s*[0-9]{1,10}\s*,\s*|\s*[0-9]{1,10}(?:\s*,\s*[0-9]{1,10})+\s*,?\s*)\)\s*,?\s*\}\s*"
)


def encode(array: NDArray[Any]) -> bytes:
    """The bytes of an array: version 1.0, little-endian, C order. The same array gives the same bytes.

    Raises:
        ValueError: An array of objects or structures.
    """
    if array.dtype.kind not in "biuf":
        raise ValueError(f"array of {array.dtype}; a npy file here holds numbers")
    plain = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(plain))
    return head.getvalue() + plain.tobytes()


def shape_of(head: bytes) -> tuple[int, ...]:
    """The shape from the first bytes of a file. Raises `Rejected` under `decode`."""
    return _header(head)[0]


def decode(data: bytes, *, max_bytes: int = 2**30) -> NDArray[Any]:
    """The array of a whole file, as a read-only view of `data` where its byte order allows.

    Args:
        data: The file.
        max_bytes: Of the numbers.

    Raises:
        Rejected: Under `decode`: objects, structures, a header that does not match the length. Under
            `budget`: more than `max_bytes`.
    """
    shape, fortran, dtype, start = _header(data)
    size = math.prod(shape) * dtype.itemsize
    if size > max_bytes:
        raise Rejected("budget", f"npy of {size} bytes, the limit is {max_bytes}")
    if len(data) != start + size:
        raise Rejected("decode", f"npy with {len(data) - start} bytes of numbers, its header promises {size}")
    flat = np.frombuffer(data, dtype=dtype, offset=start)
    array = flat.reshape(shape, order="F" if fortran else "C")
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))


def _header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, Fortran order, dtype and where the numbers begin.

    Matched, not evaluated: numpy's own reader runs the header through Python's parser.
    """
    width = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4}.get(data[:8])
    if width is None:
        raise Rejected("decode", "not a npy file of version 1 or 2")
    start = 8 + width + int.from_bytes(data[8 : 8 + width], "little")
    text = data[8 + width : start]
    found = _DICTIONARY.fullmatch(text) if len(text) <= _MAX_HEADER else None
    if start > len(data) or found is None:
        raise Rejected("decode", f"npy header {text[:120]!r}; expected descr, fortran_order and shape of plain numbers")
    shape = tuple(int(n) for n in found["shape"].split(b",") if n.strip())
    dtype = np.dtype(found["descr"].decode("ascii"))
    if len(shape) > _MAX_DIMENSIONS:
        raise Rejected("decode", f"npy of {len(shape)} dimensions, the most is {_MAX_DIMENSIONS}")
    return shape, found["fortran"] == b"True", dtype, start
