"""What a SOLO dataset declares about all of its frames: classes and keypoint templates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from synthaug.errors import InputError, Rejected
from synthaug.formats import strictjson
from synthaug.formats.classes import mirror_of
from synthaug.formats.facts import Json
from synthaug.formats.inputs import InputRoot
from synthaug.formats.solo import frame
from synthaug.labels import Category

FILE = "annotation_definitions.json"


@dataclass(frozen=True, slots=True)
class Template:
    """A keypoint layout: names by index, and pairs of indices that a drawing joins."""

    names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Definitions:
    """Class names in the order of their label ids, and templates by id."""

    names: tuple[str, ...]
    templates: Mapping[str, Template]

    def category(self, name: str, template: str | None) -> Category:
        """A class, with its keypoints where it has some. Raises `InputError` for an unknown template."""
        if template is None:
            return Category(name)
        if template not in self.templates:
            raise InputError(f"class '{name}' has keypoints of template {template!r}, which {FILE} does not define")
        found = self.templates[template]
        return Category(name, found.names, found.skeleton, mirror_of(found.names))


def load(source: InputRoot, paths: Sequence[str]) -> Definitions:
    """The definitions of all files.

    Raises:
        InputError: Malformed.
    """
    names: dict[str, None] = {}
    later: dict[str, None] = {}
    templates: dict[str, Template] = {}
    for path in paths:
        parsed: Any = strictjson.loads(source.read(path), path)
        try:
            document = cast(Json, parsed) if isinstance(parsed, dict) else {}
            for row in frame.rows(document, "annotationDefinitions", path):
                spec = frame.rows(row, "spec", path)
                numbered = [entry for entry in spec if isinstance(entry.get("label_id"), int)]
                names.update(dict.fromkeys(_names(sorted(numbered, key=lambda entry: entry["label_id"]))))
                later.update(dict.fromkeys(_names(spec)))
                if isinstance(row.get("template"), dict):
                    templates |= _template(cast(Json, row["template"]), path)
        except Rejected as error:
            raise InputError(str(error)) from error
    return Definitions(tuple(names | later), templates)


def _names(spec: Iterable[Mapping[str, Any]]) -> list[str]:
    found = (entry.get("label_name", entry.get("labelName")) for entry in spec)
    return [name for name in found if isinstance(name, str) and name]


def _template(told: Json, path: str) -> dict[str, Template]:
    points = sorted(frame.rows(told, "keypoints", path), key=lambda row: int(row.get("index", -1)))
    if [row.get("index") for row in points] != list(range(len(points))):
        raise InputError(f"{path}: keypoints of a template must be numbered from 0 without gaps")
    joined = (
        (_joint(row, "joint1", points), _joint(row, "joint2", points)) for row in frame.rows(told, "skeleton", path)
    )
    skeleton = tuple((a, b) for a, b in joined if a is not None and b is not None)
    return {str(told.get("templateId")): Template(tuple(str(row.get("label")) for row in points), skeleton)}


def _joint(row: Json, name: str, points: Sequence[Json]) -> int | None:
    value = row.get(name)
    return value if isinstance(value, int) and 0 <= value < len(points) else None
