"""Several controls: parsed with range checks, planned from passes, weighted by class, no torch anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from synthaug.errors import ConfigError, Rejected
from synthaug.labels import PASSES, Category
from synthaug.refine.guidance.control import SOURCES, Control, guides, parse, plan, required_passes, wanted_passes
from synthaug.refine.guidance.depth import Depth
from synthaug.refine.guidance.edges import Edges
from synthaug.refine.guidance.normals import Normals
from synthaug.refine.guidance.picture import Grey, Tile
from synthaug.refine.guidance.segmentation import Segmentation
from synthaug.refine.guidance.union import MODES, mode
from tests.refine.guidance.scenes import CATEGORIES, GREY, ball, only


def one(kind: str, **fields: Any) -> tuple[Control, ...]:
    return parse({kind: {"model": "net", **fields}})


def test_parse() -> None:
    near, lines = parse(
        {
            "depth": {"model": "a", "weight": 0.8, "end": 0.6, "near": 0.5, "far": 20},
            "outlines": {"kind": "edges", "model": "b", "style": "softedge", "classes": {"road": 0.2}},
            "normals": None,
        }  # type: ignore[dict-item]
    )
    assert near == Control(Depth(near=0.5, far=20), "a", weight=0.8, end=0.6)
    assert lines == Control(Edges("softedge"), "b", classes={"road": 0.2})
    assert parse({}) == ()


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"kind": "dept", "model": "a"}, "Did you mean 'depth'"),
        ({}, "no model"),
        ({"model": ""}, "no model"),
        ({"model": "a", "wight": 1}, "Did you mean 'weight'"),
        ({"model": "a", "style": "canny"}, "'style' is no field of depth"),
        ({"model": "a", "source": 1}, "'source' is no field"),
        ({"model": "a", "weight": 2.5}, "weight=2.5: expected 0 to 2"),
        ({"model": "a", "weight": "much"}, "weight=much"),
        ({"model": "a", "weight": True}, "weight=True"),
        ({"model": "a", "start": 0.5, "end": 0.5}, "start < end"),
        ({"model": "a", "end": 1.1}, "end=1.1"),
        ({"model": "a", "elsewhere": -1}, "elsewhere=-1"),
        ({"model": "a", "classes": {"car": 3}}, "classes.car=3"),
        ({"model": "a", "classes": 3}, "wrong type"),
        ({"model": "a", "near": "close"}, "wrong type"),
    ],
)
def test_parse_refuses(fields: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        parse({"depth": fields})


def test_required_and_wanted_passes_are_passes() -> None:
    for kind in SOURCES:
        for route in required_passes(kind):
            assert set(route.passes) <= {*PASSES, "masks"}
    assert [r.passes for r in required_passes("normals")] == [("normals",), ("position",), ("depth",)]
    assert required_passes("tile") == ()
    with pytest.raises(ConfigError, match="unknown"):
        required_passes("smell")
    assert wanted_passes(one("depth")) == ("depth", "position")
    assert set(wanted_passes(one("edges"))) == {"instance", "semantic", "depth", "position", "normals"}
    assert set(wanted_passes(one("grey", classes={"car": 0.0}))) == {"instance", "semantic"}
    assert wanted_passes(one("grey")) == ()


@pytest.mark.parametrize("kind", ["depth", "normals", "edges", "segmentation"])
def test_what_a_plan_accepts_can_be_made_and_what_it_refuses_cannot(kind: str) -> None:
    """Every subset of passes, with and without a camera: the plan and the sample agree."""
    labels = ball(sky=False)
    names = ("instance", "semantic", "depth", "normals", "position")
    controls = one(kind)
    for bits in range(2 ** len(names)):
        chosen = tuple(n for i, n in enumerate(names) if bits >> i & 1)
        for camera in (False, True):
            sample = only(labels, *chosen, camera=camera)
            try:
                plan(controls, passes=chosen, categories=CATEGORIES, camera=camera)
            except ConfigError:
                if kind == "edges":
                    assert not guides(controls, sample, GREY)[0].image.any()
                else:
                    with pytest.raises(Rejected):
                        guides(controls, sample, GREY)
            else:
                (guide,) = guides(controls, sample, GREY)
                assert guide.image.any()
                json.dumps(guide.facts, allow_nan=False)


def test_a_plan_names_the_pass_and_what_could_derive_it() -> None:
    with pytest.raises(
        ConfigError, match=r"normals needs normals or position .* or depth \+ camera .*; the input has uv"
    ):
        plan(one("normals"), passes={"uv"}, categories=CATEGORIES)
    with pytest.raises(ConfigError, match="normals needs"):
        plan(one("normals"), passes={"depth"}, categories=CATEGORIES, camera=False)
    (note,) = plan(one("normals"), passes={"depth"}, categories=CATEGORIES)
    assert "taken from depth + camera" in note
    assert "samples without a camera will be rejected" in note
    assert plan(one("normals"), passes={"normals"}, categories=CATEGORIES) == ()
    with pytest.raises(ConfigError, match="creases=on needs normals or"):
        plan(one("edges", creases="on"), passes={"instance"}, categories=CATEGORIES)
    assert "outlines alone" in plan(one("edges"), passes={"instance"}, categories=CATEGORIES)[0]
    assert plan(one("edges"), passes={"masks"}, categories=CATEGORIES)
    assert plan(one("tile"), passes=(), categories=()) == ()


def test_weights_by_class() -> None:
    labels = ball()  # a car before the sky
    (control,) = one("grey", weight=0.5, classes={"car": 2.0, "road": 0.1}, elsewhere=0.4)
    weights = control.weights(labels)
    inside = labels.passes["instance"] == 1
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights[inside], 1.0)
    np.testing.assert_allclose(weights[~inside], 0.2)
    np.testing.assert_array_equal(weights, control.weights(only(labels, "instance")))
    wall = ball(sky=False)  # a car before a road, which is not named
    (partly,) = one("grey", classes={"car": 2.0}, elsewhere=0.25)
    np.testing.assert_allclose(partly.weights(wall)[wall.passes["instance"] == 2], 0.25)
    (even,) = one("grey", weight=0.5)
    assert not even.masked
    assert (even.weights(only(labels)) == 0.5).all()
    with pytest.raises(ConfigError, match=r"classes.carr.*Did you mean 'car'"):
        plan(one("grey", classes={"carr": 0.5}), passes={"semantic"}, categories=CATEGORIES)
    with pytest.raises(ConfigError, match="weights by class need semantic or"):
        plan(one("grey", classes={"car": 0.5}), passes={"depth"}, categories=CATEGORIES)


def test_equal_sources_are_drawn_once() -> None:
    pair = parse({"a": {"kind": "grey", "model": "x"}, "b": {"kind": "grey", "model": "y", "weight": 0.1}})
    first, second = guides(pair, ball(), GREY)
    assert first is second


def test_drawing_changes_neither_labels_nor_picture() -> None:
    labels, picture = ball(sky=False), np.random.default_rng(0).random(GREY.shape, dtype=np.float32)
    before = {n: a.tobytes() for n, a in labels.passes.items()}, picture.tobytes()
    for kind in SOURCES:
        if kind != "skeleton":
            image = guides(one(kind), labels, picture)[0].image
            assert image.shape == GREY.shape
            assert image.dtype == np.float32
            assert image.min() >= 0
            assert image.max() <= 1
            assert not np.shares_memory(image, picture)
    assert before == ({n: a.tobytes() for n, a in labels.passes.items()}, picture.tobytes())


def test_union_modes() -> None:
    assert mode(Depth(), "sdxl") == 1
    assert mode(Edges("softedge"), "sdxl") == 2
    assert mode(Edges("canny"), "sdxl") == 3
    assert mode(Normals(), "sdxl") == 4
    assert mode(Segmentation(), "sdxl", inputs=6) == 5
    assert mode(Depth(), "flux") == 2
    assert mode(Grey(), "flux") == 5
    with pytest.raises(ConfigError, match="flux has no input for 'normals'"):
        mode(Normals(), "flux")
    with pytest.raises(ConfigError, match="no input for 'tile'"):
        mode(Tile(), "sdxl", inputs=6)
    with pytest.raises(ConfigError, match=", ".join(MODES)):
        mode(Depth(), "sd15")


def test_categories_may_be_empty() -> None:
    assert plan(one("depth"), passes={"depth"}, categories=()) == ()
    with pytest.raises(ConfigError, match="no class"):
        plan(one("segmentation"), passes={"semantic"}, categories=(Category("die"),))


def test_importing_costs_no_torch() -> None:
    code = (
        "import sys, synthaug.refine.guidance.control; print([m for m in ('torch', 'diffusers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
