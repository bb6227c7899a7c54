"""Strength maps: which rule wins where, discs and thin parts in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug import rle
from synthaug.errors import ConfigError
from synthaug.labels import Category, Instance, Labels
from synthaug.refine.protect import Protection, keypoint_discs, protect, word
from synthaug.refine.thin import thin_parts

CLASSES = (Category("car"), Category("person", keypoints=("nose", "foot")), Category("road"))


def scene(*, masks: bool = True, **changes: object) -> Labels:
    """A car (id 1) on a road, a person (id 2) in front of it."""
    ids, classes = np.zeros((20, 30), np.int32), np.full((20, 30), 3, np.int32)
    ids[5:15, 4:20], classes[5:15, 4:20] = 1, 1
    ids[8:18, 10:14], classes[8:18, 10:14] = 2, 2
    instances = (
        Instance(1, 1, (4.0, 5.0, 20.0, 15.0), object_id="actor/1", attributes={"parked": True}),
        Instance(2, 2, (10.0, 8.0, 14.0, 18.0), keypoints=((12.0, 9.0, 2), (12.0, 17.0, 1))),
    )
    passes = {"instance": ids, "semantic": classes} if masks else {}
    return Labels((20, 30), CLASSES, instances, passes, **changes)  # pyright: ignore[reportArgumentType]


def test_particular_rules_overrule_general_ones() -> None:
    rules = Protection.parse(
        {"default": 0.9, "classes": {"road": 0.5, "car": 0.4}, "attributes": {"parked": {True: 0.8}}}
    )
    found = protect(scene(), rules).strength
    assert found.dtype == np.float32
    assert found[0, 0] == np.float32(0.5)
    assert found[6, 5] == np.float32(0.8)
    assert found[10, 11] == np.float32(0.9)
    by_class = protect(scene(), Protection.parse({"classes": {"car": 0.4}})).strength
    assert by_class[6, 5] == np.float32(0.4)


@pytest.mark.parametrize(
    "rule",
    [
        {"never_classes": ["car"]},
        {"never_ids": [1]},
        {"never_objects": ["actor/1"]},
        {"never_attributes": {"parked": [True]}},
        {"classes": {"car": 0}},
    ],
)
def test_never_touch_is_the_mask_to_the_pixel_and_beats_every_other_rule(rule: dict[str, object]) -> None:
    labels = scene()
    given = {"attributes": {"parked": {True: 1.0}}, **rule} if "classes" not in rule else rule
    found = protect(labels, Protection.parse(given))
    assert np.array_equal(found.never, labels.passes["instance"] == 1)
    assert found.facts()["never"] == round(float((labels.passes["instance"] == 1).mean()), 6)


def test_boxes_stand_in_for_masks_and_the_lowest_wins() -> None:
    labels = scene(masks=False)
    found = protect(labels, Protection.parse({"classes": {"car": 0.5, "person": 0.2}})).strength
    assert found[6, 5] == np.float32(0.5)
    assert found[10, 11] == found[16, 11] == np.float32(0.2)
    assert found[0, 0] == found[16, 5] == 1
    alone = protect(labels, Protection.parse({"classes": {"car": 0.5}})).strength
    assert alone[10, 11] == np.float32(0.5)


def test_a_box_takes_the_pixels_of_its_class_where_they_are_known() -> None:
    labels = scene()
    without = Labels(labels.size, CLASSES, labels.instances, {"semantic": labels.passes["semantic"]})
    found = protect(without, Protection.parse({"never_ids": [1]}))
    assert np.array_equal(found.never, labels.passes["semantic"] == 1)


def test_own_masks_may_overlap() -> None:
    whole = np.zeros((20, 30), bool)
    whole[5:15, 4:20] = True
    hidden = Instance(1, 1, (4.0, 5.0, 20.0, 15.0), mask=rle.encode(whole))
    labels = Labels(
        (20, 30),
        CLASSES,
        (hidden, scene().instances[1]),
        {"instance": np.where(scene().passes["instance"] == 2, 2, 0).astype(np.int32)},
    )
    found = protect(labels, Protection.parse({"classes": {"car": 0.3, "person": 0.6}})).strength
    assert found[6, 5] == found[10, 11] == np.float32(0.3)
    assert found[16, 11] == np.float32(0.6)


@settings(max_examples=40)
@given(st.floats(0.6, 6), st.floats(0, 30), st.floats(0, 20))
def test_keypoint_discs_hold_exactly_the_pixels_within_the_radius(radius: float, x: float, y: float) -> None:
    instance = Instance(2, 2, (0.0, 0.0, 5.0, 5.0), keypoints=((x, y, 2), (3.0, 3.0, 1)))
    found = keypoint_discs(Labels((20, 30), CLASSES, (instance,)), radius)
    rows, columns = np.mgrid[:20, :30]
    expected = (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 <= radius**2
    expected[min(int(y), 19), min(int(x), 29)] = True
    assert np.array_equal(found, expected)


def test_keypoints_lower_and_never_raise() -> None:
    found = protect(
        scene(), Protection.parse({"classes": {"person": 0.1}, "keypoint_radius": 2, "keypoint_strength": 0.5})
    )
    assert found.strength[9, 11] == np.float32(0.1)
    assert found.guard[9, 11]
    assert not found.guard[16, 11]


@settings(max_examples=60)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 3), st.booleans())
def test_a_strip_is_thin_exactly_where_it_is_narrower(pixels: int, width: int, shift: int, upright: bool) -> None:
    ids = np.zeros((40, 48), np.int64)
    ids[5 + shift : 5 + shift + pixels, :] = 7
    ids = ids.T if upright else ids
    assert np.array_equal(thin_parts(ids, width), (ids == 7) & (pixels < width))


def test_a_pole_on_a_body_is_thin_its_corners_are_not_and_the_edge_of_the_canvas_cuts_nothing() -> None:
    ids = np.zeros((60, 60), np.int64)
    ids[30:50, 10:40] = 1
    ids[5:30, 20:22] = 1
    ids[:, 58:] = 2
    thin = thin_parts(ids, 5)
    assert thin[5:24, 20:22].all()
    assert not thin[30:50].any()
    assert not thin[:, 58:].any()
    assert not thin[ids == 0].any()


def test_a_thin_thing_before_a_wide_one_is_guarded_by_itself() -> None:
    labels = scene()
    ids = np.array(labels.passes["instance"])
    ids[:] = 0
    ids[5:15, 4:20] = 1
    ids[3:19, 12] = 2
    classes = np.where(ids == 2, 2, np.where(ids == 1, 1, 3)).astype(np.int32)
    thin = protect(
        Labels((20, 30), CLASSES, labels.instances, {"instance": ids, "semantic": classes}),
        Protection.parse({"thin_width": 2, "thin_strength": 0.25}),
    )
    assert np.array_equal(thin.strength == np.float32(0.25), ids == 2)
    assert np.array_equal(thin.guard, ids == 2)


def test_rules_that_say_nothing_change_nothing() -> None:
    assert not Protection.parse(None).active
    assert not Protection.parse({"thin_strength": 0.1}).active
    assert Protection.parse({"thin_width": 3}).active
    assert (protect(scene(), Protection()).strength == 1).all()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"clases": {}}, "Did you mean 'classes'"),
        ({"classes": {"car": 2}}, "protect.classes.car=2: expected a number from 0 to 1"),
        ({"default": True}, "protect.default=True"),
        ({"classes": ["car"]}, "expected a mapping"),
        ({"never_ids": [0]}, "whole numbers from 1"),
        ({"thin_width": float("nan")}, "expected a number from 0 to 64"),
    ],
)
def test_bad_fields_are_refused_by_name(given: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("[", r"\[")):
        Protection.parse(given)


@pytest.mark.parametrize("field", [{"classes": {"cra": 0.5}}, {"never_classes": ["cra"]}])
def test_unknown_classes_are_refused_with_the_nearest(field: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"no class 'cra'\. Did you mean 'car'"):
        protect(scene(), Protection.parse(field))


def test_values_are_spelled_as_configuration_spells_them() -> None:
    assert [word(v) for v in (True, 3, 0.5, "parked", None, [1, "a"])] == [
        "true",
        "3",
        "0.5",
        "parked",
        "null",
        '[1, "a"]',
    ]


@pytest.mark.parametrize(
    ("rules", "graded"),
    [
        ({}, False),
        ({"never_classes": ["car"], "never_ids": [3]}, False),
        ({"classes": {"car": 0, "road": 1}, "keypoint_radius": 3}, False),
        ({"thin_strength": 0.5}, False),
        ({"default": 0.9}, True),
        ({"classes": {"car": 0.5}}, True),
        ({"attributes": {"parked": {True: 0.2}}}, True),
        ({"thin_width": 4}, True),
        ({"keypoint_radius": 3, "keypoint_strength": 0.5}, True),
    ],
)
def test_what_changes_wholly_or_not_at_all_needs_no_loop(rules: dict[str, Any], graded: bool) -> None:
    assert Protection.parse(rules).graded == graded
