"""Where the surfaces of one frame are in another, as the renderer knows it; and whether they look the same there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug import seeds
from synthaug.camera import Camera
from synthaug.errors import Rejected
from synthaug.labels import Instance, Labels

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

PASSES = ("depth", "position", "flow", "instance")
"""What is read, where it is present."""

FAR = 1e4
"""Metres at which what has no depth (the sky) is held to be: it turns with the camera and does not move with it."""

SAME_DEPTH = 0.02
"""Depths within this share of each other are one surface."""


@dataclass(frozen=True, slots=True, eq=False)
class Correspondence:
    """Where the surfaces of one frame are in another.

    Attributes:
        places: [H, W, 2] float32, for each pixel of the first frame the continuous (x, y) in the other; NaN where
            it is hidden there, off its canvas, or unknown.
        near: [H, W] float32, its planar z in the other frame, by which the nearer one wins where two meet; zeros
            where nobody knows.
        size: (height, width) of the other frame.
    """

    places: Float32
    near: Float32
    size: tuple[int, int]


def by_flow(frame: Labels, following: Labels) -> Correspondence:
    """From a frame to the next by its `flow`; hidden where another instance is there, if both have the pass.

    Raises:
        Rejected: Under `sequence`, without the `flow` pass.
    """
    if "flow" not in frame.passes:
        raise Rejected("sequence", f"no flow pass to warp noise by; there are {', '.join(frame.passes) or 'none'}")
    places = _centres(frame.size) + frame.passes["flow"].astype(np.float64)
    # Until the next frame, what is nearer now is nearly always nearer then.
    near = np.nan_to_num(frame.passes.get("depth", np.zeros(frame.size, np.float32)), nan=FAR)
    return _visible(places, near, frame, following, None)


def by_depth(frame: Labels, other: Labels) -> Correspondence:
    """From a frame to any other of the same scene, by depth and camera poses; objects move with their own poses.

    Visible is what the other frame's depth confirms within 2% and its `instance` pass does not deny.

    Raises:
        Rejected: Under `sequence`, where depth, a camera or its pose is missing.
    """
    _, world = surfaces(frame)
    camera = camera_of(other)
    moved = _of_objects(frame, other, world)
    points = through(np.asarray(camera.world_to_camera), moved)
    height, width = frame.size
    places = camera.project(points.reshape(-1, 3)).reshape(height, width, 2)
    return _visible(places, points[..., 2].astype(np.float32), frame, other, _depth(other, _rays(camera, other.size)))


def consistency(one: Float32, other: Float32, way: Correspondence) -> dict[str, float]:
    """Whether surfaces look the same in two frames, at their true correspondences.

    Args:
        one: [3, H, W] in [0, 1], the first frame of `way`.
        other: [3, H', W'], the second.

    Returns:
        `difference`: mean |colour difference| in 8-bit levels, the second frame read bilinearly; `visible`: share
        of the first frame that has a correspondence. The difference is NaN where there is none.
    """
    seen = np.asarray(np.isfinite(way.places).all(axis=-1))
    if not seen.any():
        return {"difference": float("nan"), "visible": 0.0}
    maps = np.where(seen[..., None], way.places - np.float32(0.5), np.float32(0))
    picture = np.ascontiguousarray(other.transpose(1, 2, 0))
    sampled = cv2.remap(picture, maps[..., 0], maps[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    gap = np.abs(sampled.transpose(2, 0, 1) - one)[:, seen]
    return {"difference": 255 * float(gap.mean(dtype=np.float64)), "visible": float(seen.mean())}


def _centres(size: Sequence[int]) -> Float64:
    """[H, W, 2] continuous (x, y) of pixel centres."""
    x, y = np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
    return np.stack([x, y], axis=-1).astype(np.float64)


def camera_of(labels: Labels) -> Camera:
    """The camera. Raises `Rejected` under `sequence` where there is none, or no pose."""
    if labels.camera is None or labels.camera.extrinsics is None:
        raise Rejected("sequence", "warped noise needs a camera with a pose for every frame; or use a flow pass")
    return labels.camera


def _depth(labels: Labels, rays: Float64) -> Float64:
    """[H, W] planar z; `FAR` away where there is no surface."""
    if "depth" in labels.passes:
        z = labels.passes["depth"]
    elif "position" in labels.passes:
        z = labels.passes["position"][..., 2]
    else:
        raise Rejected("sequence", "warped noise needs a depth, position or flow pass; render one of them")
    sky = FAR / np.linalg.norm(rays, axis=-1)
    return np.where(np.isfinite(z) & (z > 0), np.minimum(z, sky), sky)


def surfaces(labels: Labels) -> tuple[Float64, Float64]:
    """Planar z [H, W] and world points [H, W, 3] of what each pixel shows. Raises as `by_depth`."""
    camera = camera_of(labels)
    rays = _rays(camera, labels.size)
    z = _depth(labels, rays)
    return z, through(np.linalg.inv(np.asarray(camera.world_to_camera)), rays * z[..., None])


def _rays(camera: Camera, size: Sequence[int]) -> Float64:
    """[H, W, 3] with z = 1, lens distortion undone."""
    pixels = _centres(size).reshape(-1, 2)
    if not camera.distortion:
        return camera.rays(pixels).reshape(*size, 3)
    flat = cv2.undistortPoints(pixels[:, None], camera.K, np.array(camera.distortion))[:, 0]
    return np.column_stack([flat, np.ones(len(flat))]).astype(np.float64).reshape(*size, 3)


def through(matrix: Float64, points: Float64) -> Float64:
    """Points [..., 3] through a rigid or affine 4x4."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _of_objects(frame: Labels, other: Labels, world: Float64) -> Float64:
    """World points of a frame, with objects that have a pose in both frames moved to where they are in the other."""
    ids = frame.passes.get("instance")
    poses = {i.object_id: i.pose for i in other.instances if i.object_id and i.pose is not None}
    moved = world
    for instance in frame.instances:
        pose = poses.get(instance.object_id)
        if ids is None or instance.pose is None or pose is None:
            continue
        here, there = (np.asarray(camera_of(labels).world_to_camera) for labels in (frame, other))
        motion = np.linalg.inv(there) @ np.array(pose) @ np.linalg.inv(np.array(instance.pose)) @ here
        own = ids == instance.id
        moved = moved.copy() if moved is world else moved
        moved[own] = through(motion, world[own])
    return moved


