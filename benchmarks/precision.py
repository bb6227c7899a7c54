"""Average precision of several detectors per arm as one table, with intervals over pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.metrics import realism
from synthaug.metrics.average_precision import Boxes, Matches, mean_precision, overlap

CLASSES = range(1, 7)
FIGURES = ("AP50", "AP", "dice_AP50", "dice_AP")
"""Of the six classes, and of dice whatever they show."""


class Judged:
    """One detector's detections held against truth, for any choice of pictures."""

    def __init__(self, truth: Sequence[Boxes], found: Sequence[Boxes]) -> None:
        self._six = Matches(truth, found, CLASSES)
        self._dice = Matches([t.of_one_class() for t in truth], [f.of_one_class() for f in found], [1])

    def figures(self, pictures: Sequence[int] | NDArray[np.intp] | None = None) -> NDArray[np.float64]:
        """In the order of `FIGURES`."""
        both = (self._six.score(pictures), self._dice.score(pictures))
        return np.array([figure for table in both for figure in mean_precision(table)])

    def by_class(self) -> NDArray[np.float64]:
        return self._six.score()[:, 0]


def rounded(values: Any) -> list[float]:
    return np.asarray(values, float).round(4).tolist()


def table(
    judged: dict[str, list[Judged]], pictures: Sequence[int], rounds: int, against: str, factor: float = 1.0
) -> dict[str, Any]:
    """Figures by arm: the seeds' mean, each seed, interval over pictures; and the difference to the arm `against`."""

    def means(rows: Any) -> NDArray[np.float64]:
        return np.array([np.mean([j.figures(rows) for j in seeds], axis=0) for seeds in judged.values()])

    point, here = means(pictures), np.asarray(pictures)
    replicas = realism.bootstrap(lambda rows, _: means(here[rows]), (len(here), 1), rounds)
    base, found = list(judged).index(against), dict[str, Any]()
    for a, (arm, seeds) in enumerate(judged.items()):
        each = np.array([j.figures(pictures) for j in seeds])
        found[arm] = {
            figure: {"mean": round(float(point[a, f]), 4), "seeds": rounded(each[:, f])}
            | {"90%": rounded(realism.interval(point[a, f], replicas[:, a, f]))}
            for f, figure in enumerate(FIGURES)
        }
        if arm != against:
            gain, around = factor * (point[a] - point[base]), factor * (replicas[:, a] - replicas[:, base])
            for f, figure in enumerate(FIGURES):
                ends = rounded(realism.interval(gain[f], around[:, f]))
                found[arm][figure][f"over {against}"] = {"value": round(float(gain[f]), 4), "90%": ends}
    return found


def relative_sides(truth: Sequence[Boxes], found: Sequence[Boxes]) -> float:
    """How large boxes are found to be: median side over the annotated one, of pairs that overlap by 0.3 or more."""
    ratios = list[float]()
    for real, seen in zip(truth, found, strict=True):
        sure = seen.corners[np.asarray(seen.scores) > 0.3]
        if not len(sure) or not len(real.corners):
            continue
        common = overlap(real.corners, sure)
        first, second = np.flatnonzero(common.max(1) >= 0.3), common.argmax(1)
        area = [(b[:, 2:] - b[:, :2]).prod(1) for b in (real.corners[first], sure[second[first]])]
        ratios += np.sqrt(area[1] / area[0]).tolist()
    return round(float(np.median(ratios)), 3) if ratios else float("nan")
