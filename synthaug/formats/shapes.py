"""Boxes and outlines as loose formats spell them: what fits the canvas, and masks as polygons.

A mask's outline is walked along the cracks between pixels, so that its corners are integers and the
polygon rasterises back to the same mask. A tracer that walks through pixel centres turns a square of
30x30 into 29x29. Holes and further parts are joined by a seam walked there and back, which encloses
no area under the even-odd rule.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.errors import Rejected
from synthaug.labels import Box, Size

Ring = NDArray[np.int32]
"""[N, 2] integer crack corners (x, y), not closed."""

ROUNDING = 1.001
"""Pixels by which sources leave the canvas through conventions (counting from 0 or 1) and rounding."""


_SEAM_CHOICES = 256
"""Corners per ring that are tried as the end of a seam; bounds the cost, any corner would do."""


def fit_box(box: Sequence[float], size: Size, *, clip: bool, where: str) -> Box:
    """A box that lies on the canvas.

    Up to one pixel of overshoot is convention and is cut off; more is cut off only on request.

    Args:
        box: x0, y0, x1, y1 in continuous pixels.
        size: (height, width) of the canvas.
        clip: Whether to cut a box that reaches further out.
        where: The label in the words of its file, for the message.

    Raises:
        Rejected: Under `label`: not finite, empty, swapped corners, or outside.
    """
    height, width = size
    x0, y0, x1, y1 = (float(v) for v in box)
    if not np.isfinite((x0, y0, x1, y1)).all():
        raise Rejected("label", f"{where}: box {(x0, y0, x1, y1)} is not finite")
    if x0 >= x1 or y0 >= y1:
        raise Rejected("label", f"{where}: box {(x0, y0, x1, y1)} is empty or has swapped corners")
    outside = max(-x0, -y0, x1 - width, y1 - height)
    if outside > ROUNDING and not clip:
        raise Rejected(
            "label",
            f"{where}: box {(x0, y0, x1, y1)} leaves the {width}x{height} canvas by {outside:.1f} px; "
            "correct the source, or read with clip=true",
        )
    fitted = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
    if fitted[0] >= fitted[2] or fitted[1] >= fitted[3]:
        raise Rejected("label", f"{where}: box {(x0, y0, x1, y1)} has no part on the {width}x{height} canvas")
    return fitted


def outlines(mask: NDArray[np.bool_]) -> list[Ring]:
    """The mask as one ring per 8-connected part, holes included through seams.

    Args:
        mask: [H, W].

    Returns:
        Rings in OpenCV's order of tracing, empty for an empty mask. Costs about one pass over four times the pixels
        of the tight box.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    top, left = int(rows[0]), int(columns[0])
    tight = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    doubled = np.repeat(np.repeat(tight.astype(np.uint8), 2, axis=0), 2, axis=1)
    traced, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = [_corners(contour[:, 0, :].astype(np.int32)) + np.array([left, top], np.int32) for contour in traced]
    parents = hierarchy[0, :, 3]
    done: list[Ring] = []
    for index, ring in enumerate(rings):
        if parents[index] < 0:
            holes = [rings[k] for k in range(len(rings)) if parents[k] == index]
            done.append(join([ring, *holes]))
    return done


def join(rings: Sequence[Ring]) -> Ring:
    """Several rings as one, joined by seams that are walked there and back between near corners."""
    merged = rings[0]
    for ring in rings[1:]:
        step, other = 1 + len(merged) // _SEAM_CHOICES, 1 + len(ring) // _SEAM_CHOICES
        gaps = np.abs(merged[::step, None, :] - ring[None, ::other, :]).sum(axis=2)
        row, column = np.unravel_index(int(gaps.argmin()), gaps.shape)
        here, turned = int(row) * step, np.roll(ring, -int(column) * other, axis=0)
        merged = np.concatenate([merged[: here + 1], turned, turned[:1], merged[here:]])
    return merged


def mask_iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks of one shape; 1.0 where both are empty."""
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 1.0


def _corners(contour: NDArray[np.int32]) -> Ring:
    """Crack corners from a contour traced in the doubled grid: subpixel 2a is left of pixel a, 2a+1 right."""
    points = ((contour + 1) // 2).astype(np.int32)
    points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0] != 0
    back = (before * after).sum(axis=1) < 0
    return points[turns | back]
