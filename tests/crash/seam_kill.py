"""The same as `strace_kill`, where there is no strace: the seam ends the process before its k-th call."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.crash.job import COMPLETE, Job, Report, partial


def calls(job: Job, folder: Path) -> int:
    """How many calls of the seam a whole run makes, by bisection: k calls are there if it dies before the k-th."""

    def there(k: int) -> bool:
        root = folder / f"calls{k}"
        status = job.run(root, failpoints=f"fs.exit@{k}").returncode
        shutil.rmtree(root, ignore_errors=True)
        return status not in COMPLETE

    high = 64
    while there(high):
        high *= 2
    low = high // 2 if high > 64 else 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if there(middle) else (low, middle)
    return low


def fail_everywhere(
    job: Job,
    folder: Path,
    *,
    ordinals: Iterable[int] | None = None,
    failpoint: str = "fs.exit",
    onwards: bool = False,
    statuses: tuple[int, ...] = (137,),
    between: Callable[[Path], list[str]] = lambda root: [],
) -> Report:
    """Makes the k-th call of the seam fail for each k, then resumes in peace and compares.

    Args:
        ordinals: The k to try; all of them where None.
        failpoint: `fs.exit` dies, `fs.enospc` and `fs.eio` fail.
        onwards: Whether every call from the k-th on fails, or that one alone.
        statuses: The exit statuses expected of the run that was struck.
        between: Looks at the root between the failure and the resume; says what is wrong with it already.
    """
    golden = job.golden(folder / "golden")
    report = Report()
    for k in range(1, calls(job, folder) + 1) if ordinals is None else ordinals:
        entry = f"{failpoint}@{k}{'+' if onwards else ''}"
        root = folder / f"{failpoint}{k:04d}"
        done = job.run(root, failpoints=entry)
        problem = "; ".join(partial(root, folder / "golden") + between(root))
        if done.returncode not in statuses:
            problem = f"status {done.returncode}, expected one of {statuses}: {done.stderr.strip()[-300:]}"
        problem = problem or job.finish(root, golden)
        report.note(entry, problem)
        if not problem:
            shutil.rmtree(root)
    return report


def exit_everywhere(job: Job, folder: Path, *, ordinals: Iterable[int] | None = None) -> Report:
    """`fail_everywhere` with the process ending at each call, as by SIGKILL."""
    return fail_everywhere(job, folder, ordinals=ordinals)
