"""What a refiner may be told beside the picture: depth, normals and classes, as channels with their presence.

Every kind of map ends in a channel that is 1 where the map says something and 0 where it does not, and all its
other channels are 0 there. A picture without a map is one whose presence is 0 everywhere, which is also what training
shows at random, so that one network does with any of them and without.

    depth     log2(z / median z) / 4, within -1 to 1; the median is that of the whole picture. 1 is 16 times as far
    normals   x, y, z of the unit vector in camera axes
    classes   one channel per class, 1 on its pixels; background is none of them and present
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import ConfigError, InputError, nearest, printable
from synthaug.models.plain import read_json

FACTS = "refiner.json"

KINDS: Mapping[str, str] = {"depth": "depth", "normals": "normals", "classes": "semantic"}
"""Label pass by kind of map, in the order of their channels."""
MOST_CLASSES = 64
UNKNOWN = -1
"""The class of a pixel about which a class map says nothing."""
_OCTAVES = 4.0


@dataclass(frozen=True, slots=True)
class MapSpec:
    """Which maps a refiner takes.

    Attributes:
        kinds: Of `KINDS`, in that order.
        classes: Their names; the class id is the place in it, counted from 1. Empty without class maps.
    """

    kinds: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises `ConfigError`: an unknown kind, kinds out of order, classes without their map or the reverse."""
        for kind in self.kinds:
            if kind not in KINDS:
                raise ConfigError(f"maps: '{printable(kind)}' is no kind of map.{nearest(kind, KINDS)}")
        if list(self.kinds) != [kind for kind in KINDS if kind in self.kinds]:
            raise ConfigError(f"maps: {list(self.kinds)}, expected each once in the order {list(KINDS)}")
        if bool(self.classes) != ("classes" in self.kinds):
            raise ConfigError(
                f"classes={list(self.classes)} with maps of {list(self.kinds)}: class maps need the names of their"
                " classes (id 1 first), and names need maps.classes"
            )
        if len(self.classes) > MOST_CLASSES or len(set(self.classes)) != len(self.classes) or "" in self.classes:
            raise ConfigError(f"classes={list(self.classes)}: expected up to {MOST_CLASSES} different names")

    @property
    def channels(self) -> int:
        """Of all maps together, presence included."""
        return sum({"depth": 2, "normals": 4, "classes": len(self.classes) + 1}[kind] for kind in self.kinds)

    @property
    def passes(self) -> tuple[str, ...]:
        """Label passes that the maps are made of."""
        return tuple(KINDS[kind] for kind in self.kinds)

    def spans(self) -> dict[str, slice]:
        """Channels by kind."""
        found, at = dict[str, slice](), 0
        for kind in self.kinds:
            width = MapSpec((kind,), self.classes if kind == "classes" else ()).channels
            found[kind], at = slice(at, at + width), at + width
        return found

    def encode(self, arrays: Mapping[str, NDArray[Any]], size: tuple[int, int]) -> NDArray[np.float32]:
        """[channels, H, W] float32 within -1 to 1. About 3 ms at 512x512 for depth and normals.

        Args:
            arrays: By kind: depth [H, W] as `relative` of the whole picture; normals [H, W, 3], not finite where
                there is none; classes [H, W] ids into `classes`, 0 background,
                `UNKNOWN` where the map says nothing. A missing kind is absent everywhere.
            size: (height, width).
        """
        out = np.zeros((self.channels, *size), np.float32)
        for kind, span in self.spans().items():
            if kind in arrays:
                _ENCODERS[kind](np.asarray(arrays[kind]), out[span])
        return out

    def known(self, names: Sequence[str]) -> NDArray[np.int32]:
        """This refiner's class id by class id of a dataset with these class names; `UNKNOWN` for names it lacks."""
        ids = {name: number for number, name in enumerate(self.classes, start=1)}
        return np.array([0, *(ids.get(name, UNKNOWN) for name in names)], np.int32)


NONE = MapSpec()
"""A refiner that is shown the picture alone."""


def spec_from(value: object) -> MapSpec:
    """The spec in the JSON of a refiner's facts; `NONE` where they name no maps.

    Raises:
        InputError: Something else stands there.
    """
    try:
        rows = cast("dict[str, Any]", value).get("maps", {})
        return MapSpec(tuple(map(str, rows.get("kinds", ()))), tuple(map(str, rows.get("classes", ()))))
    except (AttributeError, TypeError, ConfigError) as error:
        raise InputError(f"{FACTS}: not what `synthaug train refiner` writes ({error!r})") from error


def peek(folder: Path) -> MapSpec:
    """Which maps the refiner in `folder` takes, from its facts alone, about 0.1 ms; `NONE` where there is no refiner.

    Raises:
        InputError: As `spec_from`, and for a file that is no JSON.
    """
    path = folder / FACTS
    return spec_from(read_json(path, FACTS)) if path.is_file() else NONE


def mirrored(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Maps of the picture with left and right swapped: x of the normals changes its sign."""
    out: dict[str, NDArray[Any]] = {kind: array[:, ::-1] for kind, array in arrays.items()}
    if "normals" in out:
        out["normals"] = out["normals"] * np.array([-1, 1, 1], np.float32)
    return out


def relative(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """log2(z / median) / 4 within -1 to 1, NaN where there is no depth: no unit, and no scale, is left in it.

    Args:
        depth: [H, W] planar z; NaN, infinite or not positive where there is none.
    """
    valid = np.isfinite(depth) & (depth > 0)
    out = np.full(depth.shape, np.nan, np.float32)
    if valid.any():
        logs = np.log2(depth[valid], dtype=np.float32)
        out[valid] = ((logs - np.median(logs)) / np.float32(_OCTAVES)).clip(-1, 1)
    return out


def _depth(array: NDArray[Any], out: NDArray[np.float32]) -> None:
    _fill(array[None], np.isfinite(array), out)


def _normals(array: NDArray[Any], out: NDArray[np.float32]) -> None:
    _fill(array.transpose(2, 0, 1), np.asarray(np.isfinite(array).all(axis=2)), out)


def _classes(array: NDArray[Any], out: NDArray[np.float32]) -> None:
    for number in range(1, len(out)):
        out[number - 1] = array == number
    out[-1] = array != UNKNOWN


def _fill(values: NDArray[Any], valid: NDArray[np.bool_], out: NDArray[np.float32]) -> None:
    out[:-1] = np.where(valid, values, 0)
    out[-1] = valid


_ENCODERS = {"depth": _depth, "normals": _normals, "classes": _classes}
