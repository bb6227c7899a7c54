"""What a BMP file says of itself (Windows bitmap headers BITMAPINFOHEADER, V4 and V5), checked against its bytes.

Read are uncompressed files of 8 bits with a palette, 24 bits, and 32 bits: with plain masks the fourth byte
is padding, and with an alpha mask it is alpha. Run lengths, 16 bits and profiles are rejected with the way out.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from synthaug.errors import Rejected

_HEADERS = (40, 52, 56, 108, 124)
_PLAIN, _FIELDS = 0, 3
_RGB = (0x00FF0000, 0x0000FF00, 0x000000FF)
_PROFILES = (0x4D424544, 0x4C494E4B)
_HEAD = 54


@dataclass(frozen=True, slots=True)
class Bitmap:
    """Facts of one file: (height, width), and channels: 1 under a palette, 3, or 4 with alpha."""

    size: tuple[int, int]
    channels: int


def bitmap(data: bytes, *, whole: bool) -> Bitmap:
    """Reads the headers.

    Args:
        data: Of the file, or its first bytes.
        whole: Every pixel must lie inside `data`.

    Raises:
        Rejected: Under `decode`: a kind of BMP that is not read.
        struct.error: The headers are cut off.
        IndexError: The pixels leave the file.
    """
    start, length, width, height, planes, bits, packing = struct.unpack_from("<10xIIiiHHI", data)
    alpha = _alpha(data, length) if packing == _FIELDS and bits == 32 else False
    if (
        length not in _HEADERS or planes != 1 or width <= 0 or height == 0
        or (packing, bits) not in ((_PLAIN, 8), (_PLAIN, 24), (_PLAIN, 32), (_FIELDS, 32))
    ):  # fmt: skip
        raise Rejected(
            "decode",
            f"BMP with a header of {length} bytes, {bits} bits a pixel, compression {packing}; expected 8, 24 or 32 "
            "bits, uncompressed. Save it as PNG",
        )
    if length >= 108 and struct.unpack_from("<I", data, 70)[0] in _PROFILES:
        raise Rejected("decode", "BMP with a colour profile of its own; save it as PNG")
    if bits == 8 and struct.unpack_from("<I", data, 46)[0] == 2 and _black_and_white(data, 14 + length):
        # Pillow takes a palette of black and white for one bit a pixel, and shows something else.
        raise Rejected("decode", "BMP of 8 bits with a palette of black and white alone; save it as PNG")
    rows = abs(height)
    end = start + (width * bits + 31) // 32 * 4 * rows
    if start < 14 + length or (whole and end > len(data)):
        raise IndexError("pixels that leave the file")
    return Bitmap((rows, width), 1 if bits == 8 else 4 if alpha else 3)


def _black_and_white(data: bytes, start: int) -> bool:
    return data[start : start + 3] + data[start + 4 : start + 7] == b"\0\0\0\xff\xff\xff"


def _alpha(data: bytes, length: int) -> bool:
    """Whether the masks of a 32-bit file have alpha; they stand behind a short header and inside a long one."""
    *colours, alpha = struct.unpack_from("<IIII", data, _HEAD)
    if tuple(colours) != _RGB or (length >= 56 and alpha not in (0, 0xFF000000)):
        raise Rejected("decode", "BMP with channel masks that are not blue, green, red, alpha; save it as PNG")
    return length >= 56 and alpha != 0
