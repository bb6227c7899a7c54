"""The objects of one SOLO capture: classes, masks, boxes, keypoints and 3D boxes joined by Unity's instance id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from synthaug import rle
from synthaug.errors import Rejected
from synthaug.formats import maps
from synthaug.formats.facts import Json
from synthaug.formats.shapes import fit_box
from synthaug.formats.solo import frame, space
from synthaug.formats.solo.frame import Capture
from synthaug.formats.strays import Strays
from synthaug.labels import Instance, Keypoint, Size

OffTable = Literal["reject", "background", "ignore"]

_APART = 2.0
"""Pixels by which a 2D box of the source may differ from the tight box of its mask before it is kept aside."""


@dataclass(slots=True)
class Colours:
    """A colour picture looked up in its table.

    Attributes:
        ids: The table's numbers, 0 for background.
        ignored: Where labels say nothing.
        strays: Pixels by colour off the table.
    """

    ids: NDArray[np.int32]
    ignored: NDArray[np.bool_]
    strays: Strays


def look_up(
    data: bytes, table: Mapping[maps.Colour, int], off_table: OffTable, max_unknown: float, where: str
) -> Colours:
    """Numbers behind the colours of a segmentation; black is background unless the table names it.

    Raises:
        Rejected: Under `label`: a lossy picture, or colours off the table under `reject`, as smoothing makes
            them. Under `unknown_classes`: more of the picture than `max_unknown`.
    """
    named = {(0, 0, 0): 0} | dict(table)
    ids, found = maps.colours_to_ids(maps.decode_colours(data), named)
    unknown = ids == maps.UNKNOWN
    lost = Strays({f"#{r:02x}{g:02x}{b:02x}": count for (r, g, b), count in found.items()})
    shown = ", ".join(f"{word} ({count} px)" for word, count in list(lost.values.items())[:5])
    first = f"{where}: {lost.count} pixels of {len(found)} colours that the frame does not name: {shown}"
    if lost.count and off_table == "reject":
        raise Rejected(
            "label",
            f"{first}; render segmentation without smoothing, or choose off_table=ignore or off_table=background",
        )
    if lost.count > max_unknown * ids.size:
        raise Rejected(
            "unknown_classes",
            f"{first}; that is {lost.count / ids.size:.0%} of the picture, max_unknown={max_unknown:g}",
        )
    ids[unknown] = 0
    return Colours(ids, unknown & (off_table == "ignore"), lost)


def colour_of(value: Any, where: str) -> maps.Colour:
    """An RGB colour from `color` or `pixelValue`. Raises `Rejected` under `label`."""
    numbers = cast("list[Any]", value) if isinstance(value, list) else []
    if len(numbers) not in (3, 4) or not all(isinstance(v, int) and 0 <= v <= 255 for v in numbers):
        raise Rejected("label", f"{where}: colour {str(cast(object, value))[:60]}, expected numbers from 0 to 255")
    return numbers[0], numbers[1], numbers[2]


def instance_table(capture: Capture) -> dict[maps.Colour, int]:
    """Unity's id by colour. Raises `Rejected` under `label` where two share a colour."""
    annotation = capture.annotation(frame.INSTANCE) or {}
    table: dict[maps.Colour, int] = {}
    for row in frame.rows(annotation, "instances", capture.where):
        colour = colour_of(row.get("color"), capture.where)
        if table.setdefault(colour, frame.unity_id(row, capture.where)) != row["instanceId"]:
            raise Rejected("label", f"{capture.where}: two instances share the colour {colour}")
    return table


def class_names(capture: Capture) -> dict[int, str]:
    """Class name by Unity's id. Raises `Rejected` under `label` where two annotations disagree."""
    annotation = capture.annotation(frame.INSTANCE) or {}
    told = [
        *frame.rows(annotation, "instances", capture.where),
        *capture.values(frame.BOX),
        *capture.values(frame.BOX3D),
    ]
    names: dict[int, str] = {}
    for row in told:
        number, name = frame.unity_id(row, capture.where), frame.label_of(row)
        if name is not None and names.setdefault(number, name) != name:
            raise Rejected("label", f"{capture.where}: instance {number} is '{names[number]}' and '{name}'")
    return names


