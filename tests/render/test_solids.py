"""Curved bodies: closed, outward, of the right volume, and with texture coordinates to scale."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from synthaug.render import solids
from synthaug.render.scene import Mesh, Shape
from synthaug.render.shapes import RoundedBox
from synthaug.render.solids import Cushion, Lathe
from tests.render.test_shapes import volume

BOX = RoundedBox((0.12, 0.08, 0.15), 0.003, 3, net=True)
LATHES = {
    "cylinder": solids.cylinder(0.04, 0.1, 0.003),
    "ball": solids.ball(0.05),
    "ring": solids.ring(0.06, 0.03),
    "bowl": solids.bowl(0.09, 0.05, 0.006),
    "vase": solids.vase(0.05, 0.18, 0.6, 0.004),
}
ALL: dict[str, tuple[Shape, float]] = {
    **{name: (shape, shape.unit) for name, shape in LATHES.items()},
    "cushion": (Cushion(0.2, 0.16, 0.08), Cushion(0.2, 0.16, 0.08).unit),
    "box": (BOX, 2 * (0.12 + 0.08)),
}
CASES = pytest.mark.parametrize(("shape", "unit"), ALL.values(), ids=ALL)


def corners(mesh: Mesh, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two edge vectors of each triangle, of positions or of texture coordinates."""
    first, second, third = (values[mesh.faces[:, k]] for k in range(3))
    return second - first, third - first


def stretches(mesh: Mesh, unit: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Largest and smallest metres in the world of a metre in the texture, and the area, of each triangle."""
    position, uv = (np.stack(corners(mesh, v), axis=-1) for v in (mesh.vertices, mesh.uv * unit))
    singular = np.linalg.svd(position @ np.linalg.inv(uv), compute_uv=False)
    area = np.linalg.norm(np.cross(position[..., 0], position[..., 1]), axis=1) / 2
    return singular[:, 0], singular[:, 1], area


@CASES
def test_closed_and_outward(shape: Shape, unit: float) -> None:
    mesh = shape.build()
    places = np.unique(mesh.vertices.round(8), axis=0, return_inverse=True)[1].ravel()
    edges = Counter(tuple(edge) for face in places[mesh.faces] for edge in zip(face, np.roll(face, -1), strict=True))
    edges = Counter({edge: n for edge, n in edges.items() if edge[0] != edge[1]})
    assert all(edges[b, a] == n for (a, b), n in edges.items()), "an edge without its partner: a hole or a flip"
    assert volume(mesh) > 0
    assert mesh.vertices[:, 2].max() == pytest.approx(-mesh.vertices[:, 2].min()), "the pose is not in the middle"


@CASES
def test_normals_are_unit_and_agree_with_the_winding(shape: Shape, unit: float) -> None:
    mesh = shape.build()
    assert np.linalg.norm(mesh.normals, axis=1) == pytest.approx(1)
    flat = np.cross(*corners(mesh, mesh.vertices))
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    assert ((mesh.normals[mesh.faces].mean(axis=1) * flat).sum(axis=1) > 0.5).all()


@CASES
def test_pictures_are_not_mirrored(shape: Shape, unit: float) -> None:
    """Seen from outside u runs right and v down, so triangles that run counter-clockwise run clockwise in (u, v)."""
    mesh = shape.build()
    a, b = corners(mesh, mesh.uv)
    assert (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0] < 0).all()


@CASES
def test_texture_coordinates_are_nearly_to_scale(shape: Shape, unit: float) -> None:
    large, small, area = stretches(shape.build(), unit)
    fair = (large < 1.7) & (small > 0.55)
    assert area[fair].sum() > 0.85 * area.sum()


def test_flat_and_rolled_pieces_are_to_scale_exactly() -> None:
    for shape, unit, wide in ((LATHES["cylinder"], LATHES["cylinder"].unit, 0.0025), (BOX, 0.4, 0.009)):
        large, small, area = stretches(shape.build(), unit)
        exact = (np.abs(large - 1) < 0.002) & (np.abs(small - 1) < 0.002)
        around = area.sum() * wide / 0.03
        assert area[~exact].sum() < around, "more than the rounded edges is stretched"


def test_the_net_of_a_box_covers_each_side_once() -> None:
    mesh = BOX.build()
    a, b = corners(mesh, mesh.uv * 0.4)
    covered = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / 2
    width, depth, height = BOX.size
    assert covered == pytest.approx(2 * (width * depth + width * height + depth * height))
    count = len(mesh.uv) // 6
    spans = [(part.min(axis=0), part.max(axis=0)) for part in np.split(mesh.uv, 6)]
    assert count * 6 == len(mesh.uv)
    for k, (low, high) in enumerate(spans):
        for other_low, other_high in spans[:k]:
            assert (np.minimum(high, other_high) - np.maximum(low, other_low)).min() < 1e-9, "two sides share texture"


def test_upright_edges_of_a_box_have_no_seam() -> None:
    """Front, right, back and left follow each other: where two of them meet, so do their places in the texture."""
    uv = np.split(BOX.build().uv, 6)
    for left, right in ((4, 0), (0, 1), (1, 5)):
        assert uv[left][:, 0].max() == pytest.approx(uv[right][:, 0].min())


def test_volumes_in_closed_form() -> None:
    assert volume(Lathe(LATHES["ball"].profile, 400).build()) == pytest.approx(4 / 3 * np.pi * 0.05**3, rel=5e-3)
    assert volume(Lathe(LATHES["ring"].profile, 400).build()) == pytest.approx(2 * np.pi**2 * 0.06 * 0.015**2, rel=1e-2)
    assert volume(Lathe(solids.cylinder(0.04, 0.1, 1e-6).profile, 400).build()) == pytest.approx(
        np.pi * 0.04**2 * 0.1, rel=1e-3
    )


def test_vessels_are_hollow() -> None:
    for name in ("bowl", "vase"):
        mesh = LATHES[name].build()
        middle = mesh.vertices[np.linalg.norm(mesh.vertices[:, :2], axis=1) == 0]
        assert len(np.unique(middle[:, 2])) == 2, "the axis should meet the sole and the floor inside"
        assert middle[:, 2].max() < 0


def test_smooth_bodies_have_radial_normals() -> None:
    mesh = LATHES["ball"].build()
    assert mesh.normals == pytest.approx(mesh.vertices / 0.05, abs=0.02)


def test_edges_are_creased() -> None:
    """Inside and sole of a vase meet at an angle, and their normals are not averaged."""
    mesh = Lathe((((0.0, 0.0), (1.0, 0.0)), ((1.0, 0.0), (1.0, 1.0)), ((1.0, 1.0), (0.0, 1.0)))).build()
    assert set(np.abs(mesh.normals[:, 2]).round(9)) == {0.0, 1.0}
