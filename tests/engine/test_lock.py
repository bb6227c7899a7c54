"""One run at a time over an output root."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from synthaug.engine.lock import RunLock
from synthaug.errors import Refusal, SecurityError
from tests.crash.job import PROJECT, TINY

HOLDER = """
import sys, time
from pathlib import Path
from synthaug.engine.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def _start(root: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-S", "-c", HOLDER, str(root), str(seconds)],
        cwd=PROJECT,
        env=TINY.surroundings(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _held(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"


def test_b1_a_second_run_is_refused_with_the_owners_name(tmp_path: Path) -> None:
    owner = _start(tmp_path, 60)
    try:
        _held(owner)
        started = time.monotonic()
        with pytest.raises(Refusal) as caught:
            RunLock(tmp_path).acquire()
        assert time.monotonic() - started < 2
        said = str(caught.value)
        assert f"host {socket.gethostname()}, pid {owner.pid}, start 20" in said
        assert caught.value.exit_status == 2
    finally:
        owner.kill()
        owner.communicate()


def _race(root: Path) -> None:
    runners = [_start(root, 0.4) for _ in range(2)]
    started = time.monotonic()
    ends = [runner.communicate(timeout=60) for runner in runners]
    assert sorted(out for out, _ in ends) == ["", "held\n"], ends
    winner = next(r for r, (out, _) in zip(runners, ends, strict=True) if out)
    (said,) = (err for out, err in ends if not out)
    assert f"pid {winner.pid}," in said
    assert time.monotonic() - started < 10


def test_b1_of_two_at_once_exactly_one_proceeds(tmp_path: Path) -> None:
    for _ in range(3):
        _race(tmp_path)


@pytest.mark.slow
def test_b1_a_hundred_races(tmp_path: Path) -> None:
    for _ in range(100):
        _race(tmp_path)


def test_b1_two_locks_in_one_process(tmp_path: Path) -> None:
    with RunLock(tmp_path), pytest.raises(Refusal, match=f"pid {os.getpid()}"):
        RunLock(tmp_path).acquire()
    with RunLock(tmp_path):
        pass


def test_b1_an_unsigned_lock_is_refused_within_two_seconds(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        (tmp_path / ".synthaug" / "lock").write_bytes(b"")
        started = time.monotonic()
        with pytest.raises(Refusal, match="has not signed"):
            RunLock(tmp_path).acquire()
        assert time.monotonic() - started < 2


def test_b2_the_lock_of_a_killed_run_is_taken_over(tmp_path: Path) -> None:
    owner = _start(tmp_path, 60)
    _held(owner)
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    left = json.loads((tmp_path / ".synthaug" / "lock").read_bytes())
    assert left["pid"] == owner.pid
    started = time.monotonic()
    with RunLock(tmp_path):
        assert time.monotonic() - started < 0.5
        assert json.loads((tmp_path / ".synthaug" / "lock").read_bytes())["pid"] == os.getpid()


FORKER = """
import os, sys, time
from pathlib import Path
from synthaug.engine.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.acquire()
if os.fork() == 0:
    print(os.getpid(), flush=True)
    time.sleep(30)
time.sleep(30)
"""


def test_b2_a_forked_child_does_not_keep_the_lock_of_its_dead_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-S", "-c", FORKER, str(tmp_path)], cwd=PROJECT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        with pytest.raises(Refusal):
            RunLock(tmp_path).acquire()
        parent.kill()
        parent.wait()
        with RunLock(tmp_path):
            os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)
        parent.stdout.close()


def test_releasing_leaves_an_empty_file_and_is_harmless_twice(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    lock.acquire()
    lock.release()
    lock.release()
    assert (tmp_path / ".synthaug" / "lock").read_bytes() == b""


@pytest.mark.security
def test_a_lock_file_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "out" / ".synthaug").mkdir(parents=True)
    (tmp_path / "out" / ".synthaug" / "lock").symlink_to(tmp_path / "mine")
    with pytest.raises(SecurityError):
        RunLock(tmp_path / "out").acquire()
    assert (tmp_path / "mine").read_bytes() == b"mine"


def test_a_lock_file_removed_meanwhile_does_not_let_two_runs_in(tmp_path: Path) -> None:
    path = tmp_path / ".synthaug" / "lock"
    first = RunLock(tmp_path)
    first.acquire()
    path.unlink()
    with RunLock(tmp_path), pytest.raises(Refusal):
        RunLock(tmp_path).acquire()
    first.release()
