"""A5 on the real engine: every state in which a power loss may leave its output, resumed in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from synthaug.engine import publish
from tests.crash.job import COMPLETE, golden_digest
from tests.crash.power_loss import survive
from tests.crash.recorder import Op, Recorder, flushes, never_flushed
from tests.engine import runs

SMALL = (
    "read.count=6",
    "engine.shard_size=2",
    "read.broken=[fake/00003]",
    "gate.share=0",
    "read.width=24",
    "read.height=16",
    "engine.encoders=0",
)


@dataclass(frozen=True)
class Recorded:
    log: list[Op]
    golden: str


def _run(root: Path, log: list[Op], *overrides: str) -> None:
    """One run through a recording seam; publication picks its seam up by name when an output is made."""
    recorder = Recorder(root, log)
    with mock.patch.object(publish, "FileSystem", return_value=recorder):
        status = runs.run(root, *SMALL, *overrides)
    assert status in COMPLETE


def _hashing(root: Path) -> None:
    _run(root, [], "engine.resume_check=full")


def _sizing(root: Path) -> None:
    _run(root, [], "engine.resume_check=sizes")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    root, log = tmp_path_factory.mktemp("recorded") / "out", list[Op]()
    _run(root, log)
    return Recorded(log, golden_digest(root))


def test_a5_some_power_losses_of_the_engine(recorded: Recorded, scratch: Path) -> None:
    assert len(flushes(recorded.log)) >= 30
    report = survive(recorded.log, scratch, recorded.golden, _sizing, every=41)
    assert report.points >= 10
    assert not report.bad, "\n".join(report.bad)


@pytest.mark.slow
@pytest.mark.parametrize("resume", [_hashing, _sizing])
def test_a5_every_power_loss_of_the_engine(recorded: Recorded, scratch: Path, resume: Callable[[Path], None]) -> None:
    report = survive(recorded.log, scratch, recorded.golden, resume)
    print(f"A5, engine: {report.points} distinct states after {len(recorded.log)} calls")
    assert report.points >= 200
    assert not report.bad, "\n".join(report.bad)


@pytest.mark.slow
def test_a5_engine_data_that_was_never_flushed(recorded: Recorded, scratch: Path) -> None:
    """The hashes find it; comparing sizes alone does not, so the flushes are needed for that check."""
    pictures = {op.path for op in recorded.log if op.call == "rename" and op.other.startswith("images/")}
    log = never_flushed(recorded.log, lambda op: op.path in pictures)
    assert len(flushes(recorded.log)) - len(flushes(log)) == len(pictures)
    hashed = survive(log, scratch, recorded.golden, _hashing, every=97)
    assert not hashed.bad, "\n".join(hashed.bad)
    assert survive(log, scratch, recorded.golden, _sizing, stop_at_first=True, every=5).bad
