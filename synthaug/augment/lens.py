"""The picture through a lens that bends straight lines: a dense motion, and a camera that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from synthaug.augment import ranges
from synthaug.camera import Camera, distort, matrix
from synthaug.contracts import Border, Draw, Geometry
from synthaug.labels import Labels, Size
from synthaug.warp.motion import Warp

Float64 = NDArray[np.float64]


class LensDistortion(Geometry):
    """Adds radial distortion as of a real lens (Brown-Conrady, OpenCV's k1 and k2).

    Where the camera is known, the result is exactly what that camera sees with the drawn coefficients added
    to its own, and the labels carry the new camera. Where it is not, the picture is taken as that of a
    pinhole with a focal length of its larger side (53 degrees), and the camera stays unknown.
    Costs about 60 ns per pixel to build, and the resampling cannot be a plain homography any more.

    Args:
        k1: Range of the first coefficient within [-0.5, 0.5]; negative is a barrel, positive a cushion.
        k2: Range of the second coefficient within [-0.25, 0.25].
        border: What shows where the view leaves the picture: `constant` (black), or `reflect`, the picture mirrored
            at its edges. Mirrored objects have no labels; where there is a `semantic` or `ignore` pass, such pixels
            are marked in `ignore`.
        probability: Share of the samples that are bent, in [0, 1].
        scope: `sample`, or `group`: one draw for all samples of a group (frames of a sequence, views of a scene);
            for `flow` to stay true, they must have been taken with the same camera and at the same size.
    """

    sees = "camera"

    def __init__(
        self,
        *,
        k1: Sequence[float] = (-0.15, 0.05),
        k2: Sequence[float] = (-0.02, 0.02),
        border: Border = "constant",
        probability: float = 1.0,
        scope: ranges.Shared = "sample",
    ) -> None:
        self.scope = ranges.shared(scope)
        self.k1 = ranges.interval("k1", k1, -0.5, 0.5, "(no unit)")
        self.k2 = ranges.interval("k2", k2, -0.25, 0.25, "(no unit)")
        self.border = ranges.border(border)
        self.probability = ranges.probability("probability", probability)

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        return {
            "apply": ranges.applies(rng, self.probability),
            "k1": ranges.uniform(rng, self.k1),
            "k2": ranges.uniform(rng, self.k2),
        }

    def warp(self, labels: Labels, draw: Draw) -> Warp:
        if not draw["apply"]:
            return Warp.identity(labels.size)
        known = labels.camera
        before = known or _nominal(labels.size)
        old = (*before.distortion, *(0.0,) * 5)[: max(len(before.distortion), 5)]
        coefficients = (old[0] + draw["k1"], old[1] + draw["k2"], *old[2:])
        after = replace(before, distortion=coefficients)
        backward = _look_back(labels.size, before, after)
        return Warp.dense(backward, labels.size, camera=after if known else None)


def _look_back(size: Size, before: Camera, after: Camera) -> NDArray[np.float32]:
    """Where each pixel of `after` was in `before`: [H, W, 2], NaN where no ray leads there."""
    height, width = size
    x, y = np.meshgrid(np.arange(width, dtype=np.float64) + 0.5, np.arange(height, dtype=np.float64) + 0.5)
    bent = before.rays(np.column_stack([x.ravel(), y.ravel()]))[:, :2]
    straight = undistort(bent, after.distortion)
    seen = distort(straight, before.distortion) if before.distortion else straight
    pixels = seen @ before.K[:2, :2].T + before.K[:2, 2]
    return pixels.astype(np.float32).reshape(height, width, 2)


def undistort(points: Float64, coefficients: tuple[float, ...]) -> Float64:
    """The normalised points [N, 2] that `camera.distort` takes to `points`; NaN where there is none.

    Newton's method on the radius where the distortion is radial (k1, k2, k3), else fixed-point steps as of
    OpenCV; a result counts only where distorting it again comes within 1e-5 of the point (0.005 px at a
    focal length of 500), and only on the near side of the fold, where the radius still grows.
    """
    k1, k2, p1, p2, k3, k4, k5, k6 = (*coefficients, *(0.0,) * 8)[:8]
    if not any((p1, p2, k4, k5, k6)):
        return _undistort_radial(points, (k1, k2, k3))
    found = points.copy()
    for _ in range(20):
        found += points - distort(found, coefficients)
    lost = np.abs(distort(found, coefficients) - points).max(axis=1) > 1e-5
    found[lost] = np.nan
    return found


def _undistort_radial(points: Float64, k: tuple[float, float, float]) -> Float64:
    """Newton on r (1 + k1 r^2 + k2 r^4 + k3 r^6) = r'; the radius is tabulated, then interpolated."""
    bent = np.hypot(points[:, 0], points[:, 1])
    ends = np.linspace(0.0, bent.max() * 1.0001 + 1e-9, 4097)
    radius = ends.copy()
    with np.errstate(all="ignore"):
        for _ in range(12):
            q = radius * radius
            value = radius * (1 + q * (k[0] + q * (k[1] + q * k[2])))
            slope = 1 + q * (3 * k[0] + q * (5 * k[1] + q * 7 * k[2]))
            radius = radius - (value - ends) / slope
        q = radius * radius
        wrong = np.abs(radius * (1 + q * (k[0] + q * (k[1] + q * k[2]))) - ends) > 1e-5
        folded = 1 + q * (3 * k[0] + q * (5 * k[1] + q * 7 * k[2])) <= 0
    bad = wrong | folded | (radius < 0) | ~np.isfinite(radius)
    radius[np.maximum.accumulate(bad)] = np.nan
    ratio = np.ones_like(ends)
    ratio[1:] = radius[1:] / ends[1:]
    return points * np.interp(bent, ends, ratio)[:, None]


def _nominal(size: Size) -> Camera:
    focal = float(max(size))
    return Camera(matrix([[focal, 0, size[1] / 2], [0, focal, size[0] / 2], [0, 0, 1]], 3, 3))
