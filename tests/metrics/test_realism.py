from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug.errors import InputError
from synthaug.metrics.realism import (
    bootstrap,
    directions,
    interval,
    kernel_distance,
    kernel_table,
    quantile_distance,
    sliced_wasserstein,
    table_distance,
)

RNG = np.random.default_rng(0)
BASE = RNG.standard_normal((4000, 6))


def test_a_set_is_no_distance_from_itself_in_any_order() -> None:
    assert sliced_wasserstein(BASE, BASE[::-1]) == 0.0


def test_a_moved_set_is_as_far_as_it_moved() -> None:
    offset = np.array([3.0, 0, 0, 0, -4.0, 0])
    along = directions(6, 256)
    exact = np.sqrt(np.mean((along @ offset) ** 2))
    assert sliced_wasserstein(BASE, BASE + offset, count=256) == pytest.approx(exact, rel=1e-4)
    assert exact == pytest.approx(5 / np.sqrt(6), rel=0.1)


def test_a_stretched_gaussian_has_its_known_distance() -> None:
    """In one dimension N(0, 1) and N(m, s) are sqrt(m^2 + (s - 1)^2) apart."""
    a, b = RNG.standard_normal((1, 200_000)), 1.5 + 2 * RNG.standard_normal((1, 150_000))
    assert quantile_distance(a, b, 4096) == pytest.approx(np.hypot(1.5, 1.0), rel=0.01)


def test_two_samples_of_one_distribution_come_closer_as_they_grow() -> None:
    far = [sliced_wasserstein(BASE[:n], BASE[-n:]) for n in (100, 2000)]
    assert far[1] < far[0] / 3
    assert far[1] < 0.06


def test_kernel_distance_of_shifted_gaussians_has_its_closed_form() -> None:
    """(xy + 1)^3 sees moments: 3 (dm1)^2 + 3 (dm2)^2 + (dm3)^2 = 3 + 3 + 16 for N(0, 1) and N(1, 1)."""
    found = [
        kernel_distance(rng.standard_normal((600, 1)), 1 + rng.standard_normal((600, 1)))
        for rng in map(np.random.default_rng, range(12))
    ]
    assert np.mean(found) == pytest.approx(22, abs=4 * np.std(found) / np.sqrt(12))
    assert np.std(found) < 5


def test_kernel_distance_has_no_bias() -> None:
    found = [
        kernel_distance(rng.standard_normal((20, 3)), rng.standard_normal((25, 3)))
        for rng in map(np.random.default_rng, range(400))
    ]
    assert abs(np.mean(found)) < 3 * np.std(found) / 20
    assert min(found) < 0


def test_kernel_distance_is_the_sum_over_pairs() -> None:
    x, y = RNG.standard_normal((5, 3)), RNG.standard_normal((4, 3)) + 1

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (a @ b / 3 + 1) ** 3

    def within(s: np.ndarray) -> float:
        return np.mean([k(a, b) for i, a in enumerate(s) for j, b in enumerate(s) if i != j])

    slow = within(x) + within(y) - 2 * np.mean([k(a, b) for a in x for b in y])
    assert kernel_distance(x, y) == pytest.approx(slow)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=8).filter(lambda rows: len(set(rows)) > 1))
def test_a_picture_named_twice_makes_no_pair_with_itself(rows: list[int]) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((6, 2, 3)), rng.standard_normal((7, 2, 3))
    tables = kernel_table(x, x), kernel_table(y, y), kernel_table(x, y)
    chosen = np.array(rows)
    pairs = [(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j and a != b]
    slow = np.mean([tables[0][p] for p in pairs])
    others = tables[1][~np.eye(7, dtype=bool)].mean() - 2 * tables[2][chosen].mean()
    assert table_distance(*tables, rows=chosen) == pytest.approx(slow + others)


def test_intervals_cover_what_they_promise() -> None:
    """The mean of 30 numbers, 200 times: 90% intervals hold the truth about 9 times in 10."""
    held = 0
    for seed in range(200):
        values = np.random.default_rng(seed).standard_normal(30)
        replicas = bootstrap(lambda rows, _, v=values: v[rows].mean(), (30, 1), 200, seed)
        low, high = interval(values.mean(), replicas)
        held += low <= 0 <= high
    assert 0.82 <= held / 200 <= 0.95


def test_arms_are_drawn_together() -> None:
    values = RNG.standard_normal(50)
    replicas = bootstrap(lambda rows, _: [values[rows].mean(), values[rows].mean() + 0.1], (50, 2), 40)
    assert replicas.shape == (40, 2)
    assert np.ptp(replicas[:, 1] - replicas[:, 0]) < 1e-12
    assert np.ptp(replicas[:, 0]) > 0.1


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.zeros((4, 2)), np.zeros(3)])
def test_sets_that_cannot_be_compared(bad: np.ndarray) -> None:
    for distance in (sliced_wasserstein, kernel_distance):
        with pytest.raises(InputError, match="expected vectors"):
            distance(np.zeros((4, 3)), bad)


def test_one_picture_is_no_set() -> None:
    with pytest.raises(InputError, match="two or more"):
        kernel_distance(np.zeros((1, 3)), np.zeros((4, 3)))
