"""Runs of the engine on a disk that is really full: a small tmpfs in a mount namespace of its own.

Called as `unshare -rm python -m tests.crash.engine_full_disk FOLDER FREE_BYTES ...`; prints a JSON object with a
finding for each amount of free space: status and message of the run, shards published by then, what was wrong
with the disk, and what came of the resume after space was freed.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from synthaug.engine import local
from synthaug.engine.configure import RunConfig
from synthaug.errors import SynthaugError
from tests.crash import ledger
from tests.crash.job import golden_digest, litter, partial
from tests.crash.test_engine import SMALL
from tests.crash.test_engine_promises import placed
from tests.engine import runs

BIG = (*SMALL, "engine.encoders=0", "read.width=256", "read.height=256")
"""3.4 MB: 0.8, 0.4 and 0.8 in the shards, 1.3 at the end."""


def attempt(config: RunConfig, root: Path) -> tuple[int, str]:
    """One run in this process: its exit status and message, as the command line would give them."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return local.run(placed(config, root)), ""
    except SynthaugError as error:
        return error.exit_status, str(error)


def fill(disk: Path, free: int) -> Path:
    """A file that leaves `free` bytes of a disk."""
    status = os.statvfs(disk)
    (disk / "ballast").write_bytes(bytes(status.f_bavail * status.f_frsize - free))
    return disk / "ballast"


def main(folder: Path, amounts: list[int]) -> dict[str, dict[str, object]]:
    """One run into each amount of free bytes, one more after the ballast is gone."""
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=True)
    config = runs.config(folder / "golden", *BIG)
    attempt(config, folder / "golden")
    golden, out, found = golden_digest(folder / "golden"), disk / "out", {}
    for free in amounts:
        ballast = fill(disk, free)
        status, message = attempt(config, out)
        wrong = partial(out, folder / "golden") + ledger.check(out, complete=False)
        left = litter(out)
        shards = len(list(out.glob(".synthaug/shards/*.json")))
        ballast.unlink()
        resumed, _ = attempt(config, out)
        found[str(free)] = {
            "status": status,
            "message": message,
            "shards": shards,
            "wrong": wrong,
            "left": left,
            "resumed": resumed,
            "golden": golden_digest(out) == golden,
        }
        shutil.rmtree(out)
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), [int(free) for free in sys.argv[2:]])))
