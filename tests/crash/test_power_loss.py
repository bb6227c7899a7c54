"""A5: whatever the disk still holds after the power failed, the resume gives the same dataset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from synthaug.errors import SynthaugError
from tests.crash import tiny_run
from tests.crash.job import golden_digest
from tests.crash.power_loss import Disk, distinct_states, survive
from tests.crash.recorder import Killed, Op, Recorder, flushes, never_flushed, retried, without


@dataclass(frozen=True)
class Recorded:
    log: list[Op]
    golden: str


def _promising(log: list[Op]) -> Callable[[str], None]:
    return lambda name: log.append(Op("promise", name))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    root, log = tmp_path_factory.mktemp("recorded") / "out", list[Op]()
    tiny_run.run(root, files=Recorder(root, log), promise=_promising(log))
    return Recorded(log, golden_digest(root))


def _resume(root: Path) -> None:
    tiny_run.run(root, files=Recorder(root, []))


def _trusting(root: Path) -> None:
    """Believes every manifest it finds: the mutant without the hash check."""
    tiny_run.run(root, files=Recorder(root, []), trust=True)


@pytest.mark.parametrize("resume", [_resume, _trusting], ids=["hashed", "trusted"])
def test_a5_power_loss_after_every_call(recorded: Recorded, scratch: Path, resume: Callable[[Path], None]) -> None:
    """With flushes alone (the resume believes manifests) and with the hashes too."""
    report = survive(recorded.log, scratch, recorded.golden, resume)
    print(f"A5: {report.points} distinct states after {len(recorded.log)} calls")
    assert report.points >= 100
    assert not report.bad, "\n".join(report.bad)


def _needed(log: list[Op]) -> list[int]:
    """Flushes from the plan on; those before it are repeated by the sweep, and the probe's vouches for nothing."""
    first = next(i for i, op in enumerate(log) if op.call == "create" and "/file-" in op.path)
    return [i for i in flushes(log) if i > first]


def _mutants(log: list[Op], step: int) -> list[int]:
    needed = _needed(log)
    return [*needed[::step], needed[-1]]


def test_a5_a_removed_flush_is_noticed(recorded: Recorded, scratch: Path) -> None:
    for number in _mutants(recorded.log, 9):
        report = survive(without(recorded.log, number), scratch, recorded.golden, _trusting, stop_at_first=True)
        assert report.bad, f"nobody misses {recorded.log[number].call} {recorded.log[number].path}"


@pytest.mark.slow
def test_a5_each_removed_flush_is_noticed(recorded: Recorded, scratch: Path) -> None:
    assert len(_needed(recorded.log)) >= 30
    for number in _needed(recorded.log):
        report = survive(without(recorded.log, number), scratch, recorded.golden, _trusting, stop_at_first=True)
        assert report.bad, f"nobody misses {recorded.log[number].call} {recorded.log[number].path}"


def test_a5_the_hash_check_carries_the_data_alone(recorded: Recorded, scratch: Path) -> None:
    """Data that was never flushed: the hashes still find it; the mutant that skips them is wrong."""
    renamed = {op.path for op in recorded.log if op.call == "rename" and not op.other.startswith(".synthaug")}
    log = [
        op
        for op in never_flushed(recorded.log, lambda op: op.path in renamed and "finalise" not in op.path)
        if op.call != "promise"
    ]
    assert len(flushes(log)) < len(flushes(recorded.log))
    hashed = survive(log, scratch, recorded.golden, _resume, every=23)
    assert hashed.points >= 10
    assert not hashed.bad, "\n".join(hashed.bad)
    assert survive(log, scratch, recorded.golden, _trusting, stop_at_first=True).bad


def _killed_then_resumed(root: Path, kill_at: int) -> list[Op]:
    log: list[Op] = []
    with pytest.raises(Killed):
        tiny_run.run(root, files=Recorder(root, log, kill_at=kill_at), promise=_promising(log))
    tiny_run.run(root, files=Recorder(root, log), promise=_promising(log))
    return log


def _call_before_flush_of(folder: str, recorded_root: Path) -> int:
    """Number of the seam call that first flushes a folder, counted as `Recorder` counts."""
    counter = _Counting(recorded_root, [], folder)
    tiny_run.run(recorded_root, files=counter)
    return counter.found


class _Counting(Recorder):
    def __init__(self, root: Path, log: list[Op], folder: str) -> None:
        super().__init__(root, log)
        self.found, self._folder = 0, folder

    def step(self, call: str, path: str) -> None:
        super().step(call, path)
        if not self.found and call == "fsync_dir" and path.endswith(self._folder):
            self.found = self.calls


