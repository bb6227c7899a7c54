"""From Unity's space to ours: left-handed, y up, to OpenCV's axes. Every flip is one of y.

With F = diag(1, -1, 1), a Unity vector v is F v here and a Unity rotation R is F R F: right-handed, det +1.
World and object axes are turned by the same rule, so the world's y points down.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from synthaug import camera as cameras
from synthaug.camera import Camera, Matrix
from synthaug.errors import Rejected
from synthaug.labels import Size

Float64 = NDArray[np.float64]

FLIP = np.diag([1.0, -1.0, 1.0])


def vector(value: Any, length: int, where: str) -> Float64:
    """Finite numbers from JSON. Raises `Rejected` under `label`."""
    values = cast("list[Any]", value) if isinstance(value, list) else []
    good = len(values) == length and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    if not good or not np.isfinite(np.array(values, dtype=np.float64)).all():
        raise Rejected("label", f"{where} is {str(cast(object, value))[:80]}, expected {length} finite numbers")
    return np.array(values, dtype=np.float64)


def rotation(quaternion: Any, where: str) -> Float64:
    """A Unity rotation (x, y, z, w) as a 3x3 matrix in our axes. Raises `Rejected` under `label`."""
    q = vector(quaternion, 4, where)
    length = float(np.linalg.norm(q))
    if abs(length - 1) > 1e-2:
        raise Rejected("label", f"{where} has length {length:.3g}, expected a unit quaternion x, y, z, w")
    x, y, z, w = q / length
    matrix = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    return FLIP @ matrix @ FLIP


def pose(translation: Any, quaternion: Any, where: str) -> Matrix:
    """4x4, object to camera, from a 3D box in Unity's camera axes (x right, y up, z forward), metres."""
    made = np.eye(4)
    made[:3, :3] = rotation(quaternion, f"{where}: rotation")
    made[:3, 3] = FLIP @ vector(translation, 3, f"{where}: translation")
    return cameras.matrix(made, 4, 4)


def camera(matrix: Any, position: Any, quaternion: Any, size: Size, where: str) -> Camera:
    """The camera of a capture.

    Args:
        matrix: Nine numbers, the upper 3x3 of Unity's projection matrix (OpenGL's clip space), columns
            first; rows first where that alone puts the off-centre terms in a projection's last column.
        position: Of the sensor, in the world.
        quaternion: Its orientation likewise.
        size: (height, width).
        where: The capture, for messages.

    Raises:
        Rejected: Under `label`.
    """
    m = vector(matrix, 9, f"{where}: matrix").reshape(3, 3).T
    if not m[:2, 2].any():
        m = m.T
    height, width = size
    # Clip x is m00 x + m02 z over -z, and pixels run from -1 to 1; y points up there and down here.
    intrinsics = [
        [m[0, 0] * width / 2, 0.0, (1 - m[0, 2]) * width / 2],
        [0.0, m[1, 1] * height / 2, (1 + m[1, 2]) * height / 2],
        [0.0, 0.0, 1.0],
    ]
    if m[0, 0] <= 0 or m[1, 1] <= 0:
        raise Rejected("label", f"{where}: matrix {m.tolist()} is no perspective projection")
    to_world = rotation(quaternion, f"{where}: rotation")
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = to_world.T
    extrinsics[:3, 3] = -to_world.T @ FLIP @ vector(position, 3, f"{where}: position")
    return Camera(cameras.matrix(intrinsics, 3, 3), cameras.matrix(extrinsics, 4, 4))


def normals(world: NDArray[np.float32], view: Camera) -> NDArray[np.float32]:
    """Unit normals [H, W, 3] in Unity's world axes, turned into camera axes."""
    extrinsics = view.world_to_camera
    assert extrinsics is not None
    return (world.astype(np.float64) @ (extrinsics[:3, :3] @ FLIP).T).astype(np.float32)


def position(unity: NDArray[Any]) -> NDArray[np.float32]:
    """Points [H, W, 3] in Unity's camera axes (z forward) in ours, NaN where nothing was drawn."""
    points = (unity[:, :, :3] * np.array([1.0, -1.0, 1.0])).astype(np.float32)
    points[~(np.isfinite(points).all(axis=2) & (points[:, :, 2] > 0))] = np.nan
    return points


def plane(array: NDArray[Any], where: str) -> NDArray[np.float32]:
    """The red channel of a float picture as depth, NaN where it is not above 0."""
    red = array if array.ndim == 2 else array[:, :, 0]
    if red.dtype.kind != "f":
        raise Rejected("label", f"{where}: depth as {red.dtype}, expected floats in metres")
    depth = red.astype(np.float32)
    depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
    return depth
