"""Run-length masks against pycocotools on valid input, and against garbage on its own."""

from __future__ import annotations

import json
import time
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from synthaug import cocostring, outline, rle
from synthaug.errors import Rejected

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24))
ID_MAPS = hnp.arrays(
    np.int32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24),
    elements=st.sampled_from([0, 0, 1, 2, 70000]),
)
GARBAGE = 20_000


def oracle(mask: np.ndarray) -> dict[str, Any]:
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))


def as_corners(box: np.ndarray) -> tuple[float, ...]:
    x, y, w, h = box.tolist()
    return (x, y, x + w, y + h)


@given(MASKS)
def test_encode_equals_pycocotools_and_decodes_back(mask: np.ndarray) -> None:
    ours, theirs = rle.encode(mask), oracle(mask)
    assert (ours.size, ours.counts) == (tuple(theirs["size"]), theirs["counts"])
    assert np.array_equal(rle.decode(ours), mask)
    assert rle.area(ours) == int(mask.sum())
    assert rle.box(ours) == as_corners(coco.toBbox(theirs))


@given(ID_MAPS)
def test_id_maps_equal_one_mask_at_a_time(ids: np.ndarray) -> None:
    found = rle.find(ids)
    assert list(found) == rle.ids_in(ids) == [int(i) for i in np.unique(ids) if i]
    assert rle.boxes_in(ids) == {i: (f.box, f.area) for i, f in found.items()}
    for i, (mask, box, area) in found.items():
        theirs = oracle(ids == i)
        assert mask.counts == theirs["counts"]
        assert box == as_corners(coco.toBbox(theirs))
        assert area == coco.area(theirs)


def test_masks_of_long_runs_use_every_length_of_number() -> None:
    for side in (1, 3, 40, 700, 5000):
        mask = np.zeros((side, 9), dtype=bool)
        mask[side // 2 :, 3:6] = True
        mask[0, 8] = True
        assert rle.encode(mask).counts == oracle(mask)["counts"]
        assert np.array_equal(rle.decode(rle.encode(mask)), mask)


def test_wanted_ids_are_answered_in_their_order_with_empty_masks_for_the_absent() -> None:
    ids = np.zeros((4, 5), dtype=np.uint16)
    ids[1, 2] = 9
    ids[2, 2] = 3
    found = rle.find(ids, [9, 7])
    assert list(found) == [9, 7]
    assert found[9].box == (2.0, 1.0, 3.0, 2.0)
    assert found[7] == (rle.encode(np.zeros((4, 5), bool)), (0.0, 0.0, 0.0, 0.0), 0)
    assert list(rle.encode_ids(ids, [7, 9])) == [7, 9]


def test_layouts_and_types_of_id_maps_do_not_matter() -> None:
    ids = np.random.default_rng(3).integers(0, 4, (31, 17))
    expected = rle.encode_ids(ids)
    for other in (
        ids.astype(np.uint8),
        np.asfortranarray(ids),
        np.repeat(ids, 2, axis=1)[:, ::2],
        ids.astype(np.uint16),
    ):
        assert rle.encode_ids(other) == expected
    assert rle.ids_in(np.array([[5, 2**31 - 1], [0, 5]])) == [5, 2**31 - 1]
    with pytest.raises(Rejected, match="expected integers"):
        rle.encode_ids(ids.astype(np.float32))


@given(MASKS, st.data())
def test_runs_survive_a_round_trip_with_empty_runs_inside(mask: np.ndarray, data: st.DataObject) -> None:
    lengths = rle.runs(rle.encode(mask)).tolist()
    at = data.draw(st.integers(1, len(lengths)))
    cut = data.draw(st.integers(0, lengths[at - 1]))
    spread = [*lengths[: at - 1], cut, 0, lengths[at - 1] - cut, *lengths[at:]]
    assert rle.from_runs(spread, mask.shape) == rle.encode(mask)
    assert rle.from_coco({"size": list(mask.shape), "counts": spread}) == rle.encode(mask)


def test_coco_objects_as_string_and_list_mean_the_same() -> None:
    mask = np.random.default_rng(0).random((12, 9)) < 0.4
    theirs = oracle(mask)
    text = json.loads(json.dumps({"size": theirs["size"], "counts": theirs["counts"].decode("ascii")}))
    assert rle.from_coco(text) == rle.encode(mask)
    assert rle.from_coco({"size": [12, 9], "counts": rle.runs(rle.encode(mask)).tolist()}) == rle.encode(mask)


COORDINATES = st.floats(-30, 60, allow_nan=False, width=32) | st.integers(-10, 40).map(lambda v: v / 2)
POLYGON = st.lists(st.tuples(COORDINATES, COORDINATES), min_size=3, max_size=12).map(
    lambda points: [float(v) for p in points for v in p]
)


@given(st.lists(POLYGON, min_size=1, max_size=3), st.integers(1, 40), st.integers(1, 40))
def test_polygons_equal_pycocotools(polygons: list[list[float]], height: int, width: int) -> None:
    theirs = coco.merge(coco.frPyObjects(polygons, height, width))
    assert rle.from_polygons(polygons, (height, width)).counts == theirs["counts"]


def test_polygons_of_instance_size_equal_pycocotools() -> None:
    rng = np.random.default_rng(1)
    for _ in range(40):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 60))
        radius = rng.uniform(60, 140, 60)
        points = np.stack([200 + radius * np.cos(angles), 180 + radius * np.sin(angles)], axis=1)
        polygon = points.reshape(-1).tolist()
        theirs = coco.merge(coco.frPyObjects([polygon], 360, 400))
        assert rle.from_polygons([polygon], (360, 400)).counts == theirs["counts"]


