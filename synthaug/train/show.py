"""Pictures of a training: a grid of samples and the curve of the loss, as PNG bytes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.formats import png

_GAP = 4
_WIDTH, _HEIGHT, _MARGIN = 640, 360, 48
_INK, _CURVE, _FAINT = (40, 40, 40), (30, 90, 200), (200, 205, 215)


def grid(columns: Sequence[NDArray[np.float32]]) -> bytes:
    """Columns of pictures side by side, each [N, 3, H, W] in [0, 1]."""
    count, _, height, width = columns[0].shape
    sheet = np.full((count * (height + _GAP) - _GAP, len(columns) * (width + _GAP) - _GAP, 3), 255, np.uint8)
    for x, column in enumerate(columns):
        for y, planes in enumerate(column):
            pixels = np.rint(np.nan_to_num(planes).clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
            sheet[y * (height + _GAP) :, x * (width + _GAP) :][:height, :width] = pixels
    return png.encode(sheet)


def plot(losses: Sequence[float], every: int) -> bytes:
    """Loss over steps, each value as a faint line and their running mean (20 values) over it."""
    sheet = np.full((_HEIGHT, _WIDTH, 3), 255, np.uint8)
    values = np.asarray(losses, np.float64)
    if len(values):
        low, high = float(values.min()), float(np.quantile(values, 0.98))
        high = max(high, low + 1e-9)
        smooth = np.array([values[max(i - 19, 0) : i + 1].mean() for i in range(len(values))])
        for row, colour, thickness in ((values, _FAINT, 1), (smooth, _CURVE, 2)):
            x = np.linspace(_MARGIN, _WIDTH - 16, len(row))
            y = _HEIGHT - _MARGIN - (row.clip(low, high) - low) / (high - low) * (_HEIGHT - _MARGIN - 16)
            points = np.rint(np.stack([x, y], 1)).astype(np.int32)
            cv2.polylines(sheet, [points], False, colour, thickness, cv2.LINE_AA)
        _write(sheet, f"{high:.3g}", (4, 24))
        _write(sheet, f"{low:.3g}", (4, _HEIGHT - _MARGIN))
        _write(sheet, f"step {len(values) * every}, loss {smooth[-1]:.4f}", (_MARGIN, _HEIGHT - 16))
    return png.encode(sheet)


def recent(losses: Sequence[float]) -> str:
    """Mean of the last 20 values, for a line of progress."""
    last = losses[-20:]
    return f"{sum(last) / len(last):.4f}" if last else "-"


def _write(sheet: NDArray[np.uint8], text: str, at: tuple[int, int]) -> None:
    cv2.putText(sheet, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, _INK, 1, cv2.LINE_AA)
