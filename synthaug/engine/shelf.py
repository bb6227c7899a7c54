"""The writing side of a texture library: what comes in is compared, published and indexed, under one lock.

Maps are in place before the entry that names them, and entries before the index: a killed import leaves at worst
maps that no entry names, which the same import takes up again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from synthaug.engine.lock import RunLock
from synthaug.engine.publish import PRIVATE, FileSystem, Output
from synthaug.errors import ConfigError, Refusal
from synthaug.formats import strictjson
from synthaug.formats.inputs import InputRoot
from synthaug.texture import library_index, likeness
from synthaug.texture.entry import Entry, object_name, sidecar_name
from synthaug.texture.importing import Incoming
from synthaug.texture.library import INDEX, MARKER, Library, check_marker, marker, read_entries, stamps

Near = Literal["skip", "keep"]
Existing = Literal["keep", "update"]
Result = Literal["added", "there", "updated", "near", "kept near"]
_PATIENCE = 120.0
_PAUSE = 0.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one texture.

    Attributes:
        entry: As it came in.
        result: `there`: the same maps were there before; `near`: left out, since it looks like `other`;
            `kept near`: added all the same.
        other: The entry that it is equal or alike to.
    """

    entry: Entry
    result: Result
    other: Entry | None = None


def check_place(root: Path) -> bool:
    """Whether a folder is a library already. Makes nothing; raises `ConfigError` where it holds something else."""
    if (root / MARKER).is_file():
        check_marker(root)
        return True
    if root.is_dir() and any(path.name != PRIVATE for path in root.iterdir()):
        raise ConfigError(f"into={root} holds files and is no texture library; name a new or empty folder")
    return False


class Shelf:
    """A library that can be added to. Several processes may each have one over the same folder.

    Args:
        root: The folder; made where it does not exist.
        files: The seam to the disk, for tests.
        patience: Seconds to wait for another process that is adding.

    Raises:
        ConfigError: The folder cannot be written, or holds something else.
    """

    def __init__(self, root: Path, files: FileSystem | None = None, patience: float = _PATIENCE) -> None:
        self._output = Output(root, files)
        self._files, self._patience = files, patience
        self.root = self._output.root
        check_place(self.root)
        if (self.root / MARKER).is_file():
            with self._output.explained():
                self._output.make_folders([PRIVATE])
        self._output.preflight()
        with self._locked():
            self._output.sweep()
            if self._output.read(MARKER) is None:
                self._output.publish_file(MARKER, marker())

    def library(self) -> Library:
        """What is in it now."""
        return Library.open(self.root)

    def add(self, textures: Sequence[Incoming], *, near: Near = "skip", existing: Existing = "keep") -> list[Outcome]:
        """Puts textures in place, durably. Adding the same again changes nothing.

        Args:
            textures: In the order in which later ones are compared with earlier ones.
            near: What is done with one that looks like another (`likeness.nearest`).
            existing: Whether the facts of one whose maps are there already are replaced.

        Returns:
            One outcome per texture.

        Raises:
            Refusal: Another process is adding for longer than the patience.
            Interrupted: The disk is full or broken; what was published stays.
        """
        with self._locked():
            there = read_entries(self.root)
            outcomes = [self._place(texture, there, near, existing) for texture in textures]
            wanted = [t for t, o in zip(textures, outcomes, strict=True) if o.result != "near"]
            self._publish_maps(wanted)
            fresh = {o.entry.id: o.entry for o in outcomes if o.result in ("added", "updated", "kept near")}
            with self._output.begin("entries") as staging:
                for entry_id, entry in fresh.items():
                    staging.write(sidecar_name(entry_id), strictjson.dumps(entry.to_json()))
                staging.publish()
            self._index()
        return outcomes

    def rebuild(self) -> int:
        """Writes the index anew from the entries; how many there are."""
        with self._locked():
            self._output.remove(INDEX)
            return self._index()

    def _place(self, texture: Incoming, there: dict[str, Entry], near: Near, existing: Existing) -> Outcome:
        """What is to become of one texture; `there` takes it up where it comes in."""
        entry = texture.entry
        standing = there.get(entry.id)
        if standing is not None:
            changed = existing == "update" and standing.to_json() != entry.to_json()
            there[entry.id] = entry if changed else standing
            return Outcome(entry, "updated" if changed else "there", standing)
        known = list(there.values())
        index = likeness.nearest(bytes.fromhex(entry.likeness), [bytes.fromhex(e.likeness) for e in known])
        if index is not None and near == "skip":
            return Outcome(entry, "near", known[index])
        there[entry.id] = entry
        return Outcome(entry, "added") if index is None else Outcome(entry, "kept near", known[index])

    def _publish_maps(self, textures: Sequence[Incoming]) -> None:
        """Every map that is missing or damaged; those of textures that were there before are checked too."""
        due = {digest: data for texture in textures for digest, data in texture.objects.items()}
        with self._output.begin("maps") as staging:
            for digest, data in sorted(due.items()):
                if self._output.sha256_of(object_name(digest)) != digest:
                    staging.write(object_name(digest), data)
            staging.publish()

    def _index(self) -> int:
        entries, times = read_entries(self.root), stamps(self.root)
        rows = {entry_id: library_index.Row(entry, *times[entry_id]) for entry_id, entry in entries.items()}
        if {i: row[1:] for i, row in library_index.read(InputRoot(self.root), INDEX).items()} != {
            i: row[1:] for i, row in rows.items()
        }:
            self._output.publish_file(INDEX, library_index.pack(rows))
        return len(rows)

    @contextlib.contextmanager
    def _locked(self) -> Generator[None]:
        lock = RunLock(self.root, self._files)
        deadline = time.monotonic() + self._patience
        while True:
            try:
                lock.acquire()
                break
            except Refusal as error:
                if time.monotonic() > deadline:
                    raise Refusal(
                        f"library {self.root}: another process is adding, for {self._patience:.0f} s by now; try later"
                    ) from error
                time.sleep(_PAUSE)
        try:
            yield
        finally:
            lock.release()
