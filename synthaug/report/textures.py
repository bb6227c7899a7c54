"""A contact sheet of a texture library: each texture cut to a square, with its name, material and size in the world."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.report.sheet import sheet
from synthaug.texture.entry import Entry
from synthaug.texture.library import Library
from synthaug.texture.oklab import hex_of

Pixels = NDArray[np.uint8]
_LINE = 13
_INK = (40, 40, 40)
_CHECKS = (200, 235)
_WIDTH_OF_LETTER = 6.1


def textures(library: Library, entries: Sequence[Entry], *, side: int = 160, columns: int = 8) -> Pixels:
    """Panels of `side` pixels in rows, on white; see-through parts lie on a checkerboard.

    Raises:
        InputError: A map of one of the entries is missing or damaged.
    """
    return sheet([_panel(library, entry, side) for entry in entries], columns)


def _panel(library: Library, entry: Entry, side: int) -> Pixels:
    pixels = _square(library.read(entry).astype(np.uint8, copy=False), side)
    if "opacity" in entry.maps:
        cover = library.read(entry, "opacity")
        share = _square(cover, side).astype(np.float32)[:, :, None] / np.iinfo(cover.dtype).max
        rows, columns = np.indices((side, side)) // 8
        board = np.where((rows + columns) % 2, *_CHECKS)[:, :, None]
        pixels = np.rint(pixels * share + board * (1 - share)).astype(np.uint8)
    maps = "".join(kind[0].upper() for kind in entry.maps if kind != "albedo")
    facts = f"{entry.metres:g} m {'tiles ' if entry.tileable else ''}{maps}"
    lines = (entry.name.rsplit("/", 1)[-1], f"{entry.material} {entry.id[:8]}", facts)
    caption = np.full((_LINE * len(lines) + 3, side, 3), 255, np.uint8)
    for number, line in enumerate(lines):
        fitting = line.encode("ascii", "replace").decode()[: int(side / _WIDTH_OF_LETTER)]
        at = (2, _LINE * (number + 1) - 2)
        cv2.putText(caption, fitting, at, cv2.FONT_HERSHEY_SIMPLEX, 0.34, _INK, 1, cv2.LINE_AA)
    caption[-3 - _LINE : -3, side - 14 : side - 2] = list(bytes.fromhex(hex_of(np.array(entry.colour))[1:]))
    return np.vstack([pixels, caption])


def _square(array: NDArray[Any], side: int) -> NDArray[Any]:
    """The middle of a picture, scaled; the whole of it where it is square."""
    short = min(array.shape[:2])
    top, left = (array.shape[0] - short) // 2, (array.shape[1] - short) // 2
    cut = np.ascontiguousarray(array[top : top + short, left : left + short])
    method = cv2.INTER_AREA if short > side else cv2.INTER_NEAREST
    return cv2.resize(cut, (side, side), interpolation=method)
