"""Meshes of the bodies that scenes are made of, in numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthaug.render.scene import Float64, Mesh, Shape

FACES: tuple[tuple[tuple[int, int, int], ...], ...] = (
    ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    ((0, 1, 0), (0, 0, 1), (1, 0, 0)),
    ((0, 0, 1), (1, 0, 0), (0, 1, 0)),
    ((0, 0, -1), (0, 1, 0), (1, 0, 0)),
    ((0, -1, 0), (1, 0, 0), (0, 0, 1)),
    ((-1, 0, 0), (0, 0, 1), (0, 1, 0)),
)
"""Outward normal, u and v of the six sides of a box, right-handed: side k lies opposite of side 5 - k.

Counted from 1 they are the faces of a die: opposite faces sum to 7, and 1, 2, 3 run counter-clockwise around
their common corner, as on western dice."""

ATLAS = (2, 3)
"""Rows and columns of the six sides in the texture of a box, in the order of `FACES`."""


@dataclass(frozen=True, slots=True)
class RoundedBox(Shape):
    """A box with rounded edges; each side has a place of its own in the texture.

    Attributes:
        size: Width, depth, height in metres.
        radius: Of the edges, metres; more than 0 and less than half of the smallest size.
        steps: Segments in half a rounded edge.
        net: False: sides fill the cells of `ATLAS`, whatever their shape. True: they lie as in the net of a
            cardboard box, to scale, u once around the upright sides and v down.
    """

    size: tuple[float, float, float]
    radius: float
    steps: int = 5
    net: bool = False

    def build(self) -> Mesh:
        half = np.asarray(self.size) / 2
        parts = [self._side(index, half) for index in range(6)]
        return join(parts)

    def _side(self, index: int, half: Float64) -> Mesh:
        normal, along_u, along_v = np.asarray(FACES[index], dtype=np.float64)
        half_u, half_v = float(half @ np.abs(along_u)), float(half @ np.abs(along_v))
        u, v = (self._lines(h) for h in (half_u, half_v))
        grid_u, grid_v = np.meshgrid(u, v)
        flat = normal * float(half @ np.abs(normal)) + grid_u.reshape(-1, 1) * along_u + grid_v.reshape(-1, 1) * along_v
        core = np.clip(flat, self.radius - half, half - self.radius)
        directions = (flat - core) / np.linalg.norm(flat - core, axis=1, keepdims=True)
        if self.net:
            uv = self._unfolded(index, flat)
        else:
            cell = np.column_stack([(grid_u.ravel() / half_u + 1) / 2, (grid_v.ravel() / half_v + 1) / 2])
            rows, columns = ATLAS
            uv = (cell + np.array([index % columns, index // columns])) / [columns, rows]
        return Mesh(core + self.radius * directions, directions, uv, grid(len(v), len(u)))

    def _unfolded(self, index: int, flat: Float64) -> Float64:
        """Places in the net of points on a side: front, right, back and left in a row, lids above and below."""
        width, depth, height = self.size
        x, y, z = (flat + np.asarray(self.size) / 2).T
        across, down = {
            4: (x, depth + height - z),
            0: (width + y, depth + height - z),
            1: (2 * width + depth - x, depth + height - z),
            5: (2 * width + 2 * depth - y, depth + height - z),
            2: (x, depth - y),
            3: (x, depth + height + y),
        }[index]
        return np.column_stack([across, down]) / (2 * (width + depth))

    def _lines(self, half: float) -> Float64:
        """Coordinates along a side: equal angles in the rounded ends, nothing in the flat middle."""
        inner = half - self.radius
        end = inner + self.radius * np.tan(np.linspace(0, np.pi / 4, self.steps + 1))
        return np.concatenate([-end[::-1], end])


@dataclass(frozen=True, slots=True)
class Plane(Shape):
    """A rectangle in z = 0 that faces +z, centred; u runs along +x and v along +y."""

    width: float
    depth: float

    def build(self) -> Mesh:
        corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], dtype=np.float64)
        vertices = corners * [self.width / 2, self.depth / 2, 0]
        faces = np.array([[0, 1, 2], [0, 2, 3]], dtype=np.uint32)
        return Mesh(vertices, np.tile([0.0, 0.0, 1.0], (4, 1)), (corners[:, :2] + 1) / 2, faces)


@dataclass(frozen=True, slots=True)
class Plate(Shape):
    """A thin plate that stands on z = 0, centred, with rounded corners; without a bottom.

    Attributes:
        width, depth, height: Along x, y and z, metres.
        corner: Radius of its corners seen from above, metres; half of the width and depth makes a disc.
        bevel: Width and height of the slope around its top, metres.
        segments: Per corner.
    """

    width: float
    depth: float
    height: float
    corner: float
    bevel: float
    segments: int = 12

    def build(self) -> Mesh:
        outline, inner = self._outline(0.0), self._outline(self.bevel)
        low, middle = (np.column_stack([outline, np.full(len(outline), z)]) for z in (0.0, self.height - self.bevel))
        top = np.column_stack([inner, np.full(len(inner), self.height)])
        cap = np.vstack([[[0.0, 0.0, self.height]], top])
        index = np.arange(len(top))
        fan = np.column_stack([0 * index, 1 + index, 1 + (index + 1) % len(top)]).astype(np.uint32)
        up = np.tile([0.0, 0.0, 1.0], (len(cap), 1))
        parts = [self._band(low, middle, 0.0), self._band(middle, top, 1.0), Mesh(cap, up, self._uv(cap), fan)]
        return join(parts)

    def _outline(self, inset: float) -> Float64:
        """[N, 2] points, counter-clockwise."""
        angles = np.linspace(0, np.pi / 2, self.segments + 1)
        radius = max(self.corner - inset, 1e-6)
        half = np.array([self.width, self.depth]) / 2 - self.corner
        arcs = []
        for quarter, signs in enumerate(((1, 1), (-1, 1), (-1, -1), (1, -1))):
            turn = angles + quarter * np.pi / 2
            arcs.append(half * signs + radius * np.column_stack([np.cos(turn), np.sin(turn)]))
        return np.vstack(arcs)

    def _band(self, low: Float64, high: Float64, slope: float) -> Mesh:
        """A closed strip between two outlines; `slope` is the rise of its normals."""
        turn = np.tile(np.linspace(0, np.pi / 2, self.segments + 1), 4) + np.repeat(
            np.arange(4) * np.pi / 2, self.segments + 1
        )
        normals = np.column_stack([np.cos(turn), np.sin(turn), np.full(len(turn), slope)])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        count = len(low)
        index = np.arange(count)
        after = (index + 1) % count
        faces = np.vstack(
            [np.column_stack([index, after, count + after]), np.column_stack([index, count + after, count + index])]
        )
        vertices = np.vstack([low, high])
        return Mesh(vertices, np.vstack([normals, normals]), self._uv(vertices), faces.astype(np.uint32))

    def _uv(self, vertices: Float64) -> Float64:
        return vertices[:, :2] / [self.width, self.depth] + 0.5


def grid(rows: int, columns: int) -> NDArray[np.uint32]:
    """Two triangles per cell of a row-major grid, counter-clockwise where column x row points outwards."""
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    lower = np.column_stack([corner, corner + 1, corner + columns + 1])
    upper = np.column_stack([corner, corner + columns + 1, corner + columns])
    return np.vstack([lower, upper]).astype(np.uint32)


def join(parts: list[Mesh]) -> Mesh:
    """One mesh of several; vertices are not merged, so creases and places in the texture stay."""
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts[:-1])])
    faces = np.vstack([part.faces + np.uint32(offset) for part, offset in zip(parts, offsets, strict=True)])
    stacked = (np.vstack([getattr(part, name) for part in parts]) for name in ("vertices", "normals", "uv"))
    vertices, normals, uv = stacked
    return Mesh(vertices, normals, uv, faces)
