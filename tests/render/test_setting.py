"""How cameras are aimed."""

from __future__ import annotations

import numpy as np
import pytest

from synthaug import seeds
from synthaug.camera import Camera, from_fov
from synthaug.render.setting import ceiling_lamp, look_at, upright

EYE, TARGET = np.array([0.4, -0.9, 0.5]), np.array([0.02, 0.01, 0.03])
PINHOLE = from_fov(80, 60, 45.0)


def pixel(camera: Camera, point: np.ndarray) -> np.ndarray:
    matrix = camera.world_to_camera
    assert matrix is not None
    return camera.project((matrix[:3, :3] @ point + matrix[:3, 3])[None])[0]


@pytest.mark.parametrize("roll", [0.0, 0.3, -1.2])
def test_an_upright_camera_has_the_world_up_in_its_picture(roll: float) -> None:
    camera = upright(PINHOLE, EYE, TARGET, roll)
    rotation = np.array(camera.extrinsics)[:3, :3]
    assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)
    assert pixel(camera, TARGET) == pytest.approx([40, 30])
    above = pixel(camera, TARGET + np.array([0, 0, 1e-4])) - pixel(camera, TARGET)
    assert np.arctan2(-above[0], -above[1]) == pytest.approx(roll, abs=1e-3)


def test_both_ways_agree_where_both_make_sense() -> None:
    """Straight ahead along +y, world +y and world +z are one direction of the picture."""
    eye = np.array([0.0, -1.0, 1.0])
    one, two = (aim(PINHOLE, eye, np.zeros(3), 0.0) for aim in (look_at, upright))
    assert np.array(one.extrinsics) == pytest.approx(np.array(two.extrinsics), abs=1e-12)


def test_a_lamp_shines_on_the_middle_wherever_it_hangs() -> None:
    for forward in (0.0, 0.5):
        lamp = np.asarray(ceiling_lamp(seeds.from_seed(3), forward).pose)
        assert lamp[:3, 2] == pytest.approx(-lamp[:3, 3] / np.linalg.norm(lamp[:3, 3]))
    moved = [np.asarray(ceiling_lamp(seeds.from_seed(3), f).pose)[1, 3] for f in (0.0, 0.5)]
    assert moved[0] - moved[1] == pytest.approx(0.5)
