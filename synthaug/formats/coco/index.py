"""A COCO dataset as a whole: which files, which rows, and whether they belong together.

Everything that concerns more than one sample is decided here, before an image is opened: duplicate ids
(E2), dangling references (E3), unknown categories (E1), and how rows find their images.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from synthaug.errors import InputError, SecurityError, first_of
from synthaug.formats import strictjson
from synthaug.formats.facts import Json, stored_id
from synthaug.formats.inputs import InputRoot, check_path
from synthaug.formats.naming import (
    IMAGE_FOLDERS,
    PICTURE_SUFFIXES,
    SPLITS,
    Dangling,
    canonical_split,
    is_read,
    sample_id,
    stem_of,
)  # fmt: skip

Join = Literal["name", "suffix"]


@dataclass(frozen=True, slots=True)
class Document:
    """One JSON file.

    Attributes:
        path: Below the root.
        split: `train`, `val`, `test` or the file's own word.
        word: The split as the file's name spells it, empty where it says none.
    """

    path: str
    split: str
    word: str


@dataclass(frozen=True, slots=True)
class Row:
    """One image: its file below the root, its JSON row and its annotations."""

    file: str
    split: str
    image: Mapping[str, Any]
    annotations: tuple[Mapping[str, Any], ...]


@dataclass(slots=True)
class Troubles:
    """Offenders by kind, collected so that one message tells all of them."""

    found: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, offender: str) -> None:
        """Notes one offender."""
        self.found[kind].append(offender)

    def refuse(self, where: str, advice: str) -> None:
        """Raises `InputError` with counts and the first offenders of each kind, if there is any."""
        if self.found:
            told = "".join(f"\n{len(rows)} {kind}:{first_of(rows)}" for kind, rows in self.found.items())
            raise InputError(f"{where} is refused; {advice}{told}")


def find_documents(root: InputRoot, labels: str | None, split: str | None) -> list[Document]:
    """The JSON files to read, one per split.

    Raises:
        InputError: None, or several for one split.
    """
    if labels is not None and labels.endswith(".json"):
        return [_document(labels) if split is None else Document(labels, canonical_split(split), split)]
    folders = [labels.strip("/")] if labels is not None else ["annotations", "labels", ""]
    paths: list[str] = []
    for folder in folders:
        if root.is_folder(folder):
            paths = root.listing(folder, suffixes=(".json",), recursive=False)
        if paths:
            break
    paths = paths or root.listing("", suffixes=(".json",))
    instances = [path for path in paths if path.rpartition("/")[2].startswith("instances")]
    documents = [_document(path) for path in instances or paths]
    if split is not None:
        documents = [d for d in documents if split in (d.word, d.split) or canonical_split(split) == d.split]
    several = [name for name, count in Counter(d.split for d in documents).items() if count > 1]
    if several or not documents:
        what = f"several files for split {several}" if several else "no annotation file"
        found = first_of(paths) or " none"
        raise InputError(f"{root.root}: {what}; name the one to read with read.labels=FILE.json. Found:{found}")
    return documents


def load(root: InputRoot, path: str) -> Json:
    """One parsed document with its three lists checked for their types.

    Raises:
        InputError: Not JSON, or not COCO.
    """
    parsed: Any = strictjson.loads(root.read(path, limit=1 << 33), path)
    if not isinstance(parsed, dict):
        raise InputError(f"{path}: a COCO file is an object, found {type(parsed).__name__}")
    document: Json = parsed
    document.setdefault("annotations", [])
    for name in ("images", "annotations", "categories"):
        rows: Any = document.get(name)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise InputError(f"{path}: '{name}' must be a list of objects")
    return document


def find_images(root: InputRoot, images: str | None, document: Document, names: Sequence[str]) -> str:
    """The folder below which the `file_name`s lie: as told, or where most of the first twenty are found."""
    if images is not None:
        return images.strip("/").replace("{split}", document.word)
    beside = document.path.rpartition("/")[0]
    nested = [form for name in IMAGE_FOLDERS for form in (name, f"{name}/{document.word}", f"{document.word}/{name}")]
    candidates = [folder.strip("/") for folder in (*nested, document.word, "", beside)]
    sample = [name for name in names[:20] if _plain(name)]
    hits = {folder: sum(root.exists(f"{folder}/{name}".lstrip("/")) for name in sample) for folder in candidates}
    best = max(hits, key=lambda folder: hits[folder])
    return best if hits[best] else next((folder for folder in candidates if folder and root.is_folder(folder)), "")


def rows_of(
    root: InputRoot, document: Document, content: Json, folder: str, *, join: Join, dangling: Dangling
) -> tuple[dict[str, Row], Mapping[str, int]]:
    """Rows by sample id, and counts of what was left out.

    Args:
        root: The dataset.
        document: Where the content comes from.
        content: The parsed file.
        folder: Of the images, below the root.
        join: `name`: `file_name` is the path. `suffix`: the image is the only file whose stem is that of
            `file_name` or ends with `_` and it; rows that fit several files or share an id fit none, and a
            row without any file refuses the whole.
        dangling: Refuse rows that belong nowhere, or leave them out and count them.

    Raises:
        InputError: With counts and first offenders by kind.
    """
    troubles = Troubles()
    images = _images_by_id(content["images"], troubles)
    listed = root.listing(folder, suffixes=PICTURE_SUFFIXES) if root.is_folder(folder) else []
    files = _join(images, listed, folder, join, troubles)
    by_image = _annotations(content["annotations"], images, files, troubles)
    counts = {kind: len(offenders) for kind, offenders in troubles.found.items()}
    fatal = {k: v for k, v in troubles.found.items() if dangling == "refuse" or k in _FATAL[join]}
    Troubles(fatal).refuse(document.path, _INCOMPLETE if join == "suffix" and _MISSING in fatal else _ADVICE)
    return _rows(document, images, files, by_image, folder), counts


_TWICE_IMAGE = "image ids that occur more than once"
_TWICE_FILE = "file names that occur more than once"
_TWICE_LABEL = "annotation ids that occur more than once"
_BAD_ROW = "image rows without a usable id or file_name"
_MISSING = "image rows without a file"
_AMBIGUOUS = "image rows that fit several files"
_ORPHAN = "annotations whose image is not there"
_ADVICE = (
    "give each row one file and one id, read with join=suffix where the names lack a prefix, or leave such rows "
    "out with dangling=ignore"
)
_INCOMPLETE = (
    "rows without a file prove the folder incomplete, so no row can be joined by its suffix; add the missing images, "
    "or take another label file"
)
# Joined by rule, a repeated id or name is one more row that cannot be told apart. But a row without a file proves
# the folder incomplete, and then the only file that fits may be another row's: no row can be trusted.
_FATAL: Mapping[Join, frozenset[str]] = {
    "name": frozenset({_TWICE_IMAGE, _TWICE_FILE, _TWICE_LABEL, _BAD_ROW}),
    "suffix": frozenset({_TWICE_LABEL, _BAD_ROW, _MISSING}),
}


def _document(path: str) -> Document:
    folder, _, name = path.rpartition("/")
    stem = stem_of(name)
    word = stem.removeprefix("instances_") if stem.startswith("instances_") else stem.rpartition("_")[2]
    plain = word.rstrip("0123456789") or word
    if stem.startswith("instances_") or plain.lower() in SPLITS:
        return Document(path, canonical_split(plain if plain.lower() in SPLITS else word), word)
    above = folder.rpartition("/")[2]
    return Document(path, canonical_split(above), above) if above.lower() in SPLITS else Document(path, "train", "")


def _plain(name: str) -> bool:
    """Whether a file name is one that the root may be asked for; the others are refused when rows are joined."""
    try:
        return bool(check_path(name))
    except SecurityError:
        return False


def _key(value: Any) -> int | str | None:
    """An id as it may occur: whole numbers and text, nothing else."""
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _images_by_id(rows: Iterable[Json], troubles: Troubles) -> dict[int | str, Json]:
    """Rows by id; a row whose id or name occurs twice is no row, because nothing tells which is meant."""
    ids = Counter(_key(row.get("id")) for row in rows)
    names = Counter(str(row.get("file_name")) for row in rows)
    good: dict[int | str, Json] = {}
    for row in rows:
        key, name = _key(row.get("id")), row.get("file_name")
        if key is None or not isinstance(name, str) or not name:
            troubles.add(_BAD_ROW, f"id {row.get('id')!r}, file_name {name!r}"[:200])
            continue
        if ids[key] > 1:
            troubles.add(_TWICE_IMAGE, f"id {key!r} ({name})")
        elif names[name] > 1:
            troubles.add(_TWICE_FILE, f"{name} (id {key!r})")
        else:
            good[key] = row
    return good


def _join(
    images: Mapping[int | str, Json], listed: Sequence[str], folder: str, join: Join, troubles: Troubles
) -> dict[int | str, str]:
    """The file of each row, where there is exactly one."""
    start = f"{folder}/" if folder else ""
    by_name = {path[len(start) :]: path for path in listed}
    by_tail: dict[str, list[str]] = defaultdict(list)
    for path in filter(is_read, listed) if join == "suffix" else ():
        words = stem_of(path.rpartition("/")[2]).split("_")
        for k in range(len(words)):
            by_tail["_".join(words[k:])].append(path)
    files: dict[int | str, str] = {}
    for key, row in images.items():
        name: str = row["file_name"]
        check_path(name)
        fits = [by_name[name]] if name in by_name else by_tail.get(stem_of(name.rpartition("/")[2]), [])
        if len(fits) == 1:
            files[key] = fits[0]
        else:
            kind = _AMBIGUOUS if fits else _MISSING
            troubles.add(kind, f"{name} (id {key!r})" + (f": {', '.join(fits[:4])}" if fits else ""))
    return files


def _annotations(
    rows: Iterable[Json], images: Mapping[int | str, Json], files: Mapping[int | str, str], troubles: Troubles
) -> dict[int | str, list[Json]]:
    ids = Counter(_key(row.get("id")) for row in rows)
    found: dict[int | str, list[Json]] = defaultdict(list)
    for row in rows:
        key, label = _key(row.get("image_id")), _key(row.get("id"))
        if label is not None and ids[label] > 1:
            troubles.add(_TWICE_LABEL, f"id {label!r} (image {row.get('image_id')!r})")
        elif key is None or key not in images or key not in files:
            troubles.add(_ORPHAN, f"annotation {label!r} of image {row.get('image_id')!r}")
        else:
            found[key].append(row)
    return found


def _rows(
    document: Document,
    images: Mapping[int | str, Json],
    files: Mapping[int | str, str],
    annotations: Mapping[int | str, list[Json]],
    folder: str,
) -> dict[str, Row]:
    prefix = document.word if document.word and document.word in folder.split("/") else ""
    rows: dict[str, Row] = {}
    users: dict[str, list[str]] = defaultdict(list)
    for key, path in files.items():
        inside = path[len(folder) :].lstrip("/") if folder else path
        name = stored_id(images[key].get("synthaug")) or sample_id(prefix, stem_of(inside))
        users[name].append(path)
        rows[name] = Row(path, document.split, images[key], tuple(annotations.get(key, ())))
    twice = [f"{name}: {', '.join(paths)}" for name, paths in users.items() if len(paths) > 1]
    if twice:
        raise InputError(f"{document.path}: {len(twice)} samples are there more than once:{first_of(twice)}")
    return rows
