"""A5 to A9: whatever the disk does or reports, nothing partial appears under a final name."""

from __future__ import annotations

import errno
import json
import os
import random
from pathlib import Path

import pytest

from synthaug.engine.publish import FileSystem, Output, seal, sealed
from synthaug.errors import Interrupted
from tests.crash import tiny_run
from tests.crash.job import contents, golden_digest
from tests.engine.publishing import MANIFEST, A, B, Failing, commit, fresh, manifest, temporary


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return fresh(tmp_path / "out")


# A5, A6: what is published is what was written


def test_a5_bytes_that_come_back_changed_are_not_published(tmp_path: Path) -> None:
    class Rotten(FileSystem):
        def write(self, file: int, data: memoryview, path: str) -> int:
            return super().write(file, memoryview(bytes(data).replace(b"a", b"A")), path)

    output = fresh(tmp_path / "out", Rotten())
    with pytest.raises(Interrupted, match="gave back"):
        commit(output, {"a": A})
    assert contents(output.root) == {}


def test_a6_every_damaged_file_is_found_and_its_shard_alone_redone(tmp_path: Path) -> None:
    """One bit of every published file in turn, manifests included; all else stays in place, untouched."""
    root, rng = tmp_path / "out", random.Random(6)
    tiny_run.run(root)
    golden = golden_digest(root)
    names = [n for n in contents(root) if n not in (".synthaug/lock", ".synthaug/plan.json")]
    assert len(names) == 13
    for name in names:
        path = root / name
        _flip(path, rng.randrange(path.stat().st_size * 8))
        before = {n: os.stat(root / n).st_mtime_ns for n in names}
        assert golden_digest(root) != golden
        tiny_run.run(root)
        assert golden_digest(root) == golden, name
        touched = {n for n in names if os.stat(root / n).st_mtime_ns != before[n]}
        assert touched == ({name} if "labels" in name or "images" in name else _vouched(root, name)), name


def _vouched(root: Path, name: str) -> set[str]:
    """A file that is no sample's: redone with all that its manifest vouches for, where it is one."""
    files = json.loads((root / name).read_bytes())
    return {name, *(f["name"] for f in files["files"])} if "files" in files else {name}


def test_a6_no_flipped_bit_of_a_sealed_manifest_is_overlooked() -> None:
    data = seal(b'{"files": [], "written": ["a"]}\n')
    assert json.loads(data)["written"] == ["a"]
    assert sealed(data)
    assert not sealed(b"")
    assert not sealed(b'{"files": []}')
    for bit in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        assert not sealed(bytes(damaged))
    assert not any(sealed(data[:length]) for length in range(len(data)))


def test_a6_a_standing_manifest_with_a_broken_seal_is_replaced(output: Output) -> None:
    def sealed_commit() -> None:
        with output.begin("000000") as staging:
            staging.write("a", A)
            staging.commit(MANIFEST, lambda entries: seal(manifest(entries)))

    sealed_commit()
    whole = output.read(MANIFEST) or b""
    (output.root / MANIFEST).write_bytes(whole.replace(b'"size": 3000', b'"size": 3001'))
    sealed_commit()
    assert output.read(MANIFEST) == whole


def test_a6_all_bits_of_a_file(output: Output) -> None:
    output.publish_file("a", B)
    wanted = output.sha256_of("a")
    for bit in range(len(B) * 8):
        _flip(output.root / "a", bit)
        assert output.sha256_of("a") != wanted
        _flip(output.root / "a", bit)
    assert output.sha256_of("a") == wanted


def _flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


# A7, A8, A9: what the disk reports


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("call", ["create", "write", "fsync", "close", "rename", "mkdir", "fsync_dir"])
def test_a7_full_disk_is_explained_and_nothing_is_partial(tmp_path: Path, number: int, call: str) -> None:
    files = Failing(number, lambda c, path: c == call, times=0)
    output = fresh(tmp_path / "out", files)
    files.times = 1
    with pytest.raises(Interrupted, match=r"is full.*free some space") as caught:
        commit(output, {"images/a": A, "images/b": B})
    assert caught.value.exit_status == 75
    assert all(data in (A, B) for data in contents(output.root).values())
    assert temporary(output) == []
    commit(output, {"images/a": A, "images/b": B})
    assert output.read("images/a") == A


@pytest.mark.parametrize("call", ["write", "fsync", "close"])
def test_a8_a_broken_write_goes_once_more_to_a_new_file(tmp_path: Path, call: str) -> None:
    files = Failing(errno.EIO, lambda c, path: c == call, times=0)
    output = fresh(tmp_path / "out", files)
    files.times = 1
    files.seen.clear()
    commit(output, {"images/a": A})
    assert output.read("images/a") == A
    written = [path for c, path in files.seen if c == "create"]
    assert len(written) == 3  # the broken one, the new one, the manifest
    assert len(set(written)) == 3
    flushed = [path for c, path in files.seen if c == "fsync"]
    assert len(flushed) == len(set(flushed)), "a failed flush was repeated"


@pytest.mark.parametrize("call", ["write", "fsync", "close"])
def test_a8_a_disk_that_stays_broken_stops_the_run(tmp_path: Path, call: str) -> None:
    files = Failing(errno.EIO, lambda c, path: c == call, times=0)
    output = fresh(tmp_path / "out", files)
    files.times = 2
    with pytest.raises(Interrupted, match=r"failed.*Input/output error"):
        commit(output, {"images/a": A})
    assert contents(output.root) == {}


def test_a8_a_folder_that_cannot_be_flushed_leaves_no_manifest(tmp_path: Path) -> None:
    files = Failing(errno.EIO, lambda c, path: c == "fsync_dir" and path.endswith("images"), times=1)
    output = fresh(tmp_path / "out", files)
    with pytest.raises(Interrupted):
        commit(output, {"images/a": A})
    assert output.read(MANIFEST) is None
    files.seen.clear()
    commit(output, {"images/a": A})
    assert ("rename", f"{output.root}/images/a") in files.seen, "the doubtful entry must be made again"


class Interrupting(FileSystem):
    """Every other write is interrupted, the others take seven bytes at most; so are closes."""

    def __init__(self) -> None:
        self.turn = 0

    def write(self, file: int, data: memoryview, path: str) -> int:
        self.turn += 1
        if self.turn % 2:
            raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))
        return super().write(file, data[:7], path)

    def close(self, file: int, path: str) -> None:
        super().close(file, path)
        raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))


def test_a9_interrupted_and_short_writes_are_invisible(tmp_path: Path) -> None:
    tiny_run.run(tmp_path / "plain")
    files = Interrupting()
    tiny_run.run(tmp_path / "out", files=files)
    assert files.turn > 1000
    assert golden_digest(tmp_path / "out") == golden_digest(tmp_path / "plain")
