"""Run-length masks: the COCO encoding (column-major runs, zeros first), bounds-checked, in numpy.

Own code because pycocotools crashes the process on hostile strings and encodes one mask at a time;
`encode_ids` takes every instance of an id map in one pass. Strings equal those of pycocotools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from synthaug import cocostring, outline
from synthaug.errors import Rejected

Box = tuple[float, float, float, float]
Int64 = NDArray[np.int64]

_LOW = 2**32 - 1


@dataclass(frozen=True, slots=True)
class RLE:
    """One mask.

    Attributes:
        size: (height, width) in pixels.
        counts: The COCO string as ASCII bytes; lengths of runs down the columns, zeros first.
    """

    size: tuple[int, int]
    counts: bytes


class Found(NamedTuple):
    """One instance of an id map: its mask, its tight box (continuous pixels), its area in pixels."""

    rle: RLE
    box: Box
    area: int


class _Spans(NamedTuple):
    """Runs of non-zero ids down the columns, sorted by id and then by place; `first` opens each id's."""

    ids: Int64
    first: Int64
    start: Int64
    end: Int64


def encode(mask: NDArray[np.bool_]) -> RLE:
    """The RLE of a [H, W] mask; any dtype, non-zero is inside. One pass."""
    size = _canvas(mask.shape)
    strings = _pack_spans(_spans(mask != 0, None), size)
    return RLE(size, strings[0]) if strings else from_runs([size[0] * size[1]], size)


def encode_ids(ids: NDArray[Any], wanted: Sequence[int] | None = None) -> dict[int, RLE]:
    """The RLE of every instance of a [H, W] id map in one pass, whatever their number.

    Args:
        ids: Integers; 0 is background.
        wanted: Ids to encode, all that occur by default; one that has no pixel gets an empty mask.
    """
    return {i: found.rle for i, found in find(ids, wanted).items()}


def find(ids: NDArray[Any], wanted: Sequence[int] | None = None) -> dict[int, Found]:
    """Masks, boxes and areas of the instances of a [H, W] id map, in one pass; arguments as `encode_ids`.

    The box of an instance without a pixel is (0, 0, 0, 0).
    """
    size = _canvas(ids.shape)
    spans = _spans(ids, wanted)
    boxes = _boxes(spans, size[0])
    found = {i: Found(RLE(size, s), *boxes[i]) for i, s in zip(boxes, _pack_spans(spans, size), strict=True)}
    if wanted is None:
        return found
    empty = Found(from_runs([size[0] * size[1]], size), (0.0, 0.0, 0.0, 0.0), 0)
    return {int(i): found.get(int(i), empty) for i in wanted}


def boxes_in(ids: NDArray[Any]) -> dict[int, tuple[Box, int]]:
    """Tight box (x0, y0, x1, y1, continuous pixels) and area of every instance of a [H, W] id map."""
    return _boxes(_spans(ids, None), _canvas(ids.shape)[0])


def ids_in(ids: NDArray[Any]) -> list[int]:
    """The non-zero ids that occur, ascending. Cheap on rendered maps: looks at ends of runs only."""
    flat = np.ascontiguousarray(ids).reshape(-1)
    if not flat.size:
        return []
    last = np.append(np.flatnonzero(flat[1:] != flat[:-1]), flat.size - 1)
    values = flat[last].astype(np.int64)
    low, span = int(values.min()), int(np.ptp(values))
    dense = span < 4 * values.size + 65536
    seen = np.flatnonzero(np.bincount(values - low)) + low if dense else np.unique(values)
    return [int(v) for v in seen if v]


def decode(rle: RLE) -> NDArray[np.bool_]:
    """The [H, W] mask. Raises `Rejected` under `label` for a malformed string, before any allocation."""
    height, width = rle.size
    return _paint(runs(rle), height * width).reshape(width, height).T.copy()


def runs(rle: RLE) -> Int64:
    """Lengths of the runs, zeros first; their sum is height * width.

    Raises:
        Rejected: Under `label`: a character outside the alphabet, a number cut off, a negative run,
            a sum that is not the canvas, a canvas that is empty or beyond `cocostring.MAX_PIXELS`.
    """
    height, width = _canvas(rle.size)
    lengths = cocostring.unpack(rle.counts)
    if lengths.size and int(lengths.min()) < 0:
        raise Rejected("label", f"RLE holds a run of {int(lengths.min())} pixels; runs are never negative")
    total = int(lengths.sum())
    if total != height * width:
        raise Rejected("label", f"RLE covers {total} pixels, its canvas {height}x{width} has {height * width}")
    return lengths


