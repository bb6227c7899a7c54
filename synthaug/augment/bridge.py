"""Transforms of albumentations and kornia as stages; the only file that imports them.

Photometric transforms become an Appearance. Geometric ones become a Warp: a grid of coordinates goes
through them, and `synthaug.warp` moves pixels and labels by what came back. A transform belongs to one of
the two by its class in the library (`foreign` holds what is refused, and why).

Each sample seeds the library's own generator from its draw, so order, workers and batch mates change
nothing, and the process-wide generators of `random`, numpy and torch are left as they were.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module, metadata
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synthaug import seeds
from synthaug.augment import foreign, grid, ranges
from synthaug.augment.foreign import Params, Room
from synthaug.contracts import Appearance, Draw, Geometry, Place
from synthaug.errors import ConfigError
from synthaug.labels import Labels, Size
from synthaug.warp.motion import Warp

_torch_turn = threading.Lock()
"""Kornia draws from torch's process-wide generator: whoever seeds it holds this until it is put back."""


class AlbumentationsAppearance(Appearance):
    """A photometric transform of albumentations, by the name of its class.

    Pictures go in as float32 where the transform can, else as uint8 (found out once, when the stage is
    built, and part of its identity). Building it imports albumentations: about 3 s.

    Args:
        transform: Class name, such as `RandomFog`; must derive from `ImageOnlyTransform`.
        params: Its own parameters by name, `p` (share of the samples, 0.5 by default there) included.
        scope: `sample`, or `group`: one draw for all samples of a group (frames of a sequence, views of a scene).
    """

    def __init__(self, *, transform: str, params: Params | None = None, scope: ranges.Shared = "sample") -> None:
        self.scope = ranges.shared(scope)
        self._transform = _Albumentations(transform, params or {}, "appearance")
        self._transform.settle_type()
        foreign.refuse_movement(self._transform)

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        return {"seed": seeds.fork(rng)}

    def paint(self, images: Any, labels: Sequence[Labels], draws: Sequence[Draw]) -> Any:
        for image, draw in zip(images, draws, strict=True):
            image[...] = foreign.painted(self._transform, image, draw["seed"])
        return images

    def identity(self) -> Mapping[str, Any]:
        return {"library": _albumentations_release(), "pictures": "uint8" if self._transform.bytes else "float32"}


class AlbumentationsGeometry(Geometry):
    """A geometric transform of albumentations as a motion that moves all labels.

    Projective motions are recognised and move the camera too; dense ones leave it unknown. Labels follow
    the pixels within 0.02 px, where the library's own keypoints are up to 1.5 px off. About 5 ms at 512x512.

    Args:
        transform: Class name, such as `ElasticTransform`; must derive from `DualTransform`.
        params: Its own parameters by name, `p` (share of the samples) included; those that say how pixels
            are filled or interpolated are refused, because that is done here.
        scope: `sample`, or `group`: one draw for all samples of a group (frames of a sequence, views of a scene).
    """

    sees = "size"

    def __init__(self, *, transform: str, params: Params | None = None, scope: ranges.Shared = "sample") -> None:
        self.scope = ranges.shared(scope)
        self._transform = _Albumentations(transform, params or {}, "geometry")

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        return {"seed": seeds.fork(rng)}

    def warp(self, labels: Labels, draw: Draw) -> Warp:
        return foreign.motion(self._transform, labels.size, draw["seed"])

    def canvas(self, size: Size) -> Size:
        return foreign.canvas(self._transform, size)

    def identity(self) -> Mapping[str, Any]:
        return {"library": _albumentations_release()}


class KorniaAppearance(Appearance):
    """A photometric augmentation of kornia on the device; every picture is a batch of its own.

    Args:
        transform: Class name, such as `ColorJiggle`; must derive from `IntensityAugmentationBase2D`.
        params: Its own parameters by name, `p` (share of the samples) included.
        scope: `sample`, or `group`: one draw for all samples of a group (frames of a sequence, views of a scene).
    """

    place: ClassVar[Place] = "device"

    def __init__(self, *, transform: str, params: Params | None = None, scope: ranges.Shared = "sample") -> None:
        self.scope = ranges.shared(scope)
        self._transform = _Kornia(transform, params or {}, "appearance")
        foreign.refuse_movement(self._transform)

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        return {"seed": seeds.fork(rng)}

    def paint(self, images: Any, labels: Sequence[Labels], draws: Sequence[Draw]) -> Any:
        for image, draw in zip(images, draws, strict=True):
            image.copy_(self._transform.run(image[None], draw["seed"])[0].clamp(0, 1))
        return images

    def identity(self) -> Mapping[str, Any]:
        return {"library": f"kornia {metadata.version('kornia')} (Apache-2.0)"}


