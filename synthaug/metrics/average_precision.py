"""Average precision of boxes by the COCO protocol, in numpy, so that it can be asked of any set of pictures again.

Lin et al., "Microsoft COCO: common objects in context" (ECCV 2014), as pycocotools 2 computes it, without crowds, areas
and its limit of detections: greedy matching by score, precision made monotone, read at 101 recalls.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import InputError

OVERLAPS = np.linspace(0.5, 0.95, 10)
"""Intersection over union from which a detection counts, ten times."""
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Of one picture: truth, or what was found.

    Attributes:
        corners: [N, 4] x0, y0, x1, y1 in pixels.
        classes: [N] from 1.
        scores: [N], any order-preserving number; None for truth.
    """

    corners: NDArray[np.float32]
    classes: NDArray[np.int64]
    scores: NDArray[np.float32] | None = None

    def of_one_class(self) -> Boxes:
        """The same boxes with class 1; of equal corners the one with the highest score."""
        if self.scores is None or not len(self.scores):
            return Boxes(self.corners, np.ones_like(self.classes), self.scores)
        order = np.argsort(-self.scores, kind="stable")
        _, first = np.unique(self.corners[order], axis=0, return_index=True)
        kept = order[np.sort(first)]
        return Boxes(self.corners[kept], np.ones_like(self.classes[kept]), self.scores[kept])


class Matches:
    """Detections held against truth, picture by picture, once: `score` then costs milliseconds for any choice."""

    def __init__(self, truth: Sequence[Boxes], found: Sequence[Boxes], classes: Iterable[int]) -> None:
        """Matches all pairs.

        Raises:
            InputError: Lists of different lengths, or detections without scores.
        """
        if len(truth) != len(found):
            raise InputError(f"{len(truth)} pictures of truth, {len(found)} of detections: expected as many")
        if any(f.scores is None for f in found):
            raise InputError("detections without scores: Boxes.scores is None")
        self._rows = {c: [_match(t, f, c) for t, f in zip(truth, found, strict=True)] for c in classes}

    def score(self, pictures: Iterable[int] | None = None) -> NDArray[np.float64]:
        """[classes, 10] average precision by class and overlap of `OVERLAPS`, in [0, 1].

        Args:
            pictures: That count, as often as they are named (for a bootstrap); all by default.

        Returns:
            NaN for a class that has no truth in these pictures.
        """
        chosen = None if pictures is None else list(pictures)
        tables = [_curve(rows if chosen is None else [rows[i] for i in chosen]) for rows in self._rows.values()]
        return np.array(tables)


def mean_precision(table: NDArray[np.float64]) -> tuple[float, float]:
    """AP at an overlap of 0.5, and the mean over `OVERLAPS`; classes without truth do not count. NaN where none has."""
    seen = table[~np.isnan(table[:, 0])]
    return (float(seen[:, 0].mean()), float(seen.mean())) if len(seen) else (np.nan, np.nan)


def overlap(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """[N, M] intersection over union of [N, 4] and [M, 4] corners."""
    a, b = first[:, None].astype(np.float64), second[None].astype(np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = sides.clip(0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - common
    return common / np.maximum(union, 1e-12)


def _match(truth: Boxes, found: Boxes, wanted: int) -> tuple[NDArray[Any], NDArray[np.bool_], int]:
    """Scores, [10, M] whether each detection is right, and the count of truth."""
    real = truth.corners[truth.classes == wanted]
    here = found.classes == wanted
    scores = np.asarray(found.scores)[here]
    order = np.argsort(-scores, kind="stable")
    scores, table = scores[order], overlap(found.corners[here][order], real)
    right = np.zeros((len(OVERLAPS), len(scores)), bool)
    for level, least in enumerate(OVERLAPS):
        free = np.ones(len(real), bool)
        for number, row in enumerate(table):
            best = _best(row, free, least)
            if best >= 0:
                free[best], right[level, number] = False, True
    return scores, right, len(real)


def _best(row: NDArray[np.float64], free: NDArray[np.bool_], least: float) -> int:
    """The free box with the largest overlap, the last of equals as pycocotools has it; -1 where none reaches it."""
    allowed = np.where(free, row, -1.0)
    if not len(row) or allowed.max() < min(least, 1 - 1e-10):
        return -1
    return len(row) - 1 - int(np.argmax(allowed[::-1]))


def _curve(rows: Sequence[tuple[NDArray[Any], NDArray[np.bool_], int]]) -> NDArray[np.float64]:
    """[10] from all pictures of one class."""
    count = sum(row[2] for row in rows)
    if not count:
        return np.full(len(OVERLAPS), np.nan)
    order = np.argsort(-np.concatenate([row[0] for row in rows]), kind="stable")
    right = np.concatenate([row[1] for row in rows], axis=1)[:, order]
    hits = right.cumsum(1, dtype=np.float64)
    precision = hits / np.arange(1, right.shape[1] + 1)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.concatenate([precision, np.zeros((len(precision), 1))], axis=1)
    places = [np.searchsorted(row, _RECALLS, side="left") for row in hits / count]
    return np.array([line[place].mean() for line, place in zip(padded, places, strict=True)])
