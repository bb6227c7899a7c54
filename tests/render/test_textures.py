"""Procedural surfaces: in range, repeatable, and the right number of pips."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from synthaug.render.scene import ONCE, Texture, linear
from synthaug.render.shapes import ATLAS
from synthaug.render.textures import PIPS, Checks, Fibre, Marble, Pips, Sheet, Solid, Weave, Wood, noise

GREY = (0.4, 0.4, 0.4)
ALL = [
    Solid(GREY),
    Sheet(GREY, 5, specks=3, folds=0.01),
    Fibre(GREY, 5),
    Weave(GREY, 5),
    Marble(GREY, (0.1, 0.1, 0.1), 5),
    Wood(GREY, (0.1, 0.1, 0.1), 5),
    Checks(GREY, (0.1, 0.1, 0.1), 5),
    Pips((0.5, 0.1, 0.1), (0.2, 0.1, 0.3), (0.9, 0.9, 0.9), 5),
]


@pytest.mark.parametrize("texture", ALL, ids=lambda t: type(t).__name__)
def test_reflectance_is_in_range_and_repeatable(texture: Texture) -> None:
    first = texture.paint()
    assert first.dtype == np.float32
    assert first.ndim == 3
    assert first.min() >= 0
    assert first.max() <= 0.95
    assert first.tobytes() == texture.paint().tobytes()


@pytest.mark.parametrize("texture", ALL[1:5], ids=lambda t: type(t).__name__)
def test_floors_tile(texture: Texture) -> None:
    pixels = texture.paint().astype(np.float64)
    inside = np.abs(np.diff(pixels, axis=1)).mean()
    seam = np.abs(pixels[:, 0] - pixels[:, -1]).mean()
    assert seam < 3 * inside


def test_other_seeds_are_other_surfaces() -> None:
    assert not np.array_equal(Sheet(GREY, 1).paint(), Sheet(GREY, 2).paint())


def test_noise_has_the_moments_it_promises() -> None:
    field = noise(3, 128, 1.2, (4.0, 1.0))
    assert field.mean() == pytest.approx(0, abs=1e-12)
    assert field.std() == pytest.approx(1)
    along, across = (np.abs(np.diff(field, axis=k)).mean() for k in (1, 0))
    assert along < 0.5 * across


@pytest.mark.parametrize("face", range(1, 7))
def test_face_carries_its_number_of_pips(face: int) -> None:
    atlas = Pips((0.02, 0.02, 0.02), (0.02, 0.02, 0.02), (0.9, 0.9, 0.9)).paint()
    rows, columns = ATLAS
    cell = atlas.shape[0] // rows
    row, column = divmod(face - 1, columns)
    part = atlas[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell, 0] > 0.4
    assert cv2.connectedComponents(part.astype(np.uint8))[0] - 1 == face == len(PIPS[face - 1])


def test_hex_colours_are_linearised() -> None:
    assert linear("#ffffff") == pytest.approx((1, 1, 1))
    assert linear("#bc0000")[0] == pytest.approx(0.5029, abs=1e-4)


def test_checks_have_the_cells_they_promise() -> None:
    light = Checks((0.8, 0.8, 0.8), (0.1, 0.1, 0.1), 1, (4, 1)).paint()[..., 0] > 0.45
    assert cv2.connectedComponents(light.astype(np.uint8))[0] - 1 == 2
    assert light[:, 10].all()
    assert light[0].mean() == pytest.approx(0.5)


def test_pips_stay_above_what_a_die_is_covered_with() -> None:
    die = Pips((0.02, 0.02, 0.02), (0.02, 0.02, 0.02), (0.9, 0.9, 0.9))
    ground = Checks((0.3, 0.1, 0.1), (0.1, 0.1, 0.3), 1)
    covered, tiling = die.covered(ground, ((2.0, 0.0, 0.25), (0.0, 2.0, 0.0)))
    assert tiling == ONCE
    atlas = covered.paint()
    cell = atlas.shape[0] // 2
    for face in range(6):
        row, column = divmod(face, 3)
        part = atlas[row * cell : (row + 1) * cell, column * cell : (column + 1) * cell]
        pips = part[..., 1] > 0.5
        assert cv2.connectedComponents(pips.astype(np.uint8))[0] - 1 == face + 1
        assert part[~pips].max() < 0.9
    # Two repeats, moved by a quarter: the texel at u = 1/8 shows the middle of the texture's first half.
    corner = atlas[round(cell * 2 / 16), round(cell * 3 / 8)]
    assert corner == pytest.approx(ground.paint()[64, 256], abs=0.05)
    assert die.covered(ground, ONCE, (0.0, 0.5, 0.0))[0].paint()[..., 1].max() == pytest.approx(0.5)
