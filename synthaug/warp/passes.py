"""Label passes through a warp: each by its own law."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.labels import Labels
from synthaug.warp import dense
from synthaug.warp.resample import Resampler
from synthaug.warp.steps import Border
from synthaug.warp.surface import Surfaces
from synthaug.warp.view import View, depth_factor

Float32 = NDArray[np.float32]
Passes = dict[str, NDArray[Any]]


def move_passes(
    labels: Labels, resampler: Resampler, view: View, same_for_group: bool, border: Border
) -> tuple[Passes, dict[str, str]]:
    """All passes of `labels` on the target canvas.

    Args:
        labels: Of the source picture.
        resampler: The warp.
        view: What the warp does to the camera.
        same_for_group: Whether the next frame goes through the very same warp, which flow needs.
        border: For `albedo`, as the picture has it.

    Returns:
        Fresh, writable passes, and the reason for each pass that had to be left out. Where the warp leaves
        pixels uncovered, a picture with a `semantic` or `ignore` pass gets them marked in `ignore`.
    """
    surfaces = Surfaces(resampler, labels.passes)
    moved: Passes = {}
    lost: dict[str, str] = {}
    for name, values in labels.passes.items():
        reason = _obstacle(name, view, labels, same_for_group)
        if reason:
            lost[name] = reason
        elif name == "instance":
            assert surfaces.ids is not None
            moved[name] = surfaces.ids
        elif name in ("semantic", "ignore"):
            moved[name] = resampler.nearest(values)
        elif name in ("albedo", "alpha"):
            moved[name] = resampler.picture(values, border if name == "albedo" else "constant")
        elif name == "depth":
            moved[name] = _depth(values, labels, surfaces, view)
        elif name == "flow":
            moved[name] = _flow(values, surfaces)
        else:
            moved[name] = _axes(name, surfaces.move(values), view, exact=resampler.turn is not None)
    if ("semantic" in moved or "ignore" in moved) and resampler.covered is not None:
        outside = ~resampler.covered
        moved["ignore"] = moved["ignore"] | outside if "ignore" in moved else outside
    return moved, lost


def _obstacle(name: str, view: View, labels: Labels, same_for_group: bool) -> str:
    """Why a pass cannot follow; empty where it can."""
    if name == "flow" and not same_for_group:
        return "next_frame_unknown"
    if name in ("normals", "position") and view.rotation is None:
        return view.reason
    if name == "depth" and not view.planar and (view.rotation is None or labels.camera is None):
        return view.reason or "camera_unknown"
    return ""


def _depth(values: Float32, labels: Labels, surfaces: Surfaces, view: View) -> Float32:
    """z' = third row of R . X with X = z . ray; the same bits where the z axis stays."""
    if view.planar:
        return surfaces.move(values)
    assert view.rotation is not None
    assert labels.camera is not None
    factor = depth_factor(view.rotation, labels.camera, labels.size)
    if float(factor.min()) <= 0:
        factor[factor <= 0] = np.nan
    return surfaces.move(np.multiply(factor, values, out=factor))


def _axes(name: str, values: Float32, view: View, exact: bool) -> Float32:
    """Vectors into the new camera axes; blended normals brought back to length one."""
    if name not in ("normals", "position"):
        return values
    if view.turned:
        assert view.rotation is not None
        values = np.asarray(cv2.transform(values, view.rotation.astype(np.float32)), dtype=np.float32)
    if name == "position" or exact:
        return values
    length = np.sqrt(np.einsum("ijk,ijk->ij", values, values))
    # Opposite normals may cancel out between two pixels; such a pixel has no direction.
    length[length < 1e-6] = np.nan
    return values / length[..., None]


def _flow(values: Float32, surfaces: Surfaces) -> Float32:
    """Motion to the next frame, which goes through the same warp: W(u + f) - W(u)."""
    warp = surfaces.resampler.warp
    here = warp.planes.reshape(2, -1).T.astype(np.float64)
    moved = surfaces.move(values).reshape(-1, 2)
    target = warp.forward(here + moved) - dense.centres(warp.target)
    return target.astype(np.float32).reshape(*warp.target, 2)
