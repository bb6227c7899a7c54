"""A frame of a SOLO dataset as its JSON says it. Every field is checked where it is used.

The written schema and the code that writes differ; this follows the code: `step<N>.frame_data.json`, file
names from the JSON alone, quaternions x, y, z, w, annotations told apart by the end of `@type`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from synthaug.errors import InputError, Rejected
from synthaug.formats import strictjson
from synthaug.formats.facts import Json
from synthaug.formats.inputs import InputRoot
from synthaug.labels import Size

BOX, BOX3D, INSTANCE, SEMANTIC, KEYPOINT, DEPTH, NORMAL, POSITION = (
    "BoundingBox2DAnnotation", "BoundingBox3DAnnotation", "InstanceSegmentationAnnotation",
    "SemanticSegmentationAnnotation", "KeypointAnnotation", "DepthAnnotation", "NormalAnnotation",
    "PixelPositionAnnotation",
)  # fmt: skip
NAME = re.compile(r"step\.?(?P<step>[0-9]+)\.frame(?:_data)?\.json")


@dataclass(frozen=True, slots=True)
class Capture:
    """One camera's picture in one frame.

    Attributes:
        where: For messages.
        folder: Of the frame, below the root.
        sensor: Name of the camera.
        sequence: Folder of the sequence, for grouping.
        step: Number in the sequence.
        facts: The JSON of the capture.
        metrics: The JSON of the frame's metrics.
    """

    where: str
    folder: str
    sensor: str
    sequence: str
    step: int
    facts: Json
    metrics: tuple[Json, ...]

    @property
    def size(self) -> Size:
        """(height, width). Raises `Rejected` under `label`."""
        told: Any = self.facts.get("dimension")
        if not isinstance(told, list) or len(cast("list[Any]", told)) != 2 or not all(map(_is_side, told)):
            raise Rejected("label", f"{self.where}: dimension {told!r}, expected [width, height] in pixels")
        return int(told[1]), int(told[0])

    @property
    def image(self) -> str:
        """Path of the picture. Raises `Rejected` under `missing` where none was saved."""
        name = self.facts.get("filename")
        if not isinstance(name, str) or not name:
            raise Rejected("missing", f"{self.where}: no picture was saved (filename is {name!r})")
        return self.path(name)

    def path(self, name: str) -> str:
        """A file of the frame below the root."""
        return f"{self.folder}/{name}" if self.folder else name

    def annotation(self, kind: str) -> Json | None:
        """The annotation of a kind, None where there is none.

        Raises:
            Rejected: Several of one kind: which one is meant, nothing says.
        """
        found = [a for a in rows(self.facts, "annotations", self.where) if kind_of(a) == kind]
        if len(found) > 1:
            names = ", ".join(str(a.get("id")) for a in found)
            raise Rejected("label", f"{self.where}: {len(found)} annotations of type {kind}: {names}; expected one")
        return found[0] if found else None

    def values(self, kind: str) -> list[Json]:
        """`values` of an annotation; empty where there is none."""
        found = self.annotation(kind)
        return [] if found is None else rows(found, "values", f"{self.where}, {kind}")

    def file(self, kind: str) -> str | None:
        """Path of the file behind an annotation, None where there is none."""
        found = self.annotation(kind)
        name = None if found is None else found.get("filename")
        return self.path(name) if isinstance(name, str) and name else None

    def visible_pixels(self) -> dict[int, int]:
        """Pixel counts by Unity's instance id, where the frame has that metric for this camera."""
        counts: dict[int, int] = {}
        for metric in self.metrics:
            if kind_of(metric) != "RenderedObjectInfoMetric" or metric.get("sensorId") not in (self.sensor, ""):
                continue
            for row in rows(metric, "values", self.where):
                count = row.get("visiblePixels")
                if isinstance(count, int):
                    counts[unity_id(row, self.where)] = count
        return counts


def kind_of(row: Mapping[str, Any]) -> str:
    """The last word of a type: `BoundingBox2DAnnotation`."""
    return str(row.get("@type", "")).rpartition(".")[2]


def rows(owner: Mapping[str, Any], name: str, where: str) -> list[Json]:
    """A list of objects, empty where it is missing. Raises `Rejected` under `label`."""
    found: Any = owner.get(name) or []
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in cast("list[Any]", found)):
        raise Rejected("label", f"{where}: '{name}' is no list of objects")
    return cast("list[Json]", found)


def unity_id(row: Mapping[str, Any], where: str) -> int:
    """Unity's instance id. Raises `Rejected` under `label`."""
    value = row.get("instanceId")
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Rejected("label", f"{where}: instanceId {value!r}, expected a whole number")
    return value


def label_of(row: Mapping[str, Any]) -> str | None:
    """Name of the class, None where the row has none."""
    name = row.get("labelName")
    return name if isinstance(name, str) and name else None


def load(source: InputRoot, path: str) -> tuple[Capture, ...]:
    """The captures of a frame file.

    Raises:
        InputError: Not JSON, or no frame.
        Rejected: It cannot be read.
    """
    parsed: Any = strictjson.loads(source.read(path), path)
    if not isinstance(parsed, dict):
        raise InputError(f"{path}: a frame is an object, found {type(parsed).__name__}")
    return tuple(_captures(cast(Json, parsed), path))


def _captures(document: Json, path: str) -> Iterator[Capture]:
    folder, _, name = path.rpartition("/")
    step: Any = document.get("step")
    told = NAME.fullmatch(name)
    number = step if isinstance(step, int) and step >= 0 else int(told["step"]) if told else 0
    try:
        metrics = tuple(rows(document, "metrics", path))
        for capture in rows(document, "captures", path):
            sensor = str(capture.get("id", ""))
            yield Capture(f"{path}, {sensor}", folder, sensor, folder or "sequence", number, capture, metrics)
    except Rejected as error:
        raise InputError(str(error)) from error


def _is_side(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value < 2**20 and value == int(value)
