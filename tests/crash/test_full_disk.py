"""A7: disk full and file-size limit, for real."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.crash.job import PROJECT, TINY, partial


@cache
def _namespaces() -> bool:
    try:
        probe = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
        return subprocess.run(probe, capture_output=True, timeout=30, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not _namespaces(), reason="no unprivileged mount namespaces; the seam's ENOSPC runs instead")
@pytest.mark.parametrize(
    ("free", "status"),
    [
        (900_000, 2),  # less than the reserve: refused before any work
        (1_100_000, 75),  # room for one shard
        (1_700_000, 75),  # room for two
        (4_000_000, 0),
    ],
)
def test_a7_full_tmpfs(tmp_path: Path, free: int, status: int) -> None:
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-m", "tests.crash.full_disk", str(tmp_path), str(free)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["status"] == status, found
    assert found["wrong"] == []
    assert found["left"] == ""
    assert (found["resumed"], found["golden"]) == (0, True)
    if status == 75:
        assert "is full" in found["message"]
        assert "free some space and run the same command again" in found["message"]
    if status == 2:
        assert "bytes needed" in found["message"]


def test_a7_file_size_limit(tmp_path: Path) -> None:
    """RLIMIT_FSIZE: a short write, then EFBIG."""
    golden = TINY.golden(tmp_path / "golden")
    done = subprocess.run(
        TINY.words(tmp_path / "out"),
        env=TINY.surroundings(),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4500, 4500)),
    )
    assert done.returncode == 75, done.stderr
    assert "File too large" in done.stderr
    assert partial(tmp_path / "out", tmp_path / "golden") == []
    assert TINY.finish(tmp_path / "out", golden) == ""
