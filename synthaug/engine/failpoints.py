"""Named points where a test can make a run fail, all of them, in one place.

`SYNTHAUG_FAILPOINTS="worker.segv@images/7;fs.exit@12;model.oom@3+"` arms them when the process starts. After
the `@` stands a sample id, or a number k: the k-th time that this process comes by (k+: from then on). An
unset variable costs one truth test. Nothing here is meant for production.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from synthaug.errors import ConfigError, nearest

VARIABLE = "SYNTHAUG_FAILPOINTS"

FAILPOINTS: Mapping[str, str] = MappingProxyType(
    {
        "model.nan": "@id: the fake model returns NaN for this sample",
        "model.black": "@id: the fake model returns a black picture for this sample",
        "model.oom": "@k: the k-th call of the model runs out of memory",
        "worker.segv": "@id: the worker that reads this sample dies of SIGSEGV",
        "worker.hang": "@id: the worker that reads this sample never comes back",
        "decode.crash": "@id: the decoder aborts the process that decodes this sample",
        "gate.refuse": "@id: the gate refuses every attempt at this sample",
        "fs.exit": "@k: the process ends, as by SIGKILL, just before its k-th file-system call",
        "fs.enospc": "@k: the k-th file-system call finds the disk full",
        "fs.eio": "@k: the k-th file-system call meets a broken disk",
        "publish.stop": "@k: the process stops (SIGSTOP) before it commits its k-th shard",
        "run.interrupt": "@k: the process sends itself SIGTERM after its k-th finished shard",
    }
)
"""Every failpoint there is, with what its argument means."""

_NUMBER = re.compile(r"[1-9][0-9]*\+?")
_armed: dict[str, frozenset[str]] = {}
_passed: Counter[str] = Counter()
_counting = threading.Lock()


def arm(text: str) -> None:
    """Replaces the armed set and restarts all counts. Called at import with the environment variable.

    Args:
        text: `name@argument` entries, joined by `;`. Empty disarms everything.

    Raises:
        ConfigError: An unknown name, an entry without an argument, or no number where one is counted.
    """
    wanted: dict[str, set[str]] = {}
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        name, mark, argument = entry.partition("@")
        if name not in FAILPOINTS:
            raise ConfigError(f"{VARIABLE}: no failpoint is called {name!r}.{nearest(name, FAILPOINTS)}")
        if not mark or not argument:
            raise ConfigError(f"{VARIABLE}: {entry!r} says not where; expected {name}{FAILPOINTS[name].split(':')[0]}")
        if FAILPOINTS[name].startswith("@k") and not _NUMBER.fullmatch(argument):
            raise ConfigError(f"{VARIABLE}: {entry!r}; expected a number k from 1 behind the @, or k+")
        wanted.setdefault(name, set()).add(argument)
    with _counting:
        _armed.clear()
        _passed.clear()
        _armed.update({name: frozenset(arguments) for name, arguments in wanted.items()})


def armed() -> bool:
    """Whether any failpoint is armed; what hot code asks first."""
    return bool(_armed)


def hit(name: str, argument: str | int) -> bool:
    """Whether failpoint `name` is armed for `argument`, a sample id or a number the caller counts itself."""
    if not _armed or name not in _armed:
        return False
    return _matches(_armed[name], argument)


def reached(name: str) -> bool:
    """Counts one passage of this process by `name`, and says whether it is one that was armed."""
    if not _armed or name not in _armed:
        return False
    with _counting:
        _passed[name] += 1
        return _matches(_armed[name], _passed[name])


def _matches(arguments: frozenset[str], argument: str | int) -> bool:
    if str(argument) in arguments:
        return True
    return isinstance(argument, int) and any(a[-1] == "+" and argument >= int(a[:-1]) for a in arguments)


def exit_at(name: str) -> None:
    """Ends the process without cleaning up, as SIGKILL would, at the armed passage."""
    if reached(name):
        os._exit(137)


def fail_at(name: str, number: int) -> None:
    """Raises `OSError` with this errno at the armed passage."""
    if reached(name):
        raise OSError(number, os.strerror(number), name)


def stop_at(name: str) -> None:
    """Stops the process with SIGSTOP at the armed passage; SIGCONT lets it go on."""
    if reached(name):
        os.kill(os.getpid(), signal.SIGSTOP)


def interrupt_at(name: str) -> None:
    """Asks this process to end, with SIGTERM, at the armed passage."""
    if reached(name):
        os.kill(os.getpid(), signal.SIGTERM)


def crash_at(name: str, sample_id: str) -> None:
    """Dies of SIGSEGV at the armed sample."""
    if hit(name, sample_id):
        os.kill(os.getpid(), signal.SIGSEGV)


def abort_at(name: str, sample_id: str) -> None:
    """Dies of SIGABRT at the armed sample, as C code does on a broken assertion."""
    if hit(name, sample_id):
        os.abort()


def hang_at(name: str, sample_id: str) -> None:
    """Never returns at the armed sample."""
    while hit(name, sample_id):
        time.sleep(1.0)


def file_call() -> None:
    """What the file-system seam calls before each of its calls."""
    if _armed:
        exit_at("fs.exit")
        fail_at("fs.enospc", errno.ENOSPC)
        fail_at("fs.eio", errno.EIO)


arm(os.environ.get(VARIABLE, ""))
