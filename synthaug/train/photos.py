"""Folders of unlabelled photos as training pairs: a crop, and the same crop made to look rendered.

A pair is a function of (seed, step, place in the batch) and of the photos: nothing needs to be remembered
to resume, and the number of processes does not change what is learnt from.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug import seeds
from synthaug.errors import ConfigError, Rejected, first_of
from synthaug.formats import pictures
from synthaug.formats.inputs import InputRoot
from synthaug.train.simplify import Float32, simplify

if TYPE_CHECKING:
    from synthaug.train.maps import Maps

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

    def draw(self, rng: np.random.Generator) -> tuple[int, int, NDArray[np.uint8]]:
        """Folder, index and pixels of a photo; one that cannot be decoded is passed over.

        Raises:
            ConfigError: One photo after another cannot be decoded.
        """
        weights = np.sqrt([len(names) for names in self.names])
        for _ in range(_RETRIES):
            folder = int(rng.choice(len(weights), p=weights / weights.sum()))
            index = int(rng.integers(len(self.names[folder])))
            try:
                return folder, index, self.read(folder, index)
            except Rejected:
                continue
        raise ConfigError(
            f"{_RETRIES} photos in a row cannot be decoded; of {self.count} these are broken:"
            + first_of(f"{name}: {fault}" for name, fault in self.broken.items())
        )

    def label(self, folder: int, name: str) -> str:
        """`folder/name`, without the path to the folder."""
        return f"{self.roots[folder].root.name}/{name}"


def find(folders: Sequence[Folder], smallest: int, *, fewest: int = FEWEST) -> Photos:
    """Lists photos and looks at their headers, about 0.1 ms each.

    Args:
        folders: Where to look; folders below them count too.
        smallest: Photos with a shorter side below this many pixels are left out, and named.
        fewest: How many a folder must have.

    Raises:
        ConfigError: Fewer than `fewest` usable photos in a folder.
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
        if len(good) < fewest:
            raise ConfigError(
                f"data={folder.path}: {len(good)} usable photos among {len(listed)} pictures"
                f" ({len(held)} held out), expected {fewest} or more with sides from {smallest} pixels"
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
class Window:
    """Where a crop is cut from its photo: a square of `side` pixels with its corner at x, y, then mirrored or not."""

    y: int
    x: int
    side: int
    mirror: bool

    def cut(self, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """[side, side, 3]."""
        found = photo[self.y : self.y + self.side, self.x : self.x + self.side]
        return np.ascontiguousarray(found[:, ::-1] if self.mirror else found)


@dataclass(frozen=True, slots=True)
class Crops:
    """Draws pairs of crops.

    Attributes:
        photos: Where from.
        crop: Side in pixels.
        smallest: Photos are drawn at a size between this many pixels on their longer side and their own, evenly
            by logarithm: cameras, resizing for training and renders differ in scale.
        seed: Of everything drawn.
        maps: That come with the photos, if any.
        map_dropout: In [0, 1]; how often each kind of map is withheld.
    """

    photos: Photos
    crop: int
    smallest: int
    seed: int
    maps: Maps | None = None
    map_dropout: float = 0.0

    def pair(self, step: int, place: int) -> tuple[Float32, Float32]:
        """(photo, simplified), each [crop, crop, 3] in [0, 1]. A photo that cannot be decoded is passed over.

        Raises:
            ConfigError: One photo after another cannot be decoded.
        """
        return self._drawn(step, place)[:2]

    def _drawn(self, step: int, place: int) -> tuple[Float32, Float32, tuple[int, str, Window]]:
        """A pair, and where it is from: folder, name, window."""
        rng = seeds.generator(self.seed, f"train/{step}", place, "crop")
        folder, index, photo = self.photos.draw(rng)
        window = self._window(photo, rng)
        crop = scaled(window.cut(photo), self.crop)
        return crop, simplify(crop, rng), (folder, self.photos.names[folder][index], window)

    def batch(self, step: int, places: Sequence[int]) -> tuple[Float32, Float32]:
        """Pairs as two arrays [B, 3, crop, crop]."""
        return self.batch_with_maps(step, places)[:2]

    def batch_with_maps(self, step: int, places: Sequence[int]) -> tuple[Float32, Float32, Float32 | None]:
        """Pairs as `batch` gives them, and their maps [B, channels, crop, crop] where there are any.

        Raises:
            InputError: A map that cannot be read, or that holds classes without a name.
        """
        drawn = [self._drawn(step, place) for place in places]
        photos, conditions = planes([row[0] for row in drawn]), planes([row[1] for row in drawn])
        if self.maps is None:
            return photos, conditions, None
        told = [self._told(self.maps, step, place, row[2]) for place, row in zip(places, drawn, strict=True)]
        return photos, conditions, np.stack(told)

    def _told(self, maps: Maps, step: int, place: int, where: tuple[int, str, Window]) -> Float32:
        rng = seeds.generator(self.seed, f"train/{step}", place, "maps")
        shown = [kind for kind in maps.spec.kinds if rng.random() >= self.map_dropout]
        return maps.crop(where[0], where[1], where[2], self.crop, shown)

    def _window(self, photo: NDArray[np.uint8], rng: np.random.Generator) -> Window:
        height, width = photo.shape[:2]
        longest = max(height, width)
        scale = min((min(self.smallest, longest) / longest) ** rng.random(), 1.0)
        side = min(max(round(self.crop / scale), self.crop), height, width)
        best = (0, 0)
        # Photos of few things on a plain ground would teach little but the ground: the richer of two places.
        contrast = -1.0
        for _ in range(2):
            y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
            if (found := float(photo[y : y + side : 4, x : x + side : 4].std())) > contrast:
                best, contrast = (y, x), found
        return Window(*best, side, bool(rng.random() < 0.5))


def scaled(crop: NDArray[np.uint8], side: int) -> Float32:
    """[side, side, 3] in [0, 1] of a square crop."""
    if len(crop) != side:
        crop = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return crop.astype(np.float32) / np.float32(255)


def planes(pictures: Sequence[Float32]) -> Float32:
    """[B, 3, H, W] of pictures [H, W, 3]."""
    return np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2))
