"""Procedural surfaces in numpy: linear reflectance from a few numbers and a seed.

All floors tile. Noise is made by shaping white noise in the frequency domain (spectral synthesis, Saupe in
"The Science of Fractal Images", 1988), which is periodic by construction.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from synthaug import seeds
from synthaug.render.scene import ONCE, Affine, Float32, Float64, Rgb, Texture
from synthaug.render.shapes import ATLAS, FACES

PIPS: tuple[tuple[tuple[float, float], ...], ...] = (
    ((0, 0),),
    ((-1, -1), (1, 1)),
    ((-1, -1), (0, 0), (1, 1)),
    ((-1, -1), (-1, 1), (1, -1), (1, 1)),
    ((-1, -1), (-1, 1), (0, 0), (1, -1), (1, 1)),
    ((-1, -1), (-1, 0), (-1, 1), (1, -1), (1, 0), (1, 1)),
)
"""Places of the pips on faces 1 to 6, in units of their distance from the centre."""
_FINE = 320
"""Texels along a face that carries the detail of another texture."""


def noise(seed: int, size: int, falloff: float, stretch: tuple[float, float] = (1.0, 1.0)) -> Float64:
    """[size, size] periodic noise, mean 0, deviation 1.

    Args:
        falloff: Amplitude goes as frequency^-falloff: 0 white, 1 cloudy, 2 smooth.
        stretch: Along x and y; 8 makes features eight times longer that way.
    """
    fx = np.fft.rfftfreq(size) * stretch[0] * size
    fy = np.fft.fftfreq(size)[:, None] * stretch[1] * size
    frequency = np.hypot(fx, fy)
    frequency[0, 0] = np.inf
    white = np.fft.rfft2(seeds.from_seed(seed).standard_normal((size, size)))
    field = np.fft.irfft2(white * frequency**-falloff if falloff else white, s=(size, size))
    field -= field.mean()
    return field / field.std()


def _tint(colour: Rgb, gain: Float64) -> Float32:
    """A colour times a [H, W] gain, kept inside what a surface can reflect."""
    return np.clip(gain[..., None] * np.asarray(colour), 0.005, 0.95).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Solid(Texture):
    """One colour."""

    colour: Rgb

    def paint(self) -> Float32:
        return np.full((2, 2, 3), self.colour, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Sheet(Texture):
    """Paper, plastic sheet or card: nearly even, with broad stains, fine grain and specks of dirt.

    Attributes:
        stain: Relative deviation of the broad variation.
        grain: Relative deviation of the fine grain.
        specks: How many dark specks.
        folds: Relative deviation of streaks along y, as soft creases leave them.
    """

    colour: Rgb
    seed: int
    stain: float = 0.01
    grain: float = 0.01
    specks: int = 0
    folds: float = 0.0

    def paint(self) -> Float32:
        size = 512
        gain = 1 + self.stain * noise(self.seed, size, 1.8) + self.grain * noise(self.seed + 1, size, 0.4)
        gain = gain + self.folds * noise(self.seed + 3, size, 1.3, (1.0, 9.0))
        rng = seeds.from_seed(self.seed + 2)
        y, x = np.mgrid[:size, :size]
        for _ in range(self.specks):
            centre, radius, depth = rng.uniform(0, size, 2), rng.uniform(0.6, 1.6), rng.uniform(0.2, 0.7)
            gain = gain * (1 - depth * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / radius**2))
        return _tint(self.colour, gain)


@dataclass(frozen=True, slots=True)
class Fibre(Texture):
    """Felt: short fibres in all directions, no gloss."""

    colour: Rgb
    seed: int
    depth: float = 0.12

    def paint(self) -> Float32:
        size = 512
        strands = [noise(self.seed + k, size, 0.55, s) for k, s in enumerate(((1.0, 5.0), (5.0, 1.0), (1.0, 1.0)))]
        gain = 1 + self.depth * (sum(strands[1:], strands[0]) / 1.7) + 0.015 * noise(self.seed + 9, size, 1.2)
        return _tint(self.colour, gain)


@dataclass(frozen=True, slots=True)
class Weave(Texture):
    """Plain-woven cloth: threads over and under, each a little different.

    Attributes:
        threads: Per texture, in both directions; even.
    """

    colour: Rgb
    seed: int
    threads: int = 160
    depth: float = 0.25

    def paint(self) -> Float32:
        size = 960
        rng = seeds.from_seed(self.seed)
        phase = np.arange(size) / size * self.threads
        index = np.floor(phase).astype(int)
        across = np.sin(np.pi * (phase % 1))
        warp_over = (index[:, None] + index[None, :]) % 2 == 0
        tone = rng.normal(0, 0.05, (2, self.threads))
        warp = across[None, :] * (1 + tone[0, index])[None, :]
        weft = across[:, None] * (1 + tone[1, index])[:, None]
        gain = 1 - self.depth * (1 - np.where(warp_over, warp, weft)) + 0.015 * noise(self.seed + 1, size, 1.2)
        return _tint(self.colour, gain)


@dataclass(frozen=True, slots=True)
class Wood(Texture):
    """Planks along x: growth rings cut lengthwise, pores, and a joint between planks.

    Attributes:
        planks: Across the texture.
        rings: Per plank.
    """

    light: Rgb
    dark: Rgb
    seed: int
    planks: int = 4
    rings: int = 7

    def paint(self) -> Float32:
        size = 768
        rng = seeds.from_seed(self.seed)
        y = np.arange(size) / size * self.planks
        plank, across = np.floor(y).astype(int), y % 1
        bend = noise(self.seed + 1, size, 1.6, (14.0, 1.0))
        shift = rng.integers(0, size, self.planks)[plank]
        bend = np.take_along_axis(bend, (np.arange(size)[None, :] + shift[:, None]) % size, axis=1)
        saw = (across[:, None] * self.rings * rng.uniform(0.6, 1.5, self.planks)[plank][:, None] + 0.5 * bend) % 1
        late = saw**2 * (1 - np.clip((saw - 0.9) / 0.1, 0, 1))
        pores = np.clip(noise(self.seed + 2, size, 0.5, (30.0, 1.0)) - 1.0, 0, 2) * 0.22
        mix = np.clip(0.6 * late + pores + 0.07 * noise(self.seed + 3, size, 1.2, (12.0, 1.0)), 0, 1)[..., None]
        tone = np.exp(rng.normal(0, 0.07, self.planks))[plank][:, None, None]
        joint = np.where(across < 0.008 * self.planks / 4, 0.35, 1.0)[:, None, None]
        colour = np.asarray(self.light) * (1 - mix) + np.asarray(self.dark) * mix
        return np.clip(colour * tone * joint, 0, 0.95).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Marble(Texture):
    """Stone with veins: where slow noise, bent by more noise, crosses zero.

    Attributes:
        stone, vein: Their colours.
        seed: Of the noise.
        width: Of the veins, in deviations of the noise.
    """

    stone: Rgb
    vein: Rgb
    seed: int
    width: float = 0.08

    def paint(self) -> Float32:
        size = 512
        slow, cloud = noise(self.seed, size, 2.0), noise(self.seed + 1, size, 1.6)
        vein = np.exp(-np.abs(slow + 0.25 * cloud) / self.width) * np.clip(0.6 + 0.4 * cloud, 0, 1)
        tone = 1 + 0.05 * noise(self.seed + 2, size, 1.4)
        colour = np.asarray(self.stone) * (1 - vein[..., None]) + np.asarray(self.vein) * vein[..., None]
        return np.clip(colour * tone[..., None], 0.005, 0.95).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Checks(Texture):
    """A pattern of squares or stripes in two colours, with a little grain.

    Attributes:
        one, other: Their colours.
        seed: Of the grain.
        cells: Along u and v of one texture, even; 1 along v for stripes.
    """

    one: Rgb
    other: Rgb
    seed: int
    cells: tuple[int, int] = (8, 8)

    def paint(self) -> Float32:
        size = 512
        along_u, along_v = (np.arange(size) * cells // size for cells in self.cells)
        mix = ((along_u[None, :] + along_v[:, None]) % 2)[..., None]
        colour = np.asarray(self.one) * (1 - mix) + np.asarray(self.other) * mix
        grain = 1 + 0.02 * noise(self.seed, size, 1.0)[..., None]
        return np.clip(colour * grain, 0.005, 0.95).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Pips(Texture):
    """The six faces of a die, in the cells of `ATLAS`.

    Attributes:
        body: Colour of the plastic.
        swirl: Second colour of marbled plastic; equal to `body` for plain plastic.
        pip: Colour of the pips.
        seed: Of the marbling.
        radius: Of a pip, as a share of the edge.
        cell: Texels along a face.
        ground: What the body is covered with instead of `body` and `swirl`; the pips stay.
        tiling: Where the texture coordinates of the atlas lie in `ground`.
    """

    body: Rgb
    swirl: Rgb
    pip: Rgb
    seed: int = 0
    radius: float = 0.1
    cell: int = 96
    ground: Texture | None = None
    tiling: Affine = ONCE

    def paint(self) -> Float32:
        rows, columns = ATLAS
        atlas = np.empty((rows * self.cell, columns * self.cell, 3), dtype=np.float32)
        ground = None if self.ground is None else self.ground.paint()
        for index in range(6):
            y, x = (index // columns) * self.cell, (index % columns) * self.cell
            atlas[y : y + self.cell, x : x + self.cell] = self._face(index, ground)
        return atlas

    def covered(self, ground: Texture, tiling: Affine, ink: Rgb | None = None) -> tuple[Texture, Affine]:
        return replace(self, ground=ground, tiling=tiling, pip=ink or self.pip, cell=max(self.cell, _FINE)), ONCE

    def _face(self, index: int, ground: Float32 | None) -> Float32:
        axis = (np.arange(self.cell) + 0.5) / self.cell - 0.5
        x, y = np.meshgrid(axis, axis)
        if ground is None:
            mix = self._marble(index, x, y)[..., None]
            colour = np.asarray(self.body) * (1 - mix) + np.asarray(self.swirl) * mix
        else:
            u, v = (x + 0.5 + index % ATLAS[1]) / ATLAS[1], (y + 0.5 + index // ATLAS[1]) / ATLAS[0]
            colour = _looked_up(ground, np.stack([u, v], axis=-1), self.tiling)
        away = np.min([np.hypot(x - 0.26 * px, y - 0.26 * py) for px, py in PIPS[index]], axis=0)
        cover = np.clip((self.radius - away) * self.cell + 0.5, 0, 1)[..., None]
        return (colour * (1 - cover) + np.asarray(self.pip) * cover).astype(np.float32)

    def _marble(self, index: int, x: Float64, y: Float64) -> Float64:
        """Bands bent by slower waves through the whole cube, so that they run on across the edges."""
        if self.swirl == self.body:
            return np.zeros_like(x)
        normal, along_u, along_v = np.asarray(FACES[index], dtype=np.float64)
        points = 0.5 * normal + x[..., None] * along_u + y[..., None] * along_v
        rng = seeds.from_seed(self.seed)
        bend = np.zeros_like(x)
        for frequency in (4.0, 7.0, 13.0, 23.0):
            direction = rng.normal(size=3)
            wave = points @ (direction / np.linalg.norm(direction)) * frequency + rng.uniform(0, 2 * np.pi)
            bend += np.sin(wave + bend) * 6 / frequency
        return np.asarray(0.5 + 0.5 * np.sin(2.2 * bend)) ** 1.5


def _looked_up(pixels: Float32, uv: Float64, tiling: Affine) -> Float32:
    """[..., 3] of a texture that repeats, bilinear between texel centres, at coordinates [..., 2]."""
    matrix = np.asarray(tiling)
    height, width = pixels.shape[:2]
    place = (uv @ matrix[:, :2].T + matrix[:, 2]) * [width, height] - 0.5
    low = np.floor(place).astype(np.int64)
    x, y = np.moveaxis(place - low, -1, 0)[..., None].astype(np.float32)
    left, top = low[..., 0] % width, low[..., 1] % height
    right, below = (left + 1) % width, (top + 1) % height
    upper = pixels[top, left] * (1 - x) + pixels[top, right] * x
    lower = pixels[below, left] * (1 - x) + pixels[below, right] * x
    return upper * (1 - y) + lower * y