def _visible(places: Float64, near: Float32, frame: Labels, other: Labels, depth: Float64 | None) -> Correspondence:
    """Drops what is behind the camera, off the canvas, or covered by something else in the other frame."""
    height, width = other.size
    with np.errstate(invalid="ignore"):
        seen = (places >= 0).all(axis=-1) & (places[..., 0] < width) & (places[..., 1] < height)
    column, row = (np.where(seen, places[..., axis], 0).astype(np.int64) for axis in (0, 1))
    if depth is not None:
        seen &= np.abs(depth[row, column] - near) <= SAME_DEPTH * near
    if "instance" in frame.passes and "instance" in other.passes:
        seen &= _names(frame) == _names(other)[row, column]
    return Correspondence(np.where(seen[..., None], places, np.nan).astype(np.float32), near, (height, width))


def _names(labels: Labels) -> Int64:
    """[H, W] of `name_of`; 0 where no frame-spanning name is known."""
    ids = labels.passes["instance"]
    names = np.zeros(int(ids.max(initial=0)) + 1, np.int64)
    for instance in labels.instances:
        if instance.object_id and instance.id < len(names):
            names[instance.id] = name_of(instance)
    return names[ids]


def name_of(instance: Instance) -> int:
    """A number above 0 for an object, from its `object_id`: the same in all frames."""
    return (seeds.key(0, instance.object_id, 0, "surface", 0) & (2**62 - 1)) | 1
