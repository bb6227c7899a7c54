"""A10: a run leaves its input as it is: no lock, no cache, no temporary file, not even an open for writing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from synthaug.engine import local
from synthaug.engine.configure import compose
from tests.crash.job import PROJECT
from tests.engine import runs

SMALL = ("gate.share=0", "read.count=6", "read.width=32", "read.height=24")
OPEN = re.compile(r"\bO_(WRONLY|RDWR|CREAT|TRUNC|APPEND)\b")
CHANGING = (
    "mkdir,mkdirat,rmdir,unlink,unlinkat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,truncate,chmod,"
    "fchmod,fchmodat,chown,fchown,lchown,fchownat,utimensat,mknod,mknodat,setxattr,fsetxattr,lsetxattr,ftruncate,flock"
)


@pytest.fixture(params=["folder", "coco"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A data set in one format, with every write bit off."""
    kind, root = str(request.param), tmp_path / "in"
    runs.run(tmp_path / "native", *SMALL, "write._target_=synthaug.formats.folder.writer.FolderWriter")
    shutil.rmtree(tmp_path / "native/.synthaug")
    if kind == "folder":
        (tmp_path / "native").rename(root)
    else:
        assert convert("folder", tmp_path / "native", root, f"write={kind}") == 0
        shutil.rmtree(root / ".synthaug")
    paths = [root, *root.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield kind, root
    for path in paths:
        path.chmod(0o755 if path.is_dir() else 0o644)


def words(kind: str, root: Path, out: Path, *more: str) -> list[str]:
    """Overrides of `convert` for one source."""
    return [f"read={kind}", f"read.root={root}", f"write.root={out}", "engine.progress=none", *more]


def convert(kind: str, root: Path, out: Path, *more: str) -> int:
    """`convert` in this process."""
    return local.run(compose("convert", words(kind, root, out, "engine.workers=0", *more)))


def snapshot(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything that a write leaves behind: names, bytes, modes, and the times of files and folders."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [root.parent, root, *sorted(root.rglob("*"))]:
        status = path.lstat()
        data = path.read_bytes() if path.is_file() else b""
        times = (status.st_mtime_ns, status.st_ctime_ns) if path != root.parent else ()
        found[str(path)] = (status.st_mode, *times, data)
    return found


def test_a10_a_run_leaves_its_input_as_it_is(source: tuple[str, Path], tmp_path: Path) -> None:
    kind, root = source
    (tmp_path / "work").mkdir()
    before, names = snapshot(root), set(os.listdir(tmp_path))
    assert convert(kind, root, tmp_path / "work/out") == 0
    assert runs.totals(tmp_path / "work/out")["written"] == 6
    assert snapshot(root) == before
    assert set(os.listdir(tmp_path)) == names


@cache
def _may_bind() -> bool:
    try:
        with tempfile.TemporaryDirectory() as folder:
            probe = [
                "unshare",
                "-rm",
                "sh",
                "-c",
                f'mount --bind "{folder}" "{folder}" && mount -o remount,bind,ro "{folder}"',
            ]
            return subprocess.run(probe, capture_output=True, timeout=30, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not _may_bind(), reason="no unprivileged mount namespaces; modes and strace stand for it")
def test_a10_an_input_that_is_mounted_read_only_is_enough(source: tuple[str, Path], tmp_path: Path) -> None:
    kind, root = source
    mounted = f'mount --bind "{root}" "{root}" && mount -o remount,bind,ro "{root}" && ! touch "{root}/x" && exec "$@"'
    command = [sys.executable, "-m", "synthaug", "run", "convert", *words(kind, root, tmp_path / "out")]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", mounted, "sh", *command, "engine.workers=2"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert runs.totals(tmp_path / "out")["written"] == 6


def offences(trace: str, root: Path) -> list[str]:
    """Calls of a trace that open something below `root` for writing, or change it otherwise."""
    found = []
    for line in trace.splitlines():
        if str(root) in line and " = -1 " not in line and (not line.startswith("open") or OPEN.search(line)):
            found.append(line)
    return found


def traced(folder: Path, command: Sequence[str]) -> str:
    """What a command and its children did to the file system; a log for each thread, so that no line is cut in two."""
    log = folder / "trace"
    prefix = ["strace", "-ff", "-y", "-qq", "-s", "400", "-o", str(log), "-e", f"trace=open,openat,creat,{CHANGING}"]
    done = subprocess.run([*prefix, *command], cwd=PROJECT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return "\n".join(path.read_text(errors="replace") for path in sorted(folder.glob("trace.*")))


@cache
def _may_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-f", "-qq", "-o", os.devnull, "true"], check=False, timeout=30).returncode == 0


@pytest.mark.skipif(not _may_trace(), reason="strace is not installed or may not trace; the snapshot stands for it")
@pytest.mark.parametrize("source", ["folder"], indirect=True)
def test_a10_no_call_opens_anything_below_the_input_for_writing(source: tuple[str, Path], tmp_path: Path) -> None:
    kind, root = source
    command = [sys.executable, "-m", "synthaug", "run", "convert", *words(kind, root, tmp_path / "out")]
    trace = traced(tmp_path, [*command, "engine.workers=1", "write=folder"])
    reads = [line for line in trace.splitlines() if f"{root}/" in line and "open" in line]
    assert len(reads) > 12, "the trace must see the run read"
    assert offences(trace, root) == []
    assert offences(trace, tmp_path / "out"), "the trace must see the run write"


def test_a10_the_trace_sees_what_it_looks_for(tmp_path: Path) -> None:
    root = tmp_path / "in"
    lines = {
        f'openat(AT_FDCWD</>, "{root}/a", O_RDONLY|O_CLOEXEC) = 3<{root}/a>': False,
        f'openat(AT_FDCWD</>, "{root}/a", O_RDONLY|O_NOFOLLOW) = -1 ENOENT (No such file or directory)': False,
        f'openat(5<{root}>, "a", O_RDWR|O_CLOEXEC) = 3<{root}/a>': True,
        f'openat(AT_FDCWD</>, "{root}/.lock", O_WRONLY|O_CREAT, 0666) = 3<{root}/.lock>': True,
        f'mkdir("{root}/cache", 0777) = 0': True,
        f"flock(3<{root}/a>, LOCK_EX) = 0": True,
        'mkdir("/elsewhere", 0777) = 0': False,
    }
    assert {line: bool(offences(line, root)) for line in lines} == lines
