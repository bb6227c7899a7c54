"""Writes down what a run does to the disk, and edits such logs for mutation checks."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from synthaug.engine.publish import FileSystem

FLUSHES = ("fsync", "fsync_dir")


@dataclass(frozen=True)
class Op:
    """One recorded call, paths relative to the root.

    `lost` means that it was a flush and failed. The call `promise` is none: the program has said that what the
    manifest at `path` vouches for is durable, and from here on no state may lack it.
    """

    call: str
    path: str
    other: str = ""
    data: bytes = b""
    lost: bool = False


class Killed(BaseException):
    """The recorded process is dead; nothing it still tries reaches the disk."""


class Recorder(FileSystem):
    """Does the calls, flushes apart, and writes them down; several runs over one root may share a log.

    Real flushes are left out for speed: the log is what counts. Calls of several threads take turns, so that the
    log has the order in which they happened.

    Args:
        root: Calls elsewhere are not recorded.
        log: Where to append.
        kill_at: The call (from 1) before which this process dies.
        fail_at: The flush (from 1) that fails with EIO.
    """

    def __init__(self, root: Path, log: list[Op], *, kill_at: int = 0, fail_at: int = 0) -> None:
        self.root, self.log = os.path.realpath(root), log
        self._kill_at, self._fail_at = kill_at, fail_at
        self.calls = self.flushes = 0
        self._order = threading.RLock()

    def step(self, call: str, path: str) -> None:
        with self._order:
            self.calls += 1
            if self._kill_at and self.calls >= self._kill_at:
                raise Killed

    def _note(self, call: str, path: str, other: str = "", data: bytes = b"", lost: bool = False) -> None:
        names = [os.path.relpath(p, self.root) if p else "" for p in (path, other)]
        if not names[0].startswith("..") and not (call == "mkdir" and names[0] == "."):
            self.log.append(Op(call, names[0], names[1], data, lost))

    def _flushed(self, call: str, path: str) -> None:
        with self._order:
            self.step(call, path)
            self.flushes += 1
            lost = self.flushes == self._fail_at
            self._note(call, path, lost=lost)
        if lost:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    def mkdir(self, path: str) -> None:
        with self._order:
            super().mkdir(path)
            self._note("mkdir", path)

    def create(self, path: str) -> int:
        with self._order:
            file = super().create(path)
            self._note("create", path)
        return file

    def write(self, file: int, data: memoryview, path: str) -> int:
        with self._order:
            count = super().write(file, data, path)
            if not path.endswith("/.synthaug/lock"):
                self._note("write", path, data=bytes(data[:count]))
        return count

    def fsync(self, file: int, path: str) -> None:
        self._flushed("fsync", path)

    def fsync_dir(self, path: str) -> None:
        self._flushed("fsync_dir", path)

    def rename(self, source: str, target: str) -> None:
        with self._order:
            super().rename(source, target)
            self._note("rename", source, target)

    def unlink(self, path: str) -> None:
        with self._order:
            super().unlink(path)
            self._note("unlink", path)

    def rmdir(self, path: str) -> None:
        with self._order:
            super().rmdir(path)
            self._note("rmdir", path)


def without(log: Sequence[Op], number: int) -> list[Op]:
    """The log as it would be had one flush not been there."""
    assert log[number].call in FLUSHES
    return [op for i, op in enumerate(log) if i != number]


def never_flushed(log: Sequence[Op], wanted: Callable[[Op], bool] = lambda op: True) -> list[Op]:
    """The log with every flush left out, or those that are wanted."""
    return [op for op in log if op.call not in FLUSHES or not wanted(op)]


def retried(log: Sequence[Op], number: int) -> list[Op]:
    """The log had one flush failed, and had the program simply repeated it."""
    assert log[number].call in FLUSHES
    return [*log[:number], replace(log[number], lost=True), *log[number:]]


def flushes(log: Sequence[Op]) -> list[int]:
    """Where the flushes stand in a log."""
    return [i for i, op in enumerate(log) if op.call in FLUSHES]
