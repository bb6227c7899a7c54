"""Whether the edges that labels stand on are still where they were, measured along short profiles.

At a point of a boundary the reference gives a direction across it, and along that direction a profile of
contrast. The point is kept where the other picture's profile has the same shape, moved by at most two pixels,
and enough of its height. Correlation makes that blind to brightness, contrast and colour, which an
Appearance may change, and not to blur, shift or absence. Only points are sampled, never whole planes.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.labels import Instance, Labels

Planes = NDArray[np.float32]
"""[3, H, W] in [0, 1]."""
Index = NDArray[np.intp]

_REACH = 6
"""Pixels to each side along which contrast is compared; a shift has to leave this window to be unseen."""
_SIDE = 3
"""Pixels averaged on each side of a step, against noise."""
_SLACK = 2
"""Pixels that an edge may move."""
_ALIKE = 0.6
"""Least correlation of two contrast profiles of the same edge. Unrelated profiles pass it in about a fifth."""
_KEPT = 0.4
"""Least height of a step relative to the reference, after the pictures' own contrasts are divided out."""


def boundary_points(labels: Labels, reference: Planes, limit: int) -> tuple[Index, Index, NDArray[np.int64]]:
    """Points on which labels stand: rows y, columns x, and [N, 2] the ids that meet there.

    From the `instance` pass, else the masks of the instances, else the `semantic` pass; where labels are
    boxes or none, the strong edges of the reference itself, with ids 0. At most `limit` points, evenly chosen.
    """
    if "instance" in labels.passes:
        return _between_ids(labels.passes["instance"], limit)
    if any(instance.mask is not None for instance in labels.instances):
        return _around_masks(labels, limit)
    if "semantic" in labels.passes:
        y, x, _ = _between_ids(labels.passes["semantic"], limit)
        return y, x, np.zeros((len(y), 2), np.int64)
    return reference_edges(reference, limit)


def reference_edges(reference: Planes, limit: int) -> tuple[Index, Index, NDArray[np.int64]]:
    """The strong edges of the reference itself (Canny), in the form of `boundary_points`, with ids 0."""
    grey = np.rint(np.clip(reference.mean(0), 0, 1) * 255).astype(np.uint8)
    y, x = _some(cv2.Canny(grey, 60, 150), limit)
    return y, x, np.zeros((len(y), 2), np.int64)


def _some(marked: NDArray[Any], limit: int) -> tuple[Index, Index]:
    """Rows and columns of at most `limit` marked pixels, evenly over their list."""
    flat = np.flatnonzero(marked)
    if len(flat) > limit:
        flat = flat[np.linspace(0, len(flat) - 1, limit).astype(np.intp)]
    y, x = np.divmod(flat, marked.shape[1])
    return y, x


