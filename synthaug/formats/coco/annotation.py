"""One COCO annotation: boxes, masks in four spellings, keypoints. Every field is checked before it is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from synthaug import rle
from synthaug.errors import Rejected
from synthaug.formats.facts import Json
from synthaug.labels import Keypoint, Size

_LARGEST = 1e9


def corners(bbox: Any, where: str) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of a COCO box; `Rejected` under `label` where it is none."""
    if not isinstance(bbox, list) or len(cast("list[Any]", bbox)) != 4 or not _all_numbers(cast("list[Any]", bbox)):
        raise Rejected(
            "label", f"{where}: bbox {str(cast(object, bbox))[:80]}; expected [x, y, width, height], numbers"
        )
    x, y, width, height = cast("list[float]", bbox)
    return x, y, x + width, y + height


def mask_of(segmentation: Any, size: Size, where: str) -> rle.RLE | None:
    """The mask of an annotation; None where it has none."""
    if segmentation is None or segmentation == []:
        return None
    if isinstance(segmentation, dict):
        mask = rle.from_coco(cast(Json, segmentation))
    elif isinstance(segmentation, list) and all(isinstance(p, list) for p in cast("list[Any]", segmentation)):
        polygons = cast("list[list[Any]]", segmentation)
        if not all(_all_numbers(polygon) for polygon in polygons):
            raise Rejected("label", f"{where}: a polygon holds something that is no number")
        mask = rle.from_polygons(polygons, size)
    else:
        raise Rejected("label", f"{where}: segmentation is neither RLE nor a list of polygons")
    if mask.size != tuple(size):
        raise Rejected("label", f"{where}: mask of {mask.size} on a canvas of {size}; sizes are never adapted")
    if rle.area(mask) == 0:
        raise Rejected("label", f"{where}: mask without a pixel")
    return mask


def keypoints_of(values: Any, shift: float, where: str) -> tuple[Keypoint, ...]:
    """Keypoints from triplets, `shift` pixels added; `Rejected` under `label` where they are none."""
    if values is None or values == []:
        return ()
    flat = cast("list[float]", values) if isinstance(values, list) else [0.0]
    if len(flat) % 3 or not _all_numbers(flat):
        raise Rejected("label", f"{where}: keypoints must be numbers in triplets x, y, state")
    points: list[Keypoint] = []
    for x, y, state in zip(flat[0::3], flat[1::3], flat[2::3], strict=True):
        if state not in (0, 1, 2):
            raise Rejected("label", f"{where}: keypoint state {state}, expected 0, 1 or 2")
        points.append((x + shift, y + shift, int(state)) if state else (0.0, 0.0, 0))
    return tuple(points)


def attributes_of(annotation: Mapping[str, Any], box: Sequence[float], has_mask: bool) -> Json:
    """What the source says beyond our fields, so that nothing is lost."""
    told = annotation.get("attributes")
    attributes: Json = dict(cast(Json, told)) if isinstance(told, dict) else {}
    for name in ("id", "category_id"):
        if name in annotation:
            attributes[f"coco_{name}"] = annotation[name]
    bbox = annotation.get("bbox")
    if has_mask and isinstance(bbox, list) and len(cast("list[Any]", bbox)) == 4:
        told_box = corners(cast(object, bbox), "bbox")
        if max(abs(a - b) for a, b in zip(told_box, box, strict=True)) > 1.5:
            attributes["coco_bbox"] = bbox
    return attributes


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number that pixels can be counted in."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST


def _all_numbers(values: Sequence[Any]) -> bool:
    return all(is_number(value) for value in values)