def test_a5_power_loss_after_a_kill_and_a_resume(recorded: Recorded, scratch: Path) -> None:
    """The second run believes a manifest whose folder the first one never flushed; the sweep makes it last."""
    number = _call_before_flush_of(".synthaug/shards", scratch / "counted")
    log = _killed_then_resumed(scratch / "killed", number)
    report = survive(log, scratch, recorded.golden, _trusting, every=2)
    assert not report.bad, "\n".join(report.bad)
    second = next(i for i, op in enumerate(log) if i > 30 and op.path == ".synthaug/shards" and op.call == "fsync_dir")
    assert survive(without(log, second), scratch, recorded.golden, _trusting, stop_at_first=True).bad


@pytest.mark.slow
def test_a5_power_loss_after_every_kill_and_resume(recorded: Recorded, scratch: Path) -> None:
    counter = Recorder(scratch / "counted", [])
    tiny_run.run(scratch / "counted", files=counter)
    seen: set[tuple[int, bytes]] = set()
    points = 0
    for kill_at in range(1, counter.calls + 1):
        root = scratch / f"k{kill_at}"
        report = survive(_killed_then_resumed(root, kill_at), scratch, recorded.golden, _trusting, seen=seen)
        points += report.points
        assert not report.bad, f"killed before call {kill_at}: " + "\n".join(report.bad)
    print(f"A5: {points} distinct states after {counter.calls} kills")


def _failed_flush(root: Path, number: int) -> list[Op]:
    """A run whose n-th flush fails, resumed where it did not survive that."""
    log: list[Op] = []
    try:
        tiny_run.run(root, files=Recorder(root, log, fail_at=number), promise=_promising(log))
    except SynthaugError:
        tiny_run.run(root, files=Recorder(root, log), promise=_promising(log))
    return log


@pytest.mark.parametrize("number", [8, 11, 17])
def test_a8_power_loss_after_a_failed_flush(recorded: Recorded, scratch: Path, number: int) -> None:
    log = _failed_flush(scratch / "out", number)
    assert any(op.lost for op in log)
    assert golden_digest(scratch / "out") == recorded.golden
    report = survive(log, scratch, recorded.golden, _trusting, every=3)
    assert not report.bad, "\n".join(report.bad)


@pytest.mark.slow
def test_a8_power_loss_after_each_failed_flush(recorded: Recorded, scratch: Path) -> None:
    seen: set[tuple[int, bytes]] = set()
    for number in range(2, len(flushes(recorded.log)) + 2):  # the first one is of the root's parent, outside the log
        log = _failed_flush(scratch / f"out{number}", number)
        assert any(op.lost for op in log)
        report = survive(log, scratch, recorded.golden, _trusting, seen=seen)
        assert not report.bad, f"flush {number}: " + "\n".join(report.bad)


def test_a8_repeating_a_failed_flush_would_be_noticed(recorded: Recorded, scratch: Path) -> None:
    number = next(i for i in _needed(recorded.log) if "/000001-" in recorded.log[i].path)
    log = retried(recorded.log, number)
    assert survive(log, scratch, recorded.golden, _trusting, stop_at_first=True).bad


def _states(*log: Op) -> list[dict[str, bytes | None]]:
    disk = Disk()
    for op in log:
        disk.apply(op)
    return [dict(s) for s in {tuple(sorted(state.items())): None for state in disk.states()}]


def test_the_model_of_an_unflushed_file() -> None:
    create, write = Op("create", "a"), Op("write", "a", data=b"1234")
    assert _states(create, write) == [
        {},
        {"a": b"1234"},
        {"a": b""},
        {"a": b"12"},
        {"a": bytes(4)},
    ]
    assert _states(create, write, Op("fsync", "a")) == [{}, {"a": b"1234"}]
    assert _states(create, write, Op("fsync", "a"), Op("fsync_dir", ".")) == [{"a": b"1234"}]
    assert len(_states(create, write, Op("fsync", "a", lost=True), Op("fsync", "a"))) == 5


def test_the_model_of_a_rename_between_folders() -> None:
    """Gone from both, in both, in either: all four are possible until the folders are flushed."""
    made = [Op("mkdir", "d"), Op("fsync_dir", "."), Op("create", "a"), Op("fsync", "a"), Op("fsync_dir", ".")]
    found = _states(*made, Op("rename", "a", "d/b"))
    assert {frozenset(state) for state in found} == {
        frozenset({"d"}),
        frozenset({"d", "a"}),
        frozenset({"d", "d/b"}),
        frozenset({"d", "a", "d/b"}),
    }
    assert _states(*made, Op("rename", "a", "d/b"), Op("fsync_dir", "d"), Op("fsync_dir", ".")) == [
        {"d": None, "d/b": b""}
    ]


def test_states_are_distinct_and_cover_the_start(recorded: Recorded) -> None:
    states = list(distinct_states(recorded.log))
    assert states[0] == (0, {}, [])
    assert len({(len(promised), repr(sorted(state.items()))) for _, state, promised in states}) == len(states)
