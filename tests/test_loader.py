"""Datasets for a training loop: same samples as a run, disjoint ranks, resume where the loop stood."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from synthaug import loader
from synthaug.engine import local
from synthaug.engine.configure import compose
from synthaug.engine.source import Source
from synthaug.errors import ConfigError
from synthaug.formats import png
from synthaug.items import collate_segmentation
from tests.engine import runs

DEVICE = ("model._target_=tests.fakes.FakeDeviceModel", "+model.leak=false", "+model.poison='-'")


def source(*overrides: str) -> Source:
    fixed = ("engine.micro_batch=2", "gate.share=0", "model.strength=0.1")
    given = {word.partition("=")[0] for word in overrides}
    words = [word for word in fixed if word.partition("=")[0] not in given]
    return loader.pipeline(runs.RECIPE, (*words, *overrides), plugins=[runs.PLUGIN])


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
    half.load_state_dict({**half.state_dict(), "delivered": 3})
    rest = {i: im for b in half for i, im in zip(b["index"], b["image"], strict=True)}
    assert len(rest) == 6
    assert all(torch.equal(full[i], image) for i, image in rest.items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"world_size": 2}, "world_size=2 and this world_size=1: its position counts other samples"),
        ({"shuffle": False}, "shuffle=False and this shuffle=True"),
        ({"samples": 11}, "samples=11 and this samples=10"),
        ({"source": "another"}, "source='another' and this source="),
        ({"delivered": -1}, "state's delivered=-1: expected a whole number, 0 or more"),
        ({"delivered": 11}, "delivered=11 of 10 samples"),
        ({"delivered": 2.5}, "state's delivered=2.5"),
        ({"epoch": -3}, "state's epoch=-3"),
        ({"epoch": None}, "state's epoch=None"),
    ],
)
def test_a_state_of_something_else_is_refused_and_changes_nothing(change: dict[str, object], words: str) -> None:
    made = loader.Loader(source())
    with pytest.raises(ConfigError, match=words):
        made.load_state_dict({**made.state_dict(), **change})
    assert (made.epoch, made.delivered) == (0, 0)


def test_a_state_goes_on_with_the_same_samples_alone() -> None:
    """Whatever decides the looks is in it; where things lie and how fast they are read is not."""
    state = json.loads(json.dumps(loader.Loader(source(), batch_size=2).state_dict()))
    loader.Loader(source("write.root=elsewhere", "engine.workers=3"), batch_size=3).load_state_dict(state)
    for other in ("seed=9", "model.strength=0.2", "read.width=56"):
        with pytest.raises(ConfigError, match="this source="):
            loader.Loader(source(other)).load_state_dict(state)
    with pytest.raises(ConfigError, match="lacks epoch, delivered"):
        loader.Loader(source()).load_state_dict({"model": 1})
    stream = loader.SampleStream(source())
    with pytest.raises(ConfigError, match="lacks yielded, workers"):
        stream.load_state_dict(state)
    with pytest.raises(ConfigError, match="this source="):
        loader.SampleStream(source("seed=9")).load_state_dict(stream.state_dict())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size=0: expected a whole number, 1 or more"),
        ({"batch_size": 2.0}, "batch_size=2.0"),
        ({"workers": -1}, "workers=-1: expected a whole number, 0 or more"),
        ({"rank": 0, "world_size": 0}, "rank=0 of world_size=0"),
        ({"rank": 2, "world_size": 2}, "rank=2 of world_size=2"),
        ({"world_size": 11}, "10 samples make no batch of 1 on 11 ranks"),
        ({"batch_size": 11, "drop_last": True}, "no batch of 11 on 1 ranks with drop_last"),
    ],
)
def test_loaders_that_cannot_be_are_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        loader.Loader(source(), **options)  # type: ignore[arg-type]


def test_an_epoch_counts_from_zero() -> None:
    for made in (loader.Loader(source()), loader.SampleDataset(source()), loader.SampleStream(source())):
        for wrong in (-1, 1.5, None):
            with pytest.raises(ConfigError, match="epoch="):
                made.set_epoch(wrong)  # type: ignore[arg-type]
        made.set_epoch(np.int64(3))  # type: ignore[arg-type]
        assert made.epoch == 3


def test_splits_of_a_written_dataset(tmp_path: Path) -> None:
    out = tmp_path / "out"
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "defaults: [/config, /write: folder, _self_]\nread: {_target_: tests.fakes.FakeReader, count: 12}\n"
        "ungated: true\nsplit: {train: 0.5, val: 0.5}\nwrite: {root: '???'}\n"
    )
    done = [f"write.root={out}", "engine.workers=0", "engine.progress=none"]
    assert local.run(compose(str(recipe), done, plugins=[runs.PLUGIN])) == 0
    train, val = loader.written(out, split="train"), loader.written(out, split="val")
    assert 0 < len(train) < 12
    with pytest.warns(UserWarning, match="splits train, val come mixed; choose one with split='train'"):
        both = loader.written(out)
    assert len(both) == len(train) + len(val) == 12
    assert both.splits == train.splits == ("train", "val")
    with pytest.raises(ConfigError, match=r"has no split 'vall'\. Did you mean 'val'\?"):
        loader.written(out, split="vall")
    with pytest.raises(ConfigError, match=r"has no split 'test'"):
        loader.written(out, split="test")
    state = loader.Loader(train).state_dict()
    loader.Loader(loader.written(out, split="train")).load_state_dict(state)
    with pytest.raises(ConfigError, match=r"samples=|source="):
        loader.Loader(val).load_state_dict(state)


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
