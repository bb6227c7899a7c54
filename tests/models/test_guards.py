"""Guards: colours come back, flat surfaces get the wanted grain, nothing else changes and nothing moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.models import guards

torch.set_num_threads(1)


def noise(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))


def deviation(picture: torch.Tensor) -> float:
    """Standard deviation of fine luma detail, by OpenCV's own blur."""
    import cv2

    luma = guards.luma_of(picture)[0, 0].numpy()
    return float((luma - cv2.GaussianBlur(luma, (0, 0), guards.DETAIL_RADIUS))[8:-8, 8:-8].std())


@settings(max_examples=15)
@given(shift=st.tuples(*[st.floats(-0.2, 0.2)] * 3), height=st.integers(1, 40), width=st.integers(1, 40))
def test_a_cast_is_taken_back_whatever_the_size(shift: tuple[float, ...], height: int, width: int) -> None:
    source = noise((1, 3, height, width)) * 0.1 + 0.5
    refined = source + torch.tensor(shift, dtype=torch.float32)[None, :, None, None]
    assert torch.allclose(guards.keep_colour(refined, source, 1.0), source, atol=1e-5)
    assert torch.allclose(guards.keep_colour(refined, source, 0.0), refined)


def test_fine_detail_passes_the_colour_guard_and_coarse_does_not() -> None:
    xs = torch.arange(256, dtype=torch.float32)
    source = torch.full((1, 3, 64, 256), 0.5)
    fine = (0.05 * torch.sin(2 * torch.pi * xs / 6)).expand(1, 3, 64, 256)
    coarse = (0.05 * torch.sin(2 * torch.pi * xs / 128)).expand(1, 3, 64, 256)
    inner = (..., slice(16, -16), slice(64, -64))
    left = (guards.keep_colour(source + fine, source, 1.0) - source)[inner]
    assert (left - fine[inner]).abs().max() < 0.001
    # A Gaussian of deviation r leaves exp(-(2 pi r / period)^2 / 2) of a wave; the guard subtracts that much.
    rest = 1 - np.exp(-0.5 * (2 * np.pi * guards.LUMA_RADIUS / 128) ** 2)
    left = (guards.keep_colour(source + coarse, source, 1.0) - source)[inner]
    assert float(left.abs().max()) == pytest.approx(0.05 * rest, rel=0.05)


@pytest.mark.parametrize("left_over", [0.0, 0.004, 0.03])
@pytest.mark.parametrize("wanted", [0.004, 0.008])
def test_flat_surfaces_get_the_wanted_grain_whatever_the_network_left(left_over: float, wanted: float) -> None:
    source = torch.full((1, 3, 96, 96), 0.5)
    refined = source + left_over * noise(tuple(source.shape), 1)
    done = guards.match_grain(refined, source, [wanted], 1.0, noise(tuple(source.shape), 2))
    rounded = torch.round(done * 255) / 255
    if left_over:
        assert deviation(rounded) == pytest.approx(wanted, rel=0.15)
    else:
        # Nothing to scale: the grain underneath is lifted by 3 at most, which is nearly enough.
        assert 0.6 * wanted < deviation(rounded) < 1.15 * wanted


def test_textured_places_are_left_alone() -> None:
    ramp = torch.linspace(0, 1, 96).expand(1, 3, 96, 96)
    steep = torch.sin(ramp * 60) * 0.3 + 0.5
    refined = steep + 0.05 * noise(tuple(steep.shape), 1)
    done = guards.match_grain(refined, steep, [0.002], 1.0, noise(tuple(steep.shape), 2))
    assert torch.equal(guards.flatness(steep)[..., 8:-8, 8:-8], torch.zeros(1, 1, 80, 80))
    assert torch.allclose(done[..., 8:-8, 8:-8], refined[..., 8:-8, 8:-8], atol=1e-6)


def test_roughness_sees_neither_shading_nor_the_edge_of_a_wall() -> None:
    ys, xs = torch.meshgrid(torch.arange(40.0), torch.arange(60.0), indexing="ij")
    wall = 0.2 + 0.004 * xs + 0.002 * ys
    wall[:, 30:] += 0.5
    found = guards.roughness(wall.expand(1, 3, 40, 60))
    # Both sides of the step are flat up to the last pixel; mirrored borders bend the shading there.
    assert float(found[..., 4:-4, 4:-4].max()) < 0.001
    assert torch.equal(guards.flatness(wall.expand(1, 3, 40, 60))[..., 4:-4, 4:-4], torch.ones(1, 1, 32, 52))
    line = torch.full((1, 3, 40, 60), 0.5)
    line[..., 30] = 0.9
    # A line is in every patch that holds its pixels: 0.4 over 5 of 25, less nothing, as shading cannot explain it.
    best = np.var([0.4] + [0.0] * 4)
    ends = np.polyfit(range(5), [0.4, 0, 0, 0, 0], 1, full=True)[1][0] / 5
    assert float(guards.roughness(line)[0, 0, 20, 30]) == pytest.approx(min(best, ends) ** 0.5, rel=0.01)


def test_grain_measured_beside_an_edge_is_that_of_the_surface() -> None:
    source = torch.full((1, 3, 96, 96), 0.3)
    source[..., 48:] = 0.8
    refined = source + 0.02 * noise(tuple(source.shape), 1)
    done = guards.match_grain(refined, source, [0.006], 1.0, noise(tuple(source.shape), 2))
    beside = guards.luma_of(done - source)[0, 0, 8:-8, 42:47].numpy()
    away = guards.luma_of(done - source)[0, 0, 8:-8, 10:15].numpy()
    assert beside.std() == pytest.approx(away.std(), rel=0.25)
    assert beside.std() < 0.009


def test_share_zero_and_symmetry() -> None:
    source, refined = noise((1, 3, 40, 56), 3) * 0.01 + 0.5, noise((1, 3, 40, 56), 4) * 0.02 + 0.5
    grain = noise((1, 3, 40, 56), 5)
    assert torch.equal(guards.match_grain(refined, source, [0.01], 0.0, grain), refined)
    # A filter that moved anything would not commute with mirroring.
    straight = guards.match_grain(guards.keep_colour(refined, source, 1.0), source, [0.01], 1.0, grain)
    turned = guards.match_grain(
        guards.keep_colour(refined.flip(-1, -2), source.flip(-1, -2), 1.0),
        source.flip(-1, -2), [0.01], 1.0, grain.flip(-1, -2),
    )  # fmt: skip
    assert torch.allclose(turned.flip(-1, -2), straight, atol=1e-5)


def test_grain_levels_measure_what_was_put_in() -> None:
    source = torch.full((2, 3, 96, 96), 0.4)
    found = guards.grain_levels(source + 0.01 * noise(tuple(source.shape)), source)
    # Luma of three independent channels, less what the blur keeps of white noise.
    luma = 0.01 * (0.299**2 + 0.587**2 + 0.114**2) ** 0.5
    assert float(found.median()) == pytest.approx(luma, rel=0.1)
