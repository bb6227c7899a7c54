"""Pictures that are larger than the model: overlapping tiles, blended so that no border shows.

MultiDiffusion (Bar-Tal et al., ICML 2023): in every step all tiles look at crops of one and the same latent, and what
they say is averaged where they overlap. Noise is drawn once for the whole and cropped with it. Averaging the model's
output, rather than the latents after the step, is the same for samplers that are linear in it (Euler, DDIM), and
lets a scheduler with a memory take one step for the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import ConfigError
from synthaug.labels import Size
from synthaug.refine.arrays import like, zeros

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Tiling:
    """Tiles of one size that cover a canvas; row by row, left to right.

    Attributes:
        canvas: (height, width) of the whole, a multiple of what the model needs; crop the result to the picture.
        tile: (height, width) of every tile, at most the canvas.
        rows: Tops of the rows of tiles, ascending from 0.
        columns: Left sides of the columns.
    """

    canvas: Size
    tile: Size
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def scaled(self, factor: int) -> Tiling:
        """The same tiles on a grid `factor` times as coarse, such as that of the latents.

        Raises:
            ConfigError: A tile does not begin or end on that grid.
        """
        numbers = (*self.canvas, *self.tile, *self.rows, *self.columns)
        if factor < 1 or any(number % factor for number in numbers):
            raise ConfigError(f"tiles of {self.tile} at {self.rows} x {self.columns}: not on a grid of {factor} pixels")
        (height, width), (tall, wide) = self.canvas, self.tile
        return Tiling(
            (height // factor, width // factor),
            (tall // factor, wide // factor),
            tuple(top // factor for top in self.rows),
            tuple(left // factor for left in self.columns),
        )

    def windows(self) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of each tile."""
        for top in self.rows:
            for left in self.columns:
                yield slice(top, top + self.tile[0]), slice(left, left + self.tile[1])

    @cached_property
    def weights(self) -> Float32:
        """[T, h, w], positive; over all tiles that show a place they add up to 1 within 1e-6."""
        down = _shares(self.canvas[0], self.tile[0], self.rows)
        across = _shares(self.canvas[1], self.tile[1], self.columns)
        return (down[:, None, :, None] * across[None, :, None, :]).reshape(-1, *self.tile).astype(np.float32)

    def split(self, whole: Any) -> list[Any]:
        """Views [..., h, w] of an array or tensor [..., H, W], one per tile: pictures, latents, noise, masks."""
        if tuple(whole.shape[-2:]) != tuple(self.canvas):
            raise ConfigError(f"tiles for a canvas of {self.canvas} on {tuple(whole.shape[-2:])}")
        return [whole[..., rows, columns] for rows, columns in self.windows()]

    def merge(self, parts: Sequence[Any], weights: Any = None) -> Any:
        """The weighted mean [..., H, W] of what tiles [..., h, w] say; exactly the tile where there is only one.

        Args:
            parts: One per tile.
            weights: `self.weights` on the parts' device already, which saves a copy, and a wait, in every step.
        """
        if len(parts) != len(self):
            raise ConfigError(f"{len(parts)} parts for {len(self)} tiles")
        if len(parts) == 1:
            return parts[0]
        whole = zeros((*parts[0].shape[:-2], *self.canvas), parts[0])
        weights = like(self.weights, parts[0]) if weights is None else weights
        for part, weight, (rows, columns) in zip(parts, weights, self.windows(), strict=True):
            whole[..., rows, columns] += part * weight
        return whole

    def each(self, function: Callable[[Any, int], Any], whole: Any, weights: Any = None) -> Any:
        """`function(crop, tile index)` on every tile of `whole`, merged: one call of the model in a step."""
        return self.merge([function(part, index) for index, part in enumerate(self.split(whole))], weights)


def plan(size: Size, *, tile: Size, overlap: int, multiple: int = 64, grid: int = 8) -> Tiling:
    """Tiles for a picture; the canvas is the picture with its sides rounded up, never scaled.

    Args:
        size: (height, width) of the picture in pixels.
        tile: (height, width) of a tile; multiples of `multiple`. A canvas that is smaller is one tile.
        overlap: Pixels that neighbours share at least, 0 up to less than a tile less a grid cell.
        multiple: The model's: canvas and tiles are multiples of it.
        grid: Tiles begin on multiples of this, the pixels of a latent place; it divides `multiple`.

    Raises:
        ConfigError: A field out of its range.
    """
    if grid < 1 or multiple < 1 or multiple % grid:
        raise ConfigError(f"tile multiple={multiple}, grid={grid}: expected a multiple of the grid")
    for name, side in (("height", tile[0]), ("width", tile[1])):
        if side < multiple or side % multiple:
            raise ConfigError(f"tile {name}={side}: expected a multiple of {multiple}")
        if not 0 <= overlap <= side - grid:
            raise ConfigError(f"tile overlap={overlap}: expected 0 to {side - grid} for a tile {name} of {side}")
    if min(size) < 1:
        raise ConfigError(f"tiles for a picture of {size}: expected at least one pixel")
    height, width = (-(-side // multiple) * multiple for side in size)
    tall, wide = min(tile[0], height), min(tile[1], width)
    return Tiling(
        (height, width),
        (tall, wide),
        _starts(height, tall, overlap, grid),
        _starts(width, wide, overlap, grid),
    )


def _starts(length: int, side: int, overlap: int, grid: int) -> tuple[int, ...]:
    """Evenly spread over the canvas: every overlap is at least what was asked for, and about the same."""
    room = length - side
    if room == 0:
        return (0,)
    stride = max((side - overlap) // grid, 1) * grid
    count = -(-room // stride)
    return tuple(step * room // count // grid * grid for step in range(count + 1))


def _shares(length: int, side: int, starts: Sequence[int]) -> Float64:
    """[N, side]: the share of each tile along one axis, a ramp over what it has in common with its neighbours."""
    places = np.arange(side) + 0.5
    shares = np.ones((len(starts), side))
    for index in range(len(starts) - 1):
        common = starts[index] + side - starts[index + 1]
        if common > 0:
            shares[index] *= np.clip((side - places) / common, 0, 1)
            shares[index + 1] *= np.clip(places / common, 0, 1)
    total = np.zeros(length)
    for share, start in zip(shares, starts, strict=True):
        total[start : start + side] += share
    return shares / np.stack([total[start : start + side] for start in starts])
