"""Marks that are the label: kept, kept readable, and cut out cleanly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from synthaug.engine.shelf import Shelf
from synthaug.texture import protection
from synthaug.texture.importing import About, made
from synthaug.texture.oklab import oklab_from_linear
from synthaug.transfer import linear_from_srgb
from tests.texture.pictures import noise
from tests.texture.staged import Stage
from tests.texture.surfaces_on import loaded, painted

Array = NDArray[Any]
BODY, PIP = (0.45, 0.04, 0.05), (0.85, 0.85, 0.82)


def pips(number: int, uv: Array, own: Array) -> Array:
    """Six pale spots on a red board; a plain ball."""
    spots = np.array([[x, y] for x in (0.3, 0.7) for y in (0.22, 0.5, 0.78)])
    near = np.min(np.linalg.norm(uv[:, None] - spots, axis=2), axis=1) < 0.09
    return np.where((near & (number == 1))[:, None], PIP, BODY)


def shelf(folder: Path, colour: tuple[int, int, int], name: str = "tile") -> Path:
    """A library of one tile: a colour with a little grain."""
    tile = np.clip(np.array(colour) + noise(4, (32, 32)) // 16, 0, 255).astype(np.uint8)
    Shelf(folder).add([made(name, {"albedo": tile}, About("CC0-1.0", "here", name, metres=0.2))])
    return folder


@pytest.mark.parametrize(
    ("colour", "marks"),
    [((60, 90, 140), "kept"), ((225, 225, 220), "repainted"), ((30, 30, 30), "kept")],
    ids=("blue", "as pale as the pips", "dark"),
)
def test_pips_can_be_read_on_any_surface(tmp_path: Path, colour: tuple[int, int, int], marks: str) -> None:
    staged = Stage(96)
    image, labels = staged.render(pips), staged.labels(pips)
    before = oklab_from_linear(image)
    done, facts = painted(loaded(shelf(tmp_path / "lib", colour), protect=0.2, relief=0), image, labels)
    assert facts["board"]["marks"] == marks
    assert facts["board"].get("ink") == (None if marks == "kept" else [0.012, 0.012, 0.012])
    assert not {"marks", "ink"} & facts["ball"].keys()
    board = labels.passes["instance"] == 1
    core = board & (labels.passes["albedo"][..., 1] > 0.5)
    ground = board & ~protection._spread(core) & (np.abs(done - image).max(-1) > 0.01)
    after = oklab_from_linear(done)
    inner = core & ~protection._spread(board & ~core)
    had = np.linalg.norm(before[inner].mean(0) - before[ground].mean(0))
    has = np.linalg.norm(after[inner].mean(0) - after[ground].mean(0))
    assert has > min(0.75 * had, 0.25)
    if marks == "kept":
        assert np.abs(done - image)[inner].max() < 0.03, "a mark that is kept is not touched"


def test_marks_have_no_trace_of_the_old_surface_around_them(tmp_path: Path) -> None:
    staged = Stage(96)
    image, labels = staged.render(pips), staged.labels(pips)
    folder = shelf(tmp_path / "lib", (60, 90, 140))
    done, _ = painted(loaded(folder, protect=0.2, relief=0), image, labels)
    blue = linear_from_srgb(np.array([68, 98, 148]) / 255)

    def truth(number: int, uv: Array, own: Array) -> Array:
        return np.where(pips(number, uv, own)[:, 1:2] > 0.5, PIP, blue)

    true = staged.render(truth)
    board = labels.passes["instance"] == 1
    rim = board & protection._spread(labels.passes["albedo"][..., 1] > 0.5) & (labels.passes["albedo"][..., 1] < 0.5)
    assert np.abs(done - true)[rim].mean() < 0.02
    assert (done[rim][:, 0] - done[rim][:, 2]).max() < 0.12, "no red"


def test_what_no_ink_can_save_keeps_its_surface(tmp_path: Path) -> None:
    """Half black and half white: nothing is read on all of it."""
    folder = tmp_path / "lib"
    halves = np.repeat(np.array([4, 245], np.uint8), 64)
    tile = np.broadcast_to(halves[:, None, None], (128, 128, 3)).copy()
    Shelf(folder).add([made("halves", {"albedo": tile}, About("CC0-1.0", "here", "halves", metres=0.05))])
    staged = Stage(64)
    image, labels = staged.render(pips).astype(np.float32), staged.labels(pips)
    done, facts = painted(loaded(folder, protect=0.2), image, labels)
    assert "would not be read" in facts["board"]["kept"]
    board = labels.passes["instance"] == 1
    assert np.array_equal(done[board], image[board])


def test_a_surface_of_one_colour_has_no_marks(tmp_path: Path) -> None:
    staged = Stage(48)

    def one(number: int, uv: Array, own: Array) -> Array:
        return np.broadcast_to(BODY, (len(uv), 3)) * (1 + 0.1 * np.sin(uv[:, :1] * 9))

    done, facts = painted(
        loaded(shelf(tmp_path / "lib", (60, 90, 140)), protect=0.2), staged.render(one), staged.labels(one)
    )
    assert "marks" not in facts["board"]
    assert facts["board"]["entry"]
    assert not np.allclose(done, staged.render(one), atol=0.05)


def test_shares_of_two_colours() -> None:
    first, second = np.array([[0.8, 0.1, 0.2]], np.float32), np.array([[0.1, 0.5, 0.3]], np.float32)
    for share in (0.0, 0.3, 1.0):
        mixed = np.asarray(share * first + (1 - share) * second, np.float32)
        for expected in (0.0, 1.0):
            found = protection.share_of_first(mixed, first, second, np.array([expected], np.float32))
            assert found[0] == pytest.approx(share, abs=0.005), "colours this far apart speak for themselves"
    for expected in (0.2, 0.9):
        found = protection.share_of_first(first, first, first, np.array([expected], np.float32))
        assert found[0] == pytest.approx(expected), "equal colours say nothing"


def test_marks_at_the_border_of_an_object_are_repainted_too(tmp_path: Path) -> None:
    """On the rim of the board red would remain red, were only what lies inside it repainted."""

    def rimmed(number: int, uv: Array, own: Array) -> Array:
        rim = (np.abs(uv - 0.5).max(1) > 0.44) & (np.floor(uv.sum(1) * 5) % 2 == 0) & (number == 1)
        return np.where(rim[:, None], (0.75, 0.02, 0.02), (0.03, 0.05, 0.3))

    staged = Stage(96)
    image, labels = staged.render(rimmed).astype(np.float32), staged.labels(rimmed)
    folder = shelf(tmp_path / "lib", (190, 60, 60))
    done, facts = painted(loaded(folder, protect=0.2, relief=0), image, labels)
    assert facts["board"]["marks"] == "repainted"
    board = (labels.passes["instance"] == 1).astype(np.uint8)
    border = (board > 0) & (cv2.erode(board, np.ones((3, 3), np.uint8)) == 0)
    red = border & (labels.passes["albedo"][..., 0] > 0.5)
    assert red.sum() > 20
    was, now = ((x[red][:, 0] - x[red][:, 1]).mean() for x in (image, done))
    assert now < 0.35 * was
