"""What the readers of rendered scenes share: ids, descriptions, identity, and labels from what the renderer gives."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from synthaug import rle
from synthaug.camera import matrix
from synthaug.contracts import Description, Reader
from synthaug.errors import ConfigError, InputError, Rejected
from synthaug.labels import Box, Category, Instance, Labels, Size
from synthaug.render import film, mitsuba_backend, setting, variants
from synthaug.render.environment import HdrFile
from synthaug.render.mitsuba_backend import Rendered
from synthaug.render.scene import Float64, Scene, View
from synthaug.sample import Picture, Sample

PASSES = ("instance", "semantic", "depth", "normals", "uv", "position", "albedo")
MOST_RAYS = 8192
"""Along a side of a picture, for `coverage`: they are in memory at once, a gigabyte of them."""
_ID = re.compile(r"scene-(\d{6,})/view-(\d+)")


@dataclass(frozen=True, slots=True)
class Shots:
    """How many pictures of a kind of scenes, and how they are taken; the fields are those of the readers.

    Raises:
        ConfigError: A value outside of its range, on construction.
    """

    scenes: int
    views: int
    size: Size
    samples_per_pixel: int
    environment: str
    denoise: bool
    coverage: int
    variant: str
    linear: bool
    split: str

    def __post_init__(self) -> None:
        in_range("scenes", self.scenes, 1, 10**7)
        in_range("views", self.views, 1, 1000)
        in_range("width", self.size[1], 32, 4096)
        in_range("height", self.size[0], 32, 4096)
        in_range("samples_per_pixel", self.samples_per_pixel, 1, 4096)
        in_range("coverage", self.coverage, 0, 8)
        if self.coverage * max(self.size) > MOST_RAYS:
            raise ConfigError(
                f"coverage={self.coverage} with pictures of {max(self.size)} pixels takes over {MOST_RAYS} rays along"
                f" a side; set read.coverage={MOST_RAYS // max(self.size)} or less"
            )
        if self.variant not in variants.KNOWN:
            raise ConfigError(f"variant={self.variant} is none of {', '.join(variants.KNOWN)}")


def in_range(name: str, value: float, low: float, high: float) -> None:
    """Raises `ConfigError` for a value outside of [low, high]."""
    if not low <= value <= high:
        raise ConfigError(f"{name}={value} is outside {low} to {high}")


class SceneReader(Reader):
    """Scenes made from a number, rendered with Mitsuba 3 when they are read.

    Ids are `scene-000012/view-0`; the views of a scene are a group and share object ids `scene-000012/<body>`. All
    passes come with every sample, exact to the pixel centre. Equal ids give equal bytes on one machine and variant,
    whatever was read before.

    Args:
        shots: How many, and how they are taken.
        classes: Names, in the order of the class ids of the bodies.
    """

    operational: ClassVar[frozenset[str]] = frozenset({"environment"})

    def __init__(self, shots: Shots, classes: tuple[str, ...]) -> None:
        self._shots, self._classes = shots, classes

    @abstractmethod
    def scene(self, index: int) -> Scene:
        """The scene with this number."""

    @abstractmethod
    def view(self, index: int, number: int) -> View:
        """One camera on it."""

    def categories(self) -> tuple[Category, ...]:
        return categories_of(self._classes)

    def ids(self) -> Sequence[str]:
        """All ids; refuses with `ConfigError` where Mitsuba is missing, `InputError` for a missing .hdr file."""
        variants.require()
        environment = self._shots.environment
        if environment and not Path(environment).is_file():
            raise InputError(f"environment={environment} is not a file; leave it empty for the room")
        return [f"{setting.scene_id(s)}/view-{v}" for s in range(self._shots.scenes) for v in range(self._shots.views)]

    def describe(self, sample_id: str) -> Description:
        scene, view = self.parse(sample_id)
        return Description(
            sample_id,
            self._shots.size,
            passes=(*PASSES, "alpha") if self._shots.coverage else PASSES,
            group=setting.scene_id(scene),
            view=f"view-{view}",
            split=self._shots.split,
            space="linear" if self._shots.linear else "srgb",
        )

    def identity(self) -> Mapping[str, Any]:
        """What decides the pixels beyond the configuration: the variant found, versions, the map's digest."""
        shots = self._shots
        facts = {"variant": variants.resolve(shots.variant), **mitsuba_backend.versions(shots.denoise)}
        if shots.environment:
            facts["environment"] = HdrFile(shots.environment).digest()
        return facts

    def read(self, sample_id: str) -> Sample:
        index, _ = self.parse(sample_id)
        return self.shoot(sample_id, self.scene(index))

    def shoot(self, sample_id: str, scene: Scene, like: Scene | None = None) -> Sample:
        """A scene, this reader's own or a changed one, from the camera of a sample.

        Args:
            sample_id: Says the camera, and is the id of the result.
            scene: What there is to see.
            like: Exposes the picture as one of this scene, which is rendered for it; None to meter the picture itself.
        """
        index, number = self.parse(sample_id)
        view, shots = self.view(index, number), self._shots
        metered = None if like is None else film.meter(self._rendered(like, view).radiance)
        rendered = self._rendered(scene, view)
        return sample_of(sample_id, scene, view, rendered, metered, linear=shots.linear, split=shots.split)

    def _rendered(self, scene: Scene, view: View) -> Rendered:
        shots = self._shots
        return mitsuba_backend.render(
            scene,
            view,
            samples=shots.samples_per_pixel,
            denoise=shots.denoise,
            variant=variants.resolve(shots.variant),
            coverage=shots.coverage,
        )

    def parse(self, sample_id: str) -> tuple[int, int]:
        """Numbers of scene and view. Raises `Rejected` for ids that are not among `ids`."""
        match = _ID.fullmatch(sample_id)
        scene, view = (int(match[1]), int(match[2])) if match else (-1, -1)
        if not (0 <= scene < self._shots.scenes and 0 <= view < self._shots.views):
            last = f"{setting.scene_id(self._shots.scenes - 1)}/view-{self._shots.views - 1}"
            raise Rejected("decode", f"no such sample; ids end at {last}", sample_id=sample_id)
        return scene, view


def categories_of(classes: Sequence[str]) -> tuple[Category, ...]:
    """Classes without keypoints, by name."""
    return tuple(Category(name) for name in classes)


def sample_of(
    sample_id: str,
    scene: Scene,
    view: View,
    rendered: Rendered,
    metered: float | None = None,
    *,
    linear: bool = False,
    split: str = "train",
) -> Sample:
    """A rendered view as a sample: developed to sRGB uint8, or only exposed where `linear` is asked for.

    `metered` is the gain of another picture's light meter (`film.meter`), None for the picture's own.
    """
    if linear:
        picture = Picture(film.expose(rendered.radiance, view, metered), "linear")
    else:
        picture = Picture(film.develop(rendered.radiance, view, metered))
    labels = labels_of(scene, view, rendered)
    return Sample(sample_id, picture, labels, picture, group=scene.id, view=view.name, split=split)


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
    if rendered.coverage is not None:
        passes["alpha"] = rendered.coverage
    to_camera = np.asarray(view.camera.extrinsics)
    instances = tuple(_instance(scene, number, box, to_camera) for number, (box, _) in rle.boxes_in(ids).items())
    labels = Labels(view.size, categories_of(scene.classes), instances, passes, view.camera)
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
        attributes={key: list(value) if isinstance(value, tuple) else value for key, value in body.attributes},
        object_id=f"{scene.id}/{body.name}",
    )
