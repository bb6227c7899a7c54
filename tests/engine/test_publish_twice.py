"""B3, B10, B11: the same shard published twice, late, or over damaged manifests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from synthaug.engine.publish import Nondeterministic, Output
from tests.crash.job import PROJECT, TINY, contents
from tests.engine.publishing import MANIFEST, A, B, commit, fresh, manifest, temporary


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return fresh(tmp_path / "out")


# B3, B10, B11: published twice


def test_b11_a_shard_published_twice_changes_nothing(output: Output) -> None:
    files = {"images/a": A, "images/b": B}
    commit(output, files)
    before = {n: os.stat(output.root / n).st_ino for n in contents(output.root)}
    commit(output, files)
    assert {n: os.stat(output.root / n).st_ino for n in contents(output.root)} == before
    assert temporary(output) == []


def test_b3_other_bytes_for_a_published_shard_are_refused(output: Output) -> None:
    commit(output, {"images/a": A, "images/b": B})
    before = contents(output.root)
    with pytest.raises(Nondeterministic, match="images/b") as caught:
        commit(output, {"images/a": A, "images/b": b"other"})
    assert "images/a" not in str(caught.value)
    assert contents(output.root) == before
    assert temporary(output) == []


def test_b3_another_ledger_for_the_same_files_is_refused(output: Output) -> None:
    commit(output, {"a": A})
    with output.begin("000000") as staging:
        staging.write("a", A)
        with pytest.raises(Nondeterministic, match="only the ledger"):
            staging.commit(MANIFEST, lambda entries: manifest(entries) + b"\n")


def test_b3_a_damaged_file_of_a_published_shard_is_put_back(output: Output) -> None:
    commit(output, {"a": A, "b": B})
    kept = os.stat(output.root / "b").st_ino
    (output.root / "a").write_bytes(b"rot")
    commit(output, {"a": A, "b": B})
    assert output.read("a") == A
    assert os.stat(output.root / "b").st_ino == kept


def test_leftovers_of_a_killed_commit_are_replaced(output: Output) -> None:
    (output.root / "images").mkdir()
    (output.root / "images" / "a").write_bytes(b"left by a run that died before its manifest")
    commit(output, {"images/a": A})
    assert output.read("images/a") == A


def test_b10_a_torn_manifest_vouches_for_nothing(output: Output) -> None:
    commit(output, {"a": A})
    whole = output.read(MANIFEST) or b""
    for length in range(0, len(whole), 3):
        (output.root / MANIFEST).write_bytes(whole[:length])
        commit(output, {"a": A})
        assert output.read(MANIFEST) == whole


def test_b3_two_at_once_publish_one(tmp_path: Path) -> None:
    """Twenty threads with two kinds of bytes: whoever is first wins whole, the other kind is told."""
    root = tmp_path / "out"
    Output(root).preflight()

    def one(number: int) -> str:
        data = {"images/a": bytes([number % 2]) * 100, "images/b": bytes([number % 2]) * 200}
        try:
            commit(Output(root), data)
        except Nondeterministic:
            return "refused"
        return str(number % 2)

    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(one, range(20)))
    winner = {end for end in ends if end != "refused"}
    assert len(winner) == 1
    assert ends.count("refused") == 10
    assert set(Output(root).read("images/a") or b"") == {int(winner.pop())}
    assert set(Output(root).read("images/b") or b"") == set(Output(root).read("images/a") or b"")


ZOMBIE = """
import sys
from pathlib import Path
from synthaug.engine.publish import Output
from tests.engine.publishing import commit
commit(Output(Path(sys.argv[1])), {"images/a": sys.argv[2].encode()})
"""


@pytest.mark.parametrize(("data", "status"), [("late", 1), ("first", 0)])
def test_b3_a_worker_that_wakes_up_late(output: Output, data: str, status: int) -> None:
    """Stopped before its commit, its shard given to another, continued."""
    zombie = subprocess.Popen(
        [sys.executable, "-c", ZOMBIE, str(output.root), data],
        cwd=PROJECT,
        env=TINY.surroundings("publish.stop@1"),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert os.WIFSTOPPED(os.waitpid(zombie.pid, os.WUNTRACED)[1])
        commit(output, {"images/a": b"first"})
        os.kill(zombie.pid, signal.SIGCONT)
        _, said = zombie.communicate(timeout=60)
    finally:
        zombie.kill()
    assert zombie.returncode == status, said
    assert ("Nondeterministic" in said) == bool(status)
    assert output.read("images/a") == b"first"
