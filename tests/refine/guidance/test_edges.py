"""Edges: outlines one pixel wide on the front object, none on planes however steep, creases where surfaces turn."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug.errors import ConfigError, Rejected
from synthaug.labels import Labels
from synthaug.refine.guidance import contours
from synthaug.refine.guidance.edges import STYLES, Edges
from tests.refine.guidance.scenes import GREY, SIZE, ball, labelled, only, plane, roof


def test_outlines_lie_on_the_nearer_object_and_are_closed() -> None:
    labels = ball(sky=False)
    lines = contours.borders(labels.passes["instance"], labels.passes["depth"])
    inside = labels.passes["instance"] == 1
    assert (lines <= inside).all(), "never on the wall behind"
    eroded = cv2.erode(inside.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))).view(np.bool_)
    np.testing.assert_array_equal(lines, inside & ~eroded)


def test_without_depth_background_is_behind_and_thin_objects_are_drawn_on_themselves() -> None:
    ids = np.zeros(SIZE, np.int32)
    ids[:, 40] = 3
    np.testing.assert_array_equal(contours.borders(ids, None), ids == 3)


@given(ids=st.integers(0, 2**32 - 1))
def test_every_border_between_ids_has_exactly_one_side_marked(ids: int) -> None:
    drawn = np.random.default_rng(ids).integers(0, 3, (6, 7), dtype=np.int32)
    lines = contours.borders(drawn, None)
    wide, high = drawn[:, 1:] != drawn[:, :-1], drawn[1:] != drawn[:-1]
    assert (lines[:, 1:] | lines[:, :-1])[wide].all()
    assert (lines[1:] | lines[:-1])[high].all()
    assert not lines[drawn == 0].any()


@given(tilt=st.floats(0, 1.25), turn=st.floats(0, 6.3))
def test_planes_have_no_edges_however_steep(tilt: float, turn: float) -> None:
    normal = (np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), -np.cos(tilt))
    cost = np.cos(tilt)
    if cost < np.sin(tilt) * 0.55:  # part of such a plane lies above its horizon
        return
    labels = plane(normal, -2.0)  # type: ignore[arg-type]
    for seen in (labels, only(labels, "depth")):
        assert not Edges().guide(seen, GREY).image.any()


def test_jumps_find_an_occlusion_within_one_object_and_the_sky() -> None:
    z = np.full(SIZE, 2.0, np.float32)
    z[:, 64:] = 3.0
    z[:20] = np.nan
    lines = contours.jumps(z, 0.02)
    assert lines[30:, 63].all(), "on the nearer side"
    assert not lines[30:, 64:].any()
    assert lines[20].all(), "against the sky, on the object"
    assert not lines[:20].any()
    assert lines.sum() == (96 - 20) + 127 + 0


def test_jumps_respect_the_tolerance() -> None:
    z = np.full(SIZE, 2.0, np.float32)
    z[:, 64:] = 2.0 * 1.03
    assert contours.jumps(z, 0.02).any()
    assert not contours.jumps(z, 0.04).any()


def test_a_roof_has_one_crease_one_pixel_wide_on_its_ridge() -> None:
    labels = roof(slope=1.0)
    lines = Edges().guide(labels, GREY).image[0] > 0
    rows = slice(6, -6)
    assert (lines[rows].sum(axis=1) == 1).all()
    assert set(np.nonzero(lines[rows])[1].tolist()) <= {63, 64}


@pytest.mark.parametrize(("degrees", "found"), [(10, True), (40, False)])
def test_the_angle_decides(degrees: float, found: bool) -> None:
    labels = roof(slope=np.tan(np.radians(12)))  # turns by 24 degrees
    assert Edges(angle=degrees).guide(labels, GREY).image.any() == found


def test_a_rounded_edge_is_one_line() -> None:
    columns = np.arange(512) - 256.3
    # 90 degrees over six pixels, as the rounded edge of a die.
    turn = np.radians(np.clip(columns / 6 + 0.5, 0, 1) * 90 - 45)
    n = np.broadcast_to(np.stack([np.sin(turn), 0 * turn, -np.cos(turn)], -1), (512, 512, 3)).astype(np.float32)
    lines = contours.creases(n, np.zeros((512, 512), np.bool_), 30)
    assert (lines[10:-10].sum(axis=1) == 1).all()


def test_a_ball_has_an_outline_and_no_creases() -> None:
    guide = Edges().guide(ball(), GREY)
    assert guide.facts["share"]["creases"] == 0
    assert guide.facts["share"]["outlines"] > 0


def test_ids_alone_and_depth_alone_find_the_same_ball() -> None:
    labels = ball(sky=False)
    from_ids = Edges().guide(only(labels, "instance"), GREY)
    from_depth = Edges(creases="off").guide(only(labels, "depth"), GREY)
    assert from_ids.facts["from"] == {"outlines": "instance"}
    assert from_depth.facts["from"] == {"steps": "depth"}
    near = cv2.dilate(from_ids.image[0], np.ones((5, 5), np.uint8)) > 0
    assert (from_depth.image[0] > 0)[~near].sum() == 0
    assert from_depth.image.sum() == pytest.approx(from_ids.image.sum(), rel=0.2)


@pytest.mark.parametrize("style", STYLES)
def test_styles(style: str) -> None:
    labels = ball(sky=False)
    image = Edges(style).guide(labels, GREY).image
    assert image.dtype == np.float32
    assert image.min() >= 0
    assert image.max() <= 1
    thin = Edges().guide(labels, GREY).image[0] > 0
    assert image[0][thin].min() > 0.6, "the line itself is bright, its bends included"
    assert image[0][~cv2.dilate(thin.astype(np.uint8), np.ones((9, 9), np.uint8)).view(np.bool_)].max() == 0
    covered = {s: (Edges(s).guide(labels, GREY).image[0] > 0.3).sum() for s in STYLES}
    assert covered["canny"] <= covered["lineart"] < covered["softedge"]
    assert set(np.unique(Edges().guide(labels, GREY).image)) == {0.0, 1.0}


def test_texture_edges_are_cannys_own_and_keep_off_geometry() -> None:
    labels = ball(sky=False)
    picture = np.full((3, *SIZE), 0.2, np.float32)
    picture[:, 5:15, 5:25] = 0.8
    picture[:, labels.passes["instance"] == 1] = 0.9
    with_texture = Edges(texture=True).guide(labels, picture)
    without = Edges().guide(labels, picture)
    extra = (with_texture.image[0] > 0) & ~(without.image[0] > 0)
    eight = np.ascontiguousarray((picture * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))
    canny = cv2.Canny(eight, 100, 200) > 0
    assert extra[:30, :30].sum() == canny[:30, :30].sum() > 0
    assert not extra[30:].any(), "the ball's outline is drawn once"


def test_texture_alone_needs_no_pass() -> None:
    picture = np.zeros((3, *SIZE), np.float32)
    picture[:, :, 60:] = 1
    guide = Edges(texture=True).guide(Labels(SIZE), picture)
    assert guide.image.any()
    assert guide.facts["from"] == {}


def test_creases_on_demand_or_not() -> None:
    labels = roof()
    ids = only(labels, "instance")
    assert not Edges().guide(ids, GREY).image.any()
    assert not Edges(creases="off").guide(labels, GREY).image.any()
    with pytest.raises(Rejected, match="no normals"):
        Edges(creases="on").guide(ids, GREY)
    assert Edges(creases=True) == Edges(creases="on")  # type: ignore[arg-type]  # YAML's bare `on`


def test_tiny_pictures() -> None:
    z = np.ones((2, 3))
    labels = labelled(z, np.broadcast_to([0, 0, -1.0], (2, 3, 3)), np.ones((2, 3), int))
    assert not Edges("softedge").guide(labels, np.zeros((3, 2, 3), np.float32)).image.any()


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"style": "cany"}, "Did you mean 'canny'"),
        ({"creases": "maybe"}, "creases=maybe"),
        ({"angle": 0}, "angle=0"),
        ({"gap": 1.0}, "gap=1.0"),
        ({"thresholds": (200, 100)}, "thresholds"),
    ],
)
def test_ranges_are_refused(fields: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        Edges(**fields)  # type: ignore[arg-type]


def test_a_turn_across_an_outline_is_no_crease() -> None:
    labels = roof()
    halves = 1 + (np.arange(SIZE[1]) >= 64)
    two = labelled(
        labels.passes["depth"], labels.passes["normals"], np.broadcast_to(halves, SIZE).copy()
    )  # the same surface, its sides two objects
    assert Edges().guide(two, GREY).facts["share"]["creases"] == 0
    assert Edges().guide(labels, GREY).facts["share"]["creases"] > 0
