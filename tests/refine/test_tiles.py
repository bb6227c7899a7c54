"""Tiles: they cover, overlap and add up; what is local passes through them unchanged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug import seeds
from synthaug.errors import ConfigError
from synthaug.refine.tiles import Tiling, plan

SIZES = st.tuples(st.integers(1, 700), st.integers(1, 700))


@settings(max_examples=80)
@given(SIZES, st.integers(1, 4), st.integers(1, 4), st.integers(0, 60), st.sampled_from([(64, 8), (32, 16), (8, 8)]))
def test_tiles_cover_overlap_and_add_up(
    size: tuple[int, int], tall: int, wide: int, overlap: int, steps: tuple[int, int]
) -> None:
    multiple, grid = steps
    tile = (tall * multiple, wide * multiple)
    overlap = min(overlap, min(tile) - grid)
    tiles = plan(size, tile=tile, overlap=overlap, multiple=multiple, grid=grid)
    assert all(0 <= canvas - side < multiple for canvas, side in zip(tiles.canvas, size, strict=True))
    assert all(number % multiple == 0 for number in (*tiles.canvas, *tiles.tile))
    for starts, side, length in zip((tiles.rows, tiles.columns), tiles.tile, tiles.canvas, strict=True):
        assert starts[0] == 0
        assert starts[-1] + side == length
        gaps = np.diff(starts)
        assert (gaps > 0).all()
        assert (gaps <= max(side - overlap, grid)).all()
        assert all(start % grid == 0 for start in starts)
    total = np.zeros(tiles.canvas)
    for weight, (rows, columns) in zip(tiles.weights, tiles.windows(), strict=True):
        assert weight.min() > 0
        total[rows, columns] += weight
    assert np.abs(total - 1).max() < 1e-6
    assert len(tiles.weights) == len(tiles)


def test_no_tile_more_than_needed() -> None:
    assert plan((512, 512), tile=(512, 512), overlap=64).rows == (0,)
    assert plan((512, 960), tile=(512, 512), overlap=64).columns == (0, 448)
    assert plan((512, 1024), tile=(512, 512), overlap=64).columns == (0, 256, 512)
    assert plan((100, 65), tile=(512, 512), overlap=64) == Tiling((128, 128), (128, 128), (0,), (0,))


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_a_step_on_tiles_is_the_step_on_the_whole_for_what_is_local(library: str) -> None:
    tiles = plan((200, 330), tile=(128, 128), overlap=40).scaled(8)
    whole = seeds.normal(3, (2, 4, *tiles.canvas))
    whole = torch.from_numpy(whole) if library == "torch" else whole
    out = tiles.each(lambda crop, _: crop * 2 + 1, whole)
    assert tuple(out.shape) == tuple(whole.shape)
    assert np.abs(np.asarray(out) - (2 * np.asarray(whole) + 1)).max() < 1e-5


def test_averaging_the_model_or_the_latents_is_the_same_for_a_linear_sampler() -> None:
    tiles = plan((64, 160), tile=(64, 64), overlap=24).scaled(8)
    latent = seeds.normal(5, (1, 4, *tiles.canvas))

    def model(crop: np.ndarray, index: int) -> np.ndarray:
        return np.tanh(crop) * (index + 1)

    by_model = latent - 0.3 * tiles.each(model, latent)
    by_latent = tiles.each(lambda crop, index: crop - 0.3 * model(crop, index), latent)
    assert np.abs(by_model - by_latent).max() < 1e-6


def test_noise_of_tiles_is_one_field() -> None:
    tiles = plan((64, 128), tile=(64, 64), overlap=32).scaled(8)
    field = seeds.normal(1, (4, *tiles.canvas))
    left, middle, _ = tiles.split(field)
    assert np.array_equal(left[..., 4:], middle[..., :4])
    assert np.array_equal(tiles.merge([left, middle, tiles.split(field)[2]]).shape, field.shape)


def test_one_tile_is_passed_through_to_the_bit() -> None:
    tiles = plan((60, 60), tile=(512, 512), overlap=64)
    crop = seeds.normal(1, (1, 3, 64, 64))
    assert tiles.merge([crop]) is crop


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tile": (100, 128)}, "height=100: expected a multiple of 64"),
        ({"overlap": 128}, "overlap=128: expected 0 to 120"),
        ({"overlap": -1}, "overlap=-1"),
        ({"grid": 7}, "grid=7: expected a multiple"),
        ({"size": (0, 5)}, "at least one pixel"),
    ],
)
def test_what_cannot_be_tiled_is_refused(fields: dict[str, object], words: str) -> None:
    given = {"size": (300, 300), "tile": (128, 128), "overlap": 32, **fields}
    with pytest.raises(ConfigError, match=words):
        plan(**given)  # pyright: ignore[reportArgumentType]


def test_wrong_canvases_and_counts_are_refused() -> None:
    tiles = plan((300, 300), tile=(128, 128), overlap=32)
    with pytest.raises(ConfigError, match="canvas"):
        tiles.split(np.zeros((3, 300, 300)))
    with pytest.raises(ConfigError, match="1 parts for 9 tiles"):
        tiles.merge([np.zeros((3, 128, 128))])
    with pytest.raises(ConfigError, match="grid of 7"):
        tiles.scaled(7)
