"""Maps that come with photos: depth, normals and classes, found beside them by name and cut as they are cut.

Files are those of the folder format (`formats.passes`): `.npy` exact, or `.png`: depth in 16 bits, normals as
0.5 n + 0.5 in RGB, classes as grey or palette indices. The map of `a/b.jpg` is `a/b.npy` or `a/b.png` below its folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import ConfigError, InputError, Rejected, first_of, printable
from synthaug.formats import passes, pictures
from synthaug.formats.inputs import InputRoot
from synthaug.labels import PASSES
from synthaug.models.maps import KINDS, UNKNOWN, MapSpec, mirrored, relative
from synthaug.train.photos import Photos, Window

SUFFIXES = (".npy", ".png")
VOID = 255
"""In class maps of fewer classes: nothing is said of this pixel."""


@dataclass(frozen=True, slots=True)
class Maps:
    """The maps of a training's photos.

    Attributes:
        spec: What the refiner is to take.
        roots: By kind, one per folder of photos; None where a folder of photos has none.
        files: By kind and folder: the map's file by the photo's name. A photo without a map is not in it.
        unit: Metres per step of depth in 16 bits.
    """

    spec: MapSpec
    roots: Mapping[str, Sequence[InputRoot | None]]
    files: Mapping[str, Sequence[Mapping[str, str]]]
    unit: float

    def count(self, kind: str) -> int:
        """Photos that have such a map."""
        return sum(map(len, self.files[kind]))

    def crop(self, folder: int, name: str, window: Window, side: int, shown: Sequence[str]) -> NDArray[np.float32]:
        """[channels, side, side] of `MapSpec.encode` for a crop of a photo.

        The nearest pixel is taken, as a renderer's passes are not averaged either; depth is relative to the whole
        map, not to the crop.

        Args:
            folder, name: The photo.
            window: Where it was cut.
            side: Of the crop, in pixels.
            shown: Kinds to show; all others are absent.

        Raises:
            InputError: A map that cannot be read, or classes that have no name.
        """
        place = np.minimum(((np.arange(side) + 0.5) * window.side / side).astype(int), window.side - 1)
        rows, columns = (place + window.y)[:, None], (place + window.x)[None, :]
        arrays: dict[str, NDArray[Any]] = {}
        for kind in self.spec.kinds:
            file = self.files[kind][folder].get(name)
            if kind in shown and file is not None:
                arrays[kind] = self._read(kind, folder, file)[rows, columns]
        return self.spec.encode(mirrored(arrays) if window.mirror else arrays, (side, side))

    def _read(self, kind: str, folder: int, file: str) -> NDArray[Any]:
        root = self.roots[kind][folder]
        assert root is not None, "a folder without a root has no files"
        try:
            array = passes.decode_pass(KINDS[kind], root.read(file), unit=self.unit)
        except Rejected as rejected:
            raise InputError(f"maps.{kind}: {printable(file)}: {rejected}") from rejected
        channels = PASSES[KINDS[kind]].channels
        if array.shape != (*array.shape[:2], *((channels,) if channels else ())):
            raise InputError(
                f"maps.{kind}: {printable(file)} is {array.shape}, expected [H, W{', 3' * bool(channels)}]"
            )
        if kind == "depth":
            return relative(array)
        return self._classes(array, file) if kind == "classes" else array

    def _classes(self, ids: NDArray[Any], file: str) -> NDArray[Any]:
        known = len(self.spec.classes)
        ids = np.where(ids == VOID, UNKNOWN, ids) if known < VOID else ids
        low, high = int(ids.min()), int(ids.max())
        if low < UNKNOWN or high > known:
            wrong = low if low < UNKNOWN else high
            raise InputError(
                f"maps.classes: {printable(file)} holds the class {wrong}; expected 0 (background), 1 to {known} as"
                f" classes={list(self.spec.classes)} names them, or {VOID} where nothing is said"
            )
        return ids


def find_maps(asked: Mapping[str, Sequence[str]], spec: MapSpec, photos: Photos, unit: float) -> Maps:
    """Looks for the maps of all photos and compares sizes by headers, about 0.2 ms each.

    Args:
        asked: Folders by kind, one for each folder of photos; empty where that one has none.
        spec: What the refiner is to take.
        photos: To find maps for.
        unit: Metres per step of depth in 16 bits.

    Raises:
        ConfigError: No photo has a map of a kind; a folder of maps that would be read as photos.
        InputError: No such folder; a map of another size than its photo, or two maps of one photo.
    """
    roots: dict[str, list[InputRoot | None]] = {}
    files: dict[str, list[dict[str, str]]] = {}
    for kind in spec.kinds:
        roots[kind] = [InputRoot(folder) if folder else None for folder in asked[kind]]
        files[kind] = [_found(kind, root, photos, number) for number, root in enumerate(roots[kind])]
        if not any(files[kind]):
            raise ConfigError(
                f"maps.{kind}={list(asked[kind])}: no map belongs to any of {photos.count} photos; expected the photo's"
                f" own name with {' or '.join(SUFFIXES)}, in the same folders below"
            )
    return Maps(spec, roots, files, unit)


def _found(kind: str, root: InputRoot | None, photos: Photos, folder: int) -> dict[str, str]:
    """Map by photo, of one folder of photos."""
    if root is None:
        return {}
    own = photos.roots[folder].root
    if Path(root.root).is_relative_to(own):
        raise ConfigError(
            f"maps.{kind}={root.root} lies in data={own}, where every picture is a photo; keep them apart"
        )
    by_stem: dict[str, list[str]] = {}
    for file in root.listing(suffixes=SUFFIXES):
        by_stem.setdefault(_stem(file), []).append(file)
    out: dict[str, str] = {}
    wrong: list[str] = []
    for name in photos.names[folder]:
        named = by_stem.get(_stem(name), [])
        if len(named) > 1:
            raise InputError(f"maps.{kind}: {named[0]} and {named[1]} are maps of one photo; keep one of them")
        for file in named:
            out[name] = file
            size, expected = _size(kind, root, file), pictures.size_at(photos.roots[folder], name)
            if size != expected:
                wrong.append(f"{file} is {size[1]}x{size[0]}, its photo {expected[1]}x{expected[0]} as stored")
    if wrong:
        raise InputError(
            f"maps.{kind}: {len(wrong)} maps are not of their photo's size, and are never adapted:{first_of(wrong)}"
        )
    return out


def _size(kind: str, root: InputRoot, file: str) -> tuple[int, int]:
    try:
        return pictures.size_at(root, file)
    except Rejected as rejected:
        raise InputError(f"maps.{kind}: {printable(file)}: {rejected}") from rejected


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))
