"""Folders of unlabelled photos as training pairs: a crop, and the same crop made to look rendered.

A pair is a function of (seed, step, place in the batch) and of the photos: nothing needs to be remembered
to resume, and the number of processes does not change what is learnt from.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug import seeds
from synthaug.errors import ConfigError, Rejected, first_of
from synthaug.formats import pictures
from synthaug.formats.inputs import InputRoot
from synthaug.train.simplify import Float32, simplify

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
FEWEST = 8
"""Photos below which nothing worth having is learnt."""
_RETRIES = 16


@dataclass(frozen=True, slots=True)
class Folder:
    """One folder of photos.

    Attributes:
        path: Where.
        hold_out: Every so many photos by sorted name are left out, the first of them included; 0 for none.
    """

    path: str
    hold_out: int = 0


@dataclass(slots=True)
class Photos:
    """Photos of several folders, each folder drawn from in proportion to the square root of its size.

    Attributes:
        roots: One per folder.
        names: The photos to learn from, per folder.
        held_out: Those left out, per folder.
        broken: What is wrong with photos that are not used, by `folder/name`.
    """

    roots: list[InputRoot]
    names: list[list[str]]
    held_out: list[list[str]]
    broken: dict[str, str] = field(default_factory=dict[str, str])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def count(self) -> int:
        """Photos to learn from."""
        return sum(map(len, self.names))

    def read(self, folder: int, index: int) -> NDArray[np.uint8]:
        """One photo, [H, W, 3] sRGB. Raises `Rejected`, and remembers what was wrong."""
        name = self.names[folder][index]
        try:
            data = self.roots[folder].read(name)
            # The stored size as canvas: crops may lie on their side, so the orientation tag is dropped.
            picture = pictures.decode(data, canvas=pictures.size_of(data)).picture
            if picture.pixels.dtype != np.uint8:
                raise Rejected("decode", "a linear picture, expected a photo in sRGB")
        except Rejected as rejected:
            with self._lock:
                self.broken[self.label(folder, name)] = str(rejected)
            raise
        return picture.pixels

    def label(self, folder: int, name: str) -> str:
        """`folder/name`, without the path to the folder."""
        return f"{self.roots[folder].root.name}/{name}"


def find(folders: Sequence[Folder], smallest: int) -> Photos:
    """Lists photos and looks at their headers, about 0.1 ms each.

    Args:
        folders: Where to look; folders below them count too.
        smallest: Photos with a shorter side below this many pixels are left out, and named.

    Raises:
        ConfigError: Fewer than `FEWEST` usable photos in a folder.
        InputError: No such folder.
    """
    photos = Photos([], [], [])
    for number, folder in enumerate(folders):
        root = InputRoot(folder.path)
        photos.roots.append(root)
        listed = root.listing(suffixes=SUFFIXES)
        held = set(listed[:: folder.hold_out]) if folder.hold_out else set[str]()
        photos.held_out.append([name for name in listed if name in held])
        good: list[str] = []
        for name in listed:
            if name in held:
                continue
            fault = _fault(root, name, smallest)
            if fault:
                photos.broken[photos.label(number, name)] = fault
            else:
                good.append(name)
        photos.names.append(good)
        if len(good) < FEWEST:
            raise ConfigError(
                f"data={folder.path}: {len(good)} usable photos among {len(listed)} pictures"
                f" ({len(held)} held out), expected {FEWEST} or more with sides from {smallest} pixels"
                + first_of(f"{name}: {fault}" for name, fault in photos.broken.items())
            )
    return photos


def _fault(root: InputRoot, name: str, smallest: int) -> str:
    try:
        height, width = pictures.size_at(root, name)
    except Rejected as rejected:
        return str(rejected)
    return f"{width}x{height}, smaller than {smallest}" if min(height, width) < smallest else ""


@dataclass(frozen=True, slots=True)
class Crops:
    """Draws pairs of crops.

    Attributes:
        photos: Where from.
        crop: Side in pixels.
        smallest: Photos are drawn at a size between this many pixels on their longer side and their own, evenly
            by logarithm: cameras, resizing for training and renders differ in scale.
        seed: Of everything drawn.
    """

    photos: Photos
    crop: int
    smallest: int
    seed: int

    def pair(self, step: int, place: int) -> tuple[Float32, Float32]:
        """(photo, simplified), each [crop, crop, 3] in [0, 1]. A photo that cannot be decoded is passed over.

        Raises:
            ConfigError: One photo after another cannot be decoded.
        """
        rng = seeds.generator(self.seed, f"train/{step}", place, "crop")
        weights = np.sqrt([len(names) for names in self.photos.names])
        for _ in range(_RETRIES):
            folder = int(rng.choice(len(weights), p=weights / weights.sum()))
            index = int(rng.integers(len(self.photos.names[folder])))
            try:
                photo = self.photos.read(folder, index)
            except Rejected:
                continue
            crop = self._crop(photo, rng)
            return crop, simplify(crop, rng)
        raise ConfigError(
            f"{_RETRIES} photos in a row cannot be decoded; of {self.photos.count} these are broken:"
            + first_of(f"{name}: {fault}" for name, fault in self.photos.broken.items())
        )

    def batch(self, step: int, places: Sequence[int]) -> tuple[Float32, Float32]:
        """Pairs as two arrays [B, 3, crop, crop]."""
        pairs = [self.pair(step, place) for place in places]
        photos, conditions = (np.stack(side).transpose(0, 3, 1, 2) for side in zip(*pairs, strict=True))
        return np.ascontiguousarray(photos), np.ascontiguousarray(conditions)

    def _crop(self, photo: NDArray[np.uint8], rng: np.random.Generator) -> Float32:
        height, width = photo.shape[:2]
        longest = max(height, width)
        scale = min((min(self.smallest, longest) / longest) ** rng.random(), 1.0)
        side = min(max(round(self.crop / scale), self.crop), height, width)
        best = photo[:side, :side]
        # Photos of few things on a plain ground would teach little but the ground: the richer of two places.
        contrast = -1.0
        for _ in range(2):
            y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
            there = photo[y : y + side, x : x + side]
            if (found := float(there[::4, ::4].std())) > contrast:
                best, contrast = there, found
        if rng.random() < 0.5:
            best = best[:, ::-1]
        best = np.ascontiguousarray(best)
        if side != self.crop:
            best = cv2.resize(best, (self.crop, self.crop), interpolation=cv2.INTER_AREA)
        return best.astype(np.float32) / np.float32(255)