BAD_POLYGONS = {
    "none": [],
    "empty": [[]],
    "two points, a box to pycocotools": [[0, 0, 5, 5]],
    "odd": [[0, 0, 5, 0, 5]],
    "NaN": [[0, 0, 5, 0, 5, float("nan")]],
    "infinite": [[0, 0, 5, 0, 5, float("inf")]],
    "minus infinite": [[float("-inf"), 0, 5, 0, 5, 5]],
    "far away": [[0, 0, 1e8, 0, 5, 5]],
    "huge integer": [[0, 0, 10**400, 0, 5, 5]],
    "text": [[0, 0, "5", 0, 5, 5]],
    "null": [[0, 0, None, 0, 5, 5]],
    "nested": [[[0, 0], [5, 0], [5, 5], [0, 5], [1, 1], [2, 2]]],
    "true": [[True, 0, 5, 0, 5, 5]],
    "one bad of two": [[0, 0, 5, 0, 5, 5], [1, 2]],
    "too long to trace": [[0, 0, 1e6, 1e6] * 40],
}


@pytest.mark.parametrize("name", BAD_POLYGONS)
def test_e5_bad_polygon_is_rejected(name: str) -> None:
    with pytest.raises(Rejected) as caught:
        rle.from_polygons(BAD_POLYGONS[name], (20, 20))  # type: ignore[arg-type]
    assert caught.value.reason == "label"


def test_e5_crossing_and_degenerate_polygons_are_drawn_as_coco_draws_them() -> None:
    cases = [
        [0.0, 0, 10, 10, 10, 0, 0, 10],
        [3.0, 3, 3, 3, 3, 3],
        [2.0, 2, 8, 2, 14, 2],
        [-5.0, -5, 30, -5, 30, 30, -5, 30],
        [100.0, 100, 120, 100, 110, 130],
        [2.5, 2.5, 12.5, 2.5, 12.5, 12.5, 2.5, 12.5, 2.5, 2.5],
    ]
    for polygon in cases:
        theirs = coco.merge(coco.frPyObjects([polygon], 20, 20))
        assert rle.from_polygons([polygon], (20, 20)).counts == theirs["counts"], polygon


