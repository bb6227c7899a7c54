"""What one picture and its passes say about its surfaces, prepared once for all objects in it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.errors import Rejected
from synthaug.labels import Instance, Labels
from synthaug.texture import anchoring, bounce, intrinsic
from synthaug.texture.lighting import Light, fit, total
from synthaug.texture.shading import Shading, base_of, fresnel, separated, unclipped

Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]
Cut = tuple[slice, slice]
IndexOf = Callable[[Instance | None], float]
_MARGIN = 5
"""Pixels around an object: as far as the neighbourhoods that look at its border reach."""
_SAMPLES = 4096
_LAST = 0.02
"""Share of the room below white from which on 8 bits no longer tell how bright something was."""
_DARK = 0.1
"""Albedo at which a pixel's shading counts half in the fit of the light."""


class View:
    """A picture before it is changed.

    Args:
        image: [H, W, 3], linear.
        labels: With its passes.
        index_of: Index of refraction of the coat of an instance; None asks for what is no object.
        shoulder: Value from which the camera rolled off towards white; 1 for none (`unrolled`).
    """

    def __init__(self, image: Float32, labels: Labels, index_of: IndexOf, shoulder: float = 1.0) -> None:
        self.source, self.labels, self.index_of, self.shoulder = image, labels, index_of, shoulder
        self.image: Float32 = unrolled(image, shoulder)
        self.albedo: Float32 | None = labels.passes.get("albedo")
        self.normals: Float32 | None = labels.passes.get("normals")
        self.uv: Float32 | None = labels.passes.get("uv")
        self._done = self.image.copy()
        self._changed = np.zeros(labels.size, np.bool_)
        self._renewed: list[tuple[Cut, int, Float32]] = []

    def inside(self, instance: Instance, cut: Cut) -> Bools:
        """[h, w]: the pixels of an object."""
        if instance.mask is None and "instance" in self.labels.passes:
            return self.labels.passes["instance"][cut] == instance.id
        mask = self.labels.mask(instance)
        if mask is None:
            raise Rejected("label", f"instance {instance.id} has no mask, and there is no pass instance")
        return np.ascontiguousarray(mask[cut])

    def cover(self, cut: Cut) -> Float32 | None:
        """[h, w]: the `alpha` pass, where there is one."""
        alpha = self.labels.passes.get("alpha")
        return None if alpha is None else np.clip(np.nan_to_num(alpha[cut], nan=1.0), 0, 1)

    def add(self, cut: Cut, number: int, change: Float32, base: Float32) -> None:
        """Takes up the change of one object, and the base [h, w, 3] that it has from now on."""
        self._done[cut] += change
        changed = cv2.transform(np.abs(change), np.ones((1, 3))) != 0
        self._changed[cut] |= changed
        self._renewed.append((cut, number, np.asarray(cv2.copyTo(base, changed.view(np.uint8)), np.float32)))

    def exchange(self) -> None:
        """Adds what the changed objects send on to each other (`bounce`), where passes say how they lie."""
        camera = self.labels.camera
        if self.position is None or self.normals is None or camera is None or camera.distortion:
            return
        found = bounce.gathered(self._done - self.image, self.position, self.normals, camera)
        for cut, number, base in self._renewed:
            self._done[cut] += base * found.at(self.ids, number, cut)

    def result(self) -> Float32:
        """[3, H, W], linear, not below zero where anything changed; elsewhere the picture to the bit."""
        done = np.empty((3, *self.labels.size), np.float32)
        for channel, plane in enumerate(done):
            np.copyto(plane, self.source[..., channel])
            new = rolled(np.maximum(self._done[..., channel], 0), self.shoulder)
            np.copyto(plane, new, where=self._changed)
        return done

    @cached_property
    def position(self) -> Float32 | None:
        """[H, W, 3] in camera axes, where passes say it."""
        return anchoring.positions(self.labels)

    @cached_property
    def rays(self) -> Float32 | None:
        """[H, W, 3] rays with z = 1, where there is a camera."""
        return None if self.labels.camera is None else anchoring.rays(self.labels.camera, self.labels.size)

    @cached_property
    def light(self) -> Light:
        """Fitted to picture over albedo on an even grid of pixels."""
        height, width = self.labels.size
        step = max(int(np.sqrt(height * width / _SAMPLES)), 1)
        grid = (slice(step // 2, None, step), slice(step // 2, None, step))
        image = self.image[grid].reshape(-1, 3)
        # What has no normal, such as the sky, says nothing of the light on surfaces.
        normals = (self._facing(grid) if self.normals is None else self.normals[grid]).reshape(-1, 3)
        if self.albedo is None:
            return intrinsic.light_of(image, normals, self.ids[grid].ravel())
        base = self._base_on(grid).reshape(-1, 3)
        mean = base.mean(1)
        known = np.isfinite(normals).all(1) & np.isfinite(image).all(1) & np.isfinite(mean)
        weights = np.where(known, mean * mean / (mean * mean + np.float32(_DARK**2)), 0)
        shading = np.where(known[:, None], image / np.maximum(base, np.float32(0.01)), 0)
        # A channel that the surface swallows says nothing of the light in it; the others speak for it.
        said = (unclipped(image) * base + np.float32(1e-6)) * known[:, None]
        usual = (said * shading).sum(1) / np.maximum(said.sum(1), np.float32(1e-6))
        shading = np.where(said < np.float32(0.3) * mean[:, None], usual[:, None], shading)
        return fit(shading, np.where(known[:, None], normals, 0), weights * unclipped(image).max(1))

    def _base_on(self, grid: Cut) -> Float32:
        assert self.albedo is not None
        albedo = np.clip(self.albedo[grid], 0, 1)
        base = base_of(albedo, self.index_of(None))
        ids = self.ids[grid]
        for instance in self.labels.instances:
            index = self.index_of(instance)
            here = ids == instance.id
            base[here] = base_of(albedo[here], index)
        return base

    @cached_property
    def ids(self) -> NDArray[np.int32]:
        """[H, W]: the `instance` pass, or one made of masks."""
        if "instance" in self.labels.passes:
            return self.labels.passes["instance"]
        ids = np.zeros(self.labels.size, np.int32)
        for instance in self.labels.instances:
            mask = self.labels.mask(instance)
            if mask is not None:
                ids[mask] = instance.id
        return ids

    def cut(self, instance: Instance) -> Cut:
        """Rows and columns around an object."""
        height, width = self.labels.size
        x0, y0, x1, y1 = instance.box
        rows = slice(max(int(y0) - _MARGIN, 0), min(int(np.ceil(y1)) + _MARGIN, height))
        return rows, slice(max(int(x0) - _MARGIN, 0), min(int(np.ceil(x1)) + _MARGIN, width))

    def shading(self, cut: Cut, inside: Bools, pure: Bools, index: float) -> Shading:
        """Light and rest of one object."""
        image = self.image[cut]
        if self.albedo is None:
            normals = self._facing(cut)
            return intrinsic.estimated(image, inside, pure, normals, self.light.irradiance(normals))
        albedo = np.clip(np.fmax(self.albedo[cut], np.float32(0)), 0, 1)
        base = np.asarray(cv2.copyTo(base_of(albedo, index), inside.view(np.uint8)), np.float32)
        normals = self._facing(cut)
        even = self.light.irradiance(normals)
        return separated(image, base, pure, normals, even, self._shine(cut, normals, index), self.light.colour)

    def _facing(self, cut: Cut) -> Float32:
        """[h, w, 3]: normals; towards the camera where they are not known."""
        towards = np.array([0, 0, -1], np.float32)
        if self.normals is None:
            return np.broadcast_to(towards, self.image[cut].shape).copy()
        normals = np.ascontiguousarray(self.normals[cut])
        unknown = ~np.isfinite(total(normals))
        if unknown.any():
            normals = normals.copy()
            normals[unknown] = towards
        return normals

    def _shine(self, cut: Cut, normals: Float32, index: float) -> Float32:
        if index <= 1:
            return np.zeros(normals.shape[:2], np.float32)
        views = np.array([0, 0, -1], np.float32) if self.rays is None else -self.rays[cut]
        return fresnel(normals, views / np.linalg.norm(views, axis=-1, keepdims=True), index)

    def gain(self, cut: Cut, pixels: Bools, lean: Float32 | None, strength: float) -> Float32 | float:
        """[h, w, 3]: light on the leaning normals over light on the normals as they are; 1 where nothing leans."""
        if lean is None or self.normals is None or strength == 0:
            return 1.0
        normals = self.normals[cut][pixels]
        leaning = normals + np.float32(strength) * lean
        leaning /= np.linalg.norm(leaning, axis=1, keepdims=True)
        ratio = self.light.irradiance(leaning) / self.light.irradiance(normals)
        gain = np.ones((*pixels.shape, 3), np.float32)
        gain[pixels] = np.where(np.isfinite(ratio), ratio, 1)
        return gain


def planes(image: Float32) -> Float32:
    """[3, H, W] to [H, W, 3], contiguous."""
    return np.asarray(cv2.merge([np.ascontiguousarray(plane) for plane in image]), np.float32)


def unrolled(image: Float32, shoulder: float) -> Float32:
    """Values before a camera rolled them off towards white by 1 - (1 - s) exp(-(v - s) / (1 - s)) above s."""
    if shoulder >= 1:
        return image
    room = np.float32(1 - shoulder)
    found = image.flatten()
    over = np.flatnonzero(found > shoulder)
    left = np.clip((1 - found[over]) / room, np.float32(_LAST), 1)
    found[over] = np.float32(shoulder) - room * np.log(left)
    return found.reshape(image.shape)


def rolled(values: Float32, shoulder: float) -> Float32:
    """Turns `unrolled` back."""
    if shoulder >= 1:
        return values
    room = np.float32(1 - shoulder)
    found = values.flatten()
    over = np.flatnonzero(found > shoulder)
    found[over] = 1 - room * np.exp((np.float32(shoulder) - found[over]) / room)
    return found.reshape(values.shape)
