from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.errors import InputError
from synthaug.metrics.average_precision import Boxes, Matches, mean_precision
from synthaug.metrics.downstream import Example, cropped, fit, targets


def example(seed: int, *, side: int = 96) -> Example:
    """Red (class 1) and blue (class 2) squares on grey noise."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(90, 130, (side, side, 3), np.uint8)
    corners, classes = list[list[int]](), list[int]()
    for place in rng.choice(9, 4, replace=False):
        size = int(rng.integers(12, 20))
        x, y = (int(v) for v in np.array(divmod(int(place), 3)) * 32 + rng.integers(0, 32 - size, 2))
        kind = int(rng.integers(1, 3))
        picture[y : y + size, x : x + size] = (200, 40, 40) if kind == 1 else (40, 40, 200)
        corners.append([x, y, x + size, y + size])
        classes.append(kind)
    return Example(picture, Boxes(np.array(corners, np.float32), np.array(classes)))


def test_a_detector_learns_in_seconds_what_is_easy() -> None:
    network = fit([example(n) for n in range(40)], 2, steps=120, seed=0, batch=8, crop=64)
    unseen = [example(n) for n in range(1000, 1020)]
    found = network.detect([e.picture for e in unseen])
    truth = [e.truth for e in unseen]
    ap50, ap = mean_precision(Matches(truth, found, (1, 2)).score())
    assert ap50 > 0.9
    assert ap > 0.4
    swapped = [Boxes(t.corners, 3 - t.classes) for t in truth]
    assert mean_precision(Matches(swapped, found, (1, 2)).score())[0] < 0.2


def test_equal_seeds_give_equal_detectors_and_leave_the_generator_alone() -> None:
    examples = [example(n) for n in range(3)]
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    a, b, c = (fit(examples, 2, steps=3, seed=seed, batch=2, crop=32).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["out.weight"], c["out.weight"])


def test_it_tells_how_far_it_is() -> None:
    told: list[tuple[int, float]] = []
    fit([example(0)], 2, steps=50, seed=0, batch=1, crop=32, tell=lambda step, loss: told.append((step, loss)))
    assert [step for step, _ in told] == [50]
    assert np.isfinite(told[0][1])


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from([(96, 96), (64, 120), (40, 50)]))
def test_boxes_stay_on_their_objects_in_every_crop(seed: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    picture = np.zeros((*size, 3), np.uint8)
    x, y = int(rng.integers(0, size[1] - 20)), int(rng.integers(0, size[0] - 20))
    w, h = (int(v) for v in rng.integers(8, 20, 2))
    picture[y : y + h, x : x + w] = 255
    crop, truth = cropped(Example(picture, Boxes(np.array([[x, y, x + w, y + h]], np.float32), np.array([1]))), 64, rng)
    assert crop.shape == (64, 64, 3)
    assert crop.dtype == np.float32
    (corners,) = truth.corners
    if corners.min() < 1 or corners.max() > 63:
        return
    rows, columns = np.nonzero(crop.mean(2) > 0.4)
    inside = (columns > corners[0] - 2) & (columns < corners[2] + 2) & (rows > corners[1] - 2) & (rows < corners[3] + 2)
    seen = columns[inside].min(), rows[inside].min(), columns[inside].max() + 1, rows[inside].max() + 1
    assert np.abs(np.array(seen) - corners).max() <= 1.5


def test_cut_objects_are_neither_asked_for_nor_counted_as_background() -> None:
    truth = Boxes(np.array([[-14, 20, 6, 40], [20, 20, 36, 36]], np.float32), np.array([1, 2]))
    asked = targets(truth, 64)
    assert set(np.unique(asked.owner)) == {-1, 1}
    assert not asked.counts[6:9, 0].any()
    assert asked.counts[:, 3:].all()
    assert asked.bump.max() == 1.0
    assert np.argwhere(asked.bump == 1).tolist() == [[7, 7]]


def test_examples_without_objects_or_with_unknown_classes_are_refused() -> None:
    empty = Example(example(0).picture, Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.int64)))
    for examples, classes in (([], 2), ([empty], 2), ([example(0)], 1)):
        with pytest.raises(InputError, match="expected some within 1 to"):
            fit(examples, classes, steps=1, seed=0)