BAD_RLE = {
    "no object": [1, 2],
    "no size": {"counts": "a"},
    "size of one": {"size": [4], "counts": "4"},
    "size of text": {"size": ["4", "4"], "counts": "4"},
    "size of floats": {"size": [4.0, 4.0], "counts": "`0"},
    "size of bools": {"size": [True, True], "counts": "1"},
    "height 0": {"size": [0, 4], "counts": "0"},
    "negative height": {"size": [-4, -4], "counts": "`0"},
    "huge": {"size": [2**20, 2**20], "counts": "0"},
    "beyond int64": {"size": [10**30, 10**30], "counts": "0"},
    "no counts": {"size": [4, 4]},
    "null counts": {"size": [4, 4], "counts": None},
    "empty string": {"size": [4, 4], "counts": ""},
    "empty list": {"size": [4, 4], "counts": []},
    "not ascii": {"size": [4, 4], "counts": "é"},
    "control character": {"size": [4, 4], "counts": "\x00\x10"},
    "beyond the alphabet": {"size": [4, 4], "counts": "`0~"},
    "continuation at the end": {"size": [4, 4], "counts": "`"},
    "only continuations": {"size": [4, 4], "counts": "oooooooooo"},
    "number too long": {"size": [4, 4], "counts": "PPPPPPPP0"},
    "short": {"size": [4, 4], "counts": "4"},
    "long": {"size": [4, 4], "counts": "`04"},
    "negative run": {"size": [4, 4], "counts": "4O`0"},
    "list of floats": {"size": [4, 4], "counts": [16.0]},
    "list of text": {"size": [4, 4], "counts": ["16"]},
    "list of bools": {"size": [1, 1], "counts": [True]},
    "list with a negative": {"size": [4, 4], "counts": [20, -4]},
    "list beyond int64": {"size": [4, 4], "counts": [10**30]},
    "list that is short": {"size": [4, 4], "counts": [3, 4]},
}


@pytest.mark.parametrize("name", BAD_RLE)
def test_e6_bad_rle_is_rejected(name: str) -> None:
    with pytest.raises(Rejected) as caught:
        rle.from_coco(BAD_RLE[name])
    assert caught.value.reason == "label"


def attack(count: int, seed: int) -> tuple[int, float]:
    """Feeds random and structured garbage to every reader; returns how many parsed and the slowest call."""
    rng = np.random.default_rng(seed)
    parsed, slowest, reasons = 0, 0.0, set[str]()
    for n in range(count):
        height, width = (int(v) for v in rng.integers(0, 40, 2))
        if n % 17 == 0:
            height = int(rng.choice([2**14, 2**28, 2**31, 2**40]))
        text = garbage(rng, n % 4, height * width)
        begin = time.perf_counter()
        try:
            mask = rle.from_coco({"size": [height, width], "counts": text})
            rle.box(mask)
            if height * width <= 2000:
                assert rle.decode(mask).sum() == rle.area(mask)
            parsed += 1
        except Rejected as error:
            reasons.add(error.reason)
        slowest = max(slowest, time.perf_counter() - begin)
    assert reasons <= {"label"}
    return parsed, slowest


def garbage(rng: np.random.Generator, kind: int, pixels: int) -> str:
    if kind == 0:
        return bytes(rng.integers(0, 128, rng.integers(0, 60), dtype=np.uint8)).decode("ascii")
    if kind == 1:
        return bytes(rng.integers(48, 112, rng.integers(0, 60), dtype=np.uint8)).decode("ascii")
    if kind == 2:  # right alphabet, every number closed: only the values are wrong
        numbers = rng.integers(-50, 400, rng.integers(1, 20))
        return cocostring.pack(numbers.astype(np.int64), np.zeros(1, np.int64))[0].decode("ascii")
    cuts = np.sort(rng.integers(0, max(pixels, 1), 5))
    lengths = np.diff(np.concatenate([[0], cuts, [pixels]]))
    text = bytearray(cocostring.pack(lengths.astype(np.int64), np.zeros(1, np.int64))[0])
    if rng.random() < 0.7:  # one byte off
        text[int(rng.integers(len(text)))] = int(rng.integers(0, 128))
    return text.decode("ascii")


def test_e6_garbage_never_crashes_nor_hangs() -> None:
    parsed, slowest = attack(GARBAGE, seed=7)
    assert slowest < 1.0
    # Some of the structured strings are sound, so both outcomes are exercised.
    assert GARBAGE // 50 < parsed < GARBAGE // 2


@pytest.mark.slow
def test_e6_a_million_strings() -> None:
    _, slowest = attack(1_000_000, seed=8)
    assert slowest < 1.0


def test_e6_the_longest_strings_are_refused_within_two_seconds() -> None:
    begin = time.perf_counter()
    with pytest.raises(Rejected):
        rle.from_coco({"size": [2**13, 2**13], "counts": "0" * (cocostring.MAX_STRING + 1)})
    with pytest.raises(Rejected):
        rle.from_coco({"size": [2**13, 2**13], "counts": "1" * cocostring.MAX_STRING})
    assert time.perf_counter() - begin < 2.0


def test_an_odd_number_of_toggles_stays() -> None:
    assert outline.odd(np.array([1, 1, 2, 5, 5, 5])).tolist() == [2, 5]
