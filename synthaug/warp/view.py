"""A warp as a camera change: what a motion of the pixels does to intrinsics, pose and camera axes.

With K the intrinsics before, a homography H of the pixels is the picture that a camera with intrinsics K'
and axes turned by R would take, where H K = s K' R with s > 0, K' upper triangular with positive focal
lengths and K'[2, 2] = 1, and R orthogonal (RQ decomposition; Hartley & Zisserman, A4.1.1). A mirror makes
det R = -1: camera, poses and extrinsics become improper, which `Camera.mirrored` says.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.camera import Camera, matrix
from synthaug.labels import Size
from synthaug.warp import dense
from synthaug.warp.motion import Warp
from synthaug.warp.steps import Dense, Homography

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class View:
    """The camera after a warp, and where its axes went.

    Attributes:
        camera: After the warp; None where it was or became unknown.
        rotation: [3, 3] orthogonal, old camera axes to new ones; None where nobody can say.
        planar: Whether the z axis stayed: depth keeps its values, whatever the camera was.
        reason: Why the camera or its axes became unknown: `camera_unknown` (a projective motion needs the
            intrinsics), `lens_bends` (a projective motion of a distorted picture is no picture of such a
            lens), `dense_motion`, `dense_mirror`. Empty where nothing was lost.
    """

    camera: Camera | None
    rotation: Float64 | None
    planar: bool
    reason: str = ""

    @property
    def turned(self) -> bool:
        """Whether the axes are known and differ from those before."""
        return self.rotation is not None and not bool((self.rotation == np.eye(3)).all())


def split(homography: Float64, intrinsics: Float64) -> tuple[Float64, Float64]:
    """New intrinsics and rotation of a homography, (K', R) with `homography @ intrinsics` ~ K' R.

    Args:
        homography: [3, 3], positive third coordinate for visible points.
        intrinsics: [3, 3] before.

    Returns:
        K' [3, 3] with positive focal lengths and K'[2, 2] = 1, R [3, 3] orthogonal with the sign of
        det(homography). Reprojects to 1e-9 px.
    """
    product = homography @ intrinsics
    # RQ through QR of the matrix turned by 180 degrees: reverse rows, transpose, and back.
    q, r = np.linalg.qr(product[::-1].T)
    upper, turn = r.T[::-1, ::-1], q.T[::-1]
    signs = np.where(np.diag(upper) < 0, -1.0, 1.0)
    upper, turn = upper * signs, turn * signs[:, None]
    upper = np.triu(upper / upper[2, 2])
    if not homography[2, :2].any() and not intrinsics[2, :2].any():
        turn = _in_plane(turn)
    return upper, turn


def _in_plane(turn: Float64) -> Float64:
    """An affine motion keeps the z axis; said exactly, so that depth keeps its bits. Likewise 90 degrees."""
    turn[2], turn[:, 2] = (0.0, 0.0, 1.0), (0.0, 0.0, 1.0)
    whole = np.rint(turn)
    return whole + 0.0 if np.abs(turn - whole).max() < 1e-12 else turn


def follow(warp: Warp, camera: Camera | None) -> View:
    """The view after a warp of a picture taken by `camera`.

    Affine motions are exact for every camera, distorted ones included: the lens model of Brown and Conrady
    turns with the picture (radial terms stay, the tangential pair turns as a vector). Where the camera is
    unknown, square pixels stand in for it, which is all that an affine motion needs.
    """
    view = View(camera, np.eye(3), planar=True)
    for step in warp.steps:
        view = _homography(step, view) if isinstance(step, Homography) else _dense(step, view)
    return view


def _homography(step: Homography, view: View) -> View:
    camera = view.camera
    if not step.affine and (camera is None or camera.distortion):
        reason = view.reason or ("camera_unknown" if camera is None else "lens_bends")
        return View(None, None, planar=False, reason=reason)
    new, turn = split(step.forward, np.eye(3) if camera is None else camera.K)
    planar = view.planar and step.affine
    rotation = None if view.rotation is None else turn @ view.rotation
    if camera is None:
        return View(None, rotation, planar, view.reason)
    mirrored = camera.mirrored ^ bool(np.linalg.det(turn) < 0)
    pose = None if camera.extrinsics is None else matrix(rigid(turn) @ np.array(camera.extrinsics), 4, 4)
    moved = Camera(matrix(new, 3, 3), pose, _turn_lens(camera.distortion, turn), mirrored)
    return View(moved, rotation, planar, view.reason)


def _turn_lens(coefficients: tuple[float, ...], turn: Float64) -> tuple[float, ...]:
    """Distortion seen in axes turned about z: the tangential terms r^2 p + 2 (x . p) x hold p = (p2, p1)."""
    if len(coefficients) < 4:
        return coefficients
    p2, p1 = turn[:2, :2] @ (coefficients[3], coefficients[2])
    return (*coefficients[:2], float(p1), float(p2), *coefficients[4:])


def _dense(step: Dense, view: View) -> View:
    """A dense motion leaves the camera axes where they are, unless it turns the picture over."""
    before = view.camera
    if step.camera is not None:
        pose = None if before is None else before.extrinsics
        mirrored = before.mirrored if before is not None else step.camera.mirrored
        camera = Camera(step.camera.intrinsics, pose, step.camera.distortion, mirrored)
        return View(camera, view.rotation, view.planar, view.reason)
    if step.reverses:
        return View(None, None, view.planar, view.reason or "dense_mirror")
    return View(None, view.rotation, view.planar, view.reason or "dense_motion")


def rigid(turn: Float64) -> Float64:
    """A rotation [3, 3] as a motion of homogeneous points [4, 4]."""
    out = np.eye(4)
    out[:3, :3] = turn
    return out


def depth_factor(turn: Float64, camera: Camera, size: Size) -> Float32:
    """What turns depth z into depth z' along the same ray, per source pixel: third row of R . ray.

    Returns:
        [H, W] float32. Cheap for a pinhole; a lens is straightened iteratively first (OpenCV), about
        1 us per pixel.
    """
    height, width = size
    if camera.distortion:
        bent = camera.rays(dense.centres(size))[:, :2].reshape(-1, 1, 2)
        enough = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-9)
        lens = np.array((*camera.distortion, *(0.0,) * 8)[:8])
        straight = cv2.undistortPoints(bent, np.eye(3), lens, criteria=enough).reshape(-1, 2)
        return (straight @ turn[2, :2] + turn[2, 2]).astype(np.float32).reshape(size)
    row = turn[2] @ np.linalg.inv(camera.K)
    across = row[0] * (np.arange(width) + 0.5)
    down = row[1] * (np.arange(height) + 0.5) + row[2]
    return across.astype(np.float32)[None] + down.astype(np.float32)[:, None]
