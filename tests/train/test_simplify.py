"""Simplified photos: less texture, the same colours, nothing moved, the same every time."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug import seeds
from synthaug.train.simplify import OPERATORS, Float32, guided, simplify


def scene(seed: int = 0, side: int = 64, grain: float = 0.03) -> Float32:
    """A bright disc on a dark ground, both with grain."""
    ys, xs = np.mgrid[0:side, 0:side] + 0.5
    disc = (np.hypot(xs - side / 2, ys - side / 2) < side / 4)[..., None]
    picture = np.where(disc, [0.8, 0.6, 0.3], [0.25, 0.3, 0.35])
    noise = np.random.default_rng(seed).normal(0, grain, picture.shape)
    return np.clip(picture + noise, 0, 1).astype(np.float32)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_laws(seed: int) -> None:
    photo = scene(seed)
    plain = simplify(photo, seeds.from_seed(seed))
    assert plain.shape == photo.shape
    assert plain.dtype == np.float32
    assert 0 <= plain.min() <= plain.max() <= 1
    assert np.array_equal(plain, simplify(photo, seeds.from_seed(seed)))
    # A file of 8 bits holds it exactly.
    assert np.abs(plain * 255 - np.rint(plain * 255)).max() < 1e-4
    # Mean colours stay within the gain, gamma and cast that are allowed.
    assert np.abs(plain.mean((0, 1)) - photo.mean((0, 1))).max() < 0.06


def test_grain_goes_and_edges_stay() -> None:
    kept, moved = [], []
    for seed in range(24):
        photo = scene(seed)
        plain = simplify(photo, seeds.from_seed(seed))
        corner = (slice(2, 14), slice(2, 14))
        kept.append(plain[corner].std((0, 1)).mean() / photo[corner].std((0, 1)).mean())
        window = cv2.createHanningWindow((64, 64), cv2.CV_32F)
        (dx, dy), _ = cv2.phaseCorrelate(photo[..., 0].copy(), plain[..., 0].copy(), window)
        moved.append(np.hypot(dx, dy))
    assert np.median(kept) < 0.6
    assert max(moved) < 0.25


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.__name__)
def test_operators_keep_size_type_and_a_plain_picture(operator: object) -> None:
    plain = np.full((33, 47, 3), np.float32(0.4))
    done = operator(plain, seeds.from_seed(1))  # type: ignore[operator]
    assert done.shape == plain.shape
    assert done.dtype == np.float32
    # Posterising moves a level by half a step at most; everything else leaves a constant alone.
    assert np.abs(done - plain).max() < (0.07 if operator.__name__ == "posterise" else 0.004)  # type: ignore[attr-defined]


def test_guided_filter_by_its_closed_form() -> None:
    # On a window of constant variance v the slope is v / (v + width^2): a fine checkerboard shrinks by just that.
    ys, xs = np.mgrid[0:40, 0:40]
    board = np.where((xs + ys) % 2, 0.6, 0.4).astype(np.float32)
    done = guided(np.repeat(board[..., None], 3, 2), 6, 0.1)
    amplitude = np.abs(done[13:27, 13:27, 0] - 0.5).mean()
    assert amplitude == pytest.approx(0.1 * 0.01 / (0.01 + 0.01), rel=0.05)
