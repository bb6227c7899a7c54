"""A folder of textures as training batches: decoded once, reduced to what is learnt from, rolled where they wrap.

A tile of a batch is a function of (seed, step, place) and of the pictures: nothing needs to be remembered to resume.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from synthaug import seeds
from synthaug.errors import ConfigError, Rejected, first_of
from synthaug.formats import pictures
from synthaug.texture import surfaces
from synthaug.texture.seam import seam
from synthaug.texture.surfaces import Limits
from synthaug.train.photos import Folder, Photos, find

Float32 = NDArray[np.float32]
FEWEST = 16
"""Textures below which a model learns nothing but these."""


@dataclass(frozen=True, slots=True, eq=False)
class Texture:
    """One picture to learn from.

    Attributes:
        pixels: [H, W, 3] sRGB; the shorter side is `side * zoom` at most.
        wraps: Whether it repeats, down and across.
        label: Number of its class; 0 without classes.
    """

    pixels: NDArray[np.uint8]
    wraps: tuple[bool, bool]
    label: int


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """Draws tiles.

    Attributes:
        photos: Where they came from, and which are not used.
        textures: What is learnt from, in the order of `photos.names`.
        classes: Names, number 0 first; none without classes.
        side: Of a tile, pixels.
        seed: Of everything drawn.
        mirror: Whether half of the tiles are mirrored.
        notes: What was changed on the way, by picture.
    """

    photos: Photos
    textures: Sequence[Texture]
    classes: Sequence[str]
    side: int
    seed: int
    mirror: bool
    notes: dict[str, str] = field(default_factory=dict[str, str])

    def batch(self, step: int, places: Sequence[int]) -> tuple[Float32, NDArray[np.int64]]:
        """Tiles [B, 3, side, side] in [-1, 1], and their classes [B]."""
        drawn = [self._drawn(step, place) for place in places]
        pixels = np.stack([one for one, _ in drawn]).transpose(0, 3, 1, 2)
        values = pixels.astype(np.float32) / np.float32(127.5) - np.float32(1)
        return np.ascontiguousarray(values), np.array([label for _, label in drawn], np.int64)

    def _drawn(self, step: int, place: int) -> tuple[NDArray[np.uint8], int]:
        rng = seeds.generator(self.seed, f"train/{step}", place, "tile")
        texture = self.textures[int(rng.integers(len(self.textures)))]
        pixels = texture.pixels
        for axis in (0, 1):
            length = pixels.shape[axis]
            start = int(rng.integers(length if texture.wraps[axis] else length - self.side + 1))
            pixels = np.take(pixels, np.arange(start, start + self.side) % length, axis)
        return (pixels[:, ::-1] if self.mirror and rng.random() < 0.5 else pixels), texture.label


def find_tiles(folders: Sequence[Folder], side: int, *, zoom: float, by_class: bool, seed: int, mirror: bool) -> Tiles:
    """Reads all textures of some folders; a few milliseconds each, and 3 `(side * zoom)`^2 bytes of memory.

    Pictures that cannot be read, or are smaller than a tile, are left out and named in `photos.broken`. Grey becomes
    RGB, 16 bits become 8, transparency is dropped; larger pictures are reduced by area averages.

    Args:
        folders: Where to look. Sub-folders are classes, where every picture lies in one and there are two or more.
        side: Of a tile, pixels.
        zoom: Pictures are reduced until their shorter side is `side * zoom`, and tiles are cut from that; 1 learns
            from whole pictures, which keeps what repeats.
        by_class: False never makes classes.
        seed: Of what is drawn later.
        mirror: Whether half of the tiles are mirrored.

    Raises:
        ConfigError: Fewer than `FEWEST` usable textures.
        InputError: No such folder.
    """
    photos = find(folders, side, fewest=0)
    told: dict[str, str] = {}
    decoded: list[tuple[str, NDArray[np.uint8]]] = []
    for number, names in enumerate(photos.names):
        good: list[str] = []
        for name in names:
            try:
                pixels, notes = _read(photos.roots[number].read(name), round(side * zoom))
            except Rejected as rejected:
                photos.broken[photos.label(number, name)] = str(rejected)
                continue
            if notes:
                told[photos.label(number, name)] = "; ".join(notes)
            good.append(name)
            decoded.append((name, pixels))
        photos.names[number] = good
    _check(photos)
    classes = _classes([name for name, _ in decoded]) if by_class else []
    labels = [classes.index(name.partition("/")[0]) if classes else 0 for name, _ in decoded]
    textures = [Texture(pixels, wraps(pixels), label) for (_, pixels), label in zip(decoded, labels, strict=True)]
    return Tiles(photos, textures, classes, side, seed, mirror, told)


def _check(photos: Photos) -> None:
    if photos.count >= FEWEST:
        return
    listed = photos.count + len(photos.broken)
    where = ", ".join(str(root.root) for root in photos.roots)
    raise ConfigError(
        f"data={where}: {photos.count} usable textures among {listed} pictures, expected {FEWEST} or more: a model"
        " would learn them by heart. Add pictures; of a single texture, `synthaug texture synthesize` makes more"
        + first_of(f"{name}: {fault}" for name, fault in photos.broken.items())
    )


def _read(data: bytes, shorter: int) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """[H, W, 3] whose shorter side is at most `shorter`, and what was changed. Raises `Rejected`."""
    height, width = pictures.size_of(data)
    largest = max(-(-max(height, width) * shorter // min(height, width)), shorter)
    surface = surfaces.albedo(data, Limits(largest=largest, alpha="drop"))
    return surface.pixels, tuple(note for note in surface.notes if not note.startswith("reduced"))


def wraps(pixels: NDArray[np.uint8]) -> tuple[bool, bool]:
    """Whether a picture repeats down and across, each by itself, as `texture.seam` judges."""
    # Doubled with its mirror image along the other axis, a picture has no seam there.
    down = np.concatenate([pixels, pixels[:, ::-1]], axis=1)
    across = np.concatenate([pixels, pixels[::-1]], axis=0)
    return seam(down)[1], seam(across)[1]


def _classes(names: Sequence[str]) -> list[str]:
    """First folders of the names, sorted; none where a picture lies in no folder, or all in the same one."""
    found = sorted({name.partition("/")[0] if "/" in name else "" for name in names})
    return found if len(found) > 1 and "" not in found else []
