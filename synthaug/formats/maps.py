"""Label passes out of picture files: raw ids, colour-coded ids, depth, normals. Nothing is rescaled unasked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import Rejected
from synthaug.formats import rasters
from synthaug.formats.rasters import DEFAULT_BUDGET, Budget

Colour = tuple[int, int, int]
Encoding = Literal["unit", "signed"]
UNKNOWN = -1
"""The id of a pixel whose colour no table names."""


def decode_ids(data: bytes, budget: Budget = DEFAULT_BUDGET) -> NDArray[np.int32]:
    """The stored numbers of an id mask, [H, W] int32: grey levels, or the indices of a palette.

    Args:
        data: PNG (grey of 1 to 16 bits, palette), TIFF (8 to 32 bits, lossless), NPY of integers.
        budget: What the file may cost.

    Raises:
        Rejected: Under `decode`, `budget`, or `label`: lossy or colour pictures, fractions, ids that no
            int32 holds, a rotation tag.
    """
    raster = rasters.read(data, budget)
    header, array = raster.header, raster.array
    if header.lossy:
        raise Rejected("label", f"ids in a lossy {header.kind.upper()}; compression invents ids, export masks as PNG")
    if header.orientation != 1:
        raise Rejected("label", "mask with a rotation tag; save it upright")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 or raster.mode in ("LA", "PA"):
        raise Rejected("label", f"ids in a picture of {raster.mode}; expected grey, palette, or a colour table for it")
    if array.dtype.kind == "f" and not (array == np.trunc(array)).all():
        raise Rejected("label", f"ids as {array.dtype} with fractions; expected whole numbers")
    if array.size and not -(2**31) <= array.min() <= array.max() < 2**31:
        raise Rejected("label", f"ids up to {array.max()}; an id fits into 31 bits")
    return array.astype(np.int32)


def decode_colours(data: bytes, budget: Budget = DEFAULT_BUDGET) -> NDArray[np.uint8]:
    """The colours of a colour-coded mask, [H, W, 3] or [H, W, 4] uint8, exactly as stored.

    A palette is looked up, grey becomes three equal channels; a profile is not applied.

    Raises:
        Rejected: Under `decode`, `budget`, or `label`: lossy pictures, 16 bits, a rotation tag.
    """
    raster = rasters.read(data, budget)
    if raster.header.lossy:
        raise Rejected("label", "colour mask in a lossy picture; compression invents colours, export masks as PNG")
    if raster.header.orientation != 1:
        raise Rejected("label", "mask with a rotation tag; save it upright")
    array = raster.array
    if raster.mode == "P" and raster.image is not None:
        array = np.asarray(raster.image.convert("RGBA" if "transparency" in raster.image.info else "RGB"))
    if array.dtype == np.uint8 and array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (3, 4):
        raise Rejected("label", f"colour mask of {array.dtype} {array.shape}, expected 8-bit RGB or RGBA")
    return array


def colours_to_ids(
    colours: NDArray[np.uint8], table: Mapping[Colour, int], tolerance: int = 0, most_unknown: float = 1.0
) -> tuple[NDArray[np.int32], dict[Colour, int]]:
    """Ids behind colours. Cost is that of one pass over the picture plus its runs of equal colour.

    Args:
        colours: [H, W, 3] or [H, W, 4]; alpha is ignored.
        table: Id by colour.
        tolerance: Largest difference in any channel, 0 to 255, at which a colour that the table does not
            name counts as the nearest one that it names (of two at the same distance, the first listed).
        most_unknown: Share of pixels, 0 to 1, that may stay unknown.

    Returns:
        [H, W] ids, `UNKNOWN` (-1) where no colour is near enough; and the number of pixels of every
        colour that the table does not name exactly, the most frequent first.

    Raises:
        Rejected: Under `label`: more unknown pixels than `most_unknown`, as in a mask that was
            anti-aliased, resized or stored as JPEG.
    """
    height, width = colours.shape[:2]
    flat = colours.reshape(-1, colours.shape[2])
    packed = flat[:, 0].astype(np.int32) << 16 | flat[:, 1].astype(np.int32) << 8 | flat[:, 2]
    starts = np.concatenate([[0], np.flatnonzero(packed[1:] != packed[:-1]) + 1])
    lengths = np.diff(np.append(starts, packed.size))
    distinct, index = np.unique(packed[starts], return_inverse=True)
    counts = np.bincount(index, weights=lengths).astype(np.int64)
    found, exact = _look_up(distinct, table, tolerance)
    ids = np.repeat(found[index], lengths).reshape(height, width)
    lost = int(counts[found == UNKNOWN].sum())
    if lost > most_unknown * packed.size:
        raise Rejected(
            "label",
            f"{lost} of {packed.size} pixels have one of {int((~exact).sum())} colours off the table; a mask that was "
            "smoothed, resized or stored as JPEG looks like this. Export it without, or raise the tolerance",
        )
    order = np.argsort(-counts[~exact], kind="stable")
    names = [(v >> 16, v >> 8 & 255, v & 255) for v in distinct[~exact][order].tolist()]
    return ids, dict(zip(names, counts[~exact][order].tolist(), strict=True))


def colour_counts(colours: NDArray[np.uint8]) -> dict[str, int]:
    """Pixels by colour, `#rrggbb`, of [N, 3] or [N, 4] colours, alpha ignored; the most frequent first."""
    packed = colours[:, 0].astype(np.int32) << 16 | colours[:, 1].astype(np.int32) << 8 | colours[:, 2]
    values, counts = np.unique(packed, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {f"#{value:06x}": count for value, count in zip(values[order].tolist(), counts[order].tolist(), strict=True)}


def decode_depth(
    data: bytes, *, unit: float, invalid: Sequence[float] = (), budget: Budget = DEFAULT_BUDGET
) -> NDArray[np.float32]:
    """Depth in metres, [H, W] float32, NaN where there is none.

    Args:
        data: PNG (8 or 16 bits, grey), TIFF (integers or float32), NPY, OpenEXR of one channel.
        unit: Metres per stored unit: 0.001 for millimetres, 1 for metres.
        invalid: Stored values that mean no depth (65535, 1e10, ...). Zero, negative and non-finite
            values always do.
        budget: What the file may cost.

    Raises:
        Rejected: Under `decode`, `budget`, or `label`: lossy or colour pictures.
    """
    raster = rasters.read(data, budget)
    array = raster.array
    if array.ndim == 3 and (array.shape[2] == 1 or (raster.header.kind == "exr" and _equal_channels(array))):
        array = array[:, :, 0]
    if raster.header.lossy or array.ndim != 2 or raster.header.palette or array.dtype.kind == "b":
        raise Rejected("label", f"depth in a {raster.header.kind.upper()} of {raster.mode}; expected one exact channel")
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2 and array.size > 2**16:
        levels = np.arange(2 ** (8 * array.dtype.itemsize), dtype=array.dtype)  # fewer than the pixels
        return _metres(levels, unit, invalid).take(array)
    return _metres(array, unit, invalid)


def _metres(array: NDArray[Any], unit: float, invalid: Sequence[float]) -> NDArray[np.float32]:
    stored = array.astype(np.float64)
    bad = ~(np.isfinite(stored) & (stored > 0))
    for value in invalid:
        # A float32 file cannot hold 1e10 exactly, so the value is compared as the file would round it.
        bad |= array == (np.asarray(value).astype(array.dtype) if array.dtype.kind == "f" else value)
    metres = (stored * unit).astype(np.float32)
    metres[bad] = np.nan
    return metres


def invalid_share(depth: NDArray[np.floating[Any]]) -> float:
    """Share of pixels without a value, 0 to 1."""
    return float(np.isnan(depth).mean()) if depth.size else 0.0


def decode_vectors(data: bytes, encoding: Encoding, budget: Budget = DEFAULT_BUDGET) -> NDArray[np.float32]:
    """Unit normals, [H, W, 3] float32 in the file's own axes, NaN where there is none.

    Args:
        data: 8- or 16-bit RGB PNG, 8-bit TIFF, NPY or OpenEXR of three channels.
        encoding: `unit`: stored as 0.5 n + 0.5 in [0, 1] (integers by their full range); `signed`:
            stored as n.
        budget: What the file may cost.

    Returns:
        Renormalised; a vector shorter than 0.5 or longer than 1.5 is background and becomes NaN.

    Raises:
        Rejected: Under `decode`, `budget`, or `label`: lossy or grey pictures, integers under `signed`.
    """
    raster = rasters.read(data, budget)
    array = raster.array
    if array.ndim == 3 and array.shape[2] == 4:
        array = array[:, :, :3]
    if raster.header.lossy or array.ndim != 3 or array.shape[2] != 3:
        raise Rejected("label", f"normals in a {raster.header.kind.upper()} of {raster.mode}; expected RGB, not lossy")
    if array.dtype.kind == "f":
        values = array.astype(np.float32)
    elif encoding == "signed" or array.dtype not in (np.uint8, np.uint16):
        raise Rejected("label", f"normals as {array.dtype}, encoding '{encoding}'; integers hold encoding 'unit' only")
    else:
        values = array.astype(np.float32) / np.float32(np.iinfo(array.dtype).max)
    return _normalised(2 * values - 1 if encoding == "unit" else values)


def planar(depth_ray: NDArray[np.float32], intrinsics: NDArray[np.float64]) -> NDArray[np.float32]:
    """Planar z from the length of the ray through each pixel's centre, [H, W] metres; intrinsics 3x3."""
    height, width = depth_ray.shape
    inverse = np.linalg.inv(intrinsics)
    x = np.arange(width) + 0.5
    y = np.arange(height)[:, None] + 0.5
    rays = [row[0] * x + row[1] * y + row[2] for row in inverse]
    return (depth_ray * rays[2] / np.sqrt(sum(r * r for r in rays))).astype(np.float32)


