"""What stages raise and draw: the ledger names the slot, numpy's numbers are Python's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthaug.augment.geometric import Flip
from synthaug.contracts import Appearance, Draw, Gate, Geometry, Pointwise
from synthaug.engine import blame, bracket, local
from synthaug.engine.appearance import Work
from synthaug.engine.configure import compose
from synthaug.engine.pipeline import Bracket, Slot
from synthaug.engine.workers import Failed
from synthaug.errors import Rejected
from synthaug.warp.motion import Warp
from tests.augment import on_device
from tests.engine import runs


class Faulty(Appearance):
    """Breaks where it is told to."""

    def __init__(self, where: str = "paint", error: BaseException | None = None, draw: Any = None) -> None:
        self.where, self.error, self.drawn = where, error or KeyError("planted"), draw

    def _at(self, where: str) -> None:
        if where == self.where:
            raise self.error

    def draw(self, rng: np.random.Generator, labels: Any, attempt: int) -> Draw:
        self._at("draw")
        return {} if self.drawn is None else self.drawn

    def paint(self, images: Any, labels: Any, draws: Any) -> Any:
        self._at("paint")
        return images


class FaultyCurve(Faulty, Pointwise):
    def curve(self, values: Any, draw: Draw) -> Any:
        self._at("paint")
        return values


class FaultyMotion(Geometry):
    def __init__(self, where: str = "paint", error: BaseException | None = None) -> None:
        self.fault = Faulty(where, error)

    def draw(self, rng: np.random.Generator, labels: Any, attempt: int) -> Draw:
        return self.fault.draw(rng, labels, attempt)

    def warp(self, labels: Any, draw: Draw) -> Warp:
        self.fault._at("paint")
        return Warp.identity(labels.size)


class FaultyGate(Gate):
    def __init__(self, where: str = "paint", error: BaseException | None = None) -> None:
        self.fault = Faulty(where, error)

    def judge(self, images: Any, references: Any, labels: Any) -> Any:
        self.fault._at("paint")
        return []


def run(stages: Sequence[Any], gates: Sequence[Any] = ()) -> Any:
    slots, after = (tuple(Slot(f"{type(s).__name__}{i}", s) for i, s in enumerate(row)) for row in (stages, gates))
    return bracket.run(Bracket(slots, after), on_device.works(1), on_device.settings("cpu"))[0]


@pytest.mark.parametrize("kind", [Faulty, FaultyCurve, FaultyMotion])
@pytest.mark.parametrize("where", ["draw", "paint"])
def test_a_stage_that_breaks_is_named(kind: Any, where: str) -> None:
    found = run((Flip(), kind("nowhere"), kind(where)))
    assert isinstance(found, Failed)
    assert (found.reason, found.slot) == ("error", f"{kind.__name__}2")
    assert "KeyError: 'planted' (test_blame.py:" in found.message


@pytest.mark.parametrize("kind", [Faulty, FaultyCurve, FaultyMotion])
@pytest.mark.parametrize("where", ["draw", "paint"])
def test_a_stage_that_rejects_is_named(kind: Any, where: str) -> None:
    found = run((Flip(), kind("nowhere"), kind(where, Rejected("dark", "too dark"))))
    assert isinstance(found, Rejected)
    assert (found.reason, found.slot, found.sample_id) == ("dark", f"{kind.__name__}2", "testing/0")


def test_a_gate_that_breaks_is_named() -> None:
    found = run((), (FaultyGate(),))
    assert isinstance(found, Failed)
    assert found.slot == "FaultyGate0"
    assert "KeyError: 'planted'" in found.message


def test_the_ledger_has_the_slot_of_a_stage_that_breaks(tmp_path: Path) -> None:
    out = tmp_path / "out"
    broken = "+broken={_target_: tests.engine.test_blame.Faulty}"
    words = [f"write.root={out}", "engine.workers=0", "engine.progress=none", broken, "read.count=3", "gate.share=0"]
    assert local.run(compose(runs.RECIPE, words, plugins=[runs.PLUGIN, "tests.engine.test_blame"])) == 3
    rows = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert [row["slot"] for row in rows] == ["broken"] * 3
    assert all("KeyError: 'planted'" in row["message"] for row in rows)
    assert [row["slot"] for row in runs.shard(out, 0)["failed"]] == ["broken"] * 3


def test_numbers_of_numpy_become_pythons() -> None:
    draw = {
        "f": np.float32(0.1), "d": np.float64(0.25), "i": np.int64(7), "b": np.bool_(True),
        "row": (np.uint8(3), 4.5, None, "x"), "deep": {"a": [np.float16(0.5)]},
    }  # fmt: skip
    found = blame.as_json(draw)
    assert found == {
        "f": float(np.float32(0.1)), "d": 0.25, "i": 7, "b": True, "row": [3, 4.5, None, "x"], "deep": {"a": [0.5]},
    }  # fmt: skip
    assert type(found["f"]) is type(found["d"]) is float
    assert type(found["i"]) is int
    assert found["b"] is True
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        ({"a": {"b": [1.0, float("nan")]}}, r"'a\.b\[1\]' of the draw is nan"),
        ({"a": np.float32(np.inf)}, "'a' of the draw is inf"),
        ({"a": np.zeros(3)}, r"'a' of the draw is a ndarray, which is no JSON; use \.tolist\(\)"),
        ({"a": {3: 1}}, "'a' of the draw has the key 3"),
        ({"a": object()}, "'a' of the draw is a object"),
        ([1], "returned a list, expected a dict"),
    ],
)
def test_a_draw_that_cannot_be_stored_is_refused_by_slot_and_key(draw: Any, words: str) -> None:
    with pytest.raises(Rejected, match=words):
        blame.as_json(draw)
    found = run((Flip(), Faulty("nowhere", draw=draw)))
    assert isinstance(found, Rejected)
    assert (found.reason, found.slot) == ("draw", "Faulty1")


def test_a_stage_computes_with_what_a_replay_would_give_it() -> None:
    class Asking(Faulty):
        def paint(self, images: Any, labels: Any, draws: Any) -> Any:
            assert type(draws[0]["x"]) is float
            return images

    found = run((Asking("nowhere", draw={"x": np.float32(0.1)}),))
    assert isinstance(found, Work)
    assert found.sample.trail[0].draw == {"x": float(np.float32(0.1))}


def test_a_draw_of_one_sample_costs_that_sample_alone_on_a_device() -> None:
    class Sometimes(on_device.Shade):
        def draw(self, rng: Any, labels: Any, attempt: int) -> Draw:
            first = labels.instances[0].box == on_device.works()[1].sample.labels.instances[0].box
            return {**super().draw(rng, labels, attempt), "share": float("nan") if first else 0.5}

    found = bracket.run(Bracket((Slot("s", Sometimes()),), ()), on_device.works(), on_device.settings("cpu"))
    assert [isinstance(o, Work) for o in found] == [True, False, True]
    assert isinstance(found[1], Rejected)
    assert (found[1].reason, found[1].slot) == ("draw", "s")
