"""The dice scene as data: pure numpy, no renderer."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest

from synthaug.render import dice
from synthaug.render.scene import Body, as_json
from synthaug.render.shapes import FACES

OPTIONS = dice.Options((1, 20), (256, 256), 1.0, 0.15, "")
CROWDED = dice.Options((30, 60), (192, 256), 1.0, 0.3, "")


def dice_of(index: int, options: dice.Options = OPTIONS) -> list[Body]:
    return [body for body in dice.scene(7, index, options).bodies if body.class_id]


def up_face(body: Body) -> int:
    rotation = np.asarray(body.pose)[:3, :3]
    heights = [float((rotation @ np.array(face[0]))[2]) for face in FACES]
    return int(np.argmax(heights)) + 1


def test_scene_is_a_function_of_seed_and_index() -> None:
    first = dice.scene(7, 3, OPTIONS)
    dice.scene(7, 4, OPTIONS)
    assert first == dice.scene(7, 3, OPTIONS)
    assert hash(first) == hash(dice.scene(7, 3, OPTIONS))
    assert first != dice.scene(8, 3, OPTIONS)
    assert first.bodies[0].pose != dice.scene(7, 4, OPTIONS).bodies[0].pose


def test_scene_is_the_same_in_a_fresh_process() -> None:
    code = (
        "import json; from synthaug.render import dice; from synthaug.render.scene import as_json;"
        "o = dice.Options((1, 20), (256, 256), 1.0, 0.15, '');"
        "print(json.dumps(as_json([dice.scene(7, 3, o), dice.view(7, 3, 1, o)])))"
    )
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(text) == as_json([dice.scene(7, 3, OPTIONS), dice.view(7, 3, 1, OPTIONS)])


def test_views_do_not_depend_on_their_number() -> None:
    assert len({dice.view(7, 3, k, OPTIONS).camera.extrinsics for k in range(4)}) == 4
    assert dice.view(7, 3, 1, OPTIONS) == dice.view(7, 3, 1, OPTIONS)


def corners(body: Body) -> np.ndarray:
    half = body.extent[0] / 2
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
    matrix = np.asarray(body.pose)
    return signs * half @ matrix[:3, :3].T + matrix[:3, 3]


def footprint_overlap(a: Body, b: Body) -> float:
    """Area shared by the two footprints, by polygon clipping: another way than the generator's own test."""
    cv2 = pytest.importorskip("cv2")
    hulls = [cv2.convexHull((corners(x)[:, :2] * 1000).astype(np.float32)) for x in (a, b)]
    return float(cv2.intersectConvexConvex(*hulls)[0])


@pytest.mark.parametrize("options", [OPTIONS, CROWDED])
def test_dice_rest_on_the_floor_apart(options: dice.Options) -> None:
    touching = 0
    for index in range(12):
        bodies = dice_of(index, options)
        assert bodies
        for body in bodies:
            assert corners(body)[:, 2].min() == pytest.approx(0, abs=1e-12)
        for a, b in combinations(bodies, 2):
            assert footprint_overlap(a, b) == pytest.approx(0, abs=1e-3)
            centres = [np.asarray(x.pose)[:2, 3] for x in (a, b)]
            touching += bool(np.linalg.norm(centres[0] - centres[1]) < 1.3 * (a.extent[0] + b.extent[0]) / 2)
    assert touching, "no pair is close: the overlap test above proves nothing"


def test_class_is_the_face_that_points_up() -> None:
    seen: list[int] = []
    for index in range(30):
        for body in dice_of(index):
            assert up_face(body) == body.class_id == dict(body.attributes)["up_face"]
            assert np.linalg.det(np.asarray(body.pose)[:3, :3]) == pytest.approx(1)
            seen.append(body.class_id)
    counts = np.bincount(seen, minlength=7)[1:]
    assert (counts > 0.5 * len(seen) / 6).all()


def test_dice_lie_where_an_overhead_view_sees_them() -> None:
    outside = total = 0
    for index in range(20):
        camera = dice.view(7, index, 0, OPTIONS).camera
        matrix = camera.world_to_camera
        assert matrix is not None
        for body in dice_of(index):
            pixel = camera.project((matrix[:3, :3] @ np.asarray(body.pose)[:3, 3] + matrix[:3, 3])[None])[0]
            outside += not (0 < pixel[0] < 256 and 0 < pixel[1] < 256)
            total += 1
    assert outside <= 0.02 * total


def test_colours_floors_and_materials_vary() -> None:
    scenes = [dice.scene(1, k, dice.Options((1, 20), (256, 256), 1.0, 0.5, "")) for k in range(60)]
    names = {body.name for scene in scenes for body in scene.bodies if not body.class_id}
    assert {"mat", "tray", "clip", "paper", "felt", "cloth", "wood", "plastic"} <= names
    attributes = [dict(body.attributes) for scene in scenes for body in scene.bodies if body.class_id]
    assert len({a["colour"] for a in attributes}) > 10
    assert len({a["material"] for a in attributes}) == 4


def test_body_names_are_unique_and_scenes_are_json() -> None:
    for index in range(10):
        scene = dice.scene(7, index, OPTIONS)
        assert len({body.name for body in scene.bodies}) == len(scene.bodies)
        assert json.loads(json.dumps(as_json(scene)))["type"] == "Scene"


def test_gap_of_two_squares_in_closed_form() -> None:
    assert dice.apart((0, 0, 0), (3, 0, 0), 2, 2) == pytest.approx(1)
    assert dice.apart((0, 0, 0), (3, 0, np.pi / 4), 2, 2) == pytest.approx(2 - np.sqrt(2))
    assert dice.apart((0, 0, 0), (1.5, 0, 0), 2, 2) == pytest.approx(-0.5)
