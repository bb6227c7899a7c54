"""Native motions: closed forms, promised canvases, and labels that stay with their pixels."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug.augment.framing import RandomCrop, RandomResizedCrop, Resize
from synthaug.augment.geometric import Affine, Flip, Perspective, Rotate90
from synthaug.augment.lens import LensDistortion
from synthaug.contracts import Geometry
from synthaug.errors import ConfigError, Rejected
from synthaug.labels import Labels
from synthaug.seeds import from_seed
from synthaug.warp import move
from synthaug.warp.resample import picture
from tests.augment.scenes import sample

STAGES: tuple[Geometry, ...] = (
    Flip(horizontal=1.0, vertical=0.5),
    Rotate90(),
    Rotate90(turns=[1, 3]),
    Affine(rotation=[-40, 40], scale=[0.7, 1.4]),
    Affine(probability=0.5),
    Affine(rotation=[-40, 40], scale=[0.7, 1.4], cover=True),
    Affine(rotation=[-40, 40], border="reflect"),
    Perspective(jitter=0.2),
    Perspective(jitter=0.2, cover=False),
    RandomCrop(height=50, width=60),
    RandomResizedCrop(height=64, width=64, area=[0.1, 0.9]),
    Resize(height=90, width=90),
    Resize(height=90, width=90, fit="pad"),
    Resize(height=90, width=90, fit="crop"),
    LensDistortion(),
)


@pytest.mark.parametrize("stage", STAGES, ids=lambda s: type(s).__name__)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**62), size=st.sampled_from([(120, 160), (100, 100), (160, 90)]))
def test_draws_are_json_and_canvases_are_kept(stage: Geometry, seed: int, size: tuple[int, int]) -> None:
    labels = Labels(size)
    draw = stage.draw(from_seed(seed), labels, 0)
    assert json.loads(json.dumps(draw)) == draw
    assert draw == stage.draw(from_seed(seed), labels, 0)
    warp = stage.warp(labels, draw)
    assert warp.source == size
    assert warp.target == stage.canvas(size)


@pytest.mark.parametrize("stage", STAGES, ids=lambda s: type(s).__name__)
def test_labels_stay_with_their_pixels(stage: Geometry) -> None:
    """A disc's centre, sent forward as a point, is in the middle of its moved mask."""
    before = sample()
    for seed in range(3):
        warp = stage.warp(before.labels, stage.draw(from_seed(seed), before.labels, 0))
        after = move.apply(before, warp).sample
        after.labels.check()
        for instance in after.labels.instances:
            if instance.visibility < 1:
                continue
            rows, columns = np.nonzero(after.labels.passes["instance"] == instance.id)
            x0, y0, x1, y1 = before.labels.instances[instance.id - 1].box
            centre = warp.forward([((x0 + x1) / 2, (y0 + y1) / 2)])[0]
            assert np.hypot(*(centre - (columns.mean() + 0.5, rows.mean() + 0.5))) < 1.5


def test_flip_mirrors_points_and_swaps_sides() -> None:
    before = sample()
    after = move.apply(before, Flip(horizontal=1.0).warp(before.labels, {"horizontal": True, "vertical": False})).sample
    old, new = before.labels.instances[0].keypoints, after.labels.instances[0].keypoints
    assert new[0][:2] == (160 - old[1][0], old[1][1])
    assert np.array_equal(after.image.pixels, before.image.pixels[:, ::-1])
    assert after.labels.camera is not None
    assert after.labels.camera.mirrored


def test_rotate90_is_a_turn_clockwise() -> None:
    before = sample((100, 100))
    after = move.apply(before, Rotate90(turns=[1]).warp(before.labels, {"turns": 1})).sample
    assert np.array_equal(after.image.pixels, np.rot90(before.image.pixels, -1))


def test_rotate90_keeps_canvases_that_are_not_square() -> None:
    mixed = Rotate90(turns=[0, 1, 2, 3])
    assert mixed.canvas((80, 60)) == (80, 60)
    assert {mixed.draw(from_seed(s), Labels((80, 60)), 0)["turns"] for s in range(40)} == {0, 2}
    assert {mixed.draw(from_seed(s), Labels((80, 80)), 0)["turns"] for s in range(60)} == {0, 1, 2, 3}
    assert Rotate90(turns=[1, 3]).canvas((80, 60)) == (60, 80)


def test_affine_turns_clockwise_and_magnifies_about_the_centre() -> None:
    labels = Labels((100, 200))
    draw = {"apply": True, "rotation": 90.0, "scale": 2.0, "shear": [0.0, 0.0], "translate": [0.1, 0.0]}
    warp = Affine().warp(labels, draw)
    assert np.allclose(warp.forward([(100, 50), (110, 50)]), [(120, 50), (120, 70)])


def test_affine_never_mirrors() -> None:
    stage = Affine(shear_x=[40, 40], shear_y=[40, 40])
    assert not stage.warp(Labels((50, 50)), stage.draw(from_seed(0), Labels((50, 50)), 0)).mirrored


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**62))
def test_perspective_covers_the_canvas(seed: int) -> None:
    stage, labels = Perspective(jitter=0.24), Labels((90, 120))
    warp = stage.warp(labels, stage.draw(from_seed(seed), labels, 0))
    grid = warp.backward_grid()
    assert np.isfinite(grid).all()
    assert grid.min() >= -1e-3
    assert (grid <= (120.001, 90.001)).all()


def test_crop_moves_whole_pixels_and_reaches_every_place() -> None:
    before = sample()
    stage = RandomCrop(height=118, width=157)
    offsets = set()
    for seed in range(80):
        warp = stage.warp(before.labels, stage.draw(from_seed(seed), before.labels, 0))
        left, top = (round(v) for v in warp.backward([(0.0, 0.0)])[0])
        offsets.add((left, top))
        if seed < 3:
            cut = before.image.pixels[top : top + 118, left : left + 157]
            assert np.array_equal(move.apply(before, warp).sample.image.pixels, cut)
    assert offsets == {(x, y) for x in range(4) for y in range(3)}


