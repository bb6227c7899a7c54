"""Contact sheets: the reference and the result side by side, the same labels drawn on both.

Drawing is for eyes: nothing here is read back. Pictures are sRGB uint8 [H, W, 3].
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.labels import Instance, Labels
from synthaug.sample import Picture, Sample

Pixels = NDArray[np.uint8]
_GAP = 6
_CAPTION = 18


def panel(sample: Sample, height: int = 256) -> Pixels:
    """Reference (left) and result (right) of one sample at `height` pixels, labels on both, captioned."""
    scale = height / sample.labels.size[0]
    drawn = [overlay(_eight_bit(p), sample.labels, scale) for p in (sample.reference, sample.image)]
    gap = np.full((height, _GAP, 3), 255, np.uint8)
    row = np.hstack([drawn[0], gap, drawn[1]])
    caption = np.full((_CAPTION, row.shape[1], 3), 255, np.uint8)
    _write(caption, f"{sample.id}  reference | result", (2, 13), (40, 40, 40))
    return np.vstack([caption, row])


def sheet(panels: Sequence[Pixels], columns: int = 2) -> Pixels:
    """Panels in rows of `columns` on white. At least one panel."""
    columns = max(1, min(columns, len(panels)))
    width = max(p.shape[1] for p in panels)
    rows: list[Pixels] = []
    for start in range(0, len(panels), columns):
        members = panels[start : start + columns]
        height = max(p.shape[0] for p in members)
        row = np.full((height + _GAP, columns * (width + _GAP) - _GAP, 3), 255, np.uint8)
        for i, member in enumerate(members):
            left = i * (width + _GAP)
            row[: member.shape[0], left : left + member.shape[1]] = member
        rows.append(row)
    return np.vstack(rows)


def overlay(pixels: Pixels, labels: Labels, scale: float = 1.0) -> Pixels:
    """A copy of the picture, resized by `scale`, with masks outlined, boxes, keypoints and class names."""
    height, width = (max(1, round(side * scale)) for side in labels.size)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC if scale > 1 else cv2.INTER_NEAREST
    canvas: Pixels = np.ascontiguousarray(cv2.resize(pixels, (width, height), interpolation=method), dtype=np.uint8)
    if not labels.instances:
        _tint(canvas, labels)
    for instance in labels.instances:
        _draw(canvas, labels, instance, scale)
    return canvas


def _draw(canvas: Pixels, labels: Labels, instance: Instance, scale: float) -> None:
    colour = colour_of(instance.class_id)
    mask = labels.mask(instance)
    if mask is not None:
        small = cv2.resize(mask.astype(np.uint8), canvas.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        outline, _ = cv2.findContours(small, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, outline, -1, colour, 1)
    x0, y0, x1, y1 = (v * scale for v in instance.box)
    cv2.rectangle(canvas, (int(x0), int(y0)), (max(int(x1) - 1, int(x0)), max(int(y1) - 1, int(y0))), colour, 1)
    name = labels.category(instance).name + (" (ignore)" if instance.ignore else "")
    _write(canvas, name, (int(x0), max(int(y0) - 2, 9)), colour)
    for x, y, state in instance.keypoints:
        if state:
            cv2.circle(canvas, (int(x * scale), int(y * scale)), 2, colour, -1 if state == 2 else 1)


def _tint(canvas: Pixels, labels: Labels) -> None:
    """Where there are no instances, the semantic map itself, half transparent."""
    semantic = labels.passes.get("semantic")
    if semantic is None:
        return
    small = cv2.resize(semantic.astype(np.int32), canvas.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    for class_id in np.unique(small[small > 0]):
        where = small == class_id
        canvas[where] = (canvas[where] // 2 + np.array(colour_of(int(class_id)), np.uint8) // 2).astype(np.uint8)


def colour_of(class_id: int) -> tuple[int, int, int]:
    """A bright colour per class, neighbours far apart on the hue circle (golden ratio steps)."""
    hue = int(180 * ((class_id * 0.618034) % 1.0))
    rgb = cv2.cvtColor(np.array([[[hue, 150, 255]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0]
    return int(rgb[0]), int(rgb[1]), int(rgb[2])


def _write(canvas: Pixels, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """Text with a dark rim, drawn by offsets: a thicker pen would also space the letters wider."""
    for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0)):
        ink = colour if dx == dy == 0 else (0, 0, 0)
        if max(colour) > 60 or dx == dy == 0:
            cv2.putText(canvas, text, (at[0] + dx, at[1] + dy), cv2.FONT_HERSHEY_SIMPLEX, 0.38, ink, 1, cv2.LINE_AA)


def _eight_bit(picture: Picture) -> Pixels:
    if picture.pixels.dtype == np.uint8:
        return picture.pixels
    values = picture.pixels
    if picture.space == "linear":
        values = np.clip(values, 0, 1) ** (1 / 2.2)
    return np.clip(np.rint(values * 255), 0, 255).astype(np.uint8)
