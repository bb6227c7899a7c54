"""Ctrl-C and SIGTERM outside the loop: at once, and what is there can be gone on with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from synthaug.engine import hashing
from synthaug.engine.stopping import stopping
from synthaug.errors import Interrupted
from tests.crash.job import PROJECT
from tests.engine import runs
from tests.engine.test_faults import until

SLOW = """
import time
from tests.fakes import *
from tests.fakes import FakeReader, FakeWriter


class SlowToHash(FakeReader):
    def describe(self, sample_id):
        described = super().describe(sample_id)
        from dataclasses import replace
        return replace(described, files=(sample_id,))

    def digest(self, file):
        open("hashing", "a").close()
        time.sleep(30)
        return "0" * 64

    def stamp(self, file):
        return (1,)


class SlowToEnd(FakeWriter):
    def finalise(self, fragments):
        open("finalising", "a").close()
        time.sleep(0 if __import__("os").path.exists("quick") else 30)
        return super().finalise(fragments)
"""


def start(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    (folder / "slow_parts.py").write_text(SLOW)
    command = [
        sys.executable,
        "-m",
        "synthaug",
        "run",
        runs.RECIPE,
        "--plugin",
        "tests.fakes",
        "--plugin",
        "slow_parts",
    ]
    words = ["write.root=out", "read.count=3", "gate.share=0", "engine.workers=0", *overrides]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    pipe = subprocess.PIPE
    return subprocess.Popen([*command, *words], cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_stop_while_hashing_is_prompt_and_leaves_nothing(tmp_path: Path, number: int, status: int) -> None:
    victim = start(tmp_path, "read._target_=slow_parts.SlowToHash")
    until((tmp_path / "hashing").exists)
    victim.send_signal(number)
    asked = time.monotonic()
    _, errors = victim.communicate(timeout=20)
    assert time.monotonic() - asked < 5
    assert victim.returncode == status, errors
    assert "Traceback" not in errors
    assert "synthaug: stopped" in errors
    assert not (tmp_path / "out").exists()


def test_a_stop_while_finalising_is_prompt_and_can_be_gone_on_with(tmp_path: Path) -> None:
    victim = start(tmp_path, "write._target_=slow_parts.SlowToEnd")
    until((tmp_path / "finalising").exists)
    victim.send_signal(signal.SIGINT)
    asked = time.monotonic()
    victim.communicate(timeout=20)
    assert time.monotonic() - asked < 5
    assert victim.returncode == 130
    assert not (tmp_path / "out/manifest.json").exists()
    (tmp_path / "quick").touch()
    again = start(tmp_path, "write._target_=slow_parts.SlowToEnd")
    _, errors = again.communicate(timeout=60)
    assert again.returncode == 0, errors
    assert runs.totals(tmp_path / "out")["written"] == 3


def signalled(number: int) -> None:
    with stopping():
        os.kill(os.getpid(), number)
        time.sleep(1)


def test_between_samples_a_signal_only_asks() -> None:
    before = signal.getsignal(signal.SIGINT)  # a shell's background job ignores it
    with stopping() as stop, stop.between_samples():
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked.wait(1)
    for number, error in ((signal.SIGTERM, Interrupted), (signal.SIGINT, KeyboardInterrupt)):
        with pytest.raises(error):
            signalled(number)
    assert signal.getsignal(signal.SIGINT) is before


def test_each_keeps_the_order_and_raises_the_first_error() -> None:
    assert hashing.each(lambda x: x * x, range(100)) == [x * x for x in range(100)]
    assert hashing.each(str, []) == []
    seen: list[int] = []

    def fails(number: int) -> int:
        seen.append(number)
        if number == 3:
            raise ValueError("third")
        time.sleep(0.01)
        return number

    with pytest.raises(ValueError, match="third"):
        hashing.each(fails, range(1000))
    assert len(seen) < 100
    assert all(t.daemon for t in threading.enumerate() if t.name.startswith("hash-"))
