"""A1 on the smallest client: killed at every call, at random, at the seam; and proof that the drivers can see."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash import ledger, strace_kill
from tests.crash.job import TINY, Job, golden_digest, partial
from tests.crash.random_kill import random_kills
from tests.crash.seam_kill import calls, exit_everywhere, fail_everywhere
from tests.crash.strace_kill import Point, kill_everywhere

CARELESS = Job((sys.executable, "-S", "-m", "tests.crash.careless_run", "{root}"))
needs_strace = pytest.mark.skipif(
    not strace_kill.available(), reason="strace is not installed or may not inject; the seam's variant runs instead"
)


def _sound(root: Path) -> list[str]:
    return ledger.check(root, complete=False)


def _changing(step: int = 1) -> Callable[[list[Point]], list[Point]]:
    return lambda points: [p for p in points if p.changes][::step]


@needs_strace
def test_a1_killed_at_system_calls_that_change_the_disk(tmp_path: Path) -> None:
    report = kill_everywhere(TINY, tmp_path, choose=_changing(6), between=_sound)
    assert report.points >= 15
    assert not report.bad, "\n".join(report.bad)


@needs_strace
@pytest.mark.slow
def test_a1_killed_at_every_system_call(tmp_path: Path) -> None:
    report = kill_everywhere(TINY, tmp_path, between=_sound)
    print(f"A1, smallest client: {report.points} exact kill points")
    assert report.points >= 200
    assert not report.bad, "\n".join(report.bad)


@needs_strace
def test_the_exact_driver_sees_a_careless_writer(tmp_path: Path) -> None:
    report = kill_everywhere(CARELESS, tmp_path, choose=_changing())
    assert 1 <= len(report.bad) < report.points


@needs_strace
def test_points_are_below_the_root_and_name_every_step(tmp_path: Path) -> None:
    points = strace_kill.points(TINY, tmp_path / "out")
    kinds = {point.call for point in points}
    assert {"openat", "write", "fsync", "mkdir", "rmdir", "unlink"} <= kinds or {"mkdirat", "unlinkat"} & kinds
    assert any(call.startswith("rename") for call in kinds)
    assert all(str(tmp_path) in point.line for point in points)
    assert len({(point.call, point.k) for point in points}) == len(points)


def test_reading_calls_leave_the_disk_alone() -> None:
    assert Point("openat", 1, '"/out/x", O_WRONLY|O_CREAT) = 3').changes
    assert not Point("openat", 2, '"/out/x", O_RDONLY) = 3').changes
    assert not Point("close", 1, "3</out/x>) = 0").changes
    assert Point("fsync", 1, "3</out/x>) = 0").changes


def test_a1_ended_before_calls_of_the_seam(tmp_path: Path) -> None:
    report = exit_everywhere(TINY, tmp_path, ordinals=range(2, 130, 13))
    assert report.points == 10
    assert not report.bad, "\n".join(report.bad)


@pytest.mark.slow
def test_a1_ended_before_every_call_of_the_seam(tmp_path: Path) -> None:
    report = exit_everywhere(TINY, tmp_path)
    print(f"A1, smallest client: {report.points} exits at the seam")
    assert report.points == calls(TINY, tmp_path) >= 100
    assert not report.bad, "\n".join(report.bad)


def test_a1_random_kills(tmp_path: Path) -> None:
    report = random_kills(TINY, tmp_path, 4, seed=3)
    assert report.points == 4
    assert not report.bad, "\n".join(report.bad)


@pytest.mark.slow
def test_a1_three_hundred_random_kills(tmp_path: Path) -> None:
    report = random_kills(TINY, tmp_path, 300, seed=4)
    assert report.points == 300
    assert not report.bad, "\n".join(report.bad)


def test_the_random_driver_kills_and_sees_a_careless_writer(tmp_path: Path) -> None:
    slow = Job((sys.executable, "-c", "import sys, time, pathlib; r = pathlib.Path(sys.argv[1]); "
                "r.mkdir(exist_ok=True); m = r / 'done'; "
                "m.exists() or (m.touch(), time.sleep(0.3), (r / 'data').write_text('x'))", "{root}"))  # fmt: skip
    report = random_kills(slow, tmp_path, 5, seed=1, nested=2)
    assert report.points == 5
    assert any("another dataset" in problem for problem in report.bad)


@pytest.mark.parametrize("onwards", [False, True])
def test_a7_disk_full_at_calls_of_the_seam(tmp_path: Path, onwards: bool) -> None:
    """Status 75, or 2 while the output is still being probed; the resume after space is freed is golden."""
    report = fail_everywhere(
        TINY,
        tmp_path,
        ordinals=range(3, 130, 32),
        failpoint="fs.enospc",
        onwards=onwards,
        statuses=(75, 2),
        between=_sound,
    )
    assert report.points == 4
    assert not report.bad, "\n".join(report.bad)


@pytest.mark.slow
@pytest.mark.parametrize("onwards", [False, True])
def test_a7_disk_full_at_every_call_of_the_seam(tmp_path: Path, onwards: bool) -> None:
    report = fail_everywhere(TINY, tmp_path, failpoint="fs.enospc", onwards=onwards, statuses=(75, 2), between=_sound)
    assert report.points >= 100
    assert not report.bad, "\n".join(report.bad)


def test_a8_broken_disk_at_calls_of_the_seam(tmp_path: Path) -> None:
    """One error while a file is written is survived (0); any other stops the run, resumable."""
    report = fail_everywhere(
        TINY, tmp_path, ordinals=range(5, 130, 25), failpoint="fs.eio", statuses=(0, 75, 2), between=_sound
    )
    assert report.points == 5
    assert not report.bad, "\n".join(report.bad)


@pytest.mark.slow
@pytest.mark.parametrize("onwards", [False, True])
def test_a8_broken_disk_at_every_call_of_the_seam(tmp_path: Path, onwards: bool) -> None:
    statuses = (75, 2) if onwards else (0, 75, 2)
    report = fail_everywhere(TINY, tmp_path, failpoint="fs.eio", onwards=onwards, statuses=statuses, between=_sound)
    assert report.points >= 100
    assert not report.bad, "\n".join(report.bad)


def test_golden_digest_covers_names_and_bytes_and_leaves_out_the_workshop(tmp_path: Path) -> None:
    (tmp_path / ".synthaug" / "tmp").mkdir(parents=True)
    (tmp_path / "a").write_bytes(b"1")
    before = golden_digest(tmp_path)
    for name in (".synthaug/tmp/x", ".synthaug/lock", ".synthaug/run.log"):
        (tmp_path / name).write_bytes(b"whatever")
    assert golden_digest(tmp_path) == before
    (tmp_path / "a").rename(tmp_path / "b")
    assert golden_digest(tmp_path) != before
    (tmp_path / "b").rename(tmp_path / "a")
    (tmp_path / "a").write_bytes(b"2")
    assert golden_digest(tmp_path) != before
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / ".synthaug" / "plan.json").write_bytes(b"{}")
    assert golden_digest(tmp_path) != before
    os.symlink("a", tmp_path / "c")
    (tmp_path / ".synthaug" / "plan.json").unlink()
    assert golden_digest(tmp_path) != before


def test_partial_files_are_seen(tmp_path: Path) -> None:
    for root in ("golden", "torn"):
        (tmp_path / root).mkdir()
        (tmp_path / root / "a").write_bytes(b"12")
    assert partial(tmp_path / "torn", tmp_path / "golden") == []
    (tmp_path / "torn" / "a").write_bytes(b"1")
    assert partial(tmp_path / "torn", tmp_path / "golden") == ["a is partial or wrong"]
