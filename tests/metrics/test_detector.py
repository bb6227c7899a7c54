from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.errors import InputError
from synthaug.metrics.average_precision import Boxes, overlap
from synthaug.metrics.detector import STRIDE, Detector
from synthaug.metrics.downstream import targets

SIDE = 96


class Told(Detector):
    """Says what it is told, whatever the picture shows."""

    def __init__(self, maps: torch.Tensor) -> None:
        super().__init__(maps.shape[0] - 5)
        self.maps = maps

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        rows, columns = (side // STRIDE for side in pictures.shape[2:])
        return self.maps[None, :, :rows, :columns]


def perfect(truth: Boxes, classes: int = 6) -> torch.Tensor:
    """The maps that training asks for."""
    asked = targets(truth, SIDE)
    cells = SIDE // STRIDE
    maps = np.full((5 + classes, cells, cells), -9.0, np.float32)
    maps[0] = np.log(np.clip(asked.bump, 1e-4, 0.999)) - np.log(1 - np.clip(asked.bump, 1e-4, 0.999))
    for row, column in zip(*np.nonzero(asked.owner >= 0), strict=True):
        own = asked.owner[row, column]
        maps[1:5, row, column] = asked.values[own] - np.array([column + 0.5, row + 0.5, 0, 0])
        maps[4 + asked.classes[own], row, column] = 9.0
    return torch.from_numpy(maps)


def best(found: Boxes) -> Boxes:
    """Each object under the class with the highest score, where that is high at all."""
    scores = np.asarray(found.scores).reshape(-1, 6)
    rows = np.arange(len(scores)) * 6 + scores.argmax(1)
    rows = rows[scores.max(1) > 0.5]
    return Boxes(found.corners[rows], found.classes[rows])


@st.composite
def scenes(draw: st.DrawFn) -> Boxes:
    """Boxes of 12 to 24 pixels in a grid, so that no two centres are neighbours."""
    places = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=9, unique=True))
    rows = [
        [
            32 * x + 16 + draw(st.floats(-3, 3)), 32 * y + 16 + draw(st.floats(-3, 3)),
            draw(st.floats(12, 24)), draw(st.floats(12, 24)),
        ]
        for x, y in places
    ]  # fmt: skip
    table = np.array(rows, np.float32).reshape(-1, 4)
    classes = np.array([draw(st.integers(1, 6)) for _ in places], np.int64)
    corners = np.concatenate([table[:, :2] - table[:, 2:] / 2, table[:, :2] + table[:, 2:] / 2], 1)
    return Boxes(corners.astype(np.float32), classes)


@settings(max_examples=40)
@given(scenes())
def test_what_training_asks_for_is_read_back_as_the_boxes(truth: Boxes) -> None:
    (found,) = Told(perfect(truth)).detect([np.zeros((SIDE, SIDE, 3), np.uint8)])
    seen = best(found)
    assert len(seen.classes) == len(truth.classes)
    if len(truth.classes):
        table = overlap(truth.corners, seen.corners)
        assert table.max(1).min() > 0.999
        assert seen.classes[table.argmax(1)].tolist() == truth.classes.tolist()


def test_one_object_seen_twice_is_reported_once() -> None:
    truth = Boxes(np.array([[30, 30, 60, 60]], np.float32), np.array([3]))
    maps = perfect(truth)
    maps[0] = -9.0
    for column, logit in ((9, 2.0), (13, 1.0)):
        maps[0, 11, column] = logit
        maps[1:5, 11, column] = torch.tensor([45 / 4 - column - 0.5, 45 / 4 - 11.5, np.log(30 / 16), np.log(30 / 16)])
    (found,) = Told(maps).detect([np.zeros((SIDE, SIDE, 3), np.uint8)])
    assert len(found.corners) == 6
    assert found.corners[0] == pytest.approx(truth.corners[0], abs=1e-4)
    assert np.asarray(found.scores).max() <= torch.sigmoid(torch.tensor(2.0)).item()


def test_every_object_is_reported_for_every_class_with_shares_that_add_up() -> None:
    truth = Boxes(np.array([[30, 30, 50, 50]], np.float32), np.array([2]))
    (found,) = Told(perfect(truth)).detect([np.zeros((SIDE, SIDE, 3), np.uint8)])
    assert found.classes.tolist() == [1, 2, 3, 4, 5, 6]
    assert float(np.asarray(found.scores).sum()) == pytest.approx(0.999, abs=1e-3)


@pytest.mark.parametrize("size", [(40, 64), (33, 51), (8, 9)])
def test_any_size_is_read(size: tuple[int, int]) -> None:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        network = Detector(2)
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    first, again = network.detect([picture, picture])
    assert np.array_equal(np.asarray(first.scores), np.asarray(again.scores))
    assert first.corners.dtype == np.float32


def test_pictures_of_another_kind_are_refused() -> None:
    with pytest.raises(InputError, match="expected uint8"):
        Detector(2).detect([np.zeros((8, 8, 3), np.float32)])  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="expected uint8"):
        Detector(2).detect([np.zeros((8, 8), np.uint8)])