def _look_up(
    distinct: NDArray[np.int32], table: Mapping[Colour, int], tolerance: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The id of each packed colour, and whether the table names it exactly."""
    if not table:
        return np.full(distinct.size, UNKNOWN, np.int32), np.zeros(distinct.size, bool)
    named = np.array(list(table), dtype=np.int32).reshape(-1, 3)
    values = np.array(list(table.values()), dtype=np.int32)
    channels = np.stack([distinct >> 16, distinct >> 8 & 255, distinct & 255], axis=1)
    ids = np.full(distinct.size, UNKNOWN, np.int32)
    exact = np.zeros(distinct.size, bool)
    for begin in range(0, distinct.size, 4096):
        part = slice(begin, begin + 4096)
        far = np.abs(channels[part, None, :] - named[None]).max(axis=2)
        nearest = far.argmin(axis=1)
        distance = far[np.arange(nearest.size), nearest]
        ids[part] = np.where(distance <= tolerance, values[nearest], UNKNOWN)
        exact[part] = distance == 0
    return ids, exact


def _equal_channels(array: NDArray[Any]) -> bool:
    first = array[:, :, :1]
    return bool(((array[:, :, :3] == first) | (np.isnan(array[:, :, :3]) & np.isnan(first))).all())


def _normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.sqrt((vectors * vectors).sum(axis=2, keepdims=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = vectors / length
    return np.where((length >= 0.5) & (length <= 1.5), unit, np.float32(np.nan))
