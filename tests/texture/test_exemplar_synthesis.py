"""Both ways from a crop to a tile: they wrap, keep what they promise, depend on the seed alone, refuse the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from synthaug.errors import ConfigError, InputError
from synthaug.metrics import texture as figures
from synthaug.texture import noise_blend, quilting
from synthaug.texture.exemplar import settled
from tests.texture.examples import bricks, grain

Synthesis = Callable[..., Any]
METHODS = pytest.mark.parametrize("method", [noise_blend.synthesize, quilting.synthesize], ids=["noise", "quilt"])


@METHODS
@pytest.mark.parametrize("size", [(128, 128), (96, 200), (50, 33), (16, 16)])
def test_a_tile_has_its_size_and_wraps(method: Synthesis, size: tuple[int, int]) -> None:
    tile = method(grain(), size, 3)
    assert tile.shape == (*size, 3)
    assert tile.dtype == np.float32
    assert np.array_equal(tile.clip(0, 1), tile)
    assert figures.seam_energy(tile) <= 1.05


@METHODS
def test_no_line_of_a_tile_is_a_seam(method: Synthesis) -> None:
    """Not the wrap alone, which is chosen: blocks and patches end in other places too."""
    crop = grain(96)
    assert figures.seam_energy(crop) > 2, "the crop itself does not wrap"
    for seed in range(4):
        tile = method(crop, (192, 192), seed)
        rolled = [np.roll(tile, k, axis) for axis in (0, 1) for k in range(192)]
        assert max(figures.seam_energy(one) for one in rolled) < 1.8


@METHODS
def test_the_same_seed_gives_the_same_tile(method: Synthesis) -> None:
    crop = grain()
    first, again, other = (method(crop, (80, 80), seed) for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    eight = (crop * 255).round().astype(np.uint8)
    assert np.array_equal(method(eight, (80, 80), 7), method(eight.astype(np.float32) / 255, (80, 80), 7))


@METHODS
def test_torch_makes_the_same_tile(method: Synthesis) -> None:
    crop = bricks() if method is quilting.synthesize else grain()
    on_host, by_torch = (method(crop, (128, 96), 5, device=device) for device in (None, "cpu"))
    assert by_torch.dtype == np.float32
    assert np.mean(np.abs(on_host - by_torch).max(2) > 1e-3) < 0.001


@METHODS
def test_the_look_of_the_crop_is_kept(method: Synthesis) -> None:
    crop, unlike = grain(128, seed=1), grain(128, seed=1, spread=4.0)
    tile = method(crop, (192, 192), 2)
    other = grain(192, seed=2)
    near = figures.pyramid_distance(other, crop)
    assert figures.pyramid_distance(tile, crop) < 2 * near < figures.pyramid_distance(unlike, crop)
    for channel in range(3):
        asked, got = (np.quantile(p[..., channel], np.linspace(0.05, 0.95, 10)) for p in (crop, tile))
        assert np.abs(asked - got).max() < 0.03


@METHODS
def test_one_colour_stays_one_colour(method: Synthesis) -> None:
    tile = method(np.full((32, 40, 3), 77, np.uint8), (48, 48), 0)
    assert np.abs(tile - 77 / 255).max() < 1e-5


@METHODS
@pytest.mark.parametrize(
    ("crop", "words"),
    [
        (np.zeros((32, 32), np.uint8), "repeat a grey channel"),
        (np.zeros((32, 32, 4), np.uint8), "take alpha off"),
        (np.zeros((32, 32, 3), np.uint16), "uint16"),
        (np.zeros((32, 8, 3), np.uint8), "16 or more"),
        (np.full((32, 32, 3), np.nan, np.float32), "finite"),
        (np.full((32, 32, 3), 2, np.float32), r"\[0, 1\]"),
    ],
)
def test_other_pictures_are_refused_with_a_way_out(method: Synthesis, crop: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        method(crop, (64, 64), 0)


@pytest.mark.parametrize(
    ("method", "name", "value"),
    [
        (noise_blend.synthesize, "patch", 1.5),
        (noise_blend.synthesize, "sharpness", 0),
        (quilting.synthesize, "block", 0.9),
        (quilting.synthesize, "overlap", 0.5),
        (quilting.synthesize, "tolerance", -1),
        (quilting.synthesize, "variety", 9),
    ],
)
def test_parameters_have_ranges(method: Synthesis, name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name}="):
        method(grain(), (64, 64), 0, **{name: value})


@METHODS
def test_sizes_have_a_range(method: Synthesis) -> None:
    with pytest.raises(ConfigError, match="size="):
        method(grain(), (8, 64), 0)


def test_noise_keeps_the_variance_that_plain_blending_loses() -> None:
    crop = grain(128, seed=4)
    tile = noise_blend.synthesize(crop, (256, 256), 1, sharpness=1)
    assert tile.std((0, 1)) == pytest.approx(crop.std((0, 1)), rel=0.12)


def test_quilting_takes_pixels_of_the_crop_alone() -> None:
    crop = np.random.default_rng(0).random((64, 64, 3)).astype(np.float32)
    tile = quilting.synthesize(crop, (96, 96), 0, regular=False)
    known = {tuple(p) for p in crop.reshape(-1, 3)}
    share = np.mean([tuple(p) in known for p in tile.reshape(-1, 3)])
    assert share > 0.55, "all but the pixels along cuts"


def test_quilting_keeps_bricks_in_step() -> None:
    """A tile of 7.3 by 5.5 periods: scaled, every mortar line stands on the grid all round the torus."""
    crop = bricks(96, (16, 24))
    tile = quilting.synthesize(crop, (117, 132), 0)
    mortar = tile[..., 2] > 0.5
    courses = np.abs(np.fft.fft(mortar.mean(1)))[1:59]
    assert courses.argmax() + 1 == 14, "seven periods of two courses"
    lines = mortar.mean(1) > 0.8
    starts = np.flatnonzero(lines & ~np.roll(lines, 1))
    gaps = np.diff(np.append(starts, starts[0] + 117))
    assert len(starts) == 14
    assert np.abs(gaps - 117 / 14).max() <= 2


def test_a_settled_tile_is_rolled_and_nothing_else() -> None:
    tile = bricks(48, (16, 24))
    done = settled(tile)
    assert any(np.array_equal(np.roll(tile, (y, x), (0, 1)), done) for y in range(48) for x in range(48))
    assert figures.seam_energy(done) <= figures.seam_energy(tile)


@pytest.mark.slow
def test_real_crops_become_tiles(data_root: Path) -> None:
    names = ("miniworld/asphalt_1.png", "miniworld/brick_wall_1.png", "materialx/cloth.png", "miniworld/wood_1.png")
    for name in names:
        picture: Any = cv2.imread(str(data_root / "textures" / name), cv2.IMREAD_COLOR_RGB)
        crop = np.ascontiguousarray(picture[64:320, 64:320])
        for module in (noise_blend, quilting):
            tile = module.synthesize(crop, (512, 512), 1)
            assert figures.seam_energy(tile) <= 1.05, name
            # Noise breaks the smooth threads of cloth, as its docstring says.
            if module is quilting or name != "materialx/cloth.png":
                assert figures.join_energy(tile, crop) < 1.25, name
