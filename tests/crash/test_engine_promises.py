"""A5 on the real engine: what it once counted on is there after every power loss, and the books balance.

One thread does everything, so the log of the seam is the order in which things reached the disk. A promise is
noted where the engine counts on it: the plan, each shard and the dataset are published.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from synthaug.engine import local, manifest, publish, staging
from synthaug.engine.configure import RunConfig
from tests.crash import ledger
from tests.crash.job import golden_digest
from tests.crash.power_loss import distinct_states, survive
from tests.crash.recorder import Killed, Op, Recorder, flushes, never_flushed, retried, without
from tests.crash.test_engine import SMALL
from tests.engine import runs

NONE = 10**9
"""Resumes from no state but the first, and checks the promises in every one."""


@dataclass(frozen=True)
class Recorded:
    """One undisturbed run: what to run again, what it did to the disk, what it gave."""

    config: RunConfig
    log: list[Op]
    golden: str


def placed(config: RunConfig, root: Path, **engine: str) -> RunConfig:
    """The same run into another root; composing it again would cost more than running it."""
    return replace(config, write={**config.write, "root": str(root)}, engine={**config.engine, **engine})


def record(config: RunConfig, root: Path, log: list[Op], *, kill_at: int = 0) -> int:
    """The run, with its calls and promises written down; how many calls it made."""
    seam = Recorder(root, log, kill_at=kill_at)
    commit, publish_file = staging.Staging.commit, publish.Output.publish_file

    def committing(self: staging.Staging, name: str, make: Callable[[list[publish.FileEntry]], bytes]) -> None:
        commit(self, name, make)
        log.append(Op("promise", name))

    def publishing(self: publish.Output, name: str, data: bytes) -> None:
        publish_file(self, name, data)
        log.append(Op("promise", name))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "FileSystem", lambda: seam)
        patch.setattr(staging.Staging, "commit", committing)
        patch.setattr(publish.Output, "publish_file", publishing)
        local.run(placed(config, root))
    return seam.calls


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    root, log = tmp_path_factory.mktemp("recorded") / "out", list[Op]()
    config = runs.config(root, *SMALL, "engine.encoders=0")
    record(config, root, log)
    assert ledger.check(root) == []
    assert runs.totals(root)["rejected"] == {"decode": 1}
    assert [op.path for op in log if op.call == "promise"] == [
        manifest.PLAN, *(manifest.shard_name(f"{n:06d}") for n in range(3)), manifest.COMPLETE
    ]  # fmt: skip
    return Recorded(config, log, golden_digest(root))


@pytest.fixture
def resume(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """The engine itself in this process, with flushes that cost nothing, then the books."""
    return _resuming(recorded, monkeypatch, "full")


def _resuming(recorded: Recorded, patch: pytest.MonkeyPatch, check: str) -> Callable[[Path], None]:
    def run(root: Path) -> None:
        patch.setattr(publish, "FileSystem", lambda: Recorder(root, []))
        local.run(placed(recorded.config, root, resume_check=check))
        assert ledger.check(root) == []

    return run


def test_a5_power_loss_on_the_engine(recorded: Recorded, scratch: Path, resume: Callable[[Path], None]) -> None:
    """0 lost, 0 duplicated, 0 changed; promises are checked in every state, each eighth is resumed."""
    report = survive(recorded.log, scratch, recorded.golden, resume, every=8)
    assert report.points >= 60
    assert not report.bad, "\n".join(report.bad)


@pytest.mark.slow
def test_a5_power_loss_on_the_engine_in_every_state(
    recorded: Recorded, scratch: Path, resume: Callable[[Path], None]
) -> None:
    report = survive(recorded.log, scratch, recorded.golden, resume)
    print(f"A5, engine: {report.points} distinct states after {len(recorded.log)} calls and promises")
    assert report.points >= 500
    assert not report.bad, "\n".join(report.bad)


def _final(log: Sequence[Op]) -> dict[str, str]:
    """Final name by temporary name."""
    return {op.path: op.other for op in log if op.call == "rename"}


KINDS = {
    "pictures": ("fsync", "images/"),
    "books": ("fsync", ".synthaug/shards/"),
    "plan": ("fsync", manifest.PLAN),
    "annotations": ("fsync", "labels.json"),
    "last manifest": ("fsync", manifest.COMPLETE),
    "folder of pictures": ("fsync_dir", "images/"),
    "folder of books": ("fsync_dir", ".synthaug/shards"),
    "root": ("fsync_dir", "."),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a5_an_engine_without_one_kind_of_flush_is_noticed(
    recorded: Recorded, scratch: Path, resume: Callable[[Path], None], kind: str
) -> None:
    (call, prefix), final = KINDS[kind], _final(recorded.log)
    log = never_flushed(recorded.log, lambda op: op.call == call and final.get(op.path, op.path).startswith(prefix))
    assert len(log) < len(recorded.log)
    report = survive(log, scratch, recorded.golden, resume, every=NONE, stop_at_first=True)
    assert any("was promised and" in problem for problem in report.bad)


@pytest.mark.slow
def test_a5_an_engine_without_any_one_flush_is_noticed(
    recorded: Recorded, scratch: Path, resume: Callable[[Path], None]
) -> None:
    """From the plan on; flushes before it are repeated, and nothing is promised yet.

    Where no promise breaks, the flush is for those who believe a manifest unread: in its states, they fail.
    """
    log = recorded.log
    first = next(i for i, op in enumerate(log) if op.call == "create" and "/file-" in op.path)
    idle = next(i for i in flushes(log) if i > first and log[i].path == ".")
    """After the removal of a last manifest that was not there."""
    needed = [i for i in flushes(log) if i > first and i != idle]
    before, missed, believers = _seen(log), [], 0
    for number in needed:
        gone = without(log, number)
        report = survive(gone, scratch, recorded.golden, resume, every=NONE, stop_at_first=True)
        if not report.bad:
            believers += 1
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(manifest, "damaged", lambda *_, **__: [])
                trusting = _resuming(recorded, patch, "sizes")
                report = survive(gone, scratch, recorded.golden, trusting, stop_at_first=True, seen=set(before))
        if not report.bad:
            missed.append(f"call {number}: {log[number].call} {log[number].path}, before {log[number + 1].call}")
    print(f"A5, engine: {len(needed) - len(missed)} of {len(needed)} removed flushes noticed, {believers} by belief")
    assert missed == []


def test_a8_an_engine_that_repeated_a_failed_flush_would_be_noticed(
    recorded: Recorded, scratch: Path, resume: Callable[[Path], None]
) -> None:
    final = _final(recorded.log)
    number = next(i for i in flushes(recorded.log) if final.get(recorded.log[i].path, "").startswith("images/"))
    log = retried(recorded.log, number)
    report = survive(log, scratch, recorded.golden, resume, every=NONE, stop_at_first=True)
    assert any("was promised and" in problem for problem in report.bad)


@pytest.fixture
def careless(recorded: Recorded) -> list[Op]:
    """No picture was ever flushed, and nothing was promised: now the hashes carry the resume alone."""
    final = _final(recorded.log)
    log = never_flushed(recorded.log, lambda op: final.get(op.path, "").startswith("images/"))
    return [op for op in log if op.call != "promise"]


def _seen(log: Sequence[Op]) -> set[tuple[int, bytes]]:
    """All states of a log, to be left out elsewhere."""
    seen: set[tuple[int, bytes]] = set()
    for _ in distinct_states(log, seen):
        continue
    return seen


def test_a5_the_engines_hashes_find_pictures_that_were_never_flushed(
    recorded: Recorded, careless: list[Op], scratch: Path, resume: Callable[[Path], None]
) -> None:
    before = _seen([op for op in recorded.log if op.call != "promise"])
    report = survive(careless, scratch, recorded.golden, resume, every=89, seen=before)
    assert report.points >= 12
    assert not report.bad, "\n".join(report.bad)


@pytest.mark.parametrize("trust", ["sizes", "names"])
def test_a5_an_engine_that_trusts_without_hashing_is_noticed(
    recorded: Recorded, careless: list[Op], scratch: Path, trust: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`resume_check=sizes` takes zeros of the right length for a picture; a mutant takes whatever is there."""
    if trust == "names":
        monkeypatch.setattr(manifest, "damaged", lambda *_, **__: [])
    resume = _resuming(recorded, monkeypatch, "sizes")
    number = next(i for i, op in enumerate(careless) if op.other == manifest.shard_name("000000"))
    before = _seen(careless[: number + 1])
    log = careless[: number + 4]
    report = survive(log, scratch, recorded.golden, resume, stop_at_first=True, seen=before)
    assert any("other bytes" in problem for problem in report.bad), report


@pytest.mark.slow
def test_a5_power_loss_on_the_engine_after_a_kill_and_a_resume(
    recorded: Recorded, scratch: Path, resume: Callable[[Path], None]
) -> None:
    """The second run believes what the first one published, flushed or not; nothing of it may be lost later."""
    seen: set[tuple[int, bytes]] = set()
    calls, points = record(recorded.config, scratch / "counted", []), 0
    for kill_at in range(7, calls, 12):
        root, log = scratch / f"k{kill_at}", list[Op]()
        with pytest.raises(Killed):
            record(recorded.config, root, log, kill_at=kill_at)
        record(recorded.config, root, log)
        report = survive(log, scratch, recorded.golden, resume, every=9, seen=seen)
        points += report.points
        assert not report.bad, f"killed before call {kill_at}: " + "\n".join(report.bad)
    print(f"A5, engine: {points} states resumed after kills at every twelfth of {calls} calls")