def from_runs(lengths: Sequence[int] | Int64, size: tuple[int, int]) -> RLE:
    """An RLE from run lengths (the uncompressed COCO list); empty runs inside are closed.

    Raises:
        Rejected: Under `label`, for what `runs` would refuse.
    """
    height, width = _canvas(size)
    array = _whole_numbers(lengths, height * width)
    if array.size == 0 or int(array.min()) < 0 or int(array.sum()) != height * width:
        raise Rejected("label", f"run lengths must be 0 or more and add up to {height}x{width} pixels")
    toggles = outline.odd(np.cumsum(array)[:-1])
    counts = np.diff(np.concatenate([[0], toggles[toggles < height * width], [height * width]]))
    return RLE((height, width), cocostring.pack(counts, np.zeros(1, np.int64))[0])


def from_coco(segmentation: object) -> RLE:
    """An RLE from a COCO `{"size": [h, w], "counts": string or list}`, checked whole.

    Raises:
        Rejected: Under `label`, whatever is wrong with it.
    """
    if not isinstance(segmentation, Mapping):
        raise Rejected("label", f"RLE of type {type(segmentation).__name__}, expected an object with size and counts")
    fields = cast(Mapping[str, Any], segmentation)
    size, counts = fields.get("size"), fields.get("counts")
    if not isinstance(size, list | tuple) or len(cast(Sequence[Any], size)) != 2:
        raise Rejected("label", f"RLE size {str(cast(object, size))[:60]}, expected [height, width]")
    canvas = _canvas(cast(Sequence[Any], size))
    if isinstance(counts, list | tuple):
        return from_runs(cast(Sequence[int], counts), canvas)
    if isinstance(counts, str) and counts.isascii():
        counts = counts.encode("ascii")
    if not isinstance(counts, bytes):
        raise Rejected("label", f"RLE counts of type {type(counts).__name__}, expected an ASCII string or a list")
    return from_runs(runs(RLE(canvas, counts)), canvas)


def area(rle: RLE) -> int:
    """Pixels inside."""
    return int(runs(rle)[1::2].sum())


def box(rle: RLE) -> Box:
    """Tight box in continuous pixels (x1, y1 are the far edges); (0, 0, 0, 0) for an empty mask."""
    lengths = runs(rle)
    ends = np.cumsum(lengths)
    start, end = ends[:-1:2], ends[1::2]
    solid = end > start
    start, end = start[: end.size][solid], end[solid]
    if end.size == 0:
        return (0.0, 0.0, 0.0, 0.0)
    return _boxes(_Spans(np.ones(1, np.int64), np.zeros(1, np.int64), start, end), rle.size[0])[1][0]


