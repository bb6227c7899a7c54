"""Masks of wear, dirt and stickers: as much as asked, wrapping, the same for the same seed, fixed to the object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synthaug.texture.wear import KINDS, mask
from tests.texture.staged import Stage, plain
from tests.texture.surfaces_on import drawn, library, loaded, painted


@pytest.mark.parametrize("kind", KINDS)
def test_as_much_as_asked(kind: str) -> None:
    for coverage in (0.3, 0.6, 0.9):
        found = mask(kind, 5, coverage)
        assert found.dtype == np.float32
        assert found.min() >= 0
        assert found.max() <= 1
        assert np.array_equal(found, mask(kind, 5, coverage))
        wanted = 1.0 if kind == "full" else coverage
        assert abs(float(found.mean()) - wanted) < (0.12 if kind == "stickers" else 0.06)
    assert (mask(kind, 5, 1.0) == 1).all()


@pytest.mark.parametrize("kind", KINDS[1:])
def test_masks_wrap_and_differ_by_seed(kind: str) -> None:
    found = mask(kind, 7, 0.5)[..., 0]
    inner = np.abs(np.diff(found, axis=1)).mean(), np.abs(np.diff(found, axis=0)).mean()
    wrap = np.abs(found[:, 0] - found[:, -1]).mean(), np.abs(found[0] - found[-1]).mean()
    assert wrap[0] < 3 * inner[0] + 0.01
    assert wrap[1] < 3 * inner[1] + 0.01
    assert np.abs(found - mask(kind, 8, 0.5)[..., 0]).mean() > 0.1


@pytest.mark.parametrize("kind", KINDS[1:])
def test_the_old_surface_shows_where_the_new_is_not(tmp_path: Path, kind: str) -> None:
    folder = library(tmp_path / "lib")
    staged = Stage(96)
    image, labels = staged.render(plain).astype(np.float32), staged.labels(plain)
    draws = drawn(loaded(folder), labels)
    full, _ = painted(loaded(folder), image, labels, draws)
    worn = {name: {**draw, "cover": kind, "covered": 0.5} for name, draw in draws.items()}
    done, facts = painted(loaded(folder), image, labels, worn)
    assert facts["board"]["covered"] == kind
    inside = labels.passes["instance"] == 1
    way = np.abs(full - image).max(-1)
    old = (np.abs(done - image).max(-1) < 0.25 * way) & inside
    new = (np.abs(done - full).max(-1) < 0.25 * way) & inside
    assert old.sum() > 0.1 * inside.sum()
    assert new.sum() > 0.1 * inside.sum()
    between = (np.minimum(image, full) - 1e-5 <= done) & (done <= np.maximum(image, full) + 1e-5)
    assert between[inside].all()


def test_kinds_are_drawn_by_weight(tmp_path: Path) -> None:
    stage = loaded(library(tmp_path / "lib"), cover={"full": 1.0, "dirt": 3.0}, covered=(0.2, 0.3))
    labels = Stage(16).labels(plain)
    found = [drawn(stage, labels, seed)["board"] for seed in range(200)]
    share = np.mean([draw["cover"] == "dirt" for draw in found])
    assert 0.65 < share < 0.85
    assert {draw["cover"] for draw in found} == {"full", "dirt"}
    assert all(0.2 <= draw["covered"] <= 0.3 for draw in found)
