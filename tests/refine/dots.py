"""A wall with small things before it, seen by a camera with a pose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from synthaug.camera import Camera, matrix
from synthaug.labels import Category, Labels
from tests.refine.guidance import scenes

FAR, NEAR = ((10, 10, 18, 17), (90, 60, 98, 66)), ((40, 70, 50, 78),)
SMALL = {"below": 24, "at_least": 3, "target": 64, "most": 4, "padding": 0.25}
FEW: dict[str, Any] = {"prompt": "a b", "strength": 0.75, "steps": 4}
CLASSES = (Category("car"), Category("road"))


def dots(boxes: Sequence[tuple[int, int, int, int]] = FAR, shift: float = 0.0, size: Any = scenes.SIZE) -> Labels:
    """Odd instances are cars, even ones roads; `shift` in metres moves the camera to the right.

    The wall is 4 m away, the boxes half a metre before it.
    """
    ids = np.zeros(size, np.int64)
    for k, (x0, y0, x1, y1) in enumerate(boxes, 1):
        ids[y0:y1, x0:x1] = k
    z = np.where(ids > 0, 3.5, 4.0)
    normals = np.broadcast_to(np.array([0.0, 0.0, -1.0]), (*size, 3))
    pose = np.eye(4)
    pose[0, 3] = -shift
    camera = Camera(scenes.CAMERA.intrinsics, matrix(pose, 4, 4))
    found = scenes.labelled(z, normals, ids, camera)
    return replace(found, categories=CLASSES)
