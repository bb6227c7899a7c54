"""Paste-back: the bits of the input, feathers outside only, seams in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.refine.paste import coverage, facts, paste, ring, seam


def region(seed: int, height: int = 24, width: int = 30) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), bool)
    for _ in range(int(rng.integers(1, 4))):
        y, x = int(rng.integers(0, height - 2)), int(rng.integers(0, width - 2))
        mask[y : y + int(rng.integers(1, 10)), x : x + int(rng.integers(1, 10))] = True
    return mask


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(0, 6), st.booleans())
def test_the_region_is_the_input_to_the_bit_and_far_pixels_are_what_was_painted(
    seed: int, feather: float, tensors: bool
) -> None:
    rng = np.random.default_rng(seed)
    never = region(seed)
    source = (rng.integers(0, 256, (2, 3, *never.shape)) / 255).astype(np.float32)
    painted = rng.random(source.shape, dtype=np.float32)
    shares = np.broadcast_to(coverage(never, feather), (2, 1, *never.shape)).copy()
    if tensors:
        done = paste(*(torch.from_numpy(a) for a in (painted, source, shares))).numpy()
    else:
        done = paste(painted, source, shares)
    assert done.dtype == np.float32
    assert done[..., never].tobytes() == source[..., never].tobytes()
    assert np.array_equal(np.rint(done[..., never] * 255), np.rint(source[..., never] * 255))
    away = shares[0, 0] == 0
    assert done[..., away].tobytes() == painted[..., away].tobytes()
    low, high = np.minimum(source, painted), np.maximum(source, painted)
    assert (done >= low - 1e-6).all()
    assert (done <= high + 1e-6).all()


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.floats(0, 8))
def test_coverage_is_one_in_the_region_alone_and_ends_at_the_feather(seed: int, feather: float) -> None:
    never = region(seed)
    shares = coverage(never, feather)
    assert np.array_equal(shares >= 1, never)
    rows, columns = np.nonzero(never)
    y, x = np.mgrid[: never.shape[0], : never.shape[1]]
    distance = np.sqrt((y[..., None] - rows) ** 2 + (x[..., None] - columns) ** 2).min(axis=-1)
    assert (shares[distance >= feather + 0.5] < 1e-6)[~never[distance >= feather + 0.5]].all()


def test_what_is_not_finite_in_the_region_does_no_harm_and_outside_it_stays() -> None:
    never = np.zeros((6, 6), bool)
    never[2:4, 2:4] = True
    shares = coverage(never, 1.5)[None, None]
    painted = np.full((1, 3, 6, 6), np.nan, np.float32)
    done = paste(painted, np.full((1, 3, 6, 6), 0.5, np.float32), shares)
    assert (done[..., never] == 0.5).all()
    assert np.isnan(done[..., ~never]).all()


@pytest.mark.parametrize("tensors", [False, True])
def test_seam_and_ring_in_closed_form(tensors: bool) -> None:
    never = np.zeros((8, 8), bool)
    never[:, :4] = True
    source, painted = np.zeros((2, 3, 8, 8), np.float32), np.zeros((2, 3, 8, 8), np.float32)
    painted[0] += 0.2
    shares = np.stack([coverage(never, 1.5), np.zeros((8, 8), np.float32)])[:, None]
    if tensors:
        source, painted, shares = (torch.from_numpy(a) for a in (source, painted, shares))
    done = paste(painted, source, shares)
    after, before, around = seam(done, shares), seam(source, shares), ring(painted, source, shares)
    # The first column outside is half a pixel off: a raised cosine over 1.5 px keeps 0.75 of the input there.
    assert np.allclose(np.asarray(after), [255 * 0.2 * 0.25, 0], atol=1e-3)
    assert np.allclose(np.asarray(before), 0)
    assert np.allclose(np.asarray(around), [51, 0], atol=1e-3)
    assert facts(list(after), list(before), list(around))[0]["seam_before"] == 0


def test_everything_and_nothing() -> None:
    source, painted = np.zeros((1, 3, 4, 4), np.float32), np.ones((1, 3, 4, 4), np.float32)
    for never, expected in ((np.ones((4, 4), bool), source), (np.zeros((4, 4), bool), painted)):
        assert np.array_equal(paste(painted, source, coverage(never, 3)[None, None]), expected)
