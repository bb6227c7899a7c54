"""PNG whose rows can be undone all at once: what OpenCV and this package write, at half of Pillow's cost.

Under the filters None, Sub and Up (ISO/IEC 15948, clause 9) a row is stored as it is, or as differences to the
left or to the row above: sums along one axis. Average and Paeth go pixel by pixel and stay with Pillow, as
does all that is not plain: palettes, transparent colours, profiles, interlace, fewer than 8 bits.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from synthaug.formats import png
from synthaug.formats.headers import Header

_NONE, _SUB, _UP = 0, 1, 2
_NOT_PLAIN = frozenset({b"PLTE", b"tRNS", b"iCCP", b"cICP", b"acTL"})
_INTERLACE_AT = 28


def decode(data: bytes, header: Header) -> NDArray[Any] | None:
    """[H, W] or [H, W, C] uint8 or uint16 as stored; None for a file that takes another way.

    Args:
        data: A PNG that `headers.scan` has walked to its end, checksums included.
        header: What it found.
    """
    body = _body(data) if header.bits >= 8 and not header.palette and not data[_INTERLACE_AT] else None
    if body is None:
        return None
    (height, width), deep = header.size, header.bits == 16
    stride = 1 + width * header.channels * header.bits // 8
    filtered = _inflated(body, height, stride)
    if filtered is None:
        return None
    rows = _undone(filtered, header.channels * header.bits // 8)
    if rows is None:
        return None
    array = rows.view(">u2").astype(np.uint16) if deep else rows
    return array.reshape((height, width, header.channels) if header.channels > 1 else (height, width))


def _body(data: bytes) -> bytes | None:
    """The compressed pixels; None where other chunks have a say in what they mean."""
    parts: list[memoryview] = []
    view, at, name = memoryview(data), 8, b""
    while name != b"IEND":
        length, name = struct.unpack_from(">I4s", data, at)
        if name in _NOT_PLAIN:
            return None
        if name == b"IDAT":
            parts.append(view[at + 8 : at + 8 + length])
        at += 12 + length
    return b"".join(parts)


def _inflated(body: bytes, height: int, stride: int) -> NDArray[np.uint8] | None:
    """Filter bytes and rows, [H, stride]; None, after one row, where the filter of that is none of ours."""
    stream = isal_zlib.decompressobj()
    try:
        head = stream.decompress(body, stride)
        if len(head) != stride or head[0] > _UP:
            return None
        rest = stream.decompress(stream.unconsumed_tail, (height - 1) * stride + 1)
    except isal_zlib.error:  # pyright: ignore[reportGeneralTypeIssues] - so in its stubs
        return None
    if len(rest) != (height - 1) * stride or not stream.eof or stream.unused_data:
        return None
    return np.frombuffer(head + rest, np.uint8).reshape(height, stride)


def _undone(filtered: NDArray[np.uint8], pixel: int) -> NDArray[np.uint8] | None:
    """[H, bytes] of the picture, from rows under filters that go together; `pixel` is its width in bytes."""
    kinds, rows = filtered[:, 0], filtered[:, 1:]
    if (kinds == _SUB).all():
        return np.add.accumulate(rows.reshape(len(rows), -1, pixel), axis=1, dtype=np.uint8).reshape(rows.shape)
    if (kinds[1:] == _UP).all() and kinds[0] != _SUB:
        return png.sum_rows(rows)
    return None if kinds.any() else np.ascontiguousarray(rows)
