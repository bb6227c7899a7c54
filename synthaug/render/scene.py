"""A scene as data: bodies, light and cameras, frozen and hashable, without a renderer in sight.

World axes are right-handed with z up, metres; the floor is z = 0. A scene holds recipes, not arrays: shapes
build their mesh, textures and skies paint their pixels when a backend asks, from numbers alone. Equal scenes
are therefore equal as values, a few kilobytes as JSON, and cheap to make in the plan.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.camera import Camera, Matrix
from synthaug.labels import Size
from synthaug.transfer import linear_from_srgb

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Rgb = tuple[float, float, float]
Affine = tuple[tuple[float, float, float], tuple[float, float, float]]
"""2x3: a place (s, t) in a texture, in repeats of it, is the matrix times (u, v, 1)."""
ONCE: Affine = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def repeated(along_u: float, along_v: float) -> Affine:
    """A texture that repeats this often while u and v go from 0 to 1."""
    return ((along_u, 0.0, 0.0), (0.0, along_v, 0.0))


@dataclass(frozen=True, slots=True, eq=False)
class Mesh:
    """Triangles of one body, in its own axes.

    Attributes:
        vertices: [N, 3] metres.
        normals: [N, 3] unit vectors, outwards.
        uv: [N, 2]; row 0 of a texture is v = 0.
        faces: [M, 3] vertex indices, counter-clockwise seen from outside.
    """

    vertices: Float64
    normals: Float64
    uv: Float64
    faces: NDArray[np.uint32]


class Shape(ABC):
    """A recipe for a mesh."""

    @abstractmethod
    def build(self) -> Mesh:
        """The same mesh on every call."""


class Texture(ABC):
    """A recipe for the colour of a surface."""

    @abstractmethod
    def paint(self) -> Float32:
        """[H, W, 3] linear reflectance in [0, 1], row 0 at v = 0; the same on every call."""

    def covered(self, ground: Texture, tiling: Affine, ink: Rgb | None = None) -> tuple[Texture, Affine]:
        """What is seen, and where, of a surface with this texture once another one lies on it.

        Args:
            ground: The other one; what is printed on the surface stays above it.
            tiling: Where it lies.
            ink: Colour of what is printed; None for the one it has.
        """
        return ground, tiling


class Sky(ABC):
    """Light from infinitely far away."""

    @abstractmethod
    def paint(self) -> Float32:
        """[H, W, 3] linear radiance >= 0, latitude-longitude, row 0 straight up; the same on every call."""


@dataclass(frozen=True, slots=True)
class Material:
    """How a surface reflects: a diffuse base, and a clear coat where `roughness` is set.

    Attributes:
        texture: Colour of the base.
        roughness: GGX alpha of a coat of index 1.5, about 0.03 (glossy) to 0.5 (matt); None for no coat.
        tiling: Where the body's u and v lie in the texture, which repeats without end; bilinear between texels.
    """

    texture: Texture
    roughness: float | None = None
    tiling: Affine = ONCE


@dataclass(frozen=True, slots=True)
class Body:
    """One object of the scene.

    Attributes:
        name: Unique in the scene; `<scene id>/<name>` is the object id of its instances.
        pose: 4x4, body axes to world, metres.
        class_id: From 1; 0 for what is background to the labels.
        extent: Width, height and depth along the body's axes, metres, centred on the pose.
        attributes: JSON facts, as pairs; a tuple is a list to the labels.
    """

    name: str
    shape: Shape
    material: Material
    pose: Matrix
    class_id: int = 0
    extent: tuple[float, float, float] = (0.0, 0.0, 0.0)
    attributes: tuple[tuple[str, str | int | float | tuple[float, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Panel:
    """A square lamp that shines along its own +z axis.

    Attributes:
        pose: 4x4, lamp axes to world, metres.
        side: Edge length in metres.
        radiance: Linear RGB, on the scale of the sky.
    """

    pose: Matrix
    side: float
    radiance: Rgb


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is to see.

    Attributes:
        id: Such as `scene-000012`; also the group of its samples.
        bodies: Names are unique; the instance id of a body is its place, counted from 1.
        classes: Names of the classes; the class id of a body is the place of its name, counted from 1.
    """

    id: str
    bodies: tuple[Body, ...]
    sky: Sky
    panels: tuple[Panel, ...] = ()
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class View:
    """One camera on a scene, and how it develops what it sees.

    Attributes:
        name: Such as `view-0`.
        size: (height, width) in pixels.
        camera: A pinhole with square pixels, centred principal point, and extrinsics.
        exposure: Stops on top of what the light meter says.
        cast: Gains per channel left over by the camera's white balance.
        vignette: Share of the natural cos^4 fall-off that the lens leaves, 0 to 1.
        noise_seed: Of the renderer's samples.
    """

    name: str
    size: Size
    camera: Camera
    exposure: float = 0.0
    cast: Rgb = (1.0, 1.0, 1.0)
    vignette: float = 0.0
    noise_seed: int = 0


def as_json(value: Any) -> Any:
    """A scene, or any part of one, as plain JSON values; each record names its class under `type`."""
    if is_dataclass(value) and not isinstance(value, type):
        return {"type": type(value).__name__, **{f.name: as_json(getattr(value, f.name)) for f in fields(value)}}
    if isinstance(value, tuple | list):
        return [as_json(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def pose(rotation: Float64, position: tuple[float, float, float] | Float64) -> Matrix:
    """A 4x4 pose from a 3x3 rotation and a position in metres."""
    rows = np.column_stack([rotation, np.asarray(position, dtype=np.float64)])
    return (*(tuple(float(v) for v in row) for row in rows), (0.0, 0.0, 0.0, 1.0))


def linear(hex_colour: str) -> Rgb:
    """Linear reflectance of an sRGB colour written as `#rrggbb` (IEC 61966-2-1)."""
    red, green, blue = linear_from_srgb([int(hex_colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    return float(red), float(green), float(blue)
