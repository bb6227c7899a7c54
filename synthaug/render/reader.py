"""The rendered dice dataset behind a Reader: nothing on disk, every sample made from its id."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from synthaug import rle
from synthaug.camera import matrix
from synthaug.contracts import Description, Reader
from synthaug.errors import ConfigError, InputError, Rejected
from synthaug.labels import Box, Category, Instance, Labels
from synthaug.render import dice, film, mitsuba_backend, variants
from synthaug.render.environment import HdrFile
from synthaug.render.mitsuba_backend import Rendered
from synthaug.render.scene import Float64, Scene, View
from synthaug.sample import Picture, Sample

PASSES = ("instance", "semantic", "depth", "normals", "uv", "position", "albedo")
_ID = re.compile(r"scene-(\d{6,})/view-(\d+)")


class DiceReader(Reader):
    """Scenes of dice, rendered with Mitsuba 3 when they are read.

    Ids are `scene-000012/view-0`; the views of a scene are a group and share object ids `scene-000012/die-3`.
    Classes `1` to `6` are the face that points up. All passes come with every sample, exact to the pixel centre.
    Equal ids give equal bytes on one machine and variant, whatever was read before. A sample of 256x256 at 16
    samples per pixel costs about two seconds of one core with `scalar_rgb`, a fifth of that with LLVM.

    Args:
        scenes: Number of scenes, from 1.
        views: Cameras on each scene, from 1; the first is overhead, the others up to 25 degrees off.
        width: Of the pictures, pixels, 32 to 4096.
        height: Likewise.
        samples_per_pixel: Light paths per pixel, 1 to 4096.
        seed: Of everything: other seeds are other scenes.
        dice: Smallest and largest number of dice in a scene, 1 to 60; fewer where no more fit.
        zoom: 1 shows 32 cm of floor as the photographs do, 2 half of it; 0.25 to 10.
        variety: Share of scenes on paper, felt, cloth, wood or plastic instead of mat or tray, 0 to 1.
        environment: Radiance .hdr file that lights the scenes; empty for the procedural room.
        denoise: Whether Open Image Denoise cleans the picture (never the labels).
        variant: `auto`, `scalar_rgb`, `llvm_ad_rgb` or `cuda_ad_rgb`; `auto` takes the fastest that survives a
            trial. Variants differ in their pixels.
        linear: Scene-linear float32 pictures instead of tone-mapped sRGB uint8.
        split: Name of the split all samples belong to.
    """

    operational: ClassVar[frozenset[str]] = frozenset({"environment"})

    def __init__(
        self,
        *,
        scenes: int = 24,
        views: int = 1,
        width: int = 256,
        height: int = 256,
        samples_per_pixel: int = 16,
        seed: int = 0,
        dice: Sequence[int] = (1, 20),
        zoom: float = 1.0,
        variety: float = 0.15,
        environment: str = "",
        denoise: bool = True,
        variant: str = "auto",
        linear: bool = False,
        split: str = "train",
    ) -> None:
        ranges = {
            "scenes": (scenes, 1, 10**7),
            "views": (views, 1, 1000),
            "width": (width, 32, 4096),
            "height": (height, 32, 4096),
            "samples_per_pixel": (samples_per_pixel, 1, 4096),
            "zoom": (zoom, 0.25, 10),
            "variety": (variety, 0, 1),
        }
        for name, (value, low, high) in ranges.items():
            if not low <= value <= high:
                raise ConfigError(f"{name}={value} is outside {low} to {high}")
        if len(dice) != 2 or not 1 <= dice[0] <= dice[1] <= 60:
            raise ConfigError(f"dice={list(dice)}: expected [smallest, largest] with 1 <= smallest <= largest <= 60")
        if variant not in variants.KNOWN:
            raise ConfigError(f"variant={variant} is none of {', '.join(variants.KNOWN)}")
        self._scenes, self._views, self._seed = scenes, views, seed
        self._samples, self._denoise, self._variant = samples_per_pixel, denoise, variant
        self._linear, self._split = linear, split
        self._options = _options((height, width), (dice[0], dice[1]), zoom, variety, environment)

    def categories(self) -> tuple[Category, ...]:
        return _CATEGORIES

    def ids(self) -> Sequence[str]:
        """All ids; refuses with `ConfigError` where Mitsuba is missing, `InputError` for a missing .hdr file."""
        variants.require()
        if self._options.environment and not Path(self._options.environment).is_file():
            raise InputError(f"environment={self._options.environment} is not a file; leave it empty for the room")
        return [f"{dice.scene_id(s)}/view-{v}" for s in range(self._scenes) for v in range(self._views)]

    def describe(self, sample_id: str) -> Description:
        scene, view = self._parse(sample_id)
        return Description(
            sample_id,
            self._options.size,
            passes=PASSES,
            group=dice.scene_id(scene),
            view=f"view-{view}",
            split=self._split,
            space="linear" if self._linear else "srgb",
        )

    def identity(self) -> Mapping[str, Any]:
        """What decides the pixels beyond the configuration: the variant found, versions, the map's digest."""
        facts = {"variant": variants.resolve(self._variant), **mitsuba_backend.versions(self._denoise)}
        if self._options.environment:
            facts["environment"] = HdrFile(self._options.environment).digest()
        return facts

    def read(self, sample_id: str) -> Sample:
        index, number = self._parse(sample_id)
        scene = _scene(self._seed, index, self._options)
        view = dice.view(self._seed, index, number, self._options)
        variant = variants.resolve(self._variant)
        rendered = mitsuba_backend.render(scene, view, samples=self._samples, denoise=self._denoise, variant=variant)
        if self._linear:
            picture = Picture(film.expose(rendered.radiance, view), "linear")
        else:
            picture = Picture(film.develop(rendered.radiance, view))
        return Sample(
            sample_id,
            picture,
            labels_of(scene, view, rendered),
            picture,
            group=scene.id,
            view=view.name,
            split=self._split,
        )

    def _parse(self, sample_id: str) -> tuple[int, int]:
        match = _ID.fullmatch(sample_id)
        scene, view = (int(match[1]), int(match[2])) if match else (-1, -1)
        if not (0 <= scene < self._scenes and 0 <= view < self._views):
            last = f"{dice.scene_id(self._scenes - 1)}/view-{self._views - 1}"
            raise Rejected("decode", f"no such sample; ids end at {last}", sample_id=sample_id)
        return scene, view


