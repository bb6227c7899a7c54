"""PNG for datasets: every row under the Up filter, deflated by ISA-L at level 1, one IDAT chunk.

The format is ISO/IEC 15948 (W3C PNG, third edition). Adaptive filters cost more time than they save
bytes on renders and photos; ISA-L is the fastest deflate that stays below OpenCV's size (numbers and
the candidates compared: `benchmarks/png.py`). Nothing of the clock or the machine enters the bytes.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from synthaug.errors import Rejected

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_UP = 2
_LEVEL = 1
_GREY, _RGB = 0, 2
_HEADER = struct.Struct(">IIBBBBB")
_IHDR_AT, _IDAT_AT = 8, 33
_IEND = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", isal_zlib.crc32(b"IEND"))
_MAX_PIXELS = 2**30
_BLOCK = 16


def encode(array: NDArray[Any]) -> bytes:
    """A PNG that every reader decodes to exactly `array`.

    Args:
        array: uint8 or uint16, [H, W] or [H, W, 3] (RGB).

    Raises:
        ValueError: Another dtype or shape; nothing is converted.
    """
    height, width, depth, colour = _describe(array)
    rows = np.ascontiguousarray(array.astype(">u2", copy=False) if depth == 16 else array)
    rows = rows.reshape(height, -1).view(np.uint8)
    filtered = np.empty((height, rows.shape[1] + 1), dtype=np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = _HEADER.pack(width, height, depth, colour, 0, 0, 0)
    body = isal_zlib.compress(filtered.reshape(-1).data, _LEVEL)
    return b"".join((SIGNATURE, *_chunk(b"IHDR", header), *_chunk(b"IDAT", body), _IEND))


def decode(data: bytes) -> NDArray[Any]:
    """The array behind a file that `encode` wrote, checksums verified; for reading one's own work back.

    Raises:
        ValueError: Anything that `encode` does not write, a damaged file included.
    """
    height, width, depth, channels = _read_header(data)
    (length,) = struct.unpack_from(">I", data, _IDAT_AT)
    if len(data) != _IDAT_AT + 12 + length + len(_IEND) or data[_IDAT_AT + 4 : _IDAT_AT + 8] != b"IDAT":
        raise ValueError("not a PNG of this module: expected one IDAT chunk that fills the file")
    if not data.endswith(_IEND):
        raise ValueError("PNG without its end")
    body = memoryview(data)[_IDAT_AT + 8 : _IDAT_AT + 8 + length]
    _check_crc(data, _IDAT_AT, length)
    stride = 1 + width * channels * depth // 8
    filtered = _inflate(body, height * stride).reshape(height, stride)
    if not (filtered[:, 0] == _UP).all():
        raise ValueError("not a PNG of this module: a row under another filter")
    rows = sum_rows(filtered[:, 1:])
    array = rows.view(">u2").astype(np.uint16) if depth == 16 else rows
    return array.reshape((height, width, 3) if channels == 3 else (height, width))


def id_png(ids: NDArray[Any]) -> bytes:
    """A grey PNG of a [H, W] id map: 8 bits where the ids fit, else 16.

    Raises:
        Rejected: Under `label`: an id that is negative or above 65535, which no grey PNG holds.
    """
    low, high = (int(ids.min()), int(ids.max())) if ids.size else (0, 0)
    if low < 0 or high > 65535:
        raise Rejected("label", f"ids from {low} to {high}; a PNG holds 0 to 65535, renumber them or store npy")
    return encode(ids.astype(np.uint8 if high < 256 else np.uint16))


def sum_rows(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Running sum down the rows, modulo 256: within blocks of all the picture at once, then block by block.

    Numpy's own accumulate walks down single columns, five times slower.
    """
    out = np.ascontiguousarray(rows)
    if out is rows:
        out = rows.copy()
    whole = len(out) - len(out) % _BLOCK
    blocks = out[:whole].reshape(-1, _BLOCK, out.shape[1])
    for i in range(1, _BLOCK):
        blocks[:, i] += blocks[:, i - 1]
    for i in range(1, len(blocks)):
        blocks[i] += blocks[i - 1, -1]
    for i in range(max(whole, 1), len(out)):
        out[i] += out[i - 1]
    return out


def _describe(array: NDArray[Any]) -> tuple[int, int, int, int]:
    """Height, width, bit depth and colour type, or ValueError."""
    colour = _RGB if array.ndim == 3 and array.shape[2] == 3 else _GREY
    if array.dtype.kind != "u" or array.dtype.itemsize > 2 or (colour == _GREY and array.ndim != 2):
        raise ValueError(f"{array.dtype} array of {array.shape}; a PNG here is uint8 or uint16, [H, W] or [H, W, 3]")
    height, width = array.shape[:2]
    if not 0 < height * width <= _MAX_PIXELS:
        raise ValueError(f"picture of {height}x{width} pixels, expected 1 to {_MAX_PIXELS}")
    return height, width, 8 * array.dtype.itemsize, colour


def _chunk(name: bytes, body: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    crc = isal_zlib.crc32(body, isal_zlib.crc32(name))
    return struct.pack(">I", len(body)), name, body, struct.pack(">I", crc)


def _read_header(data: bytes) -> tuple[int, int, int, int]:
    if len(data) < _IDAT_AT + 12 or data[:16] != SIGNATURE + b"\x00\x00\x00\x0dIHDR":
        raise ValueError("not a PNG")
    _check_crc(data, _IHDR_AT, _HEADER.size)
    width, height, depth, colour, *rest = _HEADER.unpack_from(data, 16)
    if rest != [0, 0, 0] or (colour, depth) not in ((_RGB, 8), (_RGB, 16), (_GREY, 8), (_GREY, 16)):
        raise ValueError("not a PNG of this module: palette, alpha, interlace or another bit depth")
    if not 0 < width * height <= _MAX_PIXELS:
        raise ValueError(f"PNG header of {height}x{width} pixels")
    return height, width, depth, 3 if colour == _RGB else 1


def _check_crc(data: bytes, at: int, length: int) -> None:
    (stored,) = struct.unpack_from(">I", data, at + 8 + length)
    if isal_zlib.crc32(memoryview(data)[at + 4 : at + 8 + length]) != stored:
        raise ValueError("PNG chunk with a wrong checksum")


def _inflate(body: memoryview, expected: int) -> NDArray[np.uint8]:
    """Inflates at most what the header promises: a lying file costs no more memory than an honest one."""
    stream = isal_zlib.decompressobj()
    try:
        raw = stream.decompress(body, expected + 1)
    except isal_zlib.error as error:  # pyright: ignore[reportGeneralTypeIssues] - so in its stubs
        raise ValueError(f"PNG data cannot be inflated: {error}") from error
    if len(raw) != expected or not stream.eof or stream.unused_data:
        raise ValueError(f"PNG data of {len(raw)} bytes, the header promises {expected}")
    return np.frombuffer(raw, dtype=np.uint8)
