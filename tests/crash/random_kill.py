"""Kills whole runs, workers and all, at random moments, also while they resume."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from tests.crash.job import Job, Report, partial


def random_kills(job: Job, folder: Path, n: int, seed: int, *, nested: int = 5) -> Report:
    """`n` runs, each killed 1 to `nested` times (SIGKILL to its process group), then finished and compared.

    Args:
        folder: Scratch space; roots with a wrong result are kept.
        nested: At most so many kills of one run: the first and its resumes.
    """
    started = time.monotonic()
    golden = job.golden(folder / "golden")
    alone = time.monotonic() - started
    report, rng = Report(), random.Random(seed)
    for number in range(n):
        root = folder / f"r{number:05d}"
        delays = [rng.uniform(0.0, 1.1 * alone) for _ in range(rng.randint(1, nested))]
        for delay in delays:
            kill_after(job, root, delay)
        problem = "; ".join(partial(root, folder / "golden")) or job.finish(root, golden)
        report.note(f"seed {seed}, run {number}, killed after {[round(d, 4) for d in delays]} s", problem)
        if not problem:
            shutil.rmtree(root)
    return report


def kill_after(job: Job, root: Path, delay: float) -> bool:
    """Starts a run in a process group of its own and kills the group after a delay; whether it still lived."""
    victim = subprocess.Popen(
        job.words(root),
        env=job.surroundings(),
        cwd=job.directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        victim.wait(timeout=delay)
        return False
    except subprocess.TimeoutExpired:
        return True
    finally:
        with suppress(ProcessLookupError):
            os.killpg(victim.pid, signal.SIGKILL)
        victim.wait()
        _gone(victim.pid)


def _gone(group: int) -> None:
    """Waits until the last process of a killed group is gone, so that the resume meets no survivor."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.005)
    raise AssertionError(f"process group {group} survived SIGKILL for 10 s")
