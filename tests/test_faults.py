"""Every fault of the reliability table that we promise to survive has a test named by its id, and so stays found.

Also the failpoints: each is wired to something, and does to a run what its line says.
"""

from __future__ import annotations

import ast
import errno
import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

from synthaug.engine import failpoints, workers
from synthaug.errors import Interrupted, SynthaugError
from tests.crash import ledger
from tests.engine import runs

TESTS = Path(__file__).parent
PACKAGE = Path(failpoints.__file__).parents[1]
PROMISED: Mapping[str, tuple[int, ...]] = {
    "a": (1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 14, 15),
    "b": (1, 2, 4, 5, 6, 7, 9, 10, 11, 14),
    "c": (1, 3, 4, 5, 6, 8, 9),
    "d": (1, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14),
    "e": (1, 2, 3, 4, 5, 6, 9, 10),
    "f": (1, 2, 3, 4, 5),
    "g": (1, 2, 3, 4),
}
"""By section of the table: processes and storage, concurrency, models, pictures, labels, names, configuration."""
LAST = {"a": 17, "b": 14, "c": 10, "d": 14, "e": 10, "f": 6, "g": 4}
"""The last number of each section: no test may be named by a fault that does not exist."""
IDS = [f"{section}{number}" for section, numbers in PROMISED.items() for number in numbers]


@cache
def named() -> dict[str, list[tuple[str, bool]]]:
    """Tests by fault id, each with whether it is slow: `test_a7_a8_...` is a test of both."""
    found: dict[str, list[tuple[str, bool]]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            ids = re.match(r"test_((?:[a-gA-G][0-9]+_)*)", node.name)
            slow = any("mark.slow" in ast.unparse(decorator) for decorator in node.decorator_list)
            for fault in ids[1].lower().split("_")[:-1] if ids else ():
                found.setdefault(fault, []).append((f"{path.relative_to(TESTS)}::{node.name}", slow))
    return found


@pytest.mark.parametrize("fault", IDS)
def test_every_promised_fault_has_a_test_in_the_default_run(fault: str) -> None:
    tests = named().get(fault, [])
    assert tests, f"no test is named test_{fault}_..."
    assert not all(slow for _, slow in tests), f"all tests of {fault} are slow: {tests}"


def test_no_test_is_named_by_a_fault_that_does_not_exist() -> None:
    wrong = [tests for fault, tests in named().items() if not 1 <= int(fault[1:]) <= LAST[fault[0]]]
    assert not wrong


def test_every_failpoint_is_wired() -> None:
    """Its name stands in the code that it strikes, not only in the list."""
    places = [*PACKAGE.rglob("*.py"), TESTS / "fakes.py"]
    wired = {word for path in places for word in _words(ast.parse(path.read_text("utf-8")))}
    assert set(failpoints.FAILPOINTS) <= wired, set(failpoints.FAILPOINTS) - wired


def _words(tree: ast.Module) -> Iterator[str]:
    """Strings of a module, but for the keys of tables."""
    keys = {id(key) for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in keys:
            yield node.value


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


GATE = ("gate._target_=synthaug.gate.integrity.Integrity", "~gate.share", "~gate.stubborn", "attempts=1")


def lost(out: Path) -> list[tuple[str, str]]:
    """Id and reason of what is not in the dataset; the books must balance."""
    assert ledger.check(out) == []
    rows = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    return [(row["id"], row["reason"]) for row in rows]


def test_d4_a_decoder_that_aborts_costs_its_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, "decode.crash@fake/00003")
    out = tmp_path / "out"
    assert runs.run(out, "gate.share=0", workers=1) == 0
    assert lost(out) == [("fake/00003", "worker_crash")]
    assert "exit code -6" in (out / "rejected.jsonl").read_text()


def test_c3_c4_a_model_that_gives_nothing_or_black_costs_its_samples(tmp_path: Path) -> None:
    failpoints.arm("model.nan@fake/00002;model.black@fake/00006")
    out = tmp_path / "out"
    assert runs.run(out, *GATE) == 0
    assert lost(out) == [("fake/00002", "nonfinite"), ("fake/00006", "black")]
    assert len(list((out / "images/fake").iterdir())) == 8


def test_c4_what_the_gate_names_is_refused_at_every_attempt(tmp_path: Path) -> None:
    failpoints.arm("gate.refuse@fake/00005")
    out = tmp_path / "out"
    gate = ("gate._target_=tests.fakes.RefusingGate", "~gate.share", "~gate.stubborn")
    assert runs.run(out, *gate, "attempts=3") == 0
    assert lost(out) == [("fake/00005", "refused")]
    assert "attempt 2 failed" in (out / "rejected.jsonl").read_text()


def test_c1_out_of_memory_on_the_host_costs_one_sample_and_says_where(tmp_path: Path) -> None:
    failpoints.arm("model.oom@4")
    out = tmp_path / "out"
    assert runs.run(out, "gate.share=0", "engine.encoders=0") == 0
    assert lost(out) == [("fake/00003", "error")]
    assert "MemoryError: out of memory, planted (fakes.py" in (out / "rejected.jsonl").read_text()


def test_c1_out_of_memory_on_the_device_stops_the_run_with_nothing_lost(tmp_path: Path) -> None:
    device = ("model._target_=tests.fakes.FakeDeviceModel", "+model.leak=false", "+model.poison='-'", "gate.share=0")
    golden, out = tmp_path / "golden", tmp_path / "out"
    runs.run(golden, *device)
    failpoints.arm("model.oom@3")
    with pytest.raises(
        SynthaugError, match=r"slot model failed .*fake/00004.*out of memory.*Lower engine\.micro_batch=2"
    ):
        runs.run(out, *device, "engine.encoders=0")
    assert ledger.check(out, complete=False) == []
    assert (out / ".synthaug/shards/000000.json").exists()
    failpoints.arm("")
    assert runs.run(out, *device) == 0
    assert runs.digest(out) == runs.digest(golden)


def test_a2_an_interruption_after_each_shard_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    golden, out = tmp_path / "golden", tmp_path / "out"
    runs.run(golden)
    for done in (1, 2):
        failpoints.arm("run.interrupt@1")
        with pytest.raises(Interrupted):
            runs.run(out, "engine.encoders=0")
        assert len(list(out.glob(".synthaug/shards/*.trail.jsonl"))) == done
        assert ledger.check(out, complete=False) == []
    failpoints.arm("")
    assert runs.run(out, "engine.encoders=0") == 0
    assert runs.digest(out) == runs.digest(golden)


def test_b4_where_no_reading_process_can_be_had_the_run_stops_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for ever waiting: whatever goes wrong in the thread that serves a worker reaches the run."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(workers.subprocess, "Popen", refuse)
    with pytest.raises(SynthaugError, match=r"no reading process could be had for fake/0000\d .*Too many open files"):
        runs.run(tmp_path / "out", workers=2)