def test_crop_larger_than_the_picture_is_rejected_with_the_way_out() -> None:
    stage = RandomCrop(height=200, width=60)
    with pytest.raises(Rejected, match=r"160x120, the crop 60x200.*augment=resize") as caught:
        stage.warp(Labels((120, 160)), {"top": 0.0, "left": 0.0})
    assert caught.value.reason == "size"


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**62), size=st.sampled_from([(120, 160), (50, 300), (300, 50)]))
def test_resized_crop_holds_its_ranges(seed: int, size: tuple[int, int]) -> None:
    stage, labels = RandomResizedCrop(height=64, width=48, area=[0.3, 0.6], aspect=[0.5, 2.0]), Labels(size)
    warp = stage.warp(labels, stage.draw(from_seed(seed), labels, 0))
    (x0, y0), (x1, y1) = warp.backward([(0.0, 0.0), (48.0, 64.0)])
    assert x0 >= -1e-6
    assert y0 >= -1e-6
    assert x1 <= size[1] + 1e-6
    assert y1 <= size[0] + 1e-6
    assert 0.5 - 1e-6 <= (x1 - x0) / (y1 - y0) <= 2.0 + 1e-6
    if max(size) == 160:
        assert 0.3 - 1e-6 <= (x1 - x0) * (y1 - y0) / (size[0] * size[1]) <= 0.6 + 1e-6


def test_resize_fits() -> None:
    labels = Labels((100, 200))
    corners = [(0.0, 0.0), (200.0, 100.0)]
    for fit, expected in (
        ("stretch", [(0, 0), (50, 50)]),
        ("pad", [(0, 12.5), (50, 37.5)]),
        ("crop", [(-25, 0), (75, 50)]),
    ):
        warp = Resize(height=50, width=50, fit=fit).warp(labels, {})  # type: ignore[arg-type]
        assert np.allclose(warp.forward(corners), expected), fit


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Flip(horizontal=1.5), r"horizontal is 1.5, expected a number within \[0, 1\]"),
        (lambda: Affine(rotation=[10, -10]), "rotation is .*ascending"),
        (lambda: Affine(scale=[0, 1]), r"scale\[0\] is 0, .*\[0.1, 10\]"),
        (lambda: Affine(shear_x=30), "shear_x is 30, expected two numbers"),  # type: ignore[arg-type]
        (lambda: Affine(translate_x=[0, float("nan")]), r"translate_x\[1\] is nan"),
        (lambda: Perspective(jitter=0.3), "jitter is 0.3"),
        (lambda: Rotate90(turns=[4]), "turns is"),
        (lambda: Rotate90(turns=[]), "turns is"),
        (lambda: RandomCrop(height=0, width=5), "height is 0"),
        (lambda: RandomCrop(height=5, width=True), "width is True"),
        (lambda: RandomResizedCrop(height=5, width=5, area=[0.5, 1.5]), r"area\[1\] is 1.5"),
        (lambda: Resize(height=5, width=5, fit="fill"), "stretch, pad, crop"),  # type: ignore[arg-type]
        (lambda: LensDistortion(k1=[-1, 0]), r"k1\[0\] is -1"),
    ],
)
def test_arguments_are_refused_by_name(build: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


ANY: Any = {"rotation": [-180, 180], "scale": [0.3, 2.0], "shear_x": [-20, 20], "shear_y": [-20, 20]}
FAR: Any = {"translate_x": [-0.4, 0.4], "translate_y": [-0.4, 0.4]}


@given(st.integers(0, 10**6), st.sampled_from([(60, 90), (91, 37), (8, 8)]))
def test_a_covering_affine_leaves_no_border_and_grows_no_more_than_it_must(seed: int, size: tuple[int, int]) -> None:
    labels = Labels(size)
    plain, stage = Affine(**ANY, **FAR), Affine(**ANY, **FAR, cover=True)
    draw = stage.draw(from_seed(seed), labels, 0)
    assert draw == plain.draw(from_seed(seed), labels, 0), "covering is no matter of chance"
    warp = stage.warp(labels, draw)
    assert picture(np.full((*size, 3), 255, np.uint8), warp).min() >= 254
    grown = warp.matrix[:2, :2] / plain.warp(labels, draw).matrix[:2, :2]
    factor = float(np.nanmedian(grown))
    assert factor > 1 - 1e-9
    assert np.allclose(grown, factor)
    if factor > 1.001:
        draw["scale"] *= factor / 1.02
        tighter = plain.warp(labels, draw)
        corners = [(x, y) for x in (0.5, size[1] - 0.5) for y in (0.5, size[0] - 0.5)]
        seen = tighter.backward(corners)
        assert (seen < 0.5).any() or (seen > np.array(size[::-1]) - 0.5).any(), "any less would show a border"


def test_a_covering_affine_that_need_not_grow_moves_nothing() -> None:
    ranges = ("rotation", "shear_x", "shear_y", "translate_x", "translate_y")
    still = Affine(**{key: [0, 0] for key in ranges}, scale=[1, 1], cover=True)  # type: ignore[arg-type]
    labels = Labels((60, 90))
    assert still.warp(labels, still.draw(from_seed(1), labels, 0)).is_identity


def test_a_border_of_another_name_is_refused() -> None:
    for cls in (Affine, Perspective, LensDistortion):
        with pytest.raises(ConfigError, match="border is 'wrap', expected one of constant, reflect"):
            cls(border="wrap")  # type: ignore[arg-type]
