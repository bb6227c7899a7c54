"""Sets of small tiles to compare families of texture models with: real ones, held-out ones, noise like them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from synthaug.models.texture.family import TextureModel, moves
from synthaug.models.texture.looks import Looks, alike, levelled, look_of

Tile = NDArray[np.float32]
"""[side, side, 3] RGB in [0, 1]."""
NEAR, EVERY, FLAT = 0.05, 5, 0.02


def tiles_of(folder: Path, side: int) -> list[tuple[str, Tile]]:
    """Square pictures of this side by name, RGB in [0, 1]; made here where there is no folder."""
    if not folder.is_dir():
        return [(f"made{number:02d}.png", _made(number, side)) for number in range(24)]
    read = ((path.name, cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)) for path in sorted(folder.glob("*.png")))
    return [(n, (p / 255).astype(np.float32)) for n, p in read if p is not None and p.shape == (side, side, 3)]


def _made(number: int, side: int) -> Tile:
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:side, :side] / side * 2 * np.pi
    wave = np.cos(int(rng.integers(1, 4)) * x + int(rng.integers(0, 4)) * y)[..., None] * rng.uniform(-0.2, 0.2, 3)
    return np.clip(rng.uniform(0.3, 0.7, 3) + wave + rng.normal(0, 0.02, wave.shape), 0, 1).astype(np.float32)


def apart(ours: Sequence[Tile], theirs: Sequence[Tile]) -> NDArray[np.float64]:
    """[N, M] root mean square difference over all rolls: `figures.nearest_distances` for every pair."""
    if not ours or not theirs:
        return np.zeros((len(ours), 0))
    spectra = np.stack([np.fft.rfft2(tile, axes=(0, 1)) for tile in theirs])
    energies = np.array([float(np.square(tile, dtype=np.float64).sum()) for tile in theirs])
    rows: list[NDArray[np.float64]] = []
    for tile in ours:
        crossed = (spectra * np.fft.rfft2(tile, axes=(0, 1)).conj()).sum(3)
        most = np.fft.irfft2(crossed, tile.shape[:2], axes=(1, 2)).max((1, 2))
        energy = float(np.square(tile, dtype=np.float64).sum())
        rows.append(np.sqrt(np.maximum(energy + energies - 2 * most, 0) / tile.size))
    return np.stack(rows)


def split(distances: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which tiles are held out: every fifth group of those that are linked by near-duplicates."""
    group = list(range(len(distances)))
    for i, row in enumerate(distances):
        for j in np.flatnonzero(row[:i] < NEAR):
            old, new = group[i], group[int(j)]
            group = [new if one == old else one for one in group]
    order = list(dict.fromkeys(group))
    return np.array([order.index(one) % EVERY == EVERY // 2 for one in group])


def noise(tile: Tile, rng: np.random.Generator) -> Tile:
    """Random phases, the same for all channels: every spectrum and cross-spectrum stays."""
    turns = np.angle(np.fft.rfft2(rng.standard_normal(tile.shape[:2])))
    turns[0, 0] = 0
    spectrum = np.fft.rfft2(tile, axes=(0, 1)) * np.exp(1j * turns)[..., None]
    return np.fft.irfft2(spectrum, tile.shape[:2], axes=(0, 1)).clip(0, 1).astype(np.float32)


def coloured(tile: Tile, rng: np.random.Generator, rounds: int = 20) -> Tile:
    """As `noise`, with the histogram of each channel put back in turns with its spectrum (Schreiber and Schmitz,
    "Improved surrogate data for nonlinearity tests", Physical Review Letters 1996)."""
    found, levels = noise(tile, rng), np.sort(tile.reshape(-1, 3), 0)
    wanted = np.abs(np.fft.rfft2(tile, axes=(0, 1)))
    for turn in range(rounds):
        flat = np.empty_like(levels)
        np.put_along_axis(flat, np.argsort(found.reshape(-1, 3), 0), levels, 0)
        found = flat.reshape(tile.shape)
        if turn < rounds - 1:
            spectrum = np.fft.rfft2(found, axes=(0, 1))
            spectrum *= wanted / np.maximum(np.abs(spectrum), 1e-9)
            found = np.fft.irfft2(spectrum, tile.shape[:2], axes=(0, 1))
    return found.astype(np.float32)


def looks_alone(known: Sequence[Tile], count: int) -> list[Tile]:
    """White noise brought to looks of tiles, blurred: all that the families have in common."""
    shape = (3, *known[0].shape[:2])
    noises = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(n)) for n in range(count)])
    return pictures_of(alike(noises, _drawn(known, count)).clamp(-1, 1))