def from_polygons(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> RLE:
    """The union of polygons (see `outline.union`) on a canvas (height, width); equals pycocotools.

    Raises:
        Rejected: Under `label`, before anything is traced.
    """
    height, width = _canvas(size)
    changes = outline.union(polygons, height, width)
    return from_runs(np.diff(np.concatenate([[0], changes, [height * width]])), (height, width))


def _canvas(size: Sequence[Any]) -> tuple[int, int]:
    whole = [int(n) for n in size if _is_whole(n)]
    if len(size) != 2 or len(whole) != 2:
        raise Rejected("label", f"mask canvas {str(tuple(size))[:80]}, expected (height, width) in whole pixels")
    height, width = whole
    if height < 1 or width < 1 or height * width > cocostring.MAX_PIXELS:
        raise Rejected("label", f"mask canvas {height}x{width}, expected 1 to {cocostring.MAX_PIXELS} pixels")
    return height, width


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _whole_numbers(lengths: Sequence[object] | Int64, limit: int) -> Int64:
    """Run lengths as int64, or a rejection: a list from JSON may hold anything."""
    if isinstance(lengths, np.ndarray):
        return lengths.astype(np.int64)
    if len(lengths) > cocostring.MAX_STRING:
        raise Rejected("label", f"{len(lengths)} runs, the most is {cocostring.MAX_STRING}")
    if not all(type(n) is int and 0 <= n <= limit for n in lengths):
        raise Rejected("label", f"run lengths must be whole numbers from 0 to {limit}")
    return np.array(lengths, dtype=np.int64)


def _paint(lengths: Int64, total: int) -> NDArray[np.bool_]:
    """The flat mask: +1 where a run of ones begins, -1 where it ends, summed up."""
    steps = np.zeros(total + 1, dtype=np.int8)
    toggles = outline.odd(np.cumsum(lengths)[:-1])
    steps[toggles[0::2]] = 1
    steps[toggles[1::2]] = -1
    return np.add.accumulate(steps[:total], dtype=np.int8).view(np.bool_)


def _spans(ids: NDArray[Any], wanted: Sequence[int] | None) -> _Spans:
    height, width = _canvas(ids.shape)
    if ids.dtype.kind not in "iub":
        raise Rejected("label", f"id map of {ids.dtype}, expected integers")
    change = np.empty((height, width), dtype=np.bool_)
    np.not_equal(ids[1:], ids[:-1], out=change[1:])
    np.not_equal(ids[0, 1:], ids[-1, :-1], out=change[0, 1:])
    change[0, 0] = True
    found = np.flatnonzero(change.reshape(-1))
    values = np.ascontiguousarray(ids).reshape(-1)[found]
    if not np.can_cast(ids.dtype, np.int32) and not -(2**31) <= int(values.min()) <= int(values.max()) < 2**31:
        raise Rejected("label", f"ids from {values.min()} to {values.max()}; an id fits into 31 bits")
    # Sorting the few places where a run begins costs less than turning the map on its side, and one
    # sort of place and id in one number less than an argsort. Places and ids have 32 bits each.
    place = found.astype(np.uint32)
    row = place // np.uint32(width)
    turned = (place - row * np.uint32(width)) * np.uint32(height) + row
    key = turned.astype(np.int64) << 32 | (values.astype(np.int64) & _LOW)
    key.sort()
    start = np.append(key >> 32, height * width)
    values = key.astype(np.int32)
    listed = values != 0 if wanted is None else (values != 0) & np.isin(values, np.asarray(wanted, dtype=np.int64))
    index = np.flatnonzero(listed)
    key = values[index].astype(np.int64) << 32 | index
    key.sort()
    index, by_id = key & _LOW, key >> 32
    first = np.flatnonzero(by_id[1:] != by_id[:-1]) + 1
    first = np.append(0, first) if by_id.size else first
    return _Spans(by_id[first], first, start[index], start[index + 1])


def _boxes(spans: _Spans, height: int) -> dict[int, tuple[Box, int]]:
    if spans.ids.size == 0:
        return {}
    # Division by a constant is vectorised where divmod is not.
    left, right = spans.start // height, (spans.end - 1) // height
    tall = right > left
    top = np.where(tall, 0, spans.start - left * height)
    bottom = np.where(tall, height - 1, spans.end - 1 - right * height)
    last = np.append(spans.first[1:], spans.start.size) - 1
    edges = np.stack(
        [
            left[spans.first],
            np.minimum.reduceat(top, spans.first),
            right[last] + 1,
            np.maximum.reduceat(bottom, spans.first) + 1,
        ],
        axis=1,
    ).astype(np.float64)
    areas = np.add.reduceat(spans.end - spans.start, spans.first)
    rows = zip(spans.ids.tolist(), edges.tolist(), areas.tolist(), strict=True)
    return {i: ((e[0], e[1], e[2], e[3]), a) for i, e, a in rows}


def _pack_spans(spans: _Spans, size: tuple[int, int]) -> list[bytes]:
    """One string per id."""
    if spans.ids.size == 0:
        return []
    total = size[0] * size[1]
    last = np.append(spans.first[1:], spans.start.size) - 1
    before = np.empty_like(spans.end)
    before[1:] = spans.end[:-1]
    before[spans.first] = 0
    tail = total - spans.end[last]
    opened = (tail > 0).astype(np.int64)
    shift = np.cumsum(opened) - opened
    sizes = last - spans.first + 1
    place = 2 * np.arange(spans.start.size) + np.repeat(shift, sizes)
    counts = np.empty(2 * spans.start.size + int(opened.sum()), dtype=np.int64)
    counts[place] = spans.start - before
    counts[place + 1] = spans.end - spans.start
    counts[place[last[tail > 0]] + 2] = tail[tail > 0]
    return cocostring.pack(counts, place[spans.first])
