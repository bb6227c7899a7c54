"""Pictures through single stages, without a run: for benchmarks that compare what stages make of the same pictures."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from synthaug import seeds
from synthaug.contracts import Appearance
from synthaug.labels import Labels
from synthaug.refine.restore import SHIPPED

Picture = NDArray[np.uint8]


def held_out() -> list[str]:
    """Names of the dice photos that the refiner has never seen, from its card."""
    card = (SHIPPED / "README.md").read_text("utf-8")
    names = re.findall(r"^- (\S+)$", card.partition("## Held out of `dice`")[2], re.MULTILINE)
    if not names:
        raise SystemExit("the refiner's card names no held-out photos of dice. Nothing was measured")
    return names


def load(path: Path, side: int | None = None) -> Picture:
    """sRGB, its longer side at most `side` by area means."""
    picture: Any = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    scale = min(1.0, side / max(picture.shape[:2])) if side else 1.0
    return picture if scale == 1 else cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def through(
    stage: Appearance, pictures: Sequence[Picture], slot: str, names: Sequence[str] = ()
) -> tuple[list[Picture], float]:
    """What the stage makes of each picture, and CPU seconds per picture; draws are those of `names` or numbers."""
    done: list[Picture] = []
    begun = time.process_time()
    for number, picture in enumerate(pictures):
        labels = Labels((picture.shape[0], picture.shape[1]))
        draw = stage.draw(seeds.generator(0, names[number] if names else str(number), 0, slot), labels, 0)
        planes: Any = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
        out: Any = stage.paint(torch.from_numpy(planes) if stage.place == "device" else planes, [labels], [draw])
        images = np.asarray(out.images if hasattr(out, "images") else out)[0]
        done.append(np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0))
    return done, round((time.process_time() - begun) / max(len(pictures), 1), 2)
