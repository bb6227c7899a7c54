"""A device whose memory is short: nothing is lost or done twice, and what was used is written down."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from synthaug.engine import bracket, capacity, execute, failpoints
from synthaug.engine.capacity import Capacity, Full, short_of_memory
from synthaug.engine.pipeline import Bracket, Slot
from synthaug.errors import SynthaugError
from tests import fakes
from tests.augment import on_device
from tests.crash import ledger
from tests.engine import runs

DEVICE = ("model._target_=tests.fakes.FakeDeviceModel", "+model.leak=false", "+model.poison='-'", "gate.share=0")
SIZES = ("read.count=24", "engine.shard_size=8", "engine.micro_batch=4")


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A device that takes `room` pictures at once; `calls` are the lengths that it was asked for."""
    state: dict[str, Any] = {"room": 99, "calls": []}
    paint = fakes.FakeDeviceModel.paint

    def limited(self: Any, images: Any, labels: Any, draws: Any) -> Any:
        state["calls"].append(len(images))
        if len(images) > state["room"]:
            raise torch.OutOfMemoryError("CUDA out of memory, planted")
        return paint(self, images, labels, draws)

    monkeypatch.setattr(fakes.FakeDeviceModel, "paint", limited)
    return state


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError(
            "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed in a non-contiguous"
        ),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: 8 bytes"),
        MemoryError(),
    ],
    ids=lambda e: str(e)[:24],
)
def test_c1_memory_is_short_in_many_words(error: BaseException) -> None:
    assert short_of_memory(error)
    assert not short_of_memory(RuntimeError("CUDA error: device-side assert triggered"))


@pytest.mark.parametrize("encoders", [0, 2])
def test_c1_adaptive_memory_begins_the_shard_again_with_half_and_loses_nothing(
    tmp_path: Path, small: dict[str, Any], encoders: int
) -> None:
    out, halves = tmp_path / "out", tmp_path / "halves"
    small["room"] = 2
    assert runs.run(out, *DEVICE, *SIZES, "engine.memory=adaptive", f"engine.encoders={encoders}") == 0
    assert ledger.check(out) == []
    assert runs.totals(out)["written"] == 24
    lengths = [runs.shard(out, number).get("micro_batch") for number in range(3)]
    assert lengths[-1] == 2
    assert set(lengths) <= {2, None}
    small["room"] = 99
    runs.run(halves, *DEVICE, *SIZES, "engine.micro_batch=2")
    for path in (halves / "images").rglob("*.png"):
        assert path.read_bytes() == (out / path.relative_to(halves)).read_bytes()


def test_c1_a_resume_and_a_repair_use_what_was_recorded(tmp_path: Path, small: dict[str, Any]) -> None:
    out, device = tmp_path / "out", (*DEVICE, *SIZES, "engine.memory=adaptive", "engine.encoders=0")
    small["room"] = 2
    failpoints.arm("run.interrupt@1")
    with pytest.raises(SynthaugError):
        runs.run(out, *device)
    failpoints.arm("")
    small["room"], small["calls"] = 99, []
    assert runs.run(out, *device) == 0
    assert set(small["calls"]) == {2}, "more memory is no reason to change bits"
    golden = runs.digest(out)
    next((out / "images").rglob("*.png")).unlink()
    small["calls"] = []
    assert runs.run(out, *device) == 0
    assert set(small["calls"]) == {2}
    assert runs.digest(out) == golden


def test_c1_a_picture_that_does_not_fit_alone_is_failed(tmp_path: Path, small: dict[str, Any]) -> None:
    out = tmp_path / "out"
    small["room"] = 0
    more = ("read.count=3", "engine.memory=adaptive", "max_reject_ratio=1")
    assert runs.run(out, *DEVICE, *SIZES, *more) == 0
    assert ledger.check(out) == []
    assert runs.totals(out)["failed"] == {"oom": 3}
    assert min(small["calls"]) == 1


def test_c1_strict_memory_ends_the_run_and_names_both_ways_out(tmp_path: Path, small: dict[str, Any]) -> None:
    small["room"] = 2
    with pytest.raises(SynthaugError, match=r"Lower engine\.micro_batch=4, or set engine\.memory=adaptive"):
        runs.run(tmp_path / "out", *DEVICE, *SIZES, "engine.encoders=0")
    assert set(small["calls"]) == {4}


@pytest.mark.parametrize("fails", [1, 3, 5])
def test_c1_one_failure_anywhere_is_survived(tmp_path: Path, fails: int) -> None:
    out = tmp_path / "out"
    failpoints.arm(f"model.oom@{fails}")
    assert runs.run(out, *DEVICE, *SIZES, "engine.memory=adaptive") == 0
    assert ledger.check(out) == []
    assert runs.totals(out)["written"] == 24


def test_c1_what_the_failed_batch_had_reached_is_let_go() -> None:
    """A tensor in the frames of a kept traceback would stand in the way of the smaller batch."""
    kept: list[weakref.ref[torch.Tensor]] = []

    class Big(on_device.Shade):
        def paint(self, images: Any, labels: Any, draws: Any) -> Any:
            big = torch.zeros(1000)
            kept.append(weakref.ref(big))
            raise torch.OutOfMemoryError(f"out of memory, planted beside {len(big)}")

    caught: list[BaseException] = []

    def attempt(length: int) -> None:
        if caught:
            gc.collect()
            assert kept[0]() is None
            return
        try:
            bracket.run(Bracket((Slot("big", Big()),), ()), on_device.works(), on_device.settings("cpu"))
        except Full as error:
            caught.append(error)
            raise

    Capacity(4, adaptive=True).fitted(4, attempt)
    assert len(caught) == len(kept) == 1
    assert caught[0].__context__ is None


def test_lengths_go_down_only_and_never_below_one() -> None:
    held = Capacity(8, adaptive=True, recorded={"000000": 8, "000001": 2})
    assert (held.of("000000"), held.of("000001"), held.of("000009")) == (8, 2, 2)
    assert held.lowered(8) == 2, "a shard that began before finds that another one has lowered it"
    assert held.lowered(2) == 1
    assert held.lowered(1) == 1
    assert Capacity(8, adaptive=False, recorded={"000001": 2}).of("000001") == 8


def test_the_largest_canvases_are_tried_before_the_first_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a GPU is warmed up; here the run is told that it has one while the stages stay on the CPU."""
    shapes: list[tuple[int, ...]] = []
    paint = fakes.FakeDeviceModel.paint

    def seen(self: Any, images: Any, labels: Any, draws: Any) -> Any:
        shapes.append(tuple(images.shape))
        return paint(self, images, labels, draws)

    monkeypatch.setattr(fakes.FakeDeviceModel, "paint", seen)
    real = execute.run_shards
    monkeypatch.setattr(
        execute, "run_shards", lambda context, shards: (execute.warm_up(context), real(context, shards))
    )
    assert runs.run(tmp_path / "out", *DEVICE, *SIZES, "read.sizes=6", "engine.encoders=0") == 0
    assert [shape[-1] for shape in shapes[:4]] == sorted({shape[-1] for shape in shapes}, reverse=True)[:4]
    assert {len(shape) and shape[0] for shape in shapes[:4]} == {4}, "at full length"
    assert capacity._TRIED == 4
