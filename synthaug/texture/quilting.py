"""Image quilting on a torus: blocks of a crop, each the best fit to its neighbours, cut along the least visible path.

Efros and Freeman, "Image quilting for texture synthesis and transfer" (SIGGRAPH 2001). The last column of blocks meets
the first one and the last row the first, with overlaps and cuts like all others, so the tile wraps. The fit of every
place of the crop comes from one Fourier transform. Two additions: places that were used lately cost more, against
repetition; and a crop with a period is scaled by the few percent that let the tile hold it a whole number of times,
its blocks as large as the period, and places out of step with the first block cost more, for else bricks are squeezed
wherever small errors have added up.

Good for shapes: bricks, planks, tiles, cloth, grates, pebbles. It fails on features larger than a block (a whole
plank, a big stain), which are cut and joined to others; on a slow change over the crop (light, dirt), which becomes
steps and patches; and it repeats whatever is remarkable, since every pixel of the tile is one of the crop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug import seeds
from synthaug.errors import ConfigError
from synthaug.labels import Size
from synthaug.metrics.texture import as_colour
from synthaug.texture.exemplar import check_size, settled
from synthaug.texture.period import fitted

Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]
_STRAY = 0.06
"""Of a period; a place that is this far out of step costs a tenth of the misfit of unrelated places."""


def synthesize(
    exemplar: NDArray[Any],
    size: Size,
    seed: int,
    *,
    block: float | None = None,
    overlap: float = 0.33,
    tolerance: float = 0.1,
    variety: float = 0.3,
    regular: bool = True,
    device: str | None = None,
) -> Float32:
    """A seamless tile made of a crop's own pixels.

    Costs four Fourier transforms of the crop's size per block: 1 to 5 CPU seconds for 1024 x 1024 from 256 x 256 at
    the defaults. Blocks follow each other, so a device has little to do at a time.

    Args:
        exemplar: [h, w, 3] sRGB, uint8 or float in [0, 1]; need not wrap.
        size: (height, width) of the tile in pixels.
        seed: 0 or more; the same seed gives the same tile.
        block: 0.05 to 0.5; side of a block as a share of the crop's shorter side. A little more than the largest
            feature; more copies longer stretches. None: the longer period of the crop, but a quarter to a half of
            the side; a quarter where it has no period.
        overlap: 0.1 to 0.45; of a block with each neighbour, as a share of its side.
        tolerance: 0 to 1; a block is drawn among the places whose misfit is at most this much above the least.
        variety: 0 to 4; what it costs to use a place of the crop again, against the misfit of two unrelated places.
        regular: Whether a crop with a clear period is scaled so that the tile holds it a whole number of times, and
            kept in step.
        device: Where places are searched, with torch (`cpu`, `cuda`); None for numpy. Rounding can choose another of
            two equal places.

    Returns:
        [H, W, 3] float32 sRGB in [0, 1].

    Raises:
        InputError: An exemplar of another form.
        ConfigError: A parameter out of its range.
    """
    crop = as_colour(exemplar, "exemplar")
    check_size(size)
    for name, value, low, high in (
        ("block", 0.25 if block is None else block, 0.05, 0.5),
        ("overlap", overlap, 0.1, 0.45),
        ("tolerance", tolerance, 0, 1),
        ("variety", variety, 0, 4),
    ):
        if not low <= value <= high:
            raise ConfigError(f"{name}={value}: expected {low} to {high}")
    crop, periods = fitted(crop, size) if regular else (crop, (0.0, 0.0))
    side = _side(crop.shape[:2], periods, size, block)
    rng = seeds.generator(seed, "texture", 0, "quilting")
    search = _Search(crop, side, periods, variety, device)
    return settled(_quilt(search, size, max(2, round(overlap * side)), tolerance, rng))


def _side(crop: tuple[int, ...], periods: tuple[float, float], size: Size, block: float | None) -> int:
    """Of a block, pixels. With a period it leaves room in the crop for places of every phase."""
    shorter = min(crop)
    wanted = 0.25 * shorter if block is None else block * shorter
    if block is None and max(periods):
        room = min(length - period for length, period in zip(crop, periods, strict=False))
        wanted = max(wanted, min(max(periods), 0.5 * shorter, room))
    return min(max(8, round(wanted)), *(length // 2 for length in size))


def _quilt(search: _Search, size: Size, overlap: int, tolerance: float, rng: np.random.Generator) -> Float32:
    """The tile, block by block, in rows."""
    side = search.side
    canvas, filled = np.zeros((*size, 3), np.float32), np.zeros(size, np.bool_)
    tops, lefts = (_starts(length, side - overlap) for length in size)
    for row, top in enumerate(tops[:-1]):
        for column, left in enumerate(lefts[:-1]):
            place = np.ix_((top + np.arange(side)) % size[0], (left + np.arange(side)) % size[1])
            known, there = filled[place], canvas[place]
            patch = search.best(there, known, (top, left), tolerance, rng)
            widths = _Overlaps(
                top=side - (top - tops[row - 1]) if row else 0,
                left=side - (left - lefts[column - 1]) if column else 0,
                bottom=side - (tops[row + 1] - top) if row == len(tops) - 2 and row else 0,
                right=side - (lefts[column + 1] - left) if column == len(lefts) - 2 and column else 0,
            )
            share = np.where(known, _softened(_cut(there, patch, widths)), np.float32(1))[..., None]
            canvas[place] = there + share * (patch - there)
            filled[place] = True
    return canvas.clip(0, 1)


def _starts(length: int, step: int) -> list[int]:
    """Where blocks begin along an axis, at most `step` apart, and where the first one begins again."""
    count = max(2, -(-length // step))
    return [round(i * length / count) for i in range(count + 1)]


@dataclass(frozen=True, slots=True)
class _Overlaps:
    """Pixels that a block shares with what is there, by side; 0 where nothing is."""

    top: int
    left: int
    bottom: int
    right: int


class _Search:
    """Where in a crop a block fits best; remembers what was used."""

    def __init__(
        self, crop: Float32, side: int, periods: tuple[float, float], variety: float, device: str | None
    ) -> None:
        self.side = side
        self._periods = periods
        self._first: tuple[int, int] | None = None
        self._crop = crop
        self._used = np.zeros([length - side + 1 for length in crop.shape[:2]], np.float32)
        centred: Any = np.ascontiguousarray((crop - crop.mean((0, 1))).transpose(2, 0, 1))
        self._mean = crop.mean((0, 1))
        self._unrelated = 2 * float((centred**2).sum(0).mean())
        self._price = 0.1 * variety * self._unrelated
        self._fft: Any = np.fft
        if device is not None:
            import torch

            self._fft, centred = torch.fft, torch.from_numpy(centred).to(device)
        self._zeros = centred * 0
        self._spectrum = self._fft.rfft2(centred)
        self._power = self._fft.rfft2((centred**2).sum(0))
        self._known: dict[bytes, Any] = {}

    def best(
        self, there: Float32, known: Bools, place: tuple[int, int], tolerance: float, rng: np.random.Generator
    ) -> Float32:
        """[side, side, 3] of the crop: one of the places that fit what is `known` of the canvas at `place`."""
        cost = self._price * self._used + self._out_of_step(place)
        if known.any():
            cost = cost + self._misfit(there, known)
        near = np.flatnonzero(cost <= cost.min() * (1 + tolerance) + 1e-7)
        y, x = divmod(int(near[int(rng.random() * len(near))]), cost.shape[1])
        self._first = self._first or (y - place[0], x - place[1])
        self._wear(y, x)
        return self._crop[y : y + self.side, x : x + self.side]

    def _out_of_step(self, place: tuple[int, int]) -> Float32:
        """What every place in the crop costs for standing elsewhere in the period than the first block asks."""
        costs: list[Float32] = []
        for axis, length in enumerate(self._used.shape):
            period, steps = self._periods[axis], np.arange(length)
            if self._first is None or not period:
                costs.append(np.zeros(length, np.float32))
                continue
            phase = (steps - place[axis] - self._first[axis]) / period
            off = np.abs(phase - np.rint(phase)) / _STRAY
            costs.append((0.1 * self._unrelated * off**2).astype(np.float32))
        return costs[0][:, None] + costs[1]

    def _misfit(self, there: Float32, known: Bools) -> Float32:
        """Mean squared difference over the known pixels, for every place in the crop."""
        shape = self._zeros.shape[-2:]
        template, mask = self._zeros + 0, self._zeros[0] + 0
        wanted = ((there - self._mean) * known[..., None]).transpose(2, 0, 1)
        template[:, : self.side, : self.side] = self._as_crop(wanted)
        key = known.tobytes()
        if key not in self._known:
            mask[: self.side, : self.side] = self._as_crop(known.astype(np.float32))
            self._known[key] = self._fft.irfft2(self._power * self._fft.rfft2(mask).conj(), shape)
        crossed = (self._spectrum * self._fft.rfft2(template).conj()).sum(0)
        total: Any = self._known[key] - 2 * self._fft.irfft2(crossed, shape)
        total = total[: self._used.shape[0], : self._used.shape[1]]
        total = total if isinstance(total, np.ndarray) else total.cpu().numpy()
        return np.maximum(total + np.square(wanted).sum(), 0) / np.float32(known.sum())

    def _as_crop(self, values: Float32) -> Any:
        return values if isinstance(self._zeros, np.ndarray) else self._zeros.new_tensor(np.ascontiguousarray(values))

    def _wear(self, y: int, x: int) -> None:
        """Places near one that was just used cost more, less so the longer ago it was."""
        reach = max(1, self.side // 4)
        self._used *= 0.98
        self._used[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] += 1


def _cut(there: Float32, patch: Float32, widths: _Overlaps) -> Bools:
    """Which pixels of a block are the patch's: those inside the least visible path of every side that overlaps."""
    gap = np.square(there - patch).sum(2)
    inside = np.ones(gap.shape, np.bool_)
    if widths.left:
        inside[:, : widths.left] &= _beyond_path(gap[:, : widths.left])
    if widths.right:
        inside[:, -widths.right :] &= _beyond_path(gap[:, : -widths.right - 1 : -1])[:, ::-1]
    if widths.top:
        inside[: widths.top] &= _beyond_path(gap[: widths.top].T).T
    if widths.bottom:
        inside[-widths.bottom :] &= _beyond_path(gap[: -widths.bottom - 1 : -1].T).T[::-1]
    return inside


def _beyond_path(gap: Float32) -> Bools:
    """[n, width]: right of the path from the first row to the last with the least sum, the path included."""
    total = gap.copy()
    for row in range(1, len(total)):
        padded = np.pad(total[row - 1], 1, constant_values=np.inf)
        total[row] += np.minimum(np.minimum(padded[:-2], padded[2:]), padded[1:-1])
    path = np.empty(len(total), np.intp)
    path[-1] = total[-1].argmin()
    for row in range(len(total) - 2, -1, -1):
        low = max(path[row + 1] - 1, 0)
        path[row] = low + total[row, low : path[row + 1] + 2].argmin()
    return np.arange(gap.shape[1]) >= path[:, None]


def _softened(inside: Bools) -> Float32:
    """[side, side] share of the patch: a pixel's transition on each side of the cut."""
    return np.asarray(cv2.blur(inside.astype(np.float32), (3, 3), borderType=cv2.BORDER_REPLICATE), np.float32)