def _between_ids(ids: NDArray[Any], limit: int) -> tuple[Index, Index, NDArray[np.int64]]:
    ya, xa = _some(ids[:, 1:] != ids[:, :-1], limit // 2)
    yd, xd = _some(ids[1:] != ids[:-1], limit - limit // 2)
    meet = np.concatenate([np.stack([ids[ya, xa], ids[ya, xa + 1]], 1), np.stack([ids[yd, xd], ids[yd + 1, xd]], 1)])
    return np.concatenate([ya, yd]), np.concatenate([xa, xd]), meet.astype(np.int64)


def _around_masks(labels: Labels, limit: int) -> tuple[Index, Index, NDArray[np.int64]]:
    """Outlines of masks that may overlap, each on its own."""
    parts: list[tuple[Index, Index, NDArray[np.int64]]] = []
    for instance in labels.instances:
        mask = labels.mask(instance) if instance.mask is not None else None
        if mask is not None:
            y, x, _ = _between_ids(mask, max(limit // len(labels.instances), 64))
            parts.append((y, x, np.full((len(y), 2), instance.id, np.int64)))
    ys, xs, ids = (np.concatenate(column) for column in zip(*parts, strict=True))
    return ys, xs, ids


def directions(planes: Planes, y: Index, x: Index) -> tuple[Planes, Planes]:
    """Unit vector (x, y) across the edge at each point: main axis of the colour structure tensor.

    Of Di Zenzo (1986), summed over a 3x3 window of Sobel gradients, so that a point beside the edge finds it.
    """
    height, width = planes.shape[1:]
    offsets = np.arange(-2, 3)
    rows = np.clip(y[:, None] + offsets, 0, height - 1)
    columns = np.clip(x[:, None] + offsets, 0, width - 1)
    patch = _take(planes, rows[:, :, None] * width + columns[:, None, :])
    across = patch[..., 2:] - patch[..., :-2]
    gx = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    down = patch[..., 2:, :] - patch[..., :-2, :]
    gy = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    xx, yy, xy = (np.einsum("cnij,cnij->n", a, b) for a, b in ((gx, gx), (gy, gy), (gx, gy)))
    angle = 0.5 * np.arctan2(2 * xy, xx - yy)
    return np.cos(angle), np.sin(angle)


def contrast(planes: Planes, y: Index, x: Index, nx: Planes, ny: Planes) -> Planes:
    """[N, 2 * reach + 1] height of the step at each place along the profile, over all three channels."""
    height, width = planes.shape[1:]
    along = np.arange(-_REACH - _SIDE, _REACH + _SIDE + 1, dtype=np.float32)
    rows = np.clip(np.rint(y[:, None].astype(np.float32) + along * ny[:, None]), 0, height - 1).astype(np.intp)
    columns = np.clip(np.rint(x[:, None].astype(np.float32) + along * nx[:, None]), 0, width - 1).astype(np.intp)
    values = _take(planes, rows * width + columns)
    # Sums over `_SIDE` = 3 neighbours; the one at i lies before the step at i + 3, the one at i + 4 after it.
    sums = values[..., :-2] + values[..., 1:-1] + values[..., 2:]
    step = sums[..., _SIDE + 1 :] - sums[..., : -_SIDE - 1]
    return np.sqrt(np.square(step, out=step).sum(0)) / np.float32(_SIDE)


def _take(planes: Planes, index: Index) -> Planes:
    """[3, ...] values at flat indices."""
    return np.ascontiguousarray(planes).reshape(3, -1).take(index, axis=1)


def height_at(profiles: Planes) -> Planes:
    """The step at the boundary itself, give or take the slack."""
    return profiles[:, _REACH - _SLACK : _REACH + _SLACK + 1].max(axis=1)


def kept(reference: Planes, image: Planes, gain: float) -> NDArray[np.bool_]:
    """Which points still have their edge, from the contrast profiles of both pictures.

    Args:
        gain: Contrast of the image over that of the reference; what remains of a step's height is judged after it.
    """
    inner = _centred(reference[:, _SLACK:-_SLACK])
    size = np.square(inner).sum(1)
    best = np.full(len(reference), -1.0, np.float32)
    for move in range(2 * _SLACK + 1):
        other = _centred(image[:, move : move + inner.shape[1]])
        score = (inner * other).sum(1) / np.sqrt(size * np.square(other).sum(1) + np.float32(1e-12))
        np.maximum(best, score, out=best)
    return (best > _ALIKE) & (height_at(image) > _KEPT * gain * height_at(reference))


def _centred(rows: Planes) -> Planes:
    return rows - rows.mean(axis=1, keepdims=True)


def points_of(instance: Instance, y: Index, x: Index, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which points belong to an instance: those with its id, or in its box where no point has an id."""
    if ids.any():
        return (ids == instance.id).any(axis=1)
    x0, y0, x1, y1 = instance.box
    return (x0 - 2 <= x) & (x <= x1 + 1) & (y0 - 2 <= y) & (y <= y1 + 1)