def build(
    capture: Capture,
    colours: NDArray[np.int32] | None,
    class_ids: Mapping[str, int],
    lengths: Mapping[int, int],
    *,
    clip: bool,
) -> tuple[tuple[Instance, ...], NDArray[np.int32] | None, int]:
    """The visible objects of a capture, numbered from 1 in the order of Unity's ids.

    Args:
        capture: The frame's JSON.
        colours: Unity's id at each pixel, where there is a segmentation.
        class_ids: By class name; objects of other classes are left out.
        lengths: Number of keypoints by class id.
        clip: Cut boxes that leave the canvas.

    Returns:
        The instances, the `instance` pass, and how many objects are annotated but nowhere to be seen.
    """
    names = class_names(capture)
    masked = {} if colours is None else rle.boxes_in(colours)
    boxes = {frame.unity_id(row, capture.where): row for row in capture.values(frame.BOX)}
    solids = {frame.unity_id(row, capture.where): row for row in capture.values(frame.BOX3D)}
    points = {frame.unity_id(row, capture.where): row for row in capture.values(frame.KEYPOINT)}
    pixels = capture.visible_pixels()
    listed = {number: class_ids[name] for number, name in sorted(names.items()) if name in class_ids}
    seen = [number for number in listed if number in masked or number in boxes]
    made: list[Instance] = []
    for number in seen:
        where = f"{capture.where}, instance {number}"
        box = masked[number][0] if number in masked else _box(boxes[number], capture.size, clip, where)
        attributes = _attributes(number, box, boxes.get(number) if number in masked else None, pixels, where)
        solid = _solid(solids.get(number), where)
        made.append(
            Instance(
                len(made) + 1, listed[number], box, attributes=attributes, object_id=f"{capture.sequence}/{number}",
                keypoints=_keypoints(points.get(number), lengths.get(listed[number], 0), where), **solid,
            )
        )  # fmt: skip
    hidden = sum(n in class_ids for n in names.values()) - len(seen)
    return tuple(made), _renumbered(colours, seen), hidden


def _renumbered(colours: NDArray[np.int32] | None, seen: Iterable[int]) -> NDArray[np.int32] | None:
    """The instance pass in our numbers; objects that are not listed become background."""
    if colours is None:
        return None
    order = {number: place for place, number in enumerate(seen, start=1)}
    values, index = np.unique(colours, return_inverse=True)
    lookup = np.array([order.get(int(v), 0) for v in values], dtype=np.int32)
    return lookup[index].reshape(colours.shape)


def _box(row: Json, size: Size, clip: bool, where: str) -> tuple[float, float, float, float]:
    return fit_box(_corners(row, where), size, clip=clip, where=where)


def _corners(row: Json, where: str) -> tuple[float, float, float, float]:
    x, y = (float(v) for v in space.vector(row.get("origin"), 2, f"{where}: origin"))
    width, height = (float(v) for v in space.vector(row.get("dimension"), 2, f"{where}: dimension"))
    return x, y, x + width, y + height


def _attributes(number: int, box: tuple[float, ...], told: Json | None, pixels: Mapping[int, int], where: str) -> Json:
    attributes: Json = {"solo_instance_id": number}
    if number in pixels:
        attributes["visible_pixels"] = pixels[number]
    if told is not None:
        corners = _corners(told, where)
        if max(abs(a - b) for a, b in zip(corners, box, strict=True)) > _APART:
            attributes["solo_bbox"] = list(corners)
    return attributes


def _solid(row: Json | None, where: str) -> dict[str, Any]:
    """Pose and extent of a 3D box."""
    if row is None:
        return {}
    width, height, depth = (float(v) for v in space.vector(row.get("size"), 3, f"{where}: size"))
    return {
        "pose": space.pose(row.get("translation"), row.get("rotation"), where),
        "extent": (width, height, depth),
    }


def _keypoints(row: Json | None, length: int, where: str) -> tuple[Keypoint, ...]:
    """Keypoints in the template's order; those that the frame does not list are absent."""
    if row is None or not length:
        return ()
    points: list[Keypoint] = [(0.0, 0.0, 0)] * length
    for point in frame.rows(row, "keypoints", where):
        index, state = point.get("index"), point.get("state")
        if not isinstance(index, int) or not 0 <= index < length or state not in (0, 1, 2):
            raise Rejected("label", f"{where}: keypoint {index!r}, state {state!r}; expected 0..{length - 1} and 0..2")
        x, y = (float(v) for v in space.vector(point.get("location"), 2, f"{where}: keypoint {index}"))
        points[index] = (x, y, int(state)) if state else (0.0, 0.0, 0)
    return tuple(points)
