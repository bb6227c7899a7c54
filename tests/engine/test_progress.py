"""The bar and the lines: counts, rate, time left; nothing on a pipe that a log could not hold."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path

import pytest

from synthaug.engine import progress
from synthaug.engine.progress import Progress, clock
from tests.engine import runs


class Clock:
    """Seconds that pass when the test says so."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> Clock:
    time = Clock()
    monkeypatch.setattr(progress, "time", time)
    return time


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, columns: int = 120) -> io.StringIO:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress.shutil, "get_terminal_size", lambda: os.terminal_size((columns, 24)))
    return stream


def test_counts_rate_and_time_left(monkeypatch: pytest.MonkeyPatch, clocked: Clock) -> None:
    out = screen(monkeypatch, io.StringIO())
    with Progress("lines", 1000, done=200) as shown:
        for _ in range(40):
            clocked.now += 1
            shown.settled("written", 2)
        shown.settled("rejected", 3)
        shown.settled("failed", 1)
    lines = out.getvalue().splitlines()
    # 31 s: the first line after half a minute; what an earlier run did counts for the total, not for the rate.
    assert lines[0] == "262/1000  written 62, rejected 0, failed 0  2.0/s  ETA 0:06:09"
    assert lines[-1] == "284/1000  written 80, rejected 3, failed 1  2.1/s  ETA 0:05:40"
    assert len(lines) == 2


def test_what_is_no_terminal_gets_a_line_now_and_then_and_no_control_characters(
    monkeypatch: pytest.MonkeyPatch, clocked: Clock
) -> None:
    out = screen(monkeypatch, io.StringIO())
    with Progress("auto", 600) as shown:
        for _ in range(600):
            clocked.now += 0.5
            shown.settled("written", 1)
    text = out.getvalue()
    assert len(text.splitlines()) == 10, "300 s: one line after each 30 s and a bit, and the last"
    assert all(re.fullmatch(r"[ -~]+", line) for line in text.splitlines())
    assert text.endswith("600/600  written 600, rejected 0, failed 0  2.0/s  ETA 0:00:00\n")


def test_a_terminal_gets_one_line_that_is_drawn_over(monkeypatch: pytest.MonkeyPatch, clocked: Clock) -> None:
    out = screen(monkeypatch, Terminal())
    with Progress("auto", 100) as shown:
        for _ in range(100):
            clocked.now += 0.15
            shown.settled("written", 1)
    text = out.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    frames = text.rstrip("\n").split("\r")[1:]
    assert 45 <= len(frames) <= 52, "five a second at most"
    assert (
        frames[-1] == "[########################] 100/100  written 100, rejected 0, failed 0  6.7/s  ETA 0:00:00\x1b[K"
    )
    assert frames[24].startswith("[############............] 50/100")


@pytest.mark.parametrize("columns", [200, 90, 80, 40, 10])
def test_no_frame_is_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch, clocked: Clock, columns: int) -> None:
    out = screen(monkeypatch, Terminal(), columns)
    with Progress("bar", 100_000) as shown:
        clocked.now += 1
        shown.settled("written", 77_777)
    frames = [frame.removesuffix("\x1b[K") for frame in out.getvalue().rstrip("\n").split("\r")[1:]]
    assert frames
    assert max(map(len, frames)) < columns
    assert frames[0].lstrip("[#.] ").startswith("77777/100000"[: columns - 1])


def test_nothing_is_promised_before_anything_is_done(monkeypatch: pytest.MonkeyPatch, clocked: Clock) -> None:
    out = screen(monkeypatch, io.StringIO())
    with Progress("lines", 10) as shown:
        clocked.now += 60
        shown.settled("written", 0)
    assert out.getvalue() == "0/10  written 0, rejected 0, failed 0  -/s  ETA -:--:--\n"


def test_none_is_silent(monkeypatch: pytest.MonkeyPatch, clocked: Clock) -> None:
    out = screen(monkeypatch, Terminal())
    with Progress("none", 10) as shown:
        clocked.now += 60
        shown.settled("written", 10)
    assert out.getvalue() == ""


def test_clock() -> None:
    assert [clock(s) for s in (0, 61.9, 3600, 360_000)] == ["0:00:00", "0:01:01", "1:00:00", "100:00:00"]


def test_loading_before_the_first_sample_does_not_count_for_the_rate(
    monkeypatch: pytest.MonkeyPatch, clocked: Clock
) -> None:
    out = screen(monkeypatch, io.StringIO())
    with Progress("lines", 161) as shown:
        clocked.now += 600
        shown.settled("written", 1)
        clocked.now += 10
        shown.settled("written", 40)
    assert out.getvalue().splitlines()[0].endswith("-/s  ETA -:--:--")
    assert out.getvalue().splitlines()[-1].endswith("4.0/s  ETA 0:00:30")


def test_a_run_tells_of_every_sample_before_its_shard_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []
    monkeypatch.setattr(Progress, "settled", lambda *_: told.append(any(tmp_path.glob("out/.synthaug/shards/*"))))
    assert runs.run(tmp_path / "out", "gate.share=0", "read.count=8", "engine.shard_size=8") == 0
    assert told == [False] * 8
