"""Publication: whole or not at all, nothing outside the root, nobody else's work touched."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from synthaug.engine.publish import Output
from synthaug.errors import SecurityError, SynthaugError
from tests.crash.job import contents
from tests.engine.publishing import MANIFEST, A, B, Failing, commit, fresh, manifest, temporary


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return fresh(tmp_path / "out")


def test_commit_publishes_files_and_then_the_manifest(output: Output) -> None:
    commit(output, {"images/a.png": A, "labels/deep/er/b.json": B})
    assert output.read("images/a.png") == A
    assert output.sha256_of("labels/deep/er/b.json") == hashlib.sha256(B).hexdigest()
    files = json.loads(output.read(MANIFEST) or b"")["files"]
    assert [f["name"] for f in files] == ["images/a.png", "labels/deep/er/b.json"]
    assert files[0] == {"name": "images/a.png", "size": 3000, "sha256": hashlib.sha256(A).hexdigest()}
    assert temporary(output) == []


def test_nothing_is_visible_before_commit_and_after_abandon(output: Output) -> None:
    with output.begin("000000") as staging:
        staging.write("a", A)
        assert output.read("a") is None
    assert contents(output.root) == {}
    assert temporary(output) == []


def test_calls_are_few_and_in_order(tmp_path: Path) -> None:
    """One flush a file, one a folder, one for the manifest and one for its folder."""
    files = Failing(0, lambda call, path: False)
    output = fresh(tmp_path / "out", files)
    commit(output, {"x/0": A}, ".synthaug/shards/0.json")
    files.seen.clear()
    commit(output, {f"x/{i}": A for i in range(1, 9)}, ".synthaug/shards/1.json")
    calls = [call for call, _ in files.seen]
    assert calls.count("fsync") == 9
    assert [path.split("/")[-1] for call, path in files.seen if call == "fsync_dir"] == ["x", "shards"]
    assert calls.count("rename") == 9
    manifest = max(i for i, call in enumerate(calls) if call == "rename")
    assert max(i for i, call in enumerate(calls[:manifest]) if call == "fsync_dir") > calls.index("rename")


def test_threads_write_beside_each_other(output: Output) -> None:
    data = {f"d{i % 3}/{i}": bytes([i]) * i * 100 for i in range(64)}
    with output.begin("000000") as staging, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: staging.write(name, data[name]), data))
        staging.commit(MANIFEST, manifest)
    assert {name: output.read(name) for name in data} == data
    assert [f["name"] for f in json.loads(output.read(MANIFEST) or b"")["files"]] == sorted(data)


def test_the_same_name_twice_in_a_shard_is_refused(output: Output) -> None:
    with output.begin("000000") as staging:
        staging.write("a", A)
        with pytest.raises(SynthaugError, match="written twice"):
            staging.write("a", A)


def test_publish_file_replaces_and_remove_removes(output: Output) -> None:
    output.publish_file("manifest.json", A)
    output.publish_file("manifest.json", B)
    assert output.read("manifest.json") == B
    output.remove("manifest.json")
    output.remove("manifest.json")
    assert output.read("manifest.json") is None
    assert output.sha256_of("manifest.json") is None
    output.remove("no/such/file")
    assert contents(output.root) == {}


def test_the_umask_decides_about_modes(output: Output) -> None:
    before = os.umask(0o027)
    try:
        commit(output, {"images/a": A})
    finally:
        os.umask(before)
    assert stat.S_IMODE((output.root / "images/a").stat().st_mode) == 0o640
    assert stat.S_IMODE((output.root / "images").stat().st_mode) == 0o750


# Names and links


@pytest.mark.security
@pytest.mark.parametrize(
    "name",
    ["", "/etc/x", "../x", "a/../../x", "a//b", "a/", ".", "a/./b", "a\0b", "é" * 128, "\ud800",
     ".synthaug/tmp/x", ".synthaug/lock", ".synthaug"],
)  # fmt: skip
def test_names_that_leave_the_root_are_refused(output: Output, name: str) -> None:
    with output.begin("000000") as staging, pytest.raises(SecurityError, match="output name"):
        staging.write(name, A)
    for call in (output.read, output.sha256_of, output.remove, lambda n: output.publish_file(n, A)):
        with pytest.raises(SecurityError):
            call(name)


def test_a_name_of_255_bytes_is_fine(output: Output) -> None:
    commit(output, {"é" * 127 + "x": A})
    assert output.read("é" * 127 + "x") == A


@pytest.mark.security
@pytest.mark.parametrize("link", ["images", ".synthaug/shards", "images/deep"])
def test_a_linked_folder_is_not_written_through(output: Output, tmp_path: Path, link: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (output.root / link).parent.mkdir(exist_ok=True)
    (output.root / link).symlink_to(elsewhere)
    with pytest.raises(SecurityError, match="link"):
        commit(output, {"images/deep/a": A})
    assert list(elsewhere.iterdir()) == []


@pytest.mark.security
def test_a_linked_file_is_replaced_and_not_written_through(output: Output, tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    (output.root / "a").symlink_to(tmp_path / "mine")
    assert output.read("a") is None
    commit(output, {"a": A})
    assert (tmp_path / "mine").read_bytes() == b"mine"
    assert not (output.root / "a").is_symlink()
    assert output.read("a") == A


def test_a_pipe_under_a_final_name_is_not_waited_for(output: Output) -> None:
    os.mkfifo(output.root / "a")
    assert output.read("a") is None
    assert output.sha256_of("a") is None


# The sweep


def test_the_sweep_removes_dead_work_and_nothing_else(output: Output, tmp_path: Path) -> None:
    commit(output, {"images/a": A})
    area = output.root / ".synthaug" / "tmp"
    (area / "000001-99-0").mkdir()
    (area / "000001-99-0" / "000000").write_bytes(A)
    (area / "stray").write_bytes(A)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_bytes(A)
    (area / "linked").symlink_to(tmp_path / "mine")
    with output.begin("000002") as alive:
        alive.write("images/b", B)
        before = {n: d for n, d in contents(output.root).items() if "99-0" not in n and "stray" not in n}
        Output(output.root).sweep()
        assert {n: d for n, d in contents(output.root).items() if not n.startswith(".synthaug/tmp/linked")} == {
            n: d for n, d in before.items() if not n.startswith(".synthaug/tmp/linked")
        }
        assert len(temporary(output)) == 1
        alive.commit(".synthaug/shards/000002.json", manifest)
    assert output.read("images/b") == B
    assert (tmp_path / "mine" / "x").read_bytes() == A
    assert temporary(output) == []
