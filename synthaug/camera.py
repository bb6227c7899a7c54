"""The camera of a sample, in one convention: OpenCV axes, metres, first pixel centre at (0.5, 0.5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = tuple[tuple[float, ...], ...]
Float64 = NDArray[np.float64]


def matrix(values: object, rows: int, columns: int) -> Matrix:
    """An immutable, finite `rows` x `columns` matrix from anything that numpy reads.

    Raises:
        ValueError: Wrong shape, or an entry that is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (rows, columns):
        raise ValueError(f"expected a {rows}x{columns} matrix, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"expected finite entries, got {array.tolist()}")
    return tuple(tuple(float(v) for v in row) for row in array)


@dataclass(frozen=True, slots=True)
class Camera:
    """Pinhole camera with optional lens distortion.

    Attributes:
        intrinsics: 3x3, pixels; maps camera axes (x right, y down, z forward) to continuous pixels.
        extrinsics: 4x4, world to camera, metres. Its rotation has determinant -1 after a mirror.
        distortion: OpenCV coefficients (k1, k2, p1, p2, k3[, k4, k5, k6]); empty for a pinhole.
        mirrored: Whether the image was mirrored an odd number of times.
    """

    intrinsics: Matrix
    extrinsics: Matrix | None = None
    distortion: tuple[float, ...] = ()
    mirrored: bool = False

    @property
    def K(self) -> Float64:
        """Intrinsics as a fresh [3, 3] array."""
        return np.array(self.intrinsics, dtype=np.float64)

    @property
    def world_to_camera(self) -> Float64 | None:
        """Extrinsics as a fresh [4, 4] array, or None where the pose is unknown."""
        return None if self.extrinsics is None else np.array(self.extrinsics, dtype=np.float64)

    def project(self, points: Float64) -> Float64:
        """Camera-axes points [N, 3] (metres) to continuous pixels [N, 2]; NaN behind the camera."""
        with np.errstate(divide="ignore", invalid="ignore"):
            normalised = points[:, :2] / points[:, 2:3]
        normalised[points[:, 2] <= 0] = np.nan
        if self.distortion:
            normalised = distort(normalised, self.distortion)
        return normalised @ self.K[:2, :2].T + self.K[:2, 2]

    def rays(self, pixels: Float64) -> Float64:
        """Continuous pixels [N, 2] to camera-axes rays [N, 3] with z = 1, distortion ignored."""
        homogeneous = np.column_stack([pixels, np.ones(len(pixels))])
        return homogeneous @ np.linalg.inv(self.K).T


def distort(points: Float64, coefficients: tuple[float, ...]) -> Float64:
    """Brown-Conrady distortion of normalised points [N, 2] (OpenCV, calib3d, rational model)."""
    k1, k2, p1, p2, k3, k4, k5, k6 = (*coefficients, *(0.0,) * 8)[:8]
    x, y = points[:, 0], points[:, 1]
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    dx = 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    dy = p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    return np.column_stack([x * radial + dx, y * radial + dy])


def from_fov(width: int, height: int, horizontal_fov: float) -> Camera:
    """A pinhole with square pixels and a centred principal point from a field of view in degrees."""
    focal = width / 2 / np.tan(np.radians(horizontal_fov) / 2)
    return Camera(matrix([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], 3, 3))
