from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from synthaug.warp import motion
from synthaug.warp.motion import Warp
from synthaug.warp.resample import Resampler
from synthaug.warp.surface import Surfaces
from tests.warp import motions
from tests.warp.motions import SIZE


def warps(seed: int) -> Warp:
    rng = np.random.default_rng(seed)
    lens = motions.barrel(k=0.05)
    choices = (motions.random_homography(rng), lens, lens.then(motion.affine(SIZE, scale=(1.4, 0.6), degrees=20)))
    return choices[seed % 3]


@settings(max_examples=40, deadline=None)
@given(motions.seeds)
def test_depth_is_never_blended_across_instances(seed: int) -> None:
    """Two planes of one depth each, 4% apart (no jump of its own): only these two values come out."""
    rng = np.random.default_rng(seed)
    ids = (rng.random((12, 16)) < 0.5).astype(np.int32).repeat(4, 0).repeat(4, 1)
    depth = np.where(ids == 1, np.float32(5.0), np.float32(5.2))
    resampler = Resampler(warps(seed))
    moved = Surfaces(resampler, {"instance": ids, "depth": depth}).move(depth)
    there = ~np.isnan(moved)
    assert there.any()
    assert np.isin(moved[there], depth).all()
    carried = resampler.nearest(ids + 1)
    assert (there == (carried > 0)).all()
    assert (np.where(carried == 2, np.float32(5.0), np.float32(5.2)) == moved)[there].all()


@settings(max_examples=20, deadline=None)
@given(motions.seeds)
def test_a_depth_jump_is_an_edge_without_ids(seed: int) -> None:
    depth = np.where(np.random.default_rng(seed).random(SIZE) < 0.5, np.float32(3), np.float32(9))
    resampler = Resampler(warps(seed))
    surfaces = Surfaces(resampler, {"depth": depth, "uv": np.zeros((*SIZE, 2), np.float32)})
    moved = surfaces.move(depth)
    assert np.isin(moved[~np.isnan(moved)], (3, 9)).all()
    other = surfaces.move((depth * 7).astype(np.float32))  # another map of the same surfaces
    assert np.isin(other[~np.isnan(other)], (21, 63)).all()


def test_missing_values_neither_spread_nor_vanish() -> None:
    rng = np.random.default_rng(3)
    values = np.full(SIZE, 4.0, np.float32)
    values[rng.random(SIZE) < 0.3] = np.nan
    for seed in range(6):
        resampler = Resampler(warps(seed))
        moved = Surfaces(resampler, {}).move(values)
        expected = resampler.nearest(np.isfinite(values))
        assert (np.isfinite(moved) == expected).all()
        assert (moved[expected] == 4.0).all()


def test_texture_seams_are_edges() -> None:
    u = np.tile(np.linspace(0, 3, 64, dtype=np.float32, endpoint=False) % 1, (48, 1))
    uv = np.dstack([u, np.full_like(u, 0.5)])
    resampler = Resampler(motion.affine(SIZE, degrees=10, scale=(1.3, 1.3)))
    moved = Surfaces(resampler, {"uv": uv}).move(uv)[..., 0]
    x = resampler.warp.backward_grid()[..., 0]
    truth = ((x - 0.5) * 3 / 64) % 1
    ok = np.isfinite(moved)
    gap = np.abs(moved - truth)[ok]
    assert np.minimum(gap, 1 - gap).max() < 0.05
    assert Surfaces(resampler, {}).move(uv)[..., 0][ok].tolist() != moved[ok].tolist()


@pytest.mark.parametrize("channels", [0, 3])
def test_inside_a_surface_it_is_bilinear(channels: int) -> None:
    x, y = np.meshgrid(np.arange(64) + 0.5, np.arange(48) + 0.5)
    plane = (2 + 0.01 * x + 0.02 * y).astype(np.float32)
    values = np.dstack([plane, plane * 2, -plane]) if channels else plane
    ids = (x > 30).astype(np.int32)
    for seed in range(9):
        resampler = Resampler(warps(seed))
        moved = Surfaces(resampler, {"instance": ids}).move(values)
        back = resampler.warp.backward_grid().astype(np.float64)
        truth = 2 + 0.01 * back[..., 0] + 0.02 * back[..., 1]
        side = np.abs(back[..., 0] - 31) > 1.5
        inner = ((back > 1) & (back < (63, 47))).all(axis=2)
        got = moved[..., 1] / 2 if channels else moved
        assert np.allclose(got[inner & side], truth[inner & side], atol=2e-5)
        # Beside the edge and at the rim the weights of one side remain: still within a pixel's slope.
        seen = np.isfinite(got)
        assert np.abs(got - truth)[seen].max() < 0.03


def test_whole_pixel_motions_keep_the_bits() -> None:
    values = np.random.default_rng(1).standard_normal((*SIZE, 3)).astype(np.float32)
    values[3, 4] = np.nan
    moved = Surfaces(Resampler(motion.hflip(SIZE)), {}).move(values)
    assert moved.tobytes() == np.ascontiguousarray(values[:, ::-1]).tobytes()
    padded = Surfaces(Resampler(motion.crop(SIZE, (-1, 0, 64, 48))), {}).move(values)
    assert np.isnan(padded[:, 0]).all()
