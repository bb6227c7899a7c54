"""A library of textures, for reading: what is in it, by material and colour, and the pictures themselves.

    LIB/library.json                 says that this is a library
    LIB/entries/ab/abcd....json      one per texture: the truth about it (`entry.Entry`)
    LIB/objects/ab/abcd....png       maps, by the SHA-256 of their bytes
    LIB/index.parquet                all entries in one table, for speed and for other programs

The index is derived. A row counts while its entry's file has the size and the time of change that the row
names; everything else is read from the entries, so a lost, old or copied index costs time and nothing more.
Written by `engine/shelf.py` alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from synthaug.errors import ConfigError, InputError, Rejected, nearest, printable
from synthaug.formats import png, strictjson
from synthaug.formats.inputs import InputRoot
from synthaug.texture import library_index
from synthaug.texture.entry import Entry, Kind, from_json, object_name, sidecar_name
from synthaug.texture.materials import ANY, Materials
from synthaug.texture.surfaces import Map

MARKER = "library.json"
INDEX = "index.parquet"
ENTRIES = "entries"
VERSION = 1
_MARKER_KEY = "synthaug_textures"


class Stamp(NamedTuple):
    """What says that a sidecar is the one that a row of the index was made from: bytes, and nanoseconds."""

    size: int
    changed: int


class Library:
    """The entries of one library, in the order of their ids. Thread-safe; goes to other processes as it is.

    Args:
        root: The folder.
        entries: What is in it.
    """

    def __init__(self, root: Path, entries: Iterable[Entry]) -> None:
        self.root = root
        self.entries = tuple(sorted(entries, key=lambda entry: entry.id))
        self._files = InputRoot(root)
        self._by_id = {entry.id: entry for entry in self.entries}

    @classmethod
    def open(cls, folder: str | Path) -> Library:
        """The library in a folder. Reads the index and what it lacks: about 30 microseconds an entry.

        Raises:
            ConfigError: No library there.
            InputError: An entry that cannot be read, with its file.
        """
        root = Path(os.path.abspath(Path(folder).expanduser()))
        check_marker(root)
        return cls(root, read_entries(root).values())

    def __len__(self) -> int:
        return len(self.entries)

    def get(self, entry_id: str) -> Entry:
        """One entry by its id, or by the beginning of it where that says which.

        Raises:
            ConfigError: None, or several.
        """
        if entry_id in self._by_id:
            return self._by_id[entry_id]
        found = [entry for entry in self.entries if entry_id and entry.id.startswith(entry_id)]
        if len(found) != 1:
            raise ConfigError(
                f"{len(found)} textures of {self.root} have an id like '{printable(entry_id)}', expected one"
            )
        return found[0]

    @cached_property
    def materials(self) -> dict[str, tuple[Entry, ...]]:
        """Entries by material, both sorted."""
        names = sorted({entry.material for entry in self.entries})
        return {name: tuple(e for e in self.entries if e.material == name) for name in names}

    def of_material(self, material: str) -> tuple[Entry, ...]:
        """Entries of one material, or of all for `*`. Raises `ConfigError` where there are none."""
        found = self.entries if material == ANY else self.materials.get(material, ())
        if not found:
            raise ConfigError(
                f"{self.root} has no texture of '{printable(material)}'.{nearest(material, self.materials)}"
            )
        return found

    def draw(self, rng: np.random.Generator, materials: Materials, class_name: str) -> Entry | None:
        """A texture for an object of a class: first the material by its weight, then evenly within it.

        Depends on the generator and on which textures there are, not on the order of their import. Takes two
        numbers from the generator, whatever comes out.

        Returns:
            The entry; None where the class keeps its surface.

        Raises:
            ConfigError: A material without textures (`Materials.check` says so before a run).
        """
        first, second = float(rng.random()), float(rng.random())
        weights = materials.of(class_name)
        if not weights:
            return None
        sums = np.cumsum(list(weights.values()))
        place = min(int(np.searchsorted(sums, first * sums[-1], side="right")), len(sums) - 1)
        found = self.of_material(list(weights)[place])
        return found[min(int(second * len(found)), len(found) - 1)]

    def used(self, materials: Materials) -> tuple[Entry, ...]:
        """Entries that a mapping may draw, in the order of their ids."""
        wanted = {entry.id for material in materials.used() for entry in self.of_material(material)}
        return tuple(entry for entry in self.entries if entry.id in wanted)

    def read(self, entry: Entry, kind: Kind = "albedo") -> Map:
        """One map of an entry; `Entry.maps` says what its numbers mean. A 1024x1024 albedo takes about 20 ms.

        Raises:
            ConfigError: The entry has no such map.
            InputError: Its file is missing or not what it was, with the way out.
        """
        digest = entry.maps.get(kind)
        if digest is None:
            raise ConfigError(f"texture {printable(entry.name)} has no {kind} map.{nearest(kind, entry.maps)}")
        path = object_name(digest)
        try:
            data = self._files.read(path)
            if hashlib.sha256(data).hexdigest() != digest:
                raise Rejected("digest", "its bytes are not those that were imported")
            return png.decode(data)
        except (Rejected, ValueError) as error:
            raise InputError(
                f"{self.root / path}, the {kind} map of {printable(entry.name)}: {error}. Import the texture"
                " again, which puts the file back"
            ) from error


def identity(entries: Sequence[Entry]) -> str:
    """What of these entries a run depends on, as a SHA-256: maps, size, material; in whatever order they come."""
    rows = sorted(f"{e.id} {e.metres!r} {e.material} {int(e.tileable)}\n" for e in entries)
    return hashlib.sha256("".join(rows).encode()).hexdigest()


def marker() -> bytes:
    """The bytes of `library.json`."""
    return strictjson.dumps({_MARKER_KEY: VERSION})


def check_marker(root: Path) -> None:
    """Raises `ConfigError` where a folder is no library, or one of another version."""
    try:
        found = strictjson.loads(InputRoot(root).read(MARKER), f"{root}/{MARKER}")
    except (Rejected, InputError):
        found = None
    version = found.get(_MARKER_KEY) if isinstance(found, dict) else None
    if version is None:
        raise ConfigError(
            f"{root} is no texture library; make one: synthaug texture import FOLDER into={root} licence=..."
        )
    if version != VERSION:
        raise ConfigError(f"{root} is a texture library of version {version}, expected {VERSION}; update synthaug")


def stamps(root: Path) -> dict[str, Stamp]:
    """Size and time of every sidecar, by id. One `stat` each."""
    found: dict[str, Stamp] = {}
    folder = root / ENTRIES
    if not folder.is_dir():
        return found
    for shelf in sorted(entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)):
        with os.scandir(shelf) as files:
            for file in files:
                facts = file.stat(follow_symlinks=False)
                found[file.name.removesuffix(".json")] = Stamp(facts.st_size, facts.st_mtime_ns)
    return found


def read_entries(root: Path) -> dict[str, Entry]:
    """Every entry of a library by id: from the index where it holds, else from the sidecar."""
    there = stamps(root)
    files = InputRoot(root)
    rows = library_index.read(files, INDEX)
    found: dict[str, Entry] = {}
    for entry_id, stamp in sorted(there.items()):
        row = rows.get(entry_id)
        if row is not None and (row.size, row.changed) == stamp:
            found[entry_id] = row.entry
            continue
        name = sidecar_name(entry_id)
        try:
            data = files.read(name)
        except Rejected as error:
            raise InputError(f"{root / name}: {error.message}; nothing but entries belongs there") from error
        entry = from_json(strictjson.loads(data, name), f"{root / name}")
        if entry.id != entry_id:
            raise InputError(f"{root / name} holds the entry {entry.id}; rename it, or remove it and import again")
        found[entry_id] = entry
    return found
