"""The directory of a TIFF file, which is also the directory of an EXIF block (TIFF 6.0, section 2).

Only structure is read here, every offset checked against the bytes; pixels are the decoder's matter.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

_ITEM_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I"}
_MAX_VALUES = 2**20


@dataclass(frozen=True, slots=True)
class Directory:
    """The first directory of a file.

    Attributes:
        order: `<` or `>`.
        entries: (type, count, offset of the values) by tag.
        following: Offset of the next directory, 0 where there is none.
    """

    data: bytes
    order: str
    entries: Mapping[int, tuple[int, int, int]]
    following: int

    def numbers(self, tag: int, default: int | None = None) -> tuple[int, ...]:
        """The unsigned integers under a tag.

        Raises:
            KeyError: The tag is absent and there is no default.
            struct.error: The values lie outside the file, or are no integers.
        """
        if tag not in self.entries and default is not None:
            return (default,)
        kind, count, at = self.entries[tag]
        if kind not in _INTEGERS or not 1 <= count <= _MAX_VALUES:
            raise struct.error(f"tag {tag} does not hold integers")
        return struct.unpack_from(f"{self.order}{count}{_INTEGERS[kind]}", self.data, at)

    def number(self, tag: int, default: int | None = None) -> int:
        """The first integer under a tag; raises as `numbers`."""
        return self.numbers(tag, default)[0]

    def longest(self) -> int:
        """Bytes of the longest value."""
        return max((_ITEM_SIZES.get(kind, 1) * count for kind, count, _ in self.entries.values()), default=0)


def directory(data: bytes, *, whole: bool) -> Directory:
    """Reads the first directory.

    Args:
        data: Starts with the byte order mark `II` or `MM`.
        whole: Every value must lie inside `data`, as in a file; an EXIF block may have lost its tail.

    Raises:
        struct.error: Not a TIFF, or it points outside itself.
    """
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(data[:4])
    if order is None:
        raise struct.error("no TIFF byte order mark")
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    entries: dict[int, tuple[int, int, int]] = {}
    for i in range(count):
        at = start + 2 + 12 * i
        tag, kind, items = struct.unpack_from(order + "HHI", data, at)
        length = _ITEM_SIZES.get(kind, 1) * items
        (elsewhere,) = struct.unpack_from(order + "I", data, at + 8)
        offset = at + 8 if length <= 4 else elsewhere
        if whole and offset + length > len(data):
            raise struct.error(f"tag {tag} points outside the file")
        entries.setdefault(tag, (kind, items, offset))
    after = start + 2 + 12 * count
    following = struct.unpack_from(order + "I", data, after)[0] if whole or len(data) >= after + 4 else 0
    return Directory(data, order, entries, following)