def copies(known: Sequence[Tile], count: int) -> list[Tile]:
    """Tiles brought to their own looks, blurred: what a family would make that knew its tiles by heart."""
    images = _images(evenly(known, count))
    blurred = Looks(8).learn(images, None, torch.Generator().manual_seed(0))
    return pictures_of(alike(levelled(images, look_of(images)), blurred).clamp(-1, 1))


def structures(tiles: Sequence[Tile]) -> list[Tile]:
    """[H, W, 1] lightness of those that are not flat, in units of its spread."""
    chosen = structured(tiles)
    if not chosen:
        return []
    images = _images(chosen)
    return list(levelled(images, look_of(images))[:, :1].movedim(1, 3).numpy())


def both_ways(tiles: Sequence[Tile]) -> list[Tile]:
    """Their structures, and those of their mirror images."""
    found = structures(tiles)
    return [*found, *(tile[:, ::-1] for tile in found)]


def _drawn(known: Sequence[Tile], count: int) -> torch.Tensor:
    looks = Looks(8)
    looks.learn(_images(known), None, torch.Generator().manual_seed(0))
    return looks.draw(seeds_of(count), None)


def _images(tiles: Sequence[Tile]) -> torch.Tensor:
    return torch.from_numpy(np.stack(tiles)).movedim(3, 1) * 2 - 1


def structured(tiles: Sequence[Tile]) -> list[Tile]:
    """Those that are more than one flat colour."""
    return [tile for tile in tiles if float(np.sqrt(tile.var((0, 1)).mean())) >= FLAT]


def closest(tiles: Sequence[Tile], known: Sequence[Tile], count: int) -> list[Tile]:
    """The tiles that lie nearest to a known one, each followed by that."""
    made, told = structured(tiles), structured(known)
    between = apart(made, told)
    order = np.argsort(between.min(1))[:count] if between.size else []
    return [one for i in order for one in (made[i], told[int(between[i].argmin())])]


def seeds_of(count: int) -> list[int]:
    return [7919 * number + 1 for number in range(count)]


def pictures_of(pictures: torch.Tensor) -> list[Tile]:
    """As 8-bit pictures in [0, 1]."""
    return list(np.rint((pictures.movedim(1, 3).numpy() + 1) * 127.5).astype(np.float32) / np.float32(255))


def unrolled(model: TextureModel, tiles: Sequence[Tile]) -> list[Tile]:
    """As the network made them: a set that is rolled at random has no seam at its border, whatever it has inside."""
    if not model.rolled:
        return list(tiles)
    places = moves(seeds_of(len(tiles)), model.side)
    return [np.roll(tile, (-y, -x), (0, 1)) for tile, (y, x) in zip(tiles, places, strict=True)]


def strip(rows: dict[str, Sequence[Tile]]) -> NDArray[np.uint8]:
    """A row of tiles per set, named on its left; BGR."""
    lines: list[NDArray[np.uint8]] = []
    for name, tiles in rows.items():
        pixels = np.concatenate([np.pad(tile, ((1, 1), (1, 1), (0, 0)), constant_values=1) for tile in tiles], 1)
        label = np.full((pixels.shape[0], 130, 3), 255, np.uint8)
        at = (4, pixels.shape[0] // 2 + 4)
        cv2.putText(label, name, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
        lines.append(np.concatenate([label, np.rint(pixels[..., ::-1] * 255).astype(np.uint8)], 1))
    return np.concatenate(lines)


def evenly(tiles: Sequence[Tile], count: int) -> list[Tile]:
    return [tiles[i] for i in np.linspace(0, len(tiles) - 1, count).round().astype(int)]
