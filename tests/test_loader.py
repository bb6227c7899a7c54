"""Datasets for a training loop: same samples as a run, disjoint ranks, resume where the loop stood."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from synthaug import loader
from synthaug.engine.source import Source
from synthaug.errors import ConfigError
from synthaug.formats import png
from synthaug.items import collate_segmentation
from tests.engine import runs

DEVICE = ("model._target_=tests.fakes.FakeDeviceModel", "+model.leak=false", "+model.poison='-'")


def source(*overrides: str) -> Source:
    fixed = ("engine.micro_batch=2", "gate.share=0", "model.strength=0.1")
    return loader.pipeline(runs.RECIPE, (*fixed, *overrides), plugins=[runs.PLUGIN])


@pytest.mark.parametrize("stages", [(), DEVICE], ids=["host", "device"])
def test_epoch_zero_is_what_a_run_writes(tmp_path: Path, stages: tuple[str, ...]) -> None:
    overrides = ("read.count=5", "gate.share=0", "model.strength=0.1", *stages)
    runs.run(tmp_path / "out", *overrides)
    items = loader.SampleDataset(source("read.count=5", *stages))
    for i in range(5):
        written = png.decode((tmp_path / f"out/images/fake/{i:05d}.png").read_bytes())
        assert np.array_equal(items[i]["image"].permute(1, 2, 0).numpy(), written)
        assert items[i]["rejected"] == ""


def test_epochs_differ_and_repeat() -> None:
    items = loader.SampleDataset(source())
    first = items[3]["image"]
    items.set_epoch(1)
    second = items[3]["image"]
    items.set_epoch(0)
    assert not torch.equal(first, second)
    assert torch.equal(first, items[3]["image"])


def test_map_style_keeps_its_length_and_flags_what_was_rejected() -> None:
    items = loader.SampleDataset(source("read.broken=[fake/00002]", "gate.share=1", "gate.stubborn=1"))
    assert len(items) == 10
    plain = loader.SampleDataset(source("~model", "~gain", "gate.share=0"))
    assert items[2]["rejected"] == "decode"
    assert items[2]["image"].sum() == 0
    assert items[4]["rejected"] == "stubborn"
    assert torch.equal(items[4]["image"], plain[4]["image"]), "a rejected sample is its reference"
    assert len(items[4]["boxes"]) == 2


@pytest.mark.parametrize("stages", [(), DEVICE], ids=["host", "device"])
def test_four_ranks_of_two_workers_are_disjoint_and_resume(stages: tuple[str, ...]) -> None:
    whole: list[list[int]] = []
    for rank in range(4):
        made = source("read.count=22", *stages)
        everything = [i for batch in _loader(made, rank) for i in batch["index"]]
        whole.append(everything)
        begun = _loader(made, rank)
        first = [i for _, batch in zip(range(2), begun, strict=False) for i in batch["index"]]
        state = begun.state_dict()
        assert state["delivered"] == len(first) == 4, "delivered, not prefetched"
        resumed = _loader(made, rank)
        resumed.load_state_dict(state)
        assert first + [i for batch in resumed for i in batch["index"]] == everything
    assert {len(row) for row in whole} == {5}
    assert len({i for row in whole for i in row}) == 20


def _loader(made: Source, rank: int) -> loader.Loader:
    return loader.Loader(made, batch_size=2, workers=2, rank=rank, world_size=4)


def test_resumed_samples_have_the_same_bytes() -> None:
    made = source("read.count=9", *DEVICE)
    full = {i: im for b in loader.Loader(made, batch_size=3) for i, im in zip(b["index"], b["image"], strict=True)}
    half = loader.Loader(made, batch_size=3, workers=2)
    half.load_state_dict({"epoch": 0, "delivered": 3, "world_size": 1})
    rest = {i: im for b in half for i, im in zip(b["index"], b["image"], strict=True)}
    assert len(rest) == 6
    assert all(torch.equal(full[i], image) for i, image in rest.items())


def test_a_state_of_another_world_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="state of 2 ranks"):
        loader.Loader(source()).load_state_dict({"epoch": 0, "delivered": 3, "world_size": 2})


def test_the_stream_works_in_a_plain_torch_loader() -> None:
    stream = loader.SampleStream(source("read.count=10"), rank=1, world_size=2)
    batches = list(DataLoader(stream, batch_size=2, num_workers=2, collate_fn=loader.collate_detection))
    assert sorted(i for b in batches for i in b["index"]) == sorted(loader.order(10, 0, 0, True, 1, 2))
    inline = loader.SampleStream(source("read.count=10"), rank=1, world_size=2)
    iterator = iter(inline)
    first = [next(iterator)["index"] for _ in range(2)]
    again = loader.SampleStream(source("read.count=10"), rank=1, world_size=2)
    again.load_state_dict(inline.state_dict())
    assert first + [item["index"] for item in again] == loader.order(10, 0, 0, True, 1, 2)


def test_device_stages_in_a_foreign_worker_are_refused_with_the_way_out() -> None:
    stream = loader.SampleStream(source(*DEVICE))
    with pytest.raises(ConfigError, match=r"use loader\.Loader"):
        list(DataLoader(stream, batch_size=2, num_workers=1, collate_fn=loader.collate_detection))


def test_collate_stacks_what_agrees_and_refuses_dense_batches_of_two_sizes() -> None:
    items = loader.SampleDataset(source("read.sizes=2"))
    same = collate_segmentation([items[0], items[2]])
    assert same["image"].shape == (2, 3, 32, 48)
    assert same["semantic"].shape == (2, 32, 48)
    assert same["semantic"].dtype == torch.int64
    with pytest.raises(ValueError, match="resize or crop"):
        collate_segmentation([items[0], items[1]])
    mixed = loader.collate_detection([items[0], items[1]])
    assert isinstance(mixed["image"], list)
