"""The camera of a folder dataset: constants, or a file per image, turned into the house's convention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthaug import camera as cameras
from synthaug.camera import Camera
from synthaug.errors import ConfigError, InputError, Rejected, nearest
from synthaug.formats import facts, naming, strictjson
from synthaug.labels import Size

_FIELDS = ("fov", "intrinsics", "path", "centre", "pose", "axes", "unit")
_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True, slots=True)
class View:
    """What `camera` of a folder reader says.

    Attributes:
        fov: Horizontal field of view, degrees, above 0 and below 180; square pixels, centred.
        intrinsics: 3x3, pixels.
        path: File per image, with `{stem}`: JSON with `intrinsics` and, where known, `extrinsics` and
            `distortion`, or a text file of nine numbers (the intrinsics).
        centre: Where the source puts the centre of the first pixel, 0.5 or 0.
        pose: What its extrinsics map: `world_to_camera` or `camera_to_world`.
        axes: Its camera axes, `opencv` or `opengl`.
        unit: Metres per unit of its translation.
    """

    fov: float | None = None
    intrinsics: cameras.Matrix | None = None
    path: str | None = None
    centre: float = 0.5
    pose: str = "world_to_camera"
    axes: str = "opencv"
    unit: float = 1.0

    @classmethod
    def of(cls, told: Mapping[str, Any] | None) -> View:
        """Checks a configured mapping; raises `ConfigError`."""
        told = dict(told or {})
        for key in told:
            if key not in _FIELDS:
                raise ConfigError(f"camera.{key}: no such field.{nearest(key, _FIELDS)}")
        if told and sum(told.get(name) is not None for name in _FIELDS[:3]) != 1:
            raise ConfigError("camera: exactly one of fov, intrinsics and path is needed")
        naming.one_of("camera.pose", told.get("pose", "world_to_camera"), ("world_to_camera", "camera_to_world"))
        naming.one_of("camera.axes", told.get("axes", "opencv"), ("opencv", "opengl"))
        if told.get("centre", 0.5) not in (0, 0.5):
            raise ConfigError(f"camera.centre={told['centre']}: expected 0.5 or 0")
        try:
            if told.get("intrinsics") is not None:
                camera = Camera(cameras.matrix(told["intrinsics"], 3, 3))
                told["intrinsics"] = facts.checked_camera(camera).intrinsics
            view = cls(**told)
            good = (view.fov is None or 0 < float(view.fov) < 180) and float(view.unit) > 0
        except (TypeError, ValueError) as error:
            raise ConfigError(f"camera: {error}") from error
        if not good:
            raise ConfigError(f"camera: fov={view.fov} must lie between 0 and 180 degrees, unit={view.unit} above 0")
        return view

    def camera(self, size: Size, data: bytes | None) -> Camera | None:
        """The camera of one picture.

        Args:
            size: (height, width) of the picture.
            data: The file behind `path`, where there is one.

        Raises:
            Rejected: Under `label`: the file says no camera.
        """
        if self.fov is not None:
            return cameras.from_fov(size[1], size[0], self.fov)
        if self.intrinsics is not None:
            return Camera(self._centred(self.intrinsics))
        return None if data is None else self._converted(_parse(data, self.path or ""))

    def _centred(self, intrinsics: cameras.Matrix) -> cameras.Matrix:
        shift = np.array([[0.0, 0.0, 0.5 - self.centre]] * 2 + [[0.0, 0.0, 0.0]])
        return cameras.matrix(np.array(intrinsics) + shift, 3, 3)

    def _converted(self, camera: Camera) -> Camera:
        pose = camera.world_to_camera
        if pose is not None:
            pose[:3, 3] *= self.unit
            pose = np.linalg.inv(pose) if self.pose == "camera_to_world" else pose
            pose = _OPENGL @ pose if self.axes == "opengl" else pose
        extrinsics = None if pose is None else cameras.matrix(pose, 4, 4)
        return Camera(self._centred(camera.intrinsics), extrinsics, camera.distortion, camera.mirrored)


def _parse(data: bytes, name: str) -> Camera:
    try:
        if data.lstrip()[:1] == b"{":
            return facts.camera_from(strictjson.loads(data, name))
        numbers = [float(word) for word in data.decode("ascii").replace(",", " ").split()]
        return facts.checked_camera(Camera(cameras.matrix(np.reshape(numbers, (3, 3)), 3, 3)))
    except (InputError, ValueError) as error:
        raise Rejected("label", f"{name}: no camera: {error}") from error
