"""Encoded masks back into one id map: how a writer proves that what it wrote is what it was given."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from synthaug import cocostring
from synthaug.errors import Rejected
from synthaug.labels import Size
from synthaug.rle import RLE


def paint(masks: Mapping[int, RLE], size: Size) -> NDArray[np.int32]:
    """The id map of some masks, transposed ([W, H], as their runs go): inverse of `rle.encode_ids`.

    One pass whatever the number of masks; where they overlap, their ids add up.

    Args:
        masks: By id, each below 2^31.
        size: (height, width) that each of them must have.

    Raises:
        Rejected: Under `label`: a malformed string, or runs that are not the canvas.
    """
    height, width = size
    total = height * width
    steps = np.zeros(total + 1, dtype=np.int32)
    if masks:
        lengths, first = cocostring.unpack_all([mask.counts for mask in masks.values()])
        whole = np.add.reduceat(lengths, first)
        fits = all(mask.size == (height, width) for mask in masks.values()) and (whole == total).all()
        if not fits or int(lengths.min()) < 0:
            raise Rejected("label", f"RLEs that do not cover the canvas of {height}x{width} pixels")
        sizes = np.diff(np.append(first, lengths.size))
        inside = (np.arange(lengths.size) - np.repeat(first, sizes)) % 2 == 1
        ids = np.repeat(np.fromiter(masks, np.int32), sizes)[inside]
        ends = np.cumsum(lengths) - np.repeat(np.arange(first.size) * total, sizes)
        np.add.at(steps, (ends - lengths)[inside], ids)
        np.subtract.at(steps, ends[inside], ids)
    return np.cumsum(steps[:-1], dtype=np.int32).reshape(width, height)
