"""The table-top scene as data: pure numpy, no renderer."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest

from synthaug.render import tabletop
from synthaug.render.scene import Body, as_json

OPTIONS = tabletop.Options((5, 9), (192, 256), 0.15, "")
CROWDED = tabletop.Options((16, 16), (192, 256), 0.5, "")


def objects(index: int, options: tabletop.Options = OPTIONS) -> tuple[Body, ...]:
    return tabletop.scene(7, index, options).bodies[2:]


def in_world(body: Body) -> np.ndarray:
    matrix = np.asarray(body.pose)
    return body.shape.build().vertices @ matrix[:3, :3].T + matrix[:3, 3]


def test_scene_is_a_function_of_seed_and_index() -> None:
    first = tabletop.scene(7, 3, OPTIONS)
    tabletop.scene(7, 4, OPTIONS)
    assert first == tabletop.scene(7, 3, OPTIONS)
    assert hash(first) == hash(tabletop.scene(7, 3, OPTIONS))
    assert first != tabletop.scene(8, 3, OPTIONS)
    assert len({tabletop.view(7, 3, k, OPTIONS).camera.extrinsics for k in range(4)}) == 4


def test_scene_is_the_same_in_a_fresh_process() -> None:
    code = (
        "import json; from synthaug.render import tabletop; from synthaug.render.scene import as_json;"
        "o = tabletop.Options((5, 9), (192, 256), 0.15, '');"
        "print(json.dumps(as_json([tabletop.scene(7, 3, o), tabletop.view(7, 3, 1, o)])))"
    )
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(text) == json.loads(
        json.dumps(as_json([tabletop.scene(7, 3, OPTIONS), tabletop.view(7, 3, 1, OPTIONS)]))
    )


@pytest.mark.parametrize("options", [OPTIONS, CROWDED])
def test_objects_stand_on_the_table_apart_and_before_the_wall(options: tabletop.Options) -> None:
    for index in range(6):
        bodies = objects(index, options)
        clouds = [in_world(body) for body in bodies]
        assert bodies
        for cloud in clouds:
            assert cloud[:, 2].min() == pytest.approx(0, abs=1e-9)
            assert cloud[:, 1].max() < np.asarray(tabletop.scene(7, index, options).bodies[1].pose)[1, 3]
        for a, b in combinations(clouds, 2):
            middles = [(c.min(axis=0) + c.max(axis=0))[:2] / 2 for c in (a, b)]
            across = (middles[1] - middles[0]) / np.linalg.norm(middles[1] - middles[0])
            assert (b[:, :2] @ across).min() > (a[:, :2] @ across).max(), "no line between two objects"


def test_extents_and_metres_are_those_of_the_mesh() -> None:
    for body in objects(1, CROWDED):
        mesh = body.shape.build()
        assert np.ptp(mesh.vertices, axis=0) == pytest.approx(np.array(body.extent), rel=0.01)
        assert (mesh.vertices.max(axis=0) + mesh.vertices.min(axis=0)) == pytest.approx(0, abs=1e-3)
        metres = dict(body.attributes)["metres_per_uv"]
        first, second, third = (mesh.faces[:, k] for k in range(3))
        across = np.linalg.norm(np.cross(*(mesh.vertices[k] - mesh.vertices[first] for k in (second, third))), axis=1)
        a, b = (mesh.uv[k] - mesh.uv[first] for k in (second, third))
        measured = np.median(np.sqrt(across / np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])))
        assert isinstance(metres, tuple)
        assert measured == pytest.approx(metres[0], rel=0.35)


def test_classes_are_the_kinds() -> None:
    seen: set[str] = set()
    for index in range(30):
        scene = tabletop.scene(1, index, OPTIONS)
        assert len({body.name for body in scene.bodies}) == len(scene.bodies)
        for body in scene.bodies:
            assert scene.classes[body.class_id - 1] == body.name.split("-")[0]
            seen.add(body.name.split("-")[0])
    assert seen == set(tabletop.CLASSES)


def test_most_surfaces_have_no_coat() -> None:
    coats = [body.material.roughness is not None for k in range(40) for body in objects(k)]
    assert 0.05 < np.mean(coats) < 0.2
    bare = tabletop.Options((5, 9), (192, 256), 0.0, "")
    assert not any(body.material.roughness for k in range(5) for body in objects(k, bare))


def test_cameras_see_the_objects() -> None:
    outside = total = 0
    for index in range(10):
        for number in range(3):
            camera = tabletop.view(7, index, number, OPTIONS).camera
            matrix = camera.world_to_camera
            assert matrix is not None
            assert np.linalg.inv(matrix)[2, 3] > 0.2
            assert matrix[1, 2] < 0, "the world's up is not up in the picture"
            for body in objects(index):
                pixel = camera.project((matrix[:3, :3] @ np.asarray(body.pose)[:3, 3] + matrix[:3, 3])[None])[0]
                outside += not (0 < pixel[0] < 256 and 0 < pixel[1] < 192)
                total += 1
    assert outside < 0.15 * total
