"""The folders and lists of images that a data.yaml names, found below the root.

    train: images/train         a folder, or a list of folders
    val: val.txt                a text file with one image a line

A line of a list is a path from the list's folder (`./images/1.png`), from data.yaml's `path`, or from the root, or
an absolute path below the root. Where one entry is a text file, every entry is taken for a list of its images.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synthaug.errors import InputError, SecurityError, first_of
from synthaug.formats.inputs import InputRoot, fault_of
from synthaug.formats.lists import Listed, lines
from synthaug.formats.naming import PICTURE_SUFFIXES, SPLITS, Dangling, Part

_LISTS = (".txt", ".lst", ".list")
_KEYS = ("train", "val", "test")
_NO_SPLITS = frozenset({"path", "names", "nc", "download", "kpt_shape", "flip_idx", "kpt_names", "channels"})
"""Keys of a data.yaml that name no folder of pictures; other keys do, where there is such a folder."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What a data.yaml says of pictures; no part where it says nothing that is there."""

    parts: tuple[Part, ...] = ()
    lists: tuple[Listed, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """Finds what a data.yaml names.

    Attributes:
        source: The dataset.
        yaml: The parsed file.
        labels: `read.labels`, if it was told.
        dangling: What to do with lists, and names on them, that are not there.
    """

    source: InputRoot
    yaml: Mapping[str, Any]
    labels: str | None
    dangling: Dangling
    _listings: dict[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])

    def declared(self) -> Declared:
        """Parts, and lists where there are some.

        Raises:
            InputError: A text file that is named is not there, or names images outside the root.
        """
        entries = list(self._entries())
        if any(is_list(entry) for _, entry, _ in entries):
            return self._by_lists(entries)
        found: dict[str, str] = {}
        for key, _, folder in entries:
            if folder is None and key in _KEYS:
                return Declared()
            # `val: images/train` is how a set without a second split is spelt: the pictures are read once.
            if folder is not None:
                found.setdefault(folder, key)
        several = len(found) > 1
        return Declared(tuple(self._part(f, key, key if several else "") for f, key in found.items()))

    def _entries(self) -> Sequence[tuple[str, str, str | None]]:
        """Key, entry as it is spelt, and path below the root; None for what is not there."""
        rows: list[tuple[str, str, str | None]] = []
        for key in (*_KEYS, *(str(key) for key in self.yaml if key not in (*_KEYS, *_NO_SPLITS))):
            told: Any = self.yaml.get(key) or []
            for entry in told if isinstance(told, list) else [told]:  # pyright: ignore[reportUnknownVariableType]
                if key not in _KEYS and not isinstance(entry, str):
                    continue
                text = str(entry)  # pyright: ignore[reportUnknownArgumentType]
                if is_list(text):
                    path = next((p for p in self._places(text) if self.source.exists(p)), None)
                else:
                    path = self._folder(text)
                # `label_dir: labels` names a folder, but none of pictures.
                if key in _KEYS or (path is not None and not is_list(text) and self._images_below(path)):
                    rows.append((key, text, path))
        return rows

    def _folder(self, entry: str) -> str | None:
        for plain in self._places(entry):
            try:
                if self.source.is_folder(plain):
                    return plain
            except SecurityError:
                continue
        return None

    def _places(self, entry: str) -> Sequence[str]:
        """Where an entry may be meant to lie, `..` left out: exports count from a folder beside the root."""
        base = str(self.yaml.get("path") or "")
        spelt = (f"{base}/{entry}", entry)
        plain = ("/".join(word for word in path.split("/") if word not in ("", ".", "..")) for path in spelt)
        return tuple(dict.fromkeys(path for path in plain if path and not fault_of(path)))

    def _part(self, folder: str, key: str, prefix: str) -> Part:
        words = folder.split("/")
        prefix = next((word for word in words if word.lower() in SPLITS), prefix)
        return Part(key, prefix, folder, self._labels_of(words, prefix))

    def _labels_of(self, words: Sequence[str], prefix: str) -> str:
        if self.labels is not None:
            return self.labels.strip("/").replace("{split}", prefix)
        places = [place for place, word in enumerate(words) if word == "images"]
        beside = "/".join([*words[: places[-1]], "labels", *words[places[-1] + 1 :]]) if places else "/".join(words)
        return beside if self.source.is_folder(beside) else "/".join(words)

    def _by_lists(self, entries: Sequence[tuple[str, str, str | None]]) -> Declared:
        lost = [f"{key}: {entry}" for key, entry, path in entries if path is None]
        if lost and self.dangling == "refuse":
            raise InputError(
                f"data.yaml names {len(lost)} lists or folders that are not below {self.source.root}; add them, take "
                "them out of data.yaml, name the images' folder with read.images=..., or read with dangling=ignore:"
                f"{first_of(lost)}"
            )
        lists = [
            Listed(path, key, self._names(path) if is_list(entry) else self._images_below(path))
            for key, entry, path in entries
            if path is not None
        ]
        # A folder under another key (`img_dir: images`) that holds images of a split is no split of its own.
        told = {name for one in lists if one.split in _KEYS for name in one.names}
        lists = [one for one in lists if one.split in _KEYS or told.isdisjoint(one.names)]
        folders = dict.fromkeys(_folder_of(name) for one in lists for name in one.names)
        tops = [f for f in folders if not any(_is_below(f, other) for other in folders)]
        several = len(tops) > 1
        parts = (
            self._part(f, "train", _prefix_of(f)) if several else Part("train", "", f, self._beside(f)) for f in tops
        )
        return Declared(tuple(parts), tuple(lists))

    def _beside(self, folder: str) -> str:
        return self._labels_of(folder.split("/"), "")

    def _images_below(self, folder: str) -> tuple[str, ...]:
        return tuple(self.source.listing(folder, suffixes=PICTURE_SUFFIXES))

    def _names(self, path: str) -> tuple[str, ...]:
        """The images of a list as paths below the root; one that is not there under the first name it may have."""
        rows = lines(self.source, path)
        found: list[str] = []
        outside: list[str] = []
        for row in filter(None, (row.strip() for row in rows)):
            places = self._images_named(row, posixpath.dirname(path))
            there = next((place for place in places if place in self._beside_it(place)), None)
            if places:
                found.append(there or places[0])
            else:
                outside.append(row)
        if outside:
            raise InputError(
                f"{path}: {len(outside)} lines name no file below {self.source.root}; write paths from the list's "
                f"folder, or name the folder of the images with read.images=...:{first_of(outside)}"
            )
        return tuple(found)

    def _images_named(self, row: str, folder: str) -> Sequence[str]:
        if row.startswith("/"):
            base = f"{self.source.root.as_posix()}/"
            spelt = [row[len(base) :]] if row.startswith(base) else []
        else:
            spelt = [f"{folder}/{row}", f"{self.yaml.get('path') or ''}/{row}", row]
        plain = (posixpath.normpath(path.lstrip("/")) for path in spelt)
        return tuple(dict.fromkeys(path for path in plain if not fault_of(path)))

    def _beside_it(self, path: str) -> Collection[str]:
        folder = posixpath.dirname(path)
        if folder not in self._listings:
            there = self.source.is_folder(folder)
            found = self.source.listing(folder, suffixes=PICTURE_SUFFIXES, recursive=False) if there else ()
            self._listings[folder] = frozenset(found)
        return self._listings[folder]


def is_list(entry: str) -> bool:
    """Whether an entry of a data.yaml names a text file of images."""
    return entry.lower().endswith(_LISTS)


def _folder_of(image: str) -> str:
    """The folder whose name decides where labels lie: the last one called `images`, else the image's own."""
    words = image.split("/")[:-1]
    places = [place for place, word in enumerate(words) if word == "images"]
    return "/".join(words[: places[-1] + 1] if places else words)


def _is_below(folder: str, other: str) -> bool:
    """Whether a folder is listed along with another one; one called `images` never is, its labels lie elsewhere."""
    return folder != other and folder.rpartition("/")[2] != "images" and folder.startswith(f"{other}/" if other else "")


def _prefix_of(folder: str) -> str:
    return "/".join(word for word in folder.split("/") if word != "images")
