"""Meshes: closed, outward, and a western die."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from synthaug.render.scene import Mesh, Shape
from synthaug.render.shapes import ATLAS, FACES, Plane, Plate, RoundedBox

CUBE = RoundedBox((0.016, 0.016, 0.016), 0.002)
PLATE = Plate(0.2, 0.04, 0.002, 0.007, 0.001)
SLAB = RoundedBox((0.2, 0.03, 0.004), 0.001, 2)


def volume(mesh: Mesh) -> float:
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def test_opposite_faces_sum_to_seven() -> None:
    number = {normal: k for k, (normal, _, _) in enumerate(FACES, start=1)}
    assert sorted(number.values()) == [1, 2, 3, 4, 5, 6]
    for (x, y, z), face in number.items():
        assert face + number[-x, -y, -z] == 7


def test_faces_run_counter_clockwise_like_a_western_die() -> None:
    one, two, three = (np.array(FACES[k][0]) for k in range(3))
    assert one @ np.cross(two, three) == 1
    for normal, u, v in FACES:
        assert (np.cross(u, v) == normal).all(), "a mirrored face would mirror its pips"


@pytest.mark.parametrize("shape", [CUBE, SLAB])
def test_box_is_closed_and_outward(shape: RoundedBox) -> None:
    mesh = shape.build()
    places = np.unique(mesh.vertices.round(9), axis=0, return_inverse=True)[1].ravel()
    edges = Counter(tuple(edge) for face in places[mesh.faces] for edge in zip(face, np.roll(face, -1), strict=True))
    assert all(edges[b, a] == n for (a, b), n in edges.items()), "an edge without its partner: a hole or a flip"
    full = float(np.prod(shape.size))
    assert 0.8 * full < volume(mesh) < full
    assert np.abs(mesh.vertices).max(axis=0) == pytest.approx(np.array(shape.size) / 2)


def test_volume_of_a_rounded_cube_in_closed_form() -> None:
    edge, radius = 0.016, 0.004
    inner = edge - 2 * radius
    exact = inner**3 + 6 * inner**2 * radius + 3 * np.pi * radius**2 * inner + 4 / 3 * np.pi * radius**3
    assert volume(RoundedBox((edge,) * 3, radius, 24).build()) == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("shape", [CUBE, SLAB, Plane(1.0, 2.0), PLATE])
def test_normals_are_unit_and_agree_with_the_winding(shape: Shape) -> None:
    mesh = shape.build()
    assert np.linalg.norm(mesh.normals, axis=1) == pytest.approx(1)
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    flat = np.cross(b - a, c - a)
    assert ((mesh.normals[mesh.faces].mean(axis=1) * flat).sum(axis=1) > 0).all()
    assert mesh.faces.max() < len(mesh.vertices)


def test_each_side_has_its_own_cell() -> None:
    mesh = CUBE.build()
    rows, columns = ATLAS
    for index, (normal, u, v) in enumerate(FACES):
        middle = np.argmax(mesh.vertices @ np.array(normal) * 1e3 + mesh.vertices @ np.array(u) + mesh.vertices @ v)
        column, row = (mesh.uv[middle] * [columns, rows]).astype(int)
        assert row * columns + column == index


def test_plate_covers_its_outline() -> None:
    mesh = PLATE.build()
    assert np.ptp(mesh.vertices, axis=0) == pytest.approx([0.2, 0.04, 0.002])
    disc = Plate(0.02, 0.02, 0.001, 0.01, 0.0002, 32).build()
    assert np.linalg.norm(disc.vertices[:, :2], axis=1).max() == pytest.approx(0.01)
    a, b, c = (disc.vertices[disc.faces[:, k]][:, :2] for k in range(3))
    seen = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]).sum() / 2
    assert seen == pytest.approx(np.pi * 0.01**2, rel=2e-3)
