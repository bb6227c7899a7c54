"""Colours, seams and likeness, and finding by them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug.errors import ConfigError
from synthaug.texture import likeness, oklab
from synthaug.texture.seam import seam
from synthaug.texture.search import Query, find
from tests.texture.pictures import noise, texture


def test_oklab_of_known_colours() -> None:
    # Values of the paper's author for the primaries.
    expected = {"#ffffff": (1, 0, 0), "#ff0000": (0.6280, 0.2249, 0.1258), "#0000ff": (0.4520, -0.0325, -0.3115)}
    for text, lab in expected.items():
        assert oklab.parsed(text) == pytest.approx(lab, abs=2e-4)


@given(st.integers(0, 0xFFFFFF))
def test_a_colour_survives_the_way_there_and_back(value: int) -> None:
    assert oklab.hex_of(oklab.parsed(f"{value:06x}")) == f"#{value:06x}"


@pytest.mark.parametrize("text", ["", "#abc", "red", "#12345g", "1234567"])
def test_other_colours_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="six hexadecimal digits"):
        oklab.parsed(text)


def print_of(pixels: np.ndarray) -> bytes:
    return likeness.fingerprint(likeness.means(pixels))


@pytest.mark.parametrize("seed", range(5))
def test_the_same_picture_encoded_or_sized_otherwise_is_near(seed: int) -> None:
    pixels = cv2.GaussianBlur(noise(seed, (128, 128), 8), (0, 0), 2)
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 80])
    again: Any = cv2.imdecode(np.frombuffer(data.tobytes(), np.uint8), cv2.IMREAD_COLOR)
    small = cv2.resize(pixels, (64, 64), interpolation=cv2.INTER_AREA)
    others = [print_of(noise(seed + 100 + i, (128, 128), 8)) for i in range(20)]
    for like in (again, small):
        assert likeness.nearest(print_of(like), [*others, print_of(pixels)]) == 20
    assert likeness.nearest(print_of(pixels), others) is None
    assert likeness.nearest(print_of(np.roll(pixels, 37, 1)), [print_of(pixels)]) is None


def test_other_colours_of_the_same_pattern_are_not_near() -> None:
    pixels = noise(1, (64, 64), 8) // 2
    assert likeness.nearest(print_of(pixels), [print_of(pixels + np.uint8(20))]) is None
    assert likeness.nearest(print_of(pixels), [print_of(pixels[:, :, ::-1].copy())]) is None


def test_plain_pictures_are_compared_by_colour() -> None:
    red, same, blue = (np.full((32, 32, 3), c, np.uint8) for c in ((200, 9, 9), (201, 9, 9), (9, 9, 200)))
    assert likeness.nearest(print_of(red), [print_of(blue), print_of(same)]) == 1


def test_what_is_hidden_has_no_colour() -> None:
    pixels = np.full((32, 32, 3), 255, np.uint8)
    pixels[:, 16:] = 0
    opacity = np.full((32, 32), 255, np.uint8)
    opacity[:, 16:] = 0
    assert likeness.mean_colour(likeness.means(pixels, opacity)) == pytest.approx((1, 0, 0), abs=1e-3)


def test_seam_energy_is_one_where_the_wrap_is_like_the_inside() -> None:
    # Differences of a periodic signal have no preferred place.
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    energy, repeats = seam(pixels)
    assert repeats
    assert energy == pytest.approx(1, abs=0.05)


def test_a_ramp_does_not_repeat_and_tiles_with_joints_do() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 32, 0)
    assert seam(ramp) == (255.0, False)
    board = np.kron(np.indices((4, 4)).sum(0) % 2, np.ones((32, 32)))[:, :, None].astype(np.uint8) * 200
    energy, repeats = seam(board)
    assert energy > 2
    assert repeats


def test_search_by_facts_and_by_colour() -> None:
    told = [("wood", "ff0000"), ("metal", "00ff00"), ("wood", "aa8844"), ("stone", "aa8040")]
    entries = [replace(texture(i, m).entry, colour=tuple(oklab.parsed(c))) for i, (m, c) in enumerate(told)]
    assert [h.entry.material for h in find(entries, Query())] == ["metal", "stone", "wood", "wood"]
    assert {h.entry.name for h in find(entries, Query(material="wood"))} == {"wood_0", "wood_2"}
    assert [h.entry.name for h in find(entries, Query(name="ETAL"))] == ["metal_1"]
    assert [h.entry.name for h in find(entries, Query(tags=("stone",)))] == ["stone_3"]
    near = find(entries, Query(colour="#aa8844", limit=2))
    assert [h.entry.name for h in near] == ["wood_2", "stone_3"]
    assert near[0].distance == pytest.approx(0, abs=1e-9)
    assert near[1].distance > 0
    assert [h.entry.name for h in find(entries, Query(colour="aa8844", within=0.001))] == ["wood_2"]
    tileable = [replace(entries[0], tileable=True), replace(entries[1], tileable=False)]
    assert [h.entry.name for h in find(tileable, Query(tileable=True))] == ["wood_0"]


@pytest.mark.parametrize(
    "query", [Query(limit=-1), Query(within=0.1), Query(colour="red"), Query(colour="#ffffff", within=-1)]
)
def test_searches_that_mean_nothing_are_refused(query: Query) -> None:
    with pytest.raises(ConfigError):
        find([texture(1).entry], query)
