"""Failpoints strike where they are armed, and nowhere else."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from synthaug.engine import failpoints
from synthaug.errors import ConfigError
from tests.crash.job import PROJECT, TINY


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def test_nothing_is_armed_by_default() -> None:
    assert not failpoints.armed()
    assert not failpoints.hit("model.nan", "a")
    assert not failpoints.reached("fs.exit")


def test_ids_and_numbers() -> None:
    failpoints.arm("model.nan@images/7; model.nan@b;worker.segv@c")
    assert failpoints.hit("model.nan", "images/7")
    assert failpoints.hit("model.nan", "b")
    assert not failpoints.hit("model.nan", "c")
    assert not failpoints.hit("worker.segv", "b")


def test_the_kth_passage_once_and_from_then_on() -> None:
    failpoints.arm("model.oom@3")
    assert [failpoints.reached("model.oom") for _ in range(5)] == [False, False, True, False, False]
    failpoints.arm("model.oom@3+;model.oom@1")
    assert [failpoints.reached("model.oom") for _ in range(5)] == [True, False, True, True, True]


def test_errors_are_raised_at_their_passage() -> None:
    failpoints.arm("fs.enospc@2")
    failpoints.file_call()
    with pytest.raises(OSError, match="No space left") as caught:
        failpoints.file_call()
    assert caught.value.errno == errno.ENOSPC
    failpoints.file_call()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model.nam@a", "Did you mean 'model.nan'"),
        ("model.nan", "expected model.nan@id"),
        ("fs.exit@", "expected fs.exit@k"),
        ("fs.exit@x", "a number"),
        ("fs.exit@0", "a number"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        failpoints.arm(text)


def test_every_failpoint_says_what_its_argument_is() -> None:
    assert all(re.match(r"@(id|k): \w", text) for text in failpoints.FAILPOINTS.values())


@pytest.mark.parametrize(
    ("armed", "code", "status"),
    [
        ("fs.exit@1", "failpoints.file_call()", 137),
        ("worker.segv@a", "failpoints.crash_at('worker.segv', 'a')", -signal.SIGSEGV),
        ("worker.segv@b", "failpoints.crash_at('worker.segv', 'a')", 0),
    ],
)
def test_the_variable_arms_a_process(armed: str, code: str, status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"from synthaug.engine import failpoints; {code}"],
        cwd=PROJECT,
        env={**TINY.surroundings(), failpoints.VARIABLE: armed},
        check=False,
        capture_output=True,
    )
    assert done.returncode == status, done.stderr


def test_a_hanging_process_is_there_until_it_is_killed() -> None:
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", "from synthaug.engine import failpoints; failpoints.hang_at('worker.hang', 'a')"],
        cwd=PROJECT,
        env={**os.environ, failpoints.VARIABLE: "worker.hang@a"},
    )
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    process.kill()
    assert process.wait() == -signal.SIGKILL
