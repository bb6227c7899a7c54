"""How far two sets of pictures are apart, as sets of feature vectors; numpy alone.

Two distances that need no model of the features, with the uncertainty that comes from having few pictures. A
distance has no unit: it means something beside another one on the same features, and beside real against real.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import InputError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Rows = NDArray[np.intp]


def directions(dimensions: int, count: int = 128, seed: int = 0) -> Float64:
    """[count, dimensions] unit vectors, uniform over the sphere."""
    drawn = np.random.default_rng(seed).standard_normal((count, dimensions))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def projected(points: NDArray[np.floating], along: Float64) -> Float32:
    """[..., D] points as [K, ...] coordinates along K directions."""
    return np.moveaxis(points @ along.T, -1, 0).astype(np.float32, order="C")


def quantile_distance(first: NDArray[np.floating], second: NDArray[np.floating], quantiles: int = 512) -> float:
    """Root mean square difference of the quantiles of [K, N] and [K, M], over K rows.

    In one dimension the optimal plan pairs quantiles; the sets may be of different sizes. `quantiles` midpoints of
    equal shares are compared, between order statistics by straight lines.
    """
    at = (np.arange(quantiles) + 0.5) / quantiles
    gap = _quantiles(first, at) - _quantiles(second, at)
    return float(np.sqrt(np.mean(np.square(gap, dtype=np.float64))))


def sliced_wasserstein(
    first: NDArray[np.floating],
    second: NDArray[np.floating],
    *,
    count: int = 128,
    quantiles: int = 512,
    seed: int = 0,
) -> float:
    """Sliced 2-Wasserstein distance of [N, D] and [M, D] over `count` random directions.

    Rabin, Peyre, Delon and Bernot, "Wasserstein barycenter and its application to texture mixing" (SSVM 2011). A set
    moved by v is |v| / sqrt(D) away from itself, in expectation over directions. Not 0 for two samples of one
    distribution: it shrinks with the square root of their sizes. Sorts K rows of N and M numbers.

    Raises:
        InputError: An empty set, or sets of different dimensions.
    """
    _check(first, second)
    along = directions(first.shape[-1], count, seed)
    return quantile_distance(projected(first, along), projected(second, along), quantiles)


def kernel_table(first: NDArray[np.floating], second: NDArray[np.floating]) -> Float64:
    """[P, Q] mean of (x.y / D + 1)^3 over all pairs of vectors, from pictures [P, T, D] and [Q, T, D].

    The kernel of the kernel inception distance: Binkowski, Sutherland, Arbel and Gretton, "Demystifying MMD GANs"
    (ICLR 2018). Needs P T x Q T numbers for a moment.
    """
    x, y = (side.reshape(-1, side.shape[-1]).astype(np.float64) for side in (first, second))
    table = (x @ y.T / x.shape[1] + 1) ** 3
    return table.reshape(len(first), first.shape[1], len(second), second.shape[1]).mean((1, 3))


def table_distance(
    within_first: Float64,
    within_second: Float64,
    between: Float64,
    rows: Rows | None = None,
    columns: Rows | None = None,
) -> float:
    """Squared maximum mean discrepancy from three kernel tables; may be negative, 0 in expectation for equal sets.

    The U-statistic (Gretton et al., "A kernel two-sample test", JMLR 2012, equation 3) over pairs of *different*
    pictures: the tiles of one picture are alike, and so is a picture with itself when `rows` names it twice.

    Args:
        within_first: [P, P] `kernel_table` of the first set with itself.
        within_second: [Q, Q] likewise.
        between: [P, Q] of both.
        rows: Pictures of the first set that count, as often as they are named; all of them by default.
        columns: Likewise of the second.
    """
    a, b = (_weights(len(t), chosen) for t, chosen in ((within_first, rows), (within_second, columns)))
    return float(_apart(within_first, a) + _apart(within_second, b) - 2 * a @ between @ b / (a.sum() * b.sum()))


def kernel_distance(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Kernel distance (KID form) of [N, D] and [M, D], or of pictures [P, T, D] and [Q, T, D].

    Raises:
        InputError: Fewer than two pictures in a set, or sets of different dimensions.
    """
    _check(first, second)
    x, y = (side[:, None] if side.ndim == 2 else side for side in (first, second))
    if min(len(x), len(y)) < 2:
        raise InputError(f"sets of {len(x)} and {len(y)}: a kernel distance without bias needs two or more in each")
    return table_distance(kernel_table(x, x), kernel_table(y, y), kernel_table(x, y))


def bootstrap(score: Callable[[Rows, Rows], object], sizes: tuple[int, int], rounds: int, seed: int = 0) -> Float64:
    """[rounds, ...] scores of sets drawn with replacement (Efron, Annals of Statistics 1979).

    Args:
        score: Given indices into the first and the second set, one figure or an array of them. Scoring several arms
            in one call draws the same pictures for all, so that their differences are compared pair by pair.
        sizes: Of both sets.
        rounds: 100 or more for intervals of 90%.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    return np.array([score(*(rng.integers(0, size, size) for size in sizes)) for _ in range(rounds)], np.float64)


def interval(value: float, replicas: Float64, level: float = 0.9) -> tuple[float, float]:
    """Low and high end around `value`, from scores that `bootstrap` made.

    Only the spread is the replicas': they name pictures twice, so they lie further apart than the sets do, and are
    moved back until their mean is `value`.
    """
    tail = (1 - level) / 2
    low, high = np.quantile(replicas, [tail, 1 - tail]) - replicas.mean()
    return value + float(low), value + float(high)


def _quantiles(values: NDArray[np.floating], at: Float64) -> Float64:
    ordered = np.sort(values, axis=1)
    place = at * (values.shape[1] - 1)
    below = place.astype(np.intp)
    above = np.minimum(below + 1, values.shape[1] - 1)
    return ordered[:, below] + (ordered[:, above] - ordered[:, below]) * (place - below)


def _weights(size: int, chosen: Rows | None) -> Float64:
    if chosen is None:
        return np.ones(size)
    return np.bincount(chosen, minlength=size).astype(np.float64)


def _apart(table: Float64, weights: Float64) -> float:
    """Weighted mean off the diagonal: pairs of different pictures."""
    pairs = np.outer(weights, weights)
    np.fill_diagonal(pairs, 0)
    return float((pairs * table).sum() / pairs.sum())


def _check(first: NDArray[np.floating], second: NDArray[np.floating]) -> None:
    alike = first.ndim == second.ndim and first.shape[-1] == second.shape[-1]
    if first.ndim not in (2, 3) or not alike or not first.size or not second.size:
        raise InputError(f"sets {list(first.shape)} and {list(second.shape)}: expected vectors of one length, not none")
