"""Tiles of trained models, by whatever family: checked with one that says what it was asked."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from synthaug.metrics.texture import seam_energy
from synthaug.texture.trained import drawn_class, sample


class Saying:
    """A model of 16 x 16 whose tiles are noise by seed; class 1 is black, seeds may be broken."""

    side = 16

    def __init__(self) -> None:
        self.asked: list[tuple[Any, list[int], int]] = []
        self.broken: int | None = None

    def sample(self, labels: Any, seeds: Sequence[int], side: int) -> torch.Tensor:
        self.asked.append((labels, list(seeds), side))
        rows = [torch.rand((3, side, side), generator=torch.Generator().manual_seed(seed)) * 2 - 1 for seed in seeds]
        tiles = torch.stack(rows)
        if labels is not None:
            tiles[labels == 1] = -1
        if self.broken is not None:
            tiles[self.broken] = torch.nan
        return tiles


def opened(model: Saying) -> Any:
    return SimpleNamespace(model=model, classes=("plain", "dark"), number={"dark": 1, "plain": 0}.__getitem__)


def test_each_tile_has_its_seed_whatever_the_batch() -> None:
    model = Saying()
    tiles = list(sample(opened(model), [7, 8, 9], ["", "", ""], batch=2))
    assert [tile.seed for tile in tiles] == [7, 8, 9]
    assert [len(seeds) for _, seeds, _ in model.asked] == [2, 1]
    assert all(labels is None and side == 16 for labels, _, side in model.asked)
    (again,) = sample(opened(model), [9], [""])
    assert np.array_equal(tiles[2].pixels, again.pixels)  # type: ignore[arg-type]
    for tile in tiles:
        assert tile.pixels is not None
        assert tile.pixels.shape == (16, 16, 3)
        assert np.array_equal(tile.pixels.clip(0, 1), tile.pixels)
        assert seam_energy(tile.pixels) <= 1.05


def test_a_class_and_a_side_are_asked_for() -> None:
    model = Saying()
    (tile,) = sample(opened(model), [1], ["dark"], side=32)
    assert tile.pixels is not None
    assert tile.pixels.shape == (32, 32, 3)
    assert not tile.pixels.any()
    with pytest.raises(KeyError):
        list(sample(opened(model), [1], ["other"]))


def test_what_is_not_finite_has_a_reason_and_no_pixels() -> None:
    model = Saying()
    model.broken = 1
    first, second = sample(opened(model), [4, 5], ["plain", "dark"])
    assert first.pixels is not None
    assert (second.seed, second.pixels, second.reason) == (5, None, "nonfinite")


def test_classes_are_drawn_by_seed() -> None:
    found = [drawn_class(opened(Saying()), seed) for seed in range(40)]
    assert 8 < found.count("dark") < 32
    assert found == [drawn_class(opened(Saying()), seed) for seed in range(40)]
    assert drawn_class(cast(Any, SimpleNamespace(classes=())), 1) == ""