_CATEGORIES = tuple(Category(str(face)) for face in range(1, 7))


def _options(
    size: tuple[int, int], count: tuple[int, int], zoom: float, variety: float, environment: str
) -> dice.Options:
    """Outside the class, where `dice` is the module and not the parameter."""
    return dice.Options(count, size, zoom, variety, environment)


@lru_cache(maxsize=4)
def _scene(seed: int, index: int, options: dice.Options) -> Scene:
    return dice.scene(seed, index, options)


def labels_of(scene: Scene, view: View, rendered: Rendered) -> Labels:
    """Canonical labels of a rendered view: bodies with a class are instances, the rest is background."""
    classes = np.array([0, *(body.class_id for body in scene.bodies)], dtype=np.int32)
    semantic = classes[rendered.bodies]
    ids = np.where(semantic > 0, rendered.bodies, 0).astype(np.int32)
    passes = {
        "instance": ids,
        "semantic": semantic,
        "depth": np.ascontiguousarray(rendered.position[..., 2]),
        "normals": rendered.normals,
        "uv": rendered.uv,
        "position": rendered.position,
        "albedo": rendered.albedo,
    }
    to_camera = np.asarray(view.camera.extrinsics)
    instances = tuple(_instance(scene, number, box, to_camera) for number, (box, _) in rle.boxes_in(ids).items())
    labels = Labels(view.size, _CATEGORIES, instances, passes, view.camera)
    labels.check()
    return labels


def _instance(scene: Scene, number: int, box: Box, to_camera: Float64) -> Instance:
    body = scene.bodies[number - 1]
    return Instance(
        number,
        body.class_id,
        box,
        pose=matrix(to_camera @ np.asarray(body.pose), 4, 4),
        extent=body.extent,
        attributes=dict(body.attributes),
        object_id=f"{scene.id}/{body.name}",
    )
