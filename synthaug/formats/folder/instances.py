"""Instances out of label passes: from an id map, or from the connected parts of a class map."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug import rle
from synthaug.errors import Rejected
from synthaug.labels import Instance


def components(semantic: NDArray[np.int32], min_area: int) -> tuple[NDArray[np.int32], dict[int, int]]:
    """An instance pass from the 8-connected parts of each class, and class id by instance id.

    Ids count from 1 by class, then by OpenCV's order of labels (top to bottom). Parts below `min_area`
    pixels get no id.
    """
    ids = np.zeros(semantic.shape, dtype=np.int32)
    classes: dict[int, int] = {}
    for class_id in rle.ids_in(semantic):
        _, parts, stats, _ = cv2.connectedComponentsWithStats((semantic == class_id).astype(np.uint8), connectivity=8)
        areas = stats[:, cv2.CC_STAT_AREA]
        lookup = np.zeros(len(areas), dtype=np.int32)
        for part in range(1, len(areas)):
            if areas[part] >= min_area:
                lookup[part] = len(classes) + 1
                classes[len(classes) + 1] = class_id
        np.copyto(ids, lookup[parts], where=parts > 0)
    return ids, classes


def listed(
    ids: NDArray[np.int32],
    classes: Mapping[int, int] | None,
    semantic: NDArray[Any] | None = None,
    count: int = 0,
) -> tuple[Instance, ...]:
    """The instances of an id map, each with its tight box.

    Args:
        ids: The `instance` pass.
        classes: Class id by instance id; None asks `semantic`.
        semantic: Class map; an instance has the class of most of its pixels.
        count: Number of classes: where it is 1, neither is needed.

    Raises:
        Rejected: Under `label`, for an instance whose class nothing tells.
    """
    boxes = rle.boxes_in(ids)
    if classes is None and semantic is not None:
        classes = _majority(ids, semantic)
    elif classes is None:
        classes = dict.fromkeys(boxes, 1) if count == 1 else {}
    lost = [number for number in boxes if not classes.get(number)]
    if lost:
        raise Rejected("label", f"instances {lost[:5]} have no class; declare passes.semantic or instance_classes")
    return tuple(Instance(number, classes[number], box) for number, (box, _) in sorted(boxes.items()))


def _majority(ids: NDArray[np.int32], semantic: NDArray[Any]) -> dict[int, int]:
    """The most frequent class under each id; the lowest of several."""
    inside = ids > 0
    pairs, counts = np.unique(np.stack([ids[inside], semantic[inside]]), axis=1, return_counts=True)
    best: dict[int, tuple[int, int]] = {}
    for number, class_id, pixels in zip(pairs[0].tolist(), pairs[1].tolist(), counts.tolist(), strict=True):
        if pixels > best.get(number, (0, 0))[0]:
            best[number] = (pixels, class_id)
    return {number: class_id for number, (_, class_id) in best.items()}
