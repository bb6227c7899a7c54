"""Tiles of a library, ready to be sampled, a limited amount of them kept in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.texture.entry import Entry
from synthaug.texture.library import Library
from synthaug.texture.maps import normals
from synthaug.texture.sampling import Float32, Pyramid, pyramid
from synthaug.transfer import linear_from_srgb

_STEEPEST = 4.0
"""Slopes in a normal map beyond this are cut: 76 degrees."""
_RELIEF = 8.0
"""Pixels that a height map spans where its entry does not say: the default of `maps.from_albedo`."""


@dataclass(frozen=True, eq=False)
class Tile:
    """One texture.

    Attributes:
        entry: What the library knows of it.
        colour: Linear RGB and opacity.
        slopes: Rise to the right and rise upwards (against t), in lengths a length; None where it has no relief.
    """

    entry: Entry
    colour: Pyramid
    slopes: Pyramid | None

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.colour.nbytes + (0 if self.slopes is None else self.slopes.nbytes)


class Tiles:
    """Tiles by id, made when they are asked for. Thread-safe.

    Args:
        library: Where they come from.
        largest: Pixels; longer sides are reduced.
        budget: Bytes that are kept; the least recently used go first.
    """

    def __init__(self, library: Library, largest: int, budget: int) -> None:
        self.library, self._largest, self._budget = library, largest, budget
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Any] = OrderedDict()

    def get(self, entry_id: str) -> Tile:
        """A tile; about 0.15 s for one of 1024x1024 that is not kept.

        Raises:
            ConfigError: No such entry.
            InputError: Its file is missing or not what it was.
        """
        return self._cached(entry_id, lambda: self._made(entry_id))

    def mask(self, key: str, make: Callable[[], Float32]) -> Pyramid:
        """A tile of one channel, [H, W, 1], that is made by a recipe and kept under a key."""
        return self._cached(key, lambda: pyramid(make()))

    def _cached(self, key: str, make: Callable[[], Any]) -> Any:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        found = make()
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > 1 and sum(item.nbytes for item in self._kept.values()) > self._budget:
                self._kept.popitem(last=False)
        return found

    def _made(self, entry_id: str) -> Tile:
        entry = self.library.get(entry_id)
        stored = self.library.read(entry, "albedo")
        colour = np.ones((*stored.shape[:2], 4), np.float32)
        colour[..., :3] = _LINEAR[stored]
        if "opacity" in entry.maps:
            opacity = _unit(self.library.read(entry, "opacity"))
            colour[..., 3] = cv2.resize(opacity, stored.shape[1::-1], interpolation=cv2.INTER_AREA)
        return Tile(entry, pyramid(self._limited(colour)), self._slopes(entry))

    def _slopes(self, entry: Entry) -> Pyramid | None:
        if "normal" in entry.maps:
            vectors = _unit(self.library.read(entry, "normal")) * 2 - 1
        elif "height" in entry.maps:
            relief = entry.parameters.get("relief", _RELIEF)
            vectors = normals(_unit(self.library.read(entry, "height")), float(relief))
        else:
            return None
        rises = -vectors[..., :2] / np.maximum(vectors[..., 2:], np.float32(1 / _STEEPEST))
        return pyramid(self._limited(np.clip(rises, -_STEEPEST, _STEEPEST).astype(np.float32)))

    def _limited(self, planes: Float32) -> Float32:
        height, width = planes.shape[:2]
        if max(height, width) <= self._largest:
            return planes
        scale = self._largest / max(height, width)
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        return np.asarray(cv2.resize(planes, size, interpolation=cv2.INTER_AREA), np.float32)


def _unit(stored: NDArray[Any]) -> Float32:
    return stored.astype(np.float32) / np.float32(np.iinfo(stored.dtype).max)


_LINEAR = linear_from_srgb(np.arange(256, dtype=np.float32) / np.float32(255))
