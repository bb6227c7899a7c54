"""The same as `strace_kill`, where there is no strace: the seam ends the process before its k-th call."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path

from tests.crash.job import COMPLETE, Job, Report


def exit_everywhere(
    job: Job,
    folder: Path,
    *,
    ordinals: Iterable[int] | None = None,
    failpoint: str = "fs.exit",
    status: int = 137,
    between: Callable[[Path], list[str]] = lambda root: [],
) -> Report:
    """Makes the k-th call of the seam fail for each k, until a run makes fewer calls than that; resumes each.

    Args:
        ordinals: The k to try, ascending; all of them where None.
        failpoint: `fs.exit` dies, `fs.enospc` and `fs.eio` fail.
        status: The exit status expected where the failpoint struck. A broken disk (`fs.eio`) may also be
            survived, because files are written again.
    """
    golden = job.golden(folder / "golden")
    report = Report()
    for k in count(1) if ordinals is None else ordinals:
        root = folder / f"{failpoint}{k:04d}"
        done = job.run(root, failpoints=f"{failpoint}@{k}")
        if done.returncode in COMPLETE and failpoint != "fs.eio" and ordinals is None:
            return report
        where = f"{failpoint} before call {k}"
        if done.returncode != status and not (done.returncode in COMPLETE and failpoint == "fs.eio"):
            report.note(where, f"status {done.returncode}, expected {status}: {done.stderr.strip()[-300:]}")
            continue
        problem = "; ".join(between(root)) or job.finish(root, golden)
        report.note(where, problem)
        if not problem:
            shutil.rmtree(root)
    return report
