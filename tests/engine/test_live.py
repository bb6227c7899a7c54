"""Samples that are out, in a training loop: their reference on the final canvas, with the keys of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from synthaug import loader
from synthaug.augment.tonemap import ToneMap
from synthaug.contracts import Draw, Gate, Geometry, Verdict
from synthaug.engine import bracket, live
from synthaug.engine.appearance import Work
from synthaug.engine.pipeline import Pipeline, Slot
from synthaug.engine.source import Source
from synthaug.engine.workers import Failed
from synthaug.errors import Rejected
from synthaug.items import collate_segmentation
from synthaug.labels import Labels
from synthaug.sample import Picture
from synthaug.warp.motion import Warp
from tests.augment import on_device
from tests.engine import runs

torch.set_num_threads(1)
DEVICE = ("model._target_=tests.fakes.FakeDeviceModel", "+model.leak=false", "+model.poison='-'")
MINE = "tests.engine.test_live"
CROP = "+crop={_target_: synthaug.augment.framing.RandomResizedCrop, height: 40, width: 56}"
FRAME = "+frame={_target_: synthaug.augment.geometric.Affine, rotation: [-30, 30]}"


class Picky(Gate):
    """Refuses every attempt at the discs whose number is listed."""

    def __init__(self, *, numbers: Sequence[int] = ()) -> None:
        self.names = {f"disc-{n}" for n in numbers}

    def judge(self, images: Any, references: Any, labels: Sequence[Labels]) -> Sequence[Verdict]:
        refused = [bool(self.names & {i.object_id for i in view.instances}) for view in labels]
        return [Verdict("picky" if r else "") for r in refused]


class Breaking(Geometry):
    """A motion that cannot be, for whatever reason it is told."""

    def __init__(self, *, reason: str = "") -> None:
        self.reason = reason

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        return {}

    def warp(self, labels: Labels, draw: Draw) -> Warp:
        if self.reason:
            raise Rejected(self.reason, "planted")
        raise ZeroDivisionError("planted")

    def canvas(self, size: Any) -> Any:
        return 24, 20


def source(*overrides: str) -> Source:
    fixed = ("engine.micro_batch=2", "read.count=6", "gate.share=0", "attempts=2", "~gain")
    given = {word.partition("=")[0] for word in overrides}
    words = [word for word in fixed if word.partition("=")[0] not in given]
    return loader.pipeline(runs.RECIPE, (*words, *overrides), plugins=[runs.PLUGIN, MINE])


def items(*overrides: str) -> loader.SampleDataset:
    return loader.SampleDataset(source(*overrides))


PICKY = f"+picky={{_target_: {MINE}.Picky, numbers: [2]}}"


@pytest.mark.parametrize("before", [True, False], ids=["moved before the gate", "moved behind the gate"])
def test_a_rejected_sample_is_its_reference_moved_as_it_would_have_been(before: bool) -> None:
    row = (FRAME, CROP, PICKY) if before else (PICKY, FRAME, CROP)
    out = items(*row)[2]
    kept = items(*[word for word in row if word != PICKY], "~model")[2]
    assert (out["rejected"], kept["rejected"]) == ("picky", "")
    assert out["image"].shape == kept["image"].shape == (3, 40, 56)
    assert set(out) == set(kept)
    if not before:  # there the draws are those of the last attempt
        assert torch.equal(out["image"], kept["image"]), "the reference through the same motion"
        for key in ("boxes", "masks", "instance", "semantic", "ignore_map"):
            assert torch.equal(out[key], kept[key]), key
    assert torch.equal(out["semantic"] > 0, out["instance"] > 0)
    assert len(out["masks"]) == len(out["boxes"]) > 0


def test_the_last_attempts_motion_is_the_one_that_shows() -> None:
    """Of a gate's no the user sees what it refused: the motion of that attempt, without the paint."""
    first, second = (items(FRAME, PICKY, f"attempts={n}")[2] for n in (1, 2))
    assert first["rejected"] == second["rejected"] == "picky"
    assert not torch.equal(first["image"], second["image"])
    assert torch.equal(first["image"], items(FRAME, "~model")[2]["image"])


@pytest.mark.parametrize("reason", ["size", ""], ids=["rejected", "broken"])
def test_a_motion_that_cannot_be_is_replaced_by_plain_scaling(reason: str) -> None:
    found = items(f"+move={{_target_: {MINE}.Breaking, reason: '{reason}'}}", FRAME)[1]
    assert found["rejected"] == (reason or "error")
    assert found["image"].shape[1:] == found["depth"].shape == (24, 20)
    assert found["image"].float().std() > 10, "there is something to see"
    assert len(found["boxes"]) == len(found["masks"]) > 0


@pytest.mark.parametrize(
    "stages", [(), ("model._target_=tests.fakes.FakeDeviceModel", "+model.leak=false", "+model.poison='-'")]
)
def test_what_cannot_be_read_fits_into_batches_of_the_others(stages: tuple[str, ...]) -> None:
    made = source("read.broken=[fake/00001]", "~gate", "ungated=true", FRAME, CROP, *stages)
    batches = list(loader.Loader(made, batch_size=3, shuffle=False, collate=collate_segmentation))
    batch = batches[0]
    assert batch["rejected"] == ["", "decode", ""]
    for key in ("image", "instance", "semantic", "ignore_map", "depth"):
        assert isinstance(batch[key], torch.Tensor), key
        assert batch[key].shape[0] == 3
        assert batch[key].shape[-2:] == (40, 56)
    assert not batch["image"][1].any()
    assert batch["ignore_map"][1].all(), "nothing is known there"
    assert batch["depth"][1].isnan().all()
    assert [m.dtype for m in batch["masks"]] == [torch.bool] * 3
    assert batch["masks"][1].shape == (0, 40, 56)
    assert batch["keypoints"][1].shape == (0, 2, 3)
    assert batch["boxes"][1].shape == (0, 4)


def test_a_reference_in_linear_light_comes_in_the_space_of_the_finished() -> None:
    work = on_device.works(1)[0]
    linear = Picture(np.full((64, 96, 3), 0.18, np.float32), "linear")
    work = replace(work, sample=replace(work.sample, image=linear, reference=linear))
    settings = replace(on_device.settings("cpu"), hdr=True)
    mapped = Pipeline((Slot("tone", ToneMap()),))
    found = live.stand_in(mapped, mapped.brackets, work, settings)
    assert found.image.space == "srgb"
    assert found.image.pixels.dtype == np.uint8
    assert found.stale == {"albedo"}
    bare = live.stand_in(Pipeline(()), (), work, settings)
    assert bare.image.space == "linear"
    assert bare.stale == frozenset()


def test_one_rule_says_who_is_tried_again() -> None:
    work = on_device.works(1)[0]
    second = bracket.again(work, Rejected("x", ""), 2)
    assert isinstance(second, Work)
    assert second.attempt == 1
    assert bracket.again(second, Rejected("x", ""), 2) is None
    assert bracket.again(work, Failed("error", ""), 2) is None
    assert bracket.again(work, work, 2) is None