class KorniaGeometry(Geometry):
    """A geometric augmentation of kornia as a motion that moves all labels; computed on the CPU.

    Args:
        transform: Class name, such as `RandomAffine`; must derive from `GeometricAugmentationBase2D`, or
            be `RandomElasticTransform` or `RandomThinPlateSpline`.
        params: Its own parameters by name, `p` (share of the samples) included; those that say how pixels
            are filled or interpolated are refused, because that is done here.
        scope: `sample`, or `group`: one draw for all samples of a group (frames of a sequence, views of a scene).
    """

    sees = "size"

    def __init__(self, *, transform: str, params: Params | None = None, scope: ranges.Shared = "sample") -> None:
        self.scope = ranges.shared(scope)
        self._transform = _Kornia(transform, params or {}, "geometry")

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        return {"seed": seeds.fork(rng)}

    def warp(self, labels: Labels, draw: Draw) -> Warp:
        return foreign.motion(self._transform, labels.size, draw["seed"])

    def canvas(self, size: Size) -> Size:
        return foreign.canvas(self._transform, size)

    def identity(self) -> Mapping[str, Any]:
        return {"library": f"kornia {metadata.version('kornia')} (Apache-2.0)"}


class _Albumentations:
    """One albumentations transform, built afresh for every picture: its objects keep state between calls."""

    library = "albumentations"

    def __init__(self, name: str, params: Params, room: Room) -> None:
        module = _albumentations()
        found = _members(module, {"appearance": (module.ImageOnlyTransform,), "geometry": (module.DualTransform,)})
        volumes = [member for member, cls in found["geometry"].items() if issubclass(cls, module.Transform3D)]
        for member in volumes:
            del found["geometry"][member]
        self._arguments = foreign.checked(foreign.chosen(name, room, self.library, found), room, self.library, params)
        self.name = name
        self.bytes = False

    @property
    def share(self) -> float:
        return float(self._made().p)

    def apply(self, picture: NDArray[Any], seed: int, *, sure: bool = False) -> NDArray[Any]:
        made = self._made()
        made.set_random_seed(seed)
        given = np.rint(picture * 255).astype(np.uint8) if self.bytes else picture
        done = made(image=given, force_apply=sure)["image"]
        return done.astype(np.float32) / np.float32(255) if self.bytes else done

    def settle_type(self) -> None:
        """Float pictures where the transform takes them and gives them back, bytes where not."""
        try:
            self.bytes = self.apply(grid.picture((126, 126)), 1, sure=True).dtype != np.float32
        except Exception:
            self.bytes = True

    def _made(self) -> Any:
        return getattr(_albumentations(), self.name)(**self._arguments)


class _Kornia:
    """One kornia augmentation. Its numbers come from torch's CPU generator: 32 bits of the seed count."""

    library = "kornia"

    def __init__(self, name: str, params: Params, room: Room) -> None:
        module = import_module("kornia.augmentation")
        rigid = import_module("kornia.augmentation._2d.geometric.base").GeometricAugmentationBase2D
        colours = import_module("kornia.augmentation._2d.intensity.base").IntensityAugmentationBase2D
        bent = (module.RandomElasticTransform, module.RandomThinPlateSpline)
        found = _members(module, {"appearance": (colours,), "geometry": (rigid, *bent)})
        self._arguments = foreign.checked(foreign.chosen(name, room, self.library, found), room, self.library, params)
        self.name = name

    @property
    def share(self) -> float:
        return float(self._made().p)

    def apply(self, picture: NDArray[Any], seed: int, *, sure: bool = False) -> NDArray[Any]:
        import torch

        planes = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))[None])
        with torch.inference_mode():
            return self.run(planes, seed, sure=sure)[0].permute(1, 2, 0).numpy()

    def run(self, planes: Any, seed: int, *, sure: bool = False) -> Any:
        """[1, 3, H, W] tensor to another one; torch's generators are as before afterwards."""
        import torch

        made = self._made()
        if sure:
            made.p = made.p_batch = 1.0
        devices = [planes.device] if planes.device.type == "cuda" else []
        with _torch_turn, torch.random.fork_rng(devices):
            torch.default_generator.manual_seed(seed & 0xFFFFFFFF)
            if devices:
                with torch.cuda.device(devices[0]):
                    torch.cuda.manual_seed(seed & 0xFFFFFFFF)
            return made(planes)

    def _made(self) -> Any:
        return getattr(import_module("kornia.augmentation"), self.name)(**self._arguments)


def _albumentations() -> ModuleType:
    """The library, imported without its look-up of a newer version on the network."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    _albumentations_release()
    return import_module("albumentations")


def _albumentations_release() -> str:
    """Name, version and licence of what is installed under the name `albumentations`.

    Raises:
        ConfigError: Nothing is, or the AGPL fork, which brings a module of the same name.
    """
    way_out = "install the MIT release: pip install albumentations==2.0.8"
    try:
        fork = metadata.version("albumentationsx")
    except metadata.PackageNotFoundError:
        fork = ""
    if fork:
        raise ConfigError(
            f"albumentationsx {fork} is installed: a fork under the AGPL-3.0 that takes the module name "
            f"albumentations; pip uninstall albumentationsx, then {way_out}"
        )
    try:
        return f"albumentations {metadata.version('albumentations')} (MIT)"
    except metadata.PackageNotFoundError as problem:
        raise ConfigError(f"albumentations is not installed; {way_out}") from problem


def _members(module: ModuleType, bases: Mapping[Room, tuple[type, ...]]) -> dict[Room, dict[str, type]]:
    """The public classes of a library by room, the bases themselves apart where they are abstract."""
    classes = {name: value for name, value in vars(module).items() if isinstance(value, type)}
    return {
        room: {name: cls for name, cls in classes.items() if issubclass(cls, of) and cls is not of[0]}
        for room, of in bases.items()
    }
