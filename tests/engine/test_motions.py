"""Rows of geometries: what shows outside the picture, and what becomes of rows that disagree about it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from synthaug.augment.geometric import Affine, Flip, Perspective
from synthaug.augment.lens import LensDistortion
from synthaug.contracts import Geometry
from synthaug.engine import motions
from synthaug.engine.appearance import Work
from synthaug.engine.motions import Rules
from synthaug.engine.pipeline import Slot
from synthaug.sample import Sample
from tests.augment import on_device

RULES = Rules(5, 0.0, 1.0)
SHRINK: Any = {"rotation": [10, 20], "scale": [0.5, 0.6]}


def through(*stages: Geometry) -> Sample:
    row = tuple(Slot(f"s{i}", stage) for i, stage in enumerate(stages))
    return motions.moved(row, on_device.works(1)[0], RULES).sample


def black(sample: Sample) -> float:
    return float((sample.image.pixels == 0).all(axis=2).mean())


def warps(sample: Sample) -> list[str]:
    return [step.slot for step in sample.trail if step.stage == "Warp"]


@pytest.mark.parametrize(
    ("stage", "least"),
    [
        (lambda border: Affine(**SHRINK, border=border), 0.3),
        (lambda border: Perspective(jitter=0.2, cover=False, border=border), 0.02),
        (lambda border: LensDistortion(k1=[-0.4, -0.3], border=border), 0.02),
    ],
)
def test_a_border_is_black_or_mirrored_and_labels_know_nothing_of_it(stage: Any, least: float) -> None:
    plain, mirrored = through(stage("constant")), through(stage("reflect"))
    assert black(plain) > least
    assert black(mirrored) == 0
    for name, values in plain.labels.passes.items():
        if name != "albedo":
            assert np.array_equal(values, mirrored.labels.passes[name], equal_nan=values.dtype.kind == "f"), name
    assert plain.labels.instances == mirrored.labels.instances
    outside = plain.labels.passes["ignore"]
    assert outside.mean() > least
    assert not mirrored.labels.passes["instance"][outside].any()


def test_neighbours_without_a_border_of_their_own_take_it_over() -> None:
    found = through(Flip(horizontal=1.0), Affine(**SHRINK, border="reflect"), Flip(vertical=1.0))
    assert warps(found) == ["s0+s1+s2"]
    assert black(found) == 0


def test_neighbours_that_disagree_show_each_their_own() -> None:
    inner, outer = Affine(**SHRINK, border="constant"), Affine(**SHRINK, border="reflect")
    found = through(inner, outer)
    assert warps(found) == ["s0", "s1"]
    ring = through(Affine(**SHRINK, border="constant"), Affine(**SHRINK, border="constant"))
    assert warps(ring) == ["s0+s1"]
    assert black(ring) > black(found) > 0.3, "the black of the first is inside, the outside of the second mirrors it"
    assert found.labels.instances[0].box == pytest.approx(ring.labels.instances[0].box, abs=2)


def test_a_stretched_sample_has_the_canvas_and_its_labels() -> None:
    from synthaug.augment.framing import RandomCrop

    row = (Slot("a", Flip()), Slot("b", RandomCrop(height=128, width=48)))
    found = motions.stretched(row, on_device.works(1)[0], RULES).sample
    assert found.image.size == found.labels.size == (128, 48)
    found.labels.check(thorough=True)
    before = on_device.works(1)[0].sample.labels.instances[0].box
    assert np.allclose(found.labels.instances[0].box, np.array(before) * (0.5, 2, 0.5, 2), atol=1)
    assert isinstance(motions.moved((), on_device.works(1)[0], RULES), Work)
