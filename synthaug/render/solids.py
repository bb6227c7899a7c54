"""Curved bodies with texture coordinates true to scale: solids of revolution and a cushion, in numpy.

Texture coordinates of a body are nearly isometric: one unit of u or v is as many metres everywhere, up to the stretch
that flattening a curved surface costs. Seen from outside, u runs to the right and v down: pictures are not mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthaug.render.scene import Float64, Mesh, Shape
from synthaug.render.shapes import grid, join

Profile = tuple[tuple[float, float], ...]
"""Radius and height of points along half a cross-section, metres."""
_CREASE = np.cos(np.radians(30))


@dataclass(frozen=True, slots=True)
class Lathe(Shape):
    """A surface of revolution about z.

    Each piece of the profile has a place of its own in the texture. One that ends on the axis is spread out around
    its pole, arc lengths kept (azimuthal equidistant projection: exact for a disc, 1.57 times too wide at the rim of
    a hemisphere); any other one is rolled off, u once around from 0 to 1 (too wide where the body is narrow). Places
    follow each other along v.

    Attributes:
        profile: Pieces that continue each other, with the outside to the right of their direction: from the bottom of
            the axis outwards, and up. Where pieces meet at more than 30 degrees there is a crease.
        segments: Around the axis.
    """

    profile: tuple[Profile, ...]
    segments: int = 72

    @property
    def unit(self) -> float:
        """Metres of one unit of u and v: once around where the body is widest."""
        return 2 * np.pi * max(radius for piece in self.profile for radius, _ in piece)

    def build(self) -> Mesh:
        pieces = [np.asarray(piece, dtype=np.float64) for piece in self.profile]
        parts, low = list[Mesh](), 0.0
        for number, piece in enumerate(pieces):
            mesh, low = self._piece(piece, _slopes(pieces, number), self.unit, low)
            parts.append(mesh)
        return join(parts)

    def _piece(self, points: Float64, slopes: Float64, unit: float, low: float) -> tuple[Mesh, float]:
        """One piece, its texture from v = `low` on, and where that ends."""
        radius, height = points[:, :1], points[:, 1:]
        angle = np.linspace(0, 2 * np.pi, self.segments + 1)
        cos, sin = np.cos(angle)[None, :], np.sin(angle)[None, :]
        ones = np.ones_like(cos)
        vertices = np.stack([radius * cos, radius * sin, height * ones], axis=-1)
        normals = np.stack([slopes[:, :1] * cos, slopes[:, :1] * sin, slopes[:, 1:] * ones], axis=-1)
        along = _arc_length(points)[:, None]
        length = float(along[-1, 0])
        poles = (points[0, 0] == 0, points[-1, 0] == 0)
        if any(poles):
            away, turn = ((length - along), -1.0) if poles[1] else (along, 1.0)
            uv = np.stack([length + away * cos, length + turn * away * sin], axis=-1) / unit
            extent = 2 * length / unit
        else:
            uv = np.stack([angle[None, :] / (2 * np.pi) * np.ones_like(along), (length - along) * ones / unit], axis=-1)
            extent = length / unit
        faces = grid(len(points), self.segments + 1)
        corners = vertices.reshape(-1, 3)
        # At a pole the columns meet in one point, and every second triangle has no area.
        first, second, third = (corners[faces[:, k]] for k in range(3))
        area = np.linalg.norm(np.cross(second - first, third - first), axis=1)
        uv[..., 1] += low
        return Mesh(corners, normals.reshape(-1, 3), uv.reshape(-1, 2), faces[area > 1e-14]), low + extent


def _slopes(pieces: list[Float64], number: int) -> Float64:
    """[N, 2] unit normals (outwards, up) at the points of a piece: mean of both segments, by length."""
    segments = [np.diff(piece, axis=0) for piece in pieces]
    lengths = [np.linalg.norm(s, axis=1, keepdims=True) for s in segments]
    own = np.column_stack([segments[number][:, 1], -segments[number][:, 0]])
    total = np.zeros((len(own) + 1, 2))
    total[:-1] += own
    total[1:] += own
    closed = bool(np.allclose(pieces[number][0], pieces[number][-1]))
    for end, other, last in ((0, number - 1, -1), (-1, number + 1, 0)):
        neighbour = number if closed else other
        if not 0 <= neighbour < len(pieces):
            continue
        beside, length = segments[neighbour][last], float(lengths[neighbour][last, 0])
        mine = segments[number][end]
        if float(beside @ mine) > _CREASE * length * float(np.linalg.norm(mine)):
            total[end] += [beside[1], -beside[0]]
    total[pieces[number][:, 0] == 0, 0] = 0
    return total / np.linalg.norm(total, axis=1, keepdims=True)


def cylinder(radius: float, height: float, bevel: float) -> Lathe:
    """An upright cylinder with rounded edges."""
    top = _arc((radius - bevel, height - bevel), bevel, 0, 90)
    bottom = _arc((radius - bevel, bevel), bevel, -90, 0)
    return _centred(((0.0, 0.0), bottom[0]), (*bottom, *top), (top[-1], (0.0, height)))


def ball(radius: float) -> Lathe:
    """A ball. Its texture is spread around the top down to 20 degrees below the equator, and the bottom."""
    return _centred(_arc((0.0, radius), radius, -90, -20, 10), _arc((0.0, radius), radius, -20, 90, 24))


def ring(radius: float, thickness: float) -> Lathe:
    """A torus in the plane z = 0: its centre line has this radius, its tube half of this thickness."""
    tube = thickness / 2
    circle = _arc((radius, tube), tube, -90, 270, 32)
    return _centred((*circle[:-1], circle[0]))


def bowl(radius: float, height: float, wall: float) -> Lathe:
    """A bowl, open at the top: a foot of half its width, an elliptic side, a rounded rim."""
    foot, steps = radius / 2, np.linspace(0, np.pi / 2, 14)
    # An ellipse whose bottom is cut off at the foot.
    outer = [(foot + (radius - foot) * float(np.sin(t)), height * (1 - float(np.cos(t)))) for t in steps]
    rim = _arc((radius - wall / 2, height), wall / 2, 0, 180)
    inner = [(max(r - wall, 0.0), wall + z * (height - wall) / height) for r, z in reversed(outer)]
    return _centred(((0.0, 0.0), outer[0]), (*outer, *rim[1:-1], inner[0]), (*inner, (0.0, wall)))


def vase(radius: float, height: float, neck: float, wall: float) -> Lathe:
    """A bellied vase, open at the top.

    Args:
        radius: Of the belly, metres.
        height: In metres.
        neck: Radius of the opening over that of the belly, 0.4 to 0.9.
        wall: Thickness, metres.
    """
    rise = np.linspace(0, 1, 28)
    belly, shoulder = np.sin(np.pi * np.clip(rise / 0.8, 0, 1)), np.clip((rise - 0.4) / 0.6, 0, 1)
    fade = shoulder**2 * (3 - 2 * shoulder)
    width = radius * ((0.62 + 0.38 * belly) * (1 - fade) + neck * fade)
    outer = [(float(r), float(height * z)) for r, z in zip(width, rise, strict=True)]
    rim = _arc((outer[-1][0] - wall / 2, height), wall / 2, 0, 180)
    inner = [(r - wall, max(z, wall)) for r, z in reversed(outer)]
    sole, floor = ((0.0, 0.0), outer[0]), (inner[-1], (0.0, wall))
    return _centred(sole, (*outer, *rim[1:-1], inner[0]), tuple(inner), floor)


def _centred(*pieces: Profile) -> Lathe:
    """The same profile with the middle of its height at 0."""
    heights = [height for piece in pieces for _, height in piece]
    middle = (min(heights) + max(heights)) / 2
    return Lathe(tuple(tuple((radius, height - middle) for radius, height in piece) for piece in pieces))


def _arc(centre: tuple[float, float], radius: float, start: float, end: float, steps: int = 6) -> Profile:
    """Points of a circle in the (radius, height) plane, degrees from outwards to upwards; exactly 0 on the axis."""
    angles = np.radians(np.linspace(start, end, steps + 1))
    points = [(centre[0] + radius * float(np.cos(a)), centre[1] + radius * float(np.sin(a))) for a in angles]
    return tuple((r if r > 1e-12 else 0.0, z) for r, z in points)


@dataclass(frozen=True, slots=True)
class Cushion(Shape):
    """A cushion at rest: two pieces of cloth sewn along their borders, drawn in between the corners.

    The texture shows the upper piece, then the lower one below it.

    Attributes:
        width, depth: Between the corners, metres.
        height: Metres.
        pinch: Share by which the middle of a side is drawn in.
        steps: Cells along a side.
    """

    width: float
    depth: float
    height: float
    pinch: float = 0.07
    steps: int = 40

    @property
    def unit(self) -> float:
        """Metres of one unit of u and v: the cloth is a quarter wider than the cushion."""
        upper, middle = self._pieces()[0], self.steps // 2
        width, depth = (float(_arc_length(line)[-1]) for line in (upper[middle], upper[:, middle]))
        return max(width, 2 * depth)

    def build(self) -> Mesh:
        upper, lower = self._pieces()
        # The middle lines lie in the texture to scale, the others as they follow.
        across, down = _arc_length(upper[self.steps // 2]), _arc_length(upper[::-1, self.steps // 2])[::-1]
        u, v = np.meshgrid(across, down)
        uv = np.dstack([u, v]) / self.unit
        below = uv + np.array([0.0, down[0] / self.unit])
        return join([self._cloth(upper, uv), self._cloth(lower[:, ::-1], below)])

    def _pieces(self) -> tuple[Float64, Float64]:
        """Points of the upper and the lower piece, [steps + 1, steps + 1, 3] each."""
        # Equal angles, so that cells are small where the cloth bends down to the seam.
        line = np.sin(np.linspace(-np.pi / 2, np.pi / 2, self.steps + 1))
        x, y = np.meshgrid(line, line)
        full = np.sqrt(np.clip((1 - x**2) * (1 - y**2), 0, 1))
        drawn_x, drawn_y = x * (1 - self.pinch * (1 - y**2)), y * (1 - self.pinch * (1 - x**2))
        flat = np.stack([drawn_x * self.width / 2, drawn_y * self.depth / 2], axis=-1)
        sag = 0.3 * self.height
        upper = np.dstack([flat, sag + (self.height - sag) * full - self.height / 2])
        return upper, np.dstack([flat, sag * (1 - np.minimum(full * 1.4, 1)) - self.height / 2])

    def _cloth(self, points: Float64, uv: Float64) -> Mesh:
        """One piece; its columns x rows point outwards."""
        normals = np.cross(np.gradient(points, axis=1), np.gradient(points, axis=0))
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        side = self.steps + 1
        return Mesh(points.reshape(-1, 3), normals.reshape(-1, 3), uv.reshape(-1, 2), grid(side, side))


def _arc_length(points: Float64) -> Float64:
    """[N] metres along a line of points [N, 3]."""
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
