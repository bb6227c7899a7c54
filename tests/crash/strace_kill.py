"""Kills a run at every system call that it makes below its output root, one at a time, and resumes it.

strace counts calls per thread, so the victim should do its file work in one thread (no workers, one encoder);
calls of other threads are still hit, but some k then fall on more than one of them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.crash.job import Job, Report, partial

CHANGING = ("write", "pwrite64", "rename", "renameat", "renameat2", "link", "linkat", "ftruncate")
FOLDERS = ("mkdir", "mkdirat", "unlink", "unlinkat", "rmdir")
QUIET = ("openat", "close", "fsync", "fdatasync", "flock")
CALLS = (*CHANGING, *FOLDERS, *QUIET)
_LINE = re.compile(r"^(?P<thread>\d+) +(?P<call>\w+)\((?P<rest>.*)$")


@dataclass(frozen=True)
class Point:
    """The k-th invocation (from 1) of a system call by one thread, and what it was."""

    call: str
    k: int
    line: str

    @property
    def changes(self) -> bool:
        """Whether the call can change what is on the disk; killing before any other leaves the same state."""
        return self.call not in ("close", "flock") and (self.call != "openat" or "O_CREAT" in self.line)


@cache
def available() -> bool:
    """Whether strace is here and may inject into a child."""
    if shutil.which("strace") is None:
        return False
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=close:signal=SIGKILL:when=1", "true"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    return done.returncode in (-9, 137)


def points(job: Job, root: Path) -> list[Point]:
    """Runs once under strace in peace and lists every call that touches a path below `root`.

    Raises:
        AssertionError: The run did not end well.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        done = job.run(root, prefix=_tracer(CALLS, log))
        if done.returncode != 0:
            raise AssertionError(f"the traced run ended with {done.returncode}:\n{done.stderr}")
        return _parsed(log.read_text(errors="replace").splitlines(), str(root))


def _tracer(calls: Iterable[str], log: Path) -> list[str]:
    return ["strace", "-f", "-y", "-qq", "-s", "0", "-o", str(log), "-e", f"trace={','.join(calls)}"]


def _parsed(lines: Iterable[str], root: str) -> list[Point]:
    seen: Counter[tuple[str, str]] = Counter()
    found: dict[tuple[str, int], Point] = {}
    for line in lines:
        match = _LINE.match(line)
        if match is None or match["rest"].startswith("resumed"):
            continue
        call = match["call"]
        seen[match["thread"], call] += 1
        if root in match["rest"]:
            point = Point(call, seen[match["thread"], call], match["rest"])
            found.setdefault((point.call, point.k), point)
    return list(found.values())


def kill_at(job: Job, root: Path, point: Point) -> bool:
    """Runs the job and kills it on entry to one call; whether it died there."""
    inject = f"inject={point.call}:signal=SIGKILL:when={point.k}"
    prefix = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={point.call}", "-e", inject]
    return job.run(root, prefix=prefix).returncode in (-9, 137)


def kill_everywhere(
    job: Job,
    folder: Path,
    *,
    choose: Callable[[list[Point]], list[Point]] = lambda every: every,
    between: Callable[[Path], list[str]] = lambda root: [],
    lanes: int = 2,
) -> Report:
    """Kills a fresh run at each chosen point, resumes it, and compares with the undisturbed run.

    Args:
        folder: Scratch space; each root in it is removed when it was fine, and kept when it was not.
        choose: Thins the points out, for quick runs.
        between: Looks at the root between the kill and the resume; says what is wrong with it already.
        lanes: Victims at a time.
    """
    golden = job.golden(folder / "golden")
    chosen = choose(points(job, folder / "t0000"))
    report = Report()

    def one(number: int) -> tuple[str, str]:
        point, root = chosen[number], folder / f"k{number:04d}"
        where = f"killed before {point.call} #{point.k} ({point.line[:120]})"
        if not kill_at(job, root, point):
            return where, "the run was not killed: its calls are not the same each time"
        problem = "; ".join(partial(root, folder / "golden") + between(root)) or job.finish(root, golden)
        if not problem:
            shutil.rmtree(root)
        return where, problem

    with ThreadPoolExecutor(lanes) as pool:
        for where, problem in pool.map(one, range(len(chosen))):
            report.note(where, problem)
    return report
