"""Labels are checked for what their module promises: one broken promise at a time, each named."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from synthaug import rle, testing
from synthaug.camera import Camera
from synthaug.errors import Rejected
from synthaug.labels import Category, Instance, Labels

GOOD = testing.make_sample(1).labels
NAN = float("nan")


def with_instance(**changes: Any) -> Labels:
    first, *others = GOOD.instances
    return replace(GOOD, instances=(replace(first, **changes), *others))


def with_pass(name: str, values: np.ndarray) -> Labels:
    return replace(GOOD, passes={**GOOD.passes, name: values})


def semantic(value: int) -> np.ndarray:
    values = GOOD.passes["semantic"].copy()
    values[0, 0] = value
    return values


def moved_box(by: float) -> tuple[float, ...]:
    x0, y0, x1, y1 = GOOD.instances[0].box
    return (x0 + by, y0, x1, y1)


def broken_pose() -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(NAN if (i, j) == (1, 3) else float(i == j) for j in range(4)) for i in range(4))


CAMERA = GOOD.camera
assert CAMERA is not None
BROKEN: dict[str, tuple[Labels, str]] = {
    "box": (with_instance(box=moved_box(1.0)), "its mask spans"),
    "order": (replace(GOOD, instances=GOOD.instances[::-1]), "id 1 comes after 2"),
    "twice": (replace(GOOD, instances=(GOOD.instances[0], GOOD.instances[0])), "id 1 comes after 1"),
    "zero": (replace(GOOD, instances=(replace(GOOD.instances[0], id=0), GOOD.instances[1])), "ids start at 1"),
    "class": (with_pass("semantic", semantic(3)), "holds the class 3 of 2"),
    "negative class": (with_pass("semantic", semantic(-1)), "holds the class -1 of 2"),
    "visibility": (with_instance(visibility=1.5), "visibility 1.5, expected a share"),
    "no visibility": (with_instance(visibility=NAN), "visibility nan"),
    "pose": (with_instance(pose=broken_pose()), "expected 4 rows of 4 finite numbers"),
    "short pose": (with_instance(pose=((1.0, 0.0, 0.0),) * 3), "expected 4 rows"),
    "extent": (with_instance(extent=(1.0, -1.0, 2.0)), "expected finite metres"),
    "camera": (replace(GOOD, camera=Camera(((NAN, 0, 1), (0, 1, 1), (0, 0, 1)))), "expected a 3x3"),
    "place": (replace(GOOD, camera=replace(CAMERA, extrinsics=broken_pose())), "camera at"),
    "lens": (replace(GOOD, camera=replace(CAMERA, distortion=(NAN,))), "expected a 3x3"),
}


def test_good_labels_pass() -> None:
    GOOD.check()
    GOOD.check(thorough=True)


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_broken_promise_is_named(name: str) -> None:
    labels, words = BROKEN[name]
    with pytest.raises(Rejected, match=words) as caught:
        labels.check()
    assert caught.value.reason == "label"


def own_mask(box: tuple[float, ...]) -> Labels:
    mask = np.zeros(GOOD.size, bool)
    mask[10:20, 30:50] = True
    one = Instance(1, 1, box, mask=rle.encode(mask))  # type: ignore[arg-type]
    return Labels(GOOD.size, GOOD.categories, (one,))


def test_masks_of_their_own_are_looked_into_where_asked() -> None:
    own_mask((30.0, 10.0, 50.0, 20.0)).check(thorough=True)
    wide = own_mask((30.0, 10.0, 51.0, 20.0))
    wide.check()
    with pytest.raises(Rejected, match="its mask spans"):
        wide.check(thorough=True)


def test_ids_and_classes_agree_where_asked() -> None:
    wrong = np.where(GOOD.passes["instance"] == 1, 2, GOOD.passes["semantic"]).astype(np.int32)
    labels = with_pass("semantic", wrong)
    labels.check()
    with pytest.raises(Rejected, match=r"instance 1: .* pixels of instances have another class"):
        labels.check(thorough=True)
    ignored = replace(labels, passes={**labels.passes, "ignore": GOOD.passes["instance"] == 1})
    ignored.check(thorough=True)
    stuff = with_pass("semantic", np.where(GOOD.passes["instance"] == 0, 2, GOOD.passes["semantic"]).astype(np.int32))
    stuff.check(thorough=True)


def test_a_check_is_cheap_enough_for_every_sample() -> None:
    """Twenty instances at 512x512: the limit is a multiple of what it takes, for machines under load."""
    ids = np.zeros((512, 512), np.int32)
    for i in range(20):
        ids[10 + 20 * i : 45 + 20 * i, 20 * i : 20 * i + 100] = i + 1
    instances = tuple(Instance(i, 1 + i % 3, box) for i, (box, _) in sorted(rle.boxes_in(ids).items()))
    classes = np.array([0, *(i.class_id for i in instances)], np.int32)[ids]
    labels = Labels((512, 512), tuple(map(Category, "abc")), instances, {"instance": ids, "semantic": classes})
    labels.check(thorough=True)
    took = []
    for _ in range(20):
        start = time.process_time()
        labels.check()
        took.append(time.process_time() - start)
    assert min(took) < 0.0015
