"""A1 on the real engine: killed at every file-system call, at random moments, in every power-loss state."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.crash import ledger
from tests.crash.job import Job
from tests.crash.random_kill import random_kills
from tests.crash.seam_kill import exit_everywhere
from tests.crash.strace_kill import Point, available, kill_everywhere

SMALL = (
    "read.count=6",
    "engine.shard_size=2",
    "read.broken=[fake/00003]",
    "gate.share=0",
    "read.width=24",
    "read.height=16",
)
SERIAL = Job((sys.executable, "-m", "tests.crash.engine_run", "{root}", *SMALL, "engine.encoders=0"))
PARALLEL = Job(
    (
        sys.executable,
        "-m",
        "tests.crash.engine_run",
        "{root}",
        *SMALL,
        "read.count=12",
        "engine.workers=4",
        "read.jitter=0.01",
    )
)


def _sound(root: Path) -> list[str]:
    """What the ledger says between a kill and its resume."""
    return ledger.check(root, complete=False)


def _every(step: int) -> object:
    def choose(points: list[Point]) -> list[Point]:
        changing = [p for p in points if p.changes]
        return changing[::step]

    return choose


@pytest.mark.skipif(
    not available(), reason="strace is not installed or may not inject; the seam's variant runs instead"
)
def test_a1_killed_at_some_file_system_calls(tmp_path: Path) -> None:
    report = kill_everywhere(SERIAL, tmp_path, choose=_every(9), between=_sound)
    assert report.points >= 10
    assert not report.bad, "\n".join(report.bad)


@pytest.mark.slow
@pytest.mark.skipif(
    not available(), reason="strace is not installed or may not inject; the seam's variant runs instead"
)
def test_a1_killed_once_at_every_file_system_call(tmp_path: Path) -> None:
    report = kill_everywhere(SERIAL, tmp_path, between=_sound)
    print(f"A1: {report.points} exact kill points")
    assert report.points >= 200
    assert not report.bad, "\n".join(report.bad)


@pytest.mark.slow
def test_a1_ended_before_every_call_of_the_seam(tmp_path: Path) -> None:
    report = exit_everywhere(SERIAL, tmp_path)
    print(f"A1: {report.points} exits at the seam")
    assert report.points >= 100
    assert not report.bad, "\n".join(report.bad)


def test_a1_random_kills_of_a_parallel_run(tmp_path: Path) -> None:
    report = random_kills(PARALLEL, tmp_path, 10, seed=1)
    assert report.points == 10
    assert not report.bad, "\n".join(report.bad)


@pytest.mark.slow
def test_a1_fifty_random_kills_of_a_four_worker_run(tmp_path: Path) -> None:
    report = random_kills(PARALLEL, tmp_path, 50, seed=2)
    assert report.points == 50
    assert not report.bad, "\n".join(report.bad)
