"""Instances through a warp: each is kept whole, kept cut, or dropped under a reason, and never half."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug import rle
from synthaug.camera import matrix
from synthaug.labels import Box, Instance, Labels
from synthaug.warp import points
from synthaug.warp.resample import Resampler
from synthaug.warp.view import View, rigid

_WHOLE = 1.0 - 1e-9


@dataclass
class Ledger:
    """What became of the annotations of one picture; `annotations` balances at every moment.

    Attributes:
        kept: Annotations with all of their area still on the canvas.
        clipped: Annotations that lost a part of it.
        dropped: Annotations left out, by reason: `out_of_canvas`, `too_small`, `below_visibility`.
        keypoints_kept: Labelled keypoints still there.
        keypoints_dropped: Labelled keypoints left out: `out_of_canvas`, `no_image`, `instance_dropped`.
        poses_dropped: 3D poses left out because the camera axes became unknown, by reason.
    """

    kept: int = 0
    clipped: int = 0
    dropped: Counter[str] = field(default_factory=Counter[str])
    keypoints_kept: int = 0
    keypoints_dropped: Counter[str] = field(default_factory=Counter[str])
    poses_dropped: Counter[str] = field(default_factory=Counter[str])


@dataclass(frozen=True, slots=True)
class _Extent:
    """What is left of an instance: its new box, pixels, own mask, and the share of its area still there."""

    box: Box | None
    area: float
    share: float
    mask: rle.RLE | None = None


def move_instances(
    labels: Labels,
    resampler: Resampler,
    view: View,
    ids: NDArray[Any] | None,
    min_visible: float,
    min_area: float,
) -> tuple[tuple[Instance, ...], Ledger]:
    """The instances on the target canvas.

    Args:
        labels: Of the source picture.
        resampler: The warp.
        view: What it does to the camera.
        ids: The `instance` pass on the target canvas, writable: dropped instances are erased from it.
            None where there is none.
        min_visible: Least share of the area as read that must be left, in [0, 1].
        min_area: Least area left, in pixels of the target.
    """
    warp = resampler.warp
    ledger = Ledger()
    moved: list[Instance] = []
    spots = points.keypoints(labels.instances, labels.categories, warp)
    extents = _extents(labels, resampler, ids)
    for instance, extent, keypoints in zip(labels.instances, extents, spots, strict=True):
        visibility = min(instance.visibility * extent.share, 1.0)
        reason = _fate(extent, visibility, min_visible, min_area)
        labelled = sum(state > 0 for _, _, state in instance.keypoints)
        if reason or extent.box is None:
            ledger.dropped[reason] += 1
            ledger.keypoints_dropped["instance_dropped"] += labelled
            if ids is not None:
                ids[ids == instance.id] = 0
            continue
        left = sum(state > 0 for _, _, state in keypoints)
        ledger.keypoints_kept += left
        ledger.keypoints_dropped["out_of_canvas" if warp.is_homography else "no_image"] += labelled - left
        pose = _pose(instance, view, ledger)
        if extent.share >= _WHOLE:
            ledger.kept += 1
        else:
            ledger.clipped += 1
        moved.append(
            Instance(  # spelt out, because `dataclasses.replace` costs six times as much
                instance.id,
                instance.class_id,
                extent.box,
                extent.mask,
                keypoints,
                pose,
                instance.extent,
                instance.attributes,
                instance.ignore,
                instance.object_id,
                visibility,
            )
        )
    return tuple(moved), ledger


def _fate(extent: _Extent, visibility: float, min_visible: float, min_area: float) -> str:
    """The reason to drop an instance, empty to keep it."""
    if extent.share <= 0:
        return "out_of_canvas"
    if extent.box is None or extent.area <= 0 or extent.area < min_area:
        return "too_small"
    return "below_visibility" if visibility < min_visible else ""


def _pose(instance: Instance, view: View, ledger: Ledger) -> Any:
    """The 3D pose in the new camera axes; improper after a mirror."""
    if instance.pose is None or view.rotation is None:
        ledger.poses_dropped[view.reason] += instance.pose is not None
        return None
    return matrix(rigid(view.rotation) @ np.array(instance.pose), 4, 4) if view.turned else instance.pose


def _extents(labels: Labels, resampler: Resampler, ids: NDArray[Any] | None) -> list[_Extent]:
    """Box, area and share of every instance; from pixels wherever there are pixels."""
    images = points.box_images([i.box for i in labels.instances], resampler.warp)
    listed = {} if ids is None else rle.boxes_in(ids)
    own = _own_masks(labels.instances, resampler)
    extents: list[_Extent] = []
    for instance, (box, share) in zip(labels.instances, images, strict=True):
        source, mask = labels.passes.get("instance"), None
        if instance.id in own:
            source, found = own[instance.id]
            box, area, mask = (found.box, found.area, found.rle) if found.area else (None, 0, None)
        elif ids is not None:
            box, area = listed.get(instance.id, (None, 0))
        else:
            source, area = None, (box[2] - box[0]) * (box[3] - box[1]) if box else 0.0
        if source is not None and 0 < share < _WHOLE:
            share = _share(source, instance.id, instance.box, resampler)
        # A sliver may keep a pixel although none of the sampled centres lands inside.
        sliver = source is not None and area > 0
        extents.append(_Extent(box, area, max(share, 1e-6) if sliver else share, mask))
    return extents


def _own_masks(instances: tuple[Instance, ...], resampler: Resampler) -> dict[int, tuple[NDArray[Any], rle.Found]]:
    """Masks that instances bring themselves: per id a source plane that shows it, and what is left of it.

    Masks that do not overlap share a plane of ids, which is moved and encoded in one go.
    """
    planes: list[NDArray[np.int32]] = []
    members: list[list[int]] = []
    for instance in instances:
        if instance.mask is None:
            continue
        x0, y0, x1, y1 = (int(v) for v in rle.box(instance.mask))
        window = np.s_[y0:y1, x0:x1]
        pixels = rle.decode(instance.mask)[window]
        free = (k for k, plane in enumerate(planes) if not plane[window][pixels].any())
        k = next(free, len(planes))
        if k == len(planes):
            planes.append(np.zeros(resampler.warp.source, np.int32))
            members.append([])
        planes[k][window][pixels] = instance.id
        members[k].append(instance.id)
    result: dict[int, tuple[NDArray[Any], rle.Found]] = {}
    for plane, wanted in zip(planes, members, strict=True):
        found = rle.find(resampler.nearest(plane), wanted)
        result |= {i: (plane, found[i]) for i in wanted}
    return result


def _share(ids: NDArray[Any], wanted: int, box: Box, resampler: Resampler) -> float:
    """Share on the canvas of the pixels that hold an id; the box spares looking elsewhere."""
    x0, y0 = (max(int(v), 0) for v in box[:2])
    x1, y1 = (int(np.ceil(v)) for v in box[2:])
    return points.mask_share(ids[y0:y1, x0:x1] == wanted, x0, y0, resampler.warp)
