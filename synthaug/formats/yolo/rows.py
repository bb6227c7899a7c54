"""The text of YOLO labels: one object a line, normalised numbers, three tasks. Parsing and writing.

    detect   class cx cy w h
    segment  class x1 y1 x2 y2 ... (three points or more)
    pose     class cx cy w h, then x y or x y state per keypoint

What an importer checks (ultralytics, data/utils): numbers within [0, 1], one task per file, three points
at least, one fixed number of columns for poses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from synthaug import rle
from synthaug.errors import Rejected
from synthaug.formats.shapes import ROUNDING, fit_box
from synthaug.labels import Box, Keypoint, Size

Task = Literal["detect", "segment", "pose"]


@dataclass(frozen=True, slots=True)
class Line:
    """One object: index of its class from 0, and its normalised numbers."""

    index: int
    values: tuple[float, ...]
    where: str


def parse(data: bytes, name: str) -> list[Line]:
    """The lines of a label file.

    Raises:
        Rejected: Under `label`, with the number of the line.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Rejected("label", f"{name}: not UTF-8 text: {error}") from error
    lines: list[Line] = []
    for number, row in enumerate(text.splitlines(), start=1):
        words = row.split()
        if not words:
            continue
        where = f"{name}, line {number}"
        try:
            values = [float(word) for word in words]
        except ValueError as error:
            raise Rejected("label", f"{where}: '{row[:80]}' is not a row of numbers") from error
        if not values[0].is_integer() or values[0] < 0:
            raise Rejected("label", f"{where}: class {words[0][:20]}, expected a whole number from 0")
        lines.append(Line(int(values[0]), tuple(values[1:]), where))
    return lines


def task_of(lines: Sequence[Line], wanted: Task | None, points: tuple[int, int] | None) -> Task:
    """The task that a file's columns allow.

    Args:
        lines: Of one file.
        wanted: The task if it is known.
        points: `kpt_shape`: number of keypoints, and 2 or 3 numbers each.

    Raises:
        Rejected: Under `label` when lines disagree with each other or with the task.
    """
    task: Task = wanted or ("pose" if points else "segment" if any(len(row.values) > 4 for row in lines) else "detect")
    for line in lines:
        columns = len(line.values)
        good = {
            "detect": columns == 4,
            "segment": columns >= 6 and columns % 2 == 0,
            "pose": points is not None and columns == 4 + points[0] * points[1],
        }[task]
        if not good:
            expected = {"detect": "4", "segment": "an even number from 6"}.get(task, f"4 + {points}")
            raise Rejected(
                "label",
                f"{line.where}: {columns} numbers behind the class, a {task} row has {expected}; one task a file",
            )
    return task


def box_of(line: Line, size: Size, *, clip: bool) -> Box:
    """The box of a detect or pose line in continuous pixels; raises as `fit_box`."""
    height, width = size
    x, y, w, h = line.values[:4]
    corners = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
    return fit_box(corners, size, clip=clip, where=line.where)


def mask_of(line: Line, size: Size, *, clip: bool) -> rle.RLE:
    """The mask of a segment line.

    Raises:
        Rejected: Under `label`: not a polygon, outside the canvas without `clip`, no pixel inside.
    """
    height, width = size
    pixels = [v * (width, height)[k % 2] for k, v in enumerate(line.values)]
    reach = max((max(-v, v - (width, height)[k % 2]) for k, v in enumerate(pixels)), default=0.0)
    if reach > ROUNDING and not clip:
        raise Rejected("label", f"{line.where}: polygon leaves the canvas by {reach:.1f} px; or read with clip=true")
    mask = rle.from_polygons([pixels], size)
    if rle.area(mask) == 0:
        raise Rejected("label", f"{line.where}: polygon without a pixel")
    return mask


def keypoints_of(line: Line, size: Size, points: tuple[int, int], *, clip: bool) -> tuple[Keypoint, ...]:
    """Keypoints of a pose line in continuous pixels. Two numbers each: all visible but those at (0, 0).

    Raises:
        Rejected: Under `label`: a wrong state, or a point outside the canvas without `clip`.
    """
    height, width = size
    found: list[Keypoint] = []
    for start in range(4, 4 + points[0] * points[1], points[1]):
        x, y = line.values[start : start + 2]
        state = line.values[start + 2] if points[1] == 3 else 2.0 * ((x, y) != (0.0, 0.0))
        if state not in (0, 1, 2):
            raise Rejected("label", f"{line.where}: keypoint state {state}, expected 0, 1 or 2")
        place = (x * width, y * height)
        inside = -ROUNDING <= place[0] <= width + ROUNDING and -ROUNDING <= place[1] <= height + ROUNDING
        if state and not inside and not clip:
            raise Rejected("label", f"{line.where}: keypoint {place} outside the canvas; or read with clip=true")
        found.append((*place, int(state)) if state and inside else (0.0, 0.0, 0))
    return tuple(found)


def line_text(index: int, values: Sequence[float]) -> str:
    """One line, numbers with nine digits: below 0.00001 px on a canvas of 10,000."""
    return " ".join([str(index), *(f"{value:.9g}" for value in values)]) + "\n"


def box_values(box: Box, size: Size) -> list[float]:
    """Normalised centre and size."""
    height, width = size
    x0, y0, x1, y1 = box
    return [(x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height]
