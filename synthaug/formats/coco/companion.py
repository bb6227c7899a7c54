"""`person_keypoints_*.json` beside `instances_*.json`: the same annotations once more, there with keypoints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from synthaug.errors import InputError, first_of
from synthaug.formats.coco.annotation import is_number
from synthaug.formats.coco.index import Document, load
from synthaug.formats.facts import Json
from synthaug.formats.inputs import InputRoot
from synthaug.formats.naming import Dangling

_INSTANCES, _KEYPOINTS = "instances", "person_keypoints"
_SHARED = ("keypoints", "num_keypoints")
_OF_CLASS = ("keypoints", "skeleton")


def beside(root: InputRoot, documents: Sequence[Document], labels: str | None) -> dict[str, str]:
    """The keypoint file of each document that has one, by the document's path; none where a file was named."""
    if labels is not None and labels.endswith(".json"):
        return {}
    paths = {document.path: _spelt(document.path, _KEYPOINTS) for document in documents}
    return {path: other for path, other in paths.items() if other != path and root.exists(other)}


def unread(root: InputRoot, documents: Sequence[Document], labels: str | None, read: Sequence[str]) -> dict[str, int]:
    """A note on the other JSON files beside `instances_*.json`, by name; none where a file was named."""
    if labels is not None and labels.endswith(".json"):
        return {}
    folders = {d.path.rpartition("/")[0] for d in documents if d.path.rpartition("/")[2].startswith(_INSTANCES)}
    there = [p for folder in sorted(folders) for p in root.listing(folder, suffixes=(".json",), recursive=False)]
    twins = [other for path in there if (other := _spelt(path, _KEYPOINTS)) != path]
    others = [p for p in there if p not in (*read, *twins) and not p.rpartition("/")[2].startswith(_INSTANCES)]
    shown = ", ".join(path.rpartition("/")[2] for path in others[:4]) + (", ..." if len(others) > 4 else "")
    return {f"annotation files that are not read ({shown})": len(others)} if others else {}


def add_keypoints(root: InputRoot, path: str, content: Json, instances: str, dangling: Dangling) -> dict[str, int]:
    """Puts the keypoints of a file into the annotations and categories of the same id, and counts what was left out.

    Args:
        root: The dataset.
        path: Of the keypoint file.
        content: The parsed instances file; changed.
        instances: Its path.
        dangling: What to do with keypoints whose annotation is not there.

    Raises:
        InputError: Such keypoints under `refuse`, or rows of one id that contradict each other.
    """
    other = load(root, path)
    categories = {str(row.get("id")): row for row in content["categories"]}
    for row in other["categories"]:
        known = categories.get(str(row.get("id")))
        if known is None or known.get("name") != row.get("name"):
            raise InputError(_contradiction(path, instances, [f"category {row.get('id')!r} ({row.get('name')!r})"]))
        if any(known.get(key) and row.get(key) and known[key] != row[key] for key in _OF_CLASS):
            raise InputError(_contradiction(path, instances, [f"keypoints of category {row.get('id')!r}"]))
        known.update({key: row[key] for key in _OF_CLASS if key in row})
    named = {_key(row): row.get("file_name") for row in content["images"]}
    renamed = {
        _key(row) for row in other["images"] if row.get("file_name") != named.get(_key(row), row.get("file_name"))
    }
    annotations = {row.get("id"): row for row in content["annotations"] if _key(row) is not None}
    posed = [row for row in other["annotations"] if row.get("keypoints")]
    lost = [_told(row) for row in posed if _key(row) not in annotations]
    pairs = [(annotations[_key(row)], row) for row in posed if _key(row) in annotations]
    told = Counter(map(_key, posed))
    unlike = [
        _told(row)
        for known, row in pairs
        if told[_key(row)] > 1 or row.get("image_id") in renamed or _differ(known, row)
    ]
    if unlike or (lost and dangling == "refuse"):
        way = "" if unlike else ", or leave such keypoints out with dangling=ignore"
        raise InputError(_contradiction(path, instances, unlike or lost, way))
    for known, row in pairs:
        known.update({key: row[key] for key in _SHARED if key in row})
    return {"keypoint rows without an annotation of their id": len(lost)} if lost else {}


def _spelt(path: str, word: str) -> str:
    """The name of a file of another kind for the same split."""
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{word}{name.removeprefix(_INSTANCES)}" if name.startswith(f"{_INSTANCES}_") else path


def _differ(known: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether two rows of one id are of two objects: files that were numbered apart share ids by chance."""
    if any(known.get(key) != row.get(key) for key in ("image_id", "category_id")):
        return True
    return any(known.get(key) and row.get(key) and not _near(known[key], row[key]) for key in ("bbox", "keypoints"))


def _near(told: Any, other: Any) -> bool:
    """Whether two rows of numbers are the same within a pixel, which rounding may cost."""
    rows = [list(row) for row in (told, other) if isinstance(row, list) and all(map(is_number, row))]
    if len(rows) < 2 or len(rows[0]) != len(rows[1]):
        return bool(told == other)
    return all(abs(a - b) <= 1.0 for a, b in zip(*rows, strict=True))


def _key(row: Mapping[str, Any]) -> int | str | None:
    value = row.get("id")
    return value if isinstance(value, int | str) else None


def _told(row: Mapping[str, Any]) -> str:
    return f"annotation {row.get('id')!r} of image {row.get('image_id')!r}"


def _contradiction(path: str, instances: str, offenders: Sequence[str], way: str = "") -> str:
    return (
        f"{path} and {instances} do not belong together: {len(offenders)} rows are not in both with one image, "
        f"category, box and keypoints. Read one of them with read.labels={instances}{way}:{first_of(offenders)}"
    )
