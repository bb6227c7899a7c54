"""Skeletons: OpenPose's colours in OpenPose's places, a neck where COCO has none, anything else by its own limbs."""

from __future__ import annotations

import numpy as np
import pytest

from synthaug.errors import ConfigError
from synthaug.labels import Category, Instance, Keypoint, Labels
from synthaug.refine.guidance.skeleton import BODY, COLOURS, LIMBS, Skeleton, body, hues

COCO = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
PLACES = {
    "nose": (256, 90), "left eye": (268, 80), "right eye": (244, 80), "left ear": (284, 88), "right ear": (228, 88),
    "left shoulder": (320, 150), "right shoulder": (192, 150), "left elbow": (350, 220), "right elbow": (162, 220),
    "left wrist": (360, 290), "right wrist": (150, 290), "left hip": (296, 300), "right hip": (216, 300),
    "left knee": (300, 390), "right knee": (212, 390), "left ankle": (304, 480), "right ankle": (208, 480),
}  # fmt: skip
PERSON = Category("person", COCO)
PICTURE = np.zeros((3, 512, 512), np.float32)


def person(**states: int) -> Labels:
    """A standing person who looks at us; `states` overrides visibility by name, 2 otherwise."""
    points: list[Keypoint] = []
    for name in COCO:
        state = states.get(name, 2)
        x, y = PLACES[name.replace("_", " ")]
        points.append((x + 0.5, y + 0.5, state) if state else (0, 0, 0))
    one = Instance(1, 1, (100.0, 50.0, 400.0, 500.0), keypoints=tuple(points))
    return Labels((512, 512), (PERSON,), (one,))


def eight(labels: Labels, **fields: object) -> np.ndarray:
    return np.rint(Skeleton(**fields).guide(labels, PICTURE).image * 255).astype(int)  # type: ignore[arg-type]


def test_the_facts_of_openpose() -> None:
    assert len(BODY) == len(COLOURS) == 18
    assert len(LIMBS) == 17
    # The published table counts from 1.
    published = [
        [2, 3], [2, 6], [3, 4], [4, 5], [6, 7], [7, 8], [2, 9], [9, 10], [10, 11], [2, 12], [12, 13], [13, 14],
        [2, 1], [1, 15], [15, 17], [1, 16], [16, 18],
    ]  # fmt: skip
    assert [[a + 1, b + 1] for a, b in LIMBS] == published
    assert (COLOURS[0], COLOURS[1], COLOURS[12], COLOURS[17]) == ((255, 0, 0), (255, 85, 0), (0, 0, 255), (255, 0, 85))


def test_joints_have_their_colours_and_the_neck_is_between_the_shoulders() -> None:
    image = eight(person())
    for name, (x, y) in PLACES.items():
        assert tuple(image[:, y, x]) == COLOURS[BODY.index(name)], name
    assert tuple(image[:, 150, 256]) == COLOURS[1]


def test_limbs_are_dim_and_end_to_end() -> None:
    image = eight(person())
    for limb, (a, b) in enumerate(LIMBS):
        first = np.array(PLACES.get(BODY[a], (256, 150)))
        second = np.array(PLACES.get(BODY[b], (256, 150)))
        x, y = np.rint((first + second) / 2).astype(int)
        if limb in (13, 14, 15, 16):  # short ones on the face, covered by joints
            continue
        assert tuple(image[:, y, x]) == tuple(int(0.6 * v) for v in COLOURS[limb]), (BODY[a], BODY[b])
    assert not image[:, 10, 10].any()


def test_width_is_four_pixels_either_side_and_grows_with_the_picture() -> None:
    image = eight(person())
    # The upper right arm's neighbour, the lower left leg, is nearly upright: 2 * 4 pixels wide in its middle.
    assert 7 <= (image[:, 435, 280:330].sum(axis=0) > 0).sum() <= 10
    assert (eight(person(), radius=8.0) > 0).sum() > 1.5 * (image > 0).sum()


def test_no_neck_without_both_shoulders_and_no_limb_without_both_ends() -> None:
    image = eight(person(left_shoulder=0))
    assert not image[:, 150, 256].any()
    assert not image[:, 225, 236].any(), "no trunk without a neck"
    assert tuple(image[:, 150, 192]) == COLOURS[2]
    assert tuple(image[:, 0, 0]) == (0, 0, 0), "an absent keypoint is not drawn at its (0, 0)"


def test_occluded_keypoints_are_drawn_unless_told_otherwise() -> None:
    x, y = PLACES["left wrist"]
    assert eight(person(left_wrist=1))[:, y, x].any()
    assert not eight(person(left_wrist=1), occluded=False)[:, y, x].any()


def test_a_named_neck_is_taken_and_names_may_be_spelt_otherwise() -> None:
    assert body(Category("p", ("Neck", *(n.replace("_", " ").title() for n in COCO))))[1] == 0
    assert body(Category("p", tuple("".join(w.title() for w in n.split("_")) for n in COCO)))[0] == 0
    assert body(Category("hand", ("wrist", "thumb", "index"))) == ()


def test_other_classes_by_their_own_skeleton() -> None:
    chair = Category("chair", ("a", "b", "c"), skeleton=((0, 1), (1, 2)))
    points = ((50.5, 50.5, 2), (150.5, 50.5, 2), (150.5, 200.5, 2))
    labels = Labels((512, 512), (chair,), (Instance(1, 1, (0.0, 0.0, 300.0, 300.0), keypoints=points),))
    image = eight(labels)
    assert [tuple(image[:, y, x]) for x, y in ((50, 50), (150, 50), (150, 200))] == list(hues(3))
    assert tuple(image[:, 50, 100]) == tuple(int(v * 0.6) for v in hues(2)[0])
    guide = Skeleton().guide(labels, PICTURE)
    assert (guide.facts["bodies"], guide.facts["others"]) == (0, 1)
    assert not Skeleton(style="openpose").guide(labels, PICTURE).image.any()
    assert eight(person(), style="generic").any(), "discs without limbs, where a class names no skeleton"


def test_far_off_and_coinciding_keypoints_do_no_harm() -> None:
    chair = Category("chair", ("a", "b"), skeleton=((0, 1),))
    for points in (((1e7, -1e7, 2), (10.0, 10.0, 2)), ((10.5, 10.5, 2), (10.5, 10.5, 2))):
        labels = Labels((64, 64), (chair,), (Instance(1, 1, (0.0, 0.0, 9.0, 9.0), keypoints=points),))
        image = Skeleton().guide(labels, PICTURE).image
        assert np.isfinite(image).all()
        assert image.any()


def test_plans() -> None:
    assert "keypoints" in Skeleton().missing({"depth"}, (Category("car"),), None)
    assert not Skeleton().missing(set(), (PERSON,), None)
    chair = Category("chair", ("a", "b"))
    assert "style=generic" in Skeleton(style="openpose").missing(set(), (chair,), None)
    with pytest.raises(ConfigError, match="Did you mean 'openpose'"):
        Skeleton(style="openpos")
    with pytest.raises(ConfigError, match="radius=0"):
        Skeleton(radius=0)
