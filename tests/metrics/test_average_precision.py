from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from synthaug.errors import InputError
from synthaug.metrics.average_precision import OVERLAPS, Boxes, Matches, mean_precision, overlap

CLASSES = (1, 2, 3)


def boxes(rng: np.random.Generator, count: int, *, scored: bool = False) -> Boxes:
    start = rng.uniform(0, 60, (count, 2))
    corners = np.concatenate([start, start + rng.uniform(4, 20, (count, 2))], 1).astype(np.float32)
    scores = rng.random(count).astype(np.float32) if scored else None
    return Boxes(corners, rng.integers(1, 4, count), scores)


def pictures(seed: int, count: int = 6) -> tuple[list[Boxes], list[Boxes]]:
    """Truth, and detections of which most are the truth, moved a little; some are elsewhere or of another class."""
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(count):
        real, other = boxes(rng, int(rng.integers(0, 7))), boxes(rng, int(rng.integers(0, 5)), scored=True)
        moved = real.corners + rng.normal(0, rng.choice([0.1, 1.5]), real.corners.shape).astype(np.float32)
        classes = np.where(rng.random(len(real.classes)) < 0.8, real.classes, 1)
        corners = np.concatenate([moved, other.corners])
        # All scores differ over all pictures: the order of equal ones is nobody's business.
        scores = rng.random(len(corners)).astype(np.float32)
        truth.append(real)
        found.append(Boxes(corners, np.concatenate([classes, other.classes]), scores))
    return truth, found


def peer(truth: list[Boxes], found: list[Boxes]) -> np.ndarray:
    """[classes, 10] by pycocotools."""
    lines: list[Any] = []
    for number, picture in enumerate(truth, start=1):
        for box, category in zip(picture.corners.astype(float), picture.classes, strict=True):
            x, y, w, h = *box[:2], *(box[2:] - box[:2])
            row = {"image_id": number, "category_id": int(category), "bbox": [x, y, w, h], "area": w * h}
            lines.append(row | {"id": len(lines) + 1, "iscrowd": 0})
    coco: Any = COCO()
    coco.dataset = {
        "images": [{"id": n + 1} for n in range(len(truth))],
        "annotations": lines,
        "categories": [{"id": c} for c in CLASSES],
    }
    rows = [
        {"image_id": n, "category_id": int(c), "bbox": [*box[:2], *(box[2:] - box[:2])], "score": float(s)}
        for n, picture in enumerate(found, start=1)
        for box, c, s in zip(picture.corners.astype(float), picture.classes, np.asarray(picture.scores), strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(rows), "bbox")
        judge.params.maxDets = [1, 10, 1000]
        judge.evaluate()
        judge.accumulate()
    table = np.asarray(judge.eval["precision"])[:, :, :, 0, 2]
    return np.where(table < 0, np.nan, table).mean(1).T


@pytest.mark.parametrize("seed", range(12))
def test_it_is_what_pycocotools_says(seed: int) -> None:
    truth, found = pictures(seed)
    ours = Matches(truth, found, CLASSES).score()
    assert ours == pytest.approx(peer(truth, found), abs=1e-9, nan_ok=True)
    assert 0 < np.nanmean(ours) < 1


def test_the_truth_itself_scores_one_and_nothing_scores_zero() -> None:
    truth, _ = pictures(1)
    exact = [Boxes(t.corners, t.classes, np.ones(len(t.classes), np.float32)) for t in truth]
    none = [Boxes(t.corners[:0], t.classes[:0], np.zeros(0, np.float32)) for t in truth]
    assert mean_precision(Matches(truth, exact, CLASSES).score()) == (1.0, 1.0)
    assert mean_precision(Matches(truth, none, CLASSES).score()) == (0.0, 0.0)


@given(st.integers(0, 2**32), st.lists(st.integers(0, 5), min_size=1, max_size=9))
def test_choosing_pictures_is_evaluating_those_pictures(seed: int, chosen: list[int]) -> None:
    truth, found = pictures(seed)
    whole = Matches(truth, found, CLASSES).score(chosen)
    apart = Matches([truth[i] for i in chosen], [found[i] for i in chosen], CLASSES).score()
    np.testing.assert_array_equal(whole, apart)


@given(st.integers(0, 2**32))
def test_a_larger_overlap_is_never_easier_and_a_false_detection_never_helps(seed: int) -> None:
    truth, found = pictures(seed)
    table = Matches(truth, found, CLASSES).score()
    assert np.all(np.diff(np.nan_to_num(table), axis=1) <= 1e-12)
    wrong = [
        Boxes(
            np.concatenate([f.corners, np.full((1, 4), 500, np.float32) + np.array([0, 0, 9, 9], np.float32)]),
            np.append(f.classes, 2),
            np.append(np.asarray(f.scores), np.float32(2)),
        )
        for f in found
    ]
    assert np.all(np.nan_to_num(Matches(truth, wrong, CLASSES).score()) <= np.nan_to_num(table) + 1e-12)


def test_classes_without_truth_do_not_count() -> None:
    one = Boxes(np.array([[0, 0, 10, 10]], np.float32), np.array([2]))
    seen = Boxes(one.corners, one.classes, np.array([0.5], np.float32))
    table = Matches([one], [seen], CLASSES).score()
    assert np.isnan(table[[0, 2]]).all()
    assert mean_precision(table) == (1.0, 1.0)
    assert np.isnan(mean_precision(Matches([seen], [seen], [1]).score())).all()


def test_of_one_class_keeps_each_box_once_with_its_best_score() -> None:
    corners = np.array([[0, 0, 4, 4], [0, 0, 4, 4], [5, 5, 9, 9]], np.float32)
    one = Boxes(corners, np.array([1, 2, 3]), np.array([0.2, 0.7, 0.4], np.float32)).of_one_class()
    assert one.classes.tolist() == [1, 1]
    assert sorted(zip(one.corners[:, 0].tolist(), np.asarray(one.scores).round(3).tolist(), strict=True)) == [
        (0.0, pytest.approx(0.7, abs=1e-3)),
        (5.0, pytest.approx(0.4, abs=1e-3)),
    ]


def test_overlap_of_known_boxes() -> None:
    found = overlap(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 1, 3, 3], [0, 0, 2, 2], [5, 5, 6, 6]]))
    assert found.tolist() == [[pytest.approx(1 / 7), 1.0, 0.0]]
    assert len(OVERLAPS) == 10


def test_lists_that_do_not_pair_are_refused() -> None:
    truth, found = pictures(0)
    with pytest.raises(InputError, match="6 pictures of truth, 5 of detections"):
        Matches(truth, found[:-1], CLASSES)
    with pytest.raises(InputError, match="without scores"):
        Matches(truth, truth, CLASSES)
