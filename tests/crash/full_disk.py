"""A run on a disk that is really full: a small tmpfs in a mount namespace of its own.

Called as `unshare -rm python -m tests.crash.full_disk FOLDER FREE_BYTES`; prints JSON: the status and message
of the run, what lay partial under a final name, the status after space was freed, and whether the digest
was the golden one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.crash import ledger
from tests.crash.job import Job, golden_digest, litter, partial

BYTES = 400_000
BIG = Job((sys.executable, "-S", "-m", "tests.crash.tiny_run", "{root}", "--bytes", str(BYTES)))


def main(folder: Path, free: int) -> dict[str, object]:
    """One run into `free` bytes, one after the ballast is gone."""
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=True)
    golden = BIG.golden(folder / "golden")
    status = os.statvfs(disk)
    (disk / "ballast").write_bytes(bytes(status.f_bavail * status.f_frsize - free))
    first = BIG.run(disk / "out")
    wrong = partial(disk / "out", folder / "golden") + ledger.check(disk / "out", complete=False)
    left = litter(disk / "out")
    (disk / "ballast").unlink()
    second = BIG.run(disk / "out")
    return {
        "status": first.returncode,
        "message": first.stderr,
        "wrong": wrong,
        "left": left,
        "resumed": second.returncode,
        "golden": golden_digest(disk / "out") == golden,
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))))
