"""A7 and A8 on the real engine: a full disk, a file-size limit, a disk that breaks, at any moment."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from synthaug.engine import failpoints, publish
from synthaug.engine.configure import RunConfig
from tests.crash import ledger
from tests.crash.engine_full_disk import BIG, attempt
from tests.crash.job import PROJECT, Job, Report, golden_digest, litter, partial
from tests.crash.recorder import Recorder
from tests.crash.test_engine import SMALL
from tests.engine import runs


@cache
def _namespaces() -> bool:
    try:
        probe = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
        return subprocess.run(probe, capture_output=True, timeout=30, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not _namespaces(), reason="no unprivileged mount namespaces; the seam's ENOSPC runs instead")
def test_a7_the_engine_on_a_full_tmpfs(tmp_path: Path) -> None:
    expected = {"900000": (2, 0), "1100000": (75, 1), "1900000": (75, 2), "2500000": (75, 3), "5000000": (0, 3)}
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-m", "tests.crash.engine_full_disk", str(tmp_path), *expected],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = json.loads(done.stdout)
    assert {free: (row["status"], row["shards"]) for free, row in found.items()} == expected
    for row in found.values():
        assert (row["wrong"], row["left"], row["resumed"], row["golden"]) == ([], "", 0, True), row
        if row["status"] == 75:
            assert "is full" in row["message"]
            assert "free some space and run the same command again" in row["message"]
    assert "bytes needed" in found["900000"]["message"]


def test_a7_the_engine_under_a_file_size_limit(tmp_path: Path) -> None:
    """RLIMIT_FSIZE: the pictures fit, the contact sheet meets EFBIG."""
    job = Job((sys.executable, "-m", "tests.crash.engine_run", "{root}", *BIG))
    golden, root = job.golden(tmp_path / "golden"), tmp_path / "out"
    done = subprocess.run(
        job.words(root),
        env=job.surroundings(),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000)),
    )
    assert done.returncode == 75, done.stderr
    assert "File too large" in done.stderr
    assert partial(root, tmp_path / "golden") + ledger.check(root, complete=False) == []
    assert len(list(root.glob(".synthaug/shards/*.json"))) == 3
    assert job.finish(root, golden) == ""


@dataclass(frozen=True)
class Peace:
    """An undisturbed run: what to run again, where it went, how many calls of the seam it made."""

    config: RunConfig
    root: Path
    calls: int


@pytest.fixture(scope="module")
def peace(tmp_path_factory: pytest.TempPathFactory) -> Peace:
    root = tmp_path_factory.mktemp("peace") / "golden"
    config = runs.config(root, *SMALL, "engine.encoders=0")
    seam = Recorder(root, [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "FileSystem", lambda: seam)
        assert attempt(config, root) == (0, "")
    return Peace(config, root, seam.calls)


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def strike(peace: Peace, folder: Path, failpoint: str, suffix: str, ordinals: Iterable[int]) -> tuple[Report, set[int]]:
    """A run for each k whose k-th call fails, and its resume in peace; what was wrong, and the statuses seen."""
    golden, report, statuses = golden_digest(peace.root), Report(), set[int]()
    for k in ordinals:
        root = folder / f"{failpoint}{suffix}{k:04d}"
        failpoints.arm(f"{failpoint}@{k}{suffix}")
        status, message = attempt(peace.config, root)
        failpoints.arm("")
        problems = partial(root, peace.root) + ledger.check(root, complete=False)
        if status not in (0, 2, 75):
            problems.append(f"status {status}: {message}")
        if status and str(root) not in message:
            problems.append(f"the message does not say where: {message}")
        if status == 75 and "run the same command again" not in message:
            problems.append(f"the message shows no way out: {message}")
        statuses.add(status)
        if attempt(peace.config, root) != (0, ""):
            problems.append("the resume failed")
        elif golden_digest(root) != golden or ledger.check(root) or litter(root):
            problems.append("the resume gave another dataset")
        report.note(f"{failpoint}@{k}{suffix}", "; ".join(problems))
    return report, statuses


FAULTS = [("fs.enospc", ""), ("fs.enospc", "+"), ("fs.eio", ""), ("fs.eio", "+")]
"""Once, and from then on. One EIO while a file is written is survived: its bytes go to a new file."""


@pytest.mark.parametrize(("failpoint", "suffix"), FAULTS)
def test_a7_a8_the_engine_on_a_disk_that_fails(peace: Peace, scratch: Path, failpoint: str, suffix: str) -> None:
    ordinals = range(3, peace.calls, 21)
    report, statuses = strike(peace, scratch, failpoint, suffix, ordinals)
    assert report.points == len(ordinals) >= 7
    assert not report.bad, "\n".join(report.bad)
    assert 75 in statuses


@pytest.mark.slow
@pytest.mark.parametrize(("failpoint", "suffix"), FAULTS)
def test_a7_a8_the_engine_on_a_disk_that_fails_at_each_call(
    peace: Peace, scratch: Path, failpoint: str, suffix: str
) -> None:
    report, statuses = strike(peace, scratch, failpoint, suffix, range(1, peace.calls + 1))
    print(f"A7/A8, engine: {failpoint}{suffix} at each of {peace.calls} calls, statuses {sorted(statuses)}")
    assert not report.bad, "\n".join(report.bad)
    assert statuses == ({0, 2, 75} if (failpoint, suffix) == ("fs.eio", "") else {2, 75})


def flip(peace: Peace, folder: Path, name: str, step: int) -> tuple[int, list[str]]:
    """Flips one bit in each `step`-th byte of a book while the dataset is not complete; how many, what was wrong.

    Either the run is refused and nothing was touched, or the book counts as lost and its shard is done again.
    """
    root, golden = folder / "out", golden_digest(peace.root)
    shutil.copytree(peace.root, root)
    (root / "manifest.json").unlink()
    whole, wrong = (root / name).read_bytes(), list[str]()
    numbers = range(0, len(whole), step)
    for number in numbers:
        data = bytearray(whole)
        data[number] ^= 1 << number % 8
        (root / name).write_bytes(data)
        status, _ = attempt(peace.config, root)
        if status == 2:
            (root / name).write_bytes(whole)
            status, _ = attempt(peace.config, root)
        if status or golden_digest(root) != golden:
            wrong.append(f"byte {number} of {name}: status {status}")
        (root / "manifest.json").unlink()
    return len(numbers), wrong


BOOKS = [".synthaug/plan.json", ".synthaug/shards/000001.json", ".synthaug/shards/000001.rows.jsonl"]


@pytest.mark.parametrize("name", BOOKS)
def test_a6_a_flipped_bit_in_a_book_never_reaches_the_dataset(peace: Peace, scratch: Path, name: str) -> None:
    count, wrong = flip(peace, scratch, name, 149)
    assert count >= 2
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("name", BOOKS)
def test_a6_no_flipped_bit_in_a_book_reaches_the_dataset(peace: Peace, scratch: Path, name: str) -> None:
    count, wrong = flip(peace, scratch, name, 3)
    print(f"A6, engine: {count} flipped bits of {name} found")
    assert not wrong, "\n".join(wrong)
