"""Faults of processes, storage and change that the engine survives, one test each, named by its id."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from synthaug.engine import local, manifest, settings, verify
from synthaug.engine.configure import compose
from synthaug.engine.identity import OPERATIONAL
from synthaug.engine.job import open_job
from synthaug.engine.workers import read_one
from synthaug.errors import ConfigError, InputError
from tests.crash.job import PROJECT, golden_digest
from tests.engine import runs

SLOW_RUN = ("read.count=60", "gate.share=0", "model.seconds=0.05", "engine.shard_size=4")
VICTIM = (sys.executable, "-m", "tests.crash.engine_run")


def start(root: Path, *overrides: str, failpoints: str = "") -> subprocess.Popen[str]:
    """The fake run in a process of its own."""
    return subprocess.Popen(
        [*VICTIM, str(root), *overrides],
        cwd=PROJECT,
        env={**os.environ, "SYNTHAUG_FAILPOINTS": failpoints},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def first_shard(root: Path) -> Callable[[], bool]:
    """Whether the first shard is published."""
    return (root / ".synthaug/shards/000000.json").exists


def test_a2_sigterm_stops_within_the_grace_period_and_resumes(tmp_path: Path) -> None:
    golden, root = tmp_path / "golden", tmp_path / "out"
    runs.run(golden, *SLOW_RUN)
    victim = start(root, *SLOW_RUN)
    until(first_shard(root))
    victim.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    _, errors = victim.communicate(timeout=30)
    assert victim.returncode == 75
    assert time.monotonic() - asked < 20
    assert "run the same command again" in errors
    assert not list((root / ".synthaug/tmp").iterdir())
    assert runs.run(root, *SLOW_RUN) == 0
    assert golden_digest(root) == golden_digest(golden)


def test_a3_a_second_ctrl_c_ends_at_once_and_resumes(tmp_path: Path) -> None:
    golden, root = tmp_path / "golden", tmp_path / "out"
    slow = (*SLOW_RUN, "model.seconds=2.0", "read.count=6")
    victim = start(root, *slow)
    until((root / ".synthaug/plan.json").exists)
    time.sleep(0.5)
    victim.send_signal(signal.SIGINT)
    time.sleep(0.2)
    victim.send_signal(signal.SIGINT)
    asked = time.monotonic()
    victim.communicate(timeout=30)
    assert victim.returncode == 130
    assert time.monotonic() - asked < 1.5
    runs.run(golden, *slow)
    runs.run(root, *slow)
    assert golden_digest(root) == golden_digest(golden)


def test_a4_workers_die_with_their_parent(tmp_path: Path) -> None:
    victim = start(tmp_path / "out", *SLOW_RUN, "engine.workers=2")
    until(lambda: len(children(victim.pid)) == 2)
    workers = children(victim.pid)
    victim.kill()
    victim.wait()
    until(lambda: not any(alive(pid) for pid in workers), seconds=1.5)


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid`."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(status.parent.name))
    return found


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a6_bit_rot_is_found_and_exactly_that_shard_is_redone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "out"
    runs.run(root, "gate.share=0")
    golden = golden_digest(root)
    named = [root / f["name"] for n in range(3) for f in runs.shard(root, n)["files"]]
    finals = [root / f["name"] for f in json.loads((root / "manifest.json").read_text())["files"]]
    books = [root / f".synthaug/shards/{n:06d}.json" for n in range(3)]
    plan = root / ".synthaug/plan.json"
    for path in [p for p in (*named, *finals, *books, root / "manifest.json") if p.stat().st_size]:
        data = bytearray(path.read_bytes())
        for place in (0, len(data) // 3, len(data) // 2, len(data) - 1):
            data[place] ^= 1
            path.write_bytes(data)
            assert verify.verify(str(root)) in (2, 75), f"a flipped bit in {path} at {place} went unnoticed"
            data[place] ^= 1
        path.write_bytes(data)
    whole = plan.read_bytes()
    plan.write_bytes(whole.replace(b"fake/00001", b"fake/00009", 1))
    with pytest.raises(InputError, match="damaged"):
        verify.verify(str(root))
    plan.write_bytes(whole)
    capsys.readouterr()
    victim = root / "images/fake/00005.png"
    data = bytearray(victim.read_bytes())
    data[-20] ^= 1
    victim.write_bytes(data)
    before = {n: (root / f".synthaug/shards/{n:06d}.trail.jsonl").stat().st_mtime_ns for n in range(3)}
    assert verify.verify(str(root)) == 2
    assert "damaged: images/fake/00005.png" in capsys.readouterr().out
    assert runs.run(root, "gate.share=0") == 0
    after = {n: (root / f".synthaug/shards/{n:06d}.trail.jsonl").stat().st_mtime_ns for n in range(3)}
    assert golden_digest(root) == golden
    assert [n for n in range(3) if before[n] != after[n]] == [1]


def test_a11_an_output_that_cannot_be_written_is_refused_before_anything_loads(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for bad in (tmp_path / "file", tmp_path / "no/such/parent"):
        begun = time.monotonic()
        with pytest.raises(ConfigError, match="output"):
            runs.run(bad)
        assert time.monotonic() - begun < 5


def test_a14_clock_and_time_zone_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.run(tmp_path / "now")
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    monkeypatch.setattr(time, "time", lambda: 86400.0 * 365 * 80)
    runs.run(tmp_path / "then")
    monkeypatch.undo()
    time.tzset()
    assert golden_digest(tmp_path / "now") == golden_digest(tmp_path / "then")


def test_b1_the_second_of_two_runs_refuses_and_names_the_owner(tmp_path: Path) -> None:
    root = tmp_path / "out"
    first = start(root, *SLOW_RUN)
    until(first_shard(root))
    begun = time.monotonic()
    with pytest.raises(Exception, match=rf"in use by another run .*pid {first.pid}"):
        runs.run(root, *SLOW_RUN)
    assert time.monotonic() - begun < 2.5
    first.kill()
    first.wait()


def test_b2_the_lock_of_a_killed_run_is_taken_over(tmp_path: Path) -> None:
    root = tmp_path / "out"
    victim = start(root, *SLOW_RUN)
    until(first_shard(root))
    victim.kill()
    victim.wait()
    assert runs.run(root, *SLOW_RUN) == 0


def test_b4_a_sample_that_kills_its_worker_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHAUG_FAILPOINTS", "worker.segv@fake/00004")
    root = tmp_path / "out"
    assert runs.run(root, "gate.share=0", workers=2) == 0
    assert runs.totals(root)["failed"] == {"worker_crash": 1}
    assert runs.totals(root)["written"] == 9
    row = json.loads((root / "rejected.jsonl").read_text())
    assert row["id"] == "fake/00004"
    assert "exit code -11" in row["message"]


def test_b5_a_worker_that_hangs_is_replaced_after_its_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHAUG_FAILPOINTS", "worker.hang@fake/00002")
    root = tmp_path / "out"
    runs.run(root, "gate.share=0", "engine.deadline=2", workers=2)
    assert runs.totals(root)["failed"] == {"worker_hang": 1}
    assert runs.totals(root)["written"] == 9


OTHER = {
    "seed": "seed=1",
    "variants": "variants=2",
    "attempts": "attempts=2",
    "split": "split={train: 0.5, val: 0.5}",
    "max_reject_ratio": "max_reject_ratio=0.25",
    "ungated": "ungated=true",
    "min_visible": "min_visible=0.1",
    "min_area": "min_area=2",
    "engine.shard_size": "engine.shard_size=3",
    "engine.micro_batch": "engine.micro_batch=3",
    "engine.memory": "engine.memory=adaptive",
    "engine.workers": "engine.workers=1",
    "engine.encoders": "engine.encoders=1",
    "engine.prefetch": "engine.prefetch=3",
    "engine.progress": "engine.progress=lines",
    "engine.device": "engine.device=cpu",
    "engine.devices": "engine.devices=1",
    "engine.deadline": "engine.deadline=30",
    "engine.resume_check": "engine.resume_check=sizes",
    "engine.allow_env_change": "engine.allow_env_change=true",
}


def test_b6_every_setting_is_identity_or_operational_as_the_table_says(tmp_path: Path) -> None:
    named = {s.name: s.operational for s in settings.RUN} | {f"engine.{s.name}": s.operational for s in settings.ENGINE}
    assert set(OTHER) == set(named), "a new setting needs a line here"
    root = tmp_path / "out"
    runs.run(root, "gate.share=0")
    golden = golden_digest(root)
    for name, override in OTHER.items():
        if named[name]:
            assert runs.run(root, "gate.share=0", override) == 0
            assert golden_digest(root) == golden, f"{name} is operational and changed a byte"
        else:
            with pytest.raises(ConfigError, match=rf"{re.escape(name)}\b.*->") as refusal:
                runs.run(root, "gate.share=0", override)
            assert "another write.root" in str(refusal.value)
    with pytest.raises(ConfigError, match=r"model\.strength: 0\.03 -> 0\.2"):
        runs.run(root, "gate.share=0", "model.strength=0.2")
    assert OPERATIONAL["write"] == {"root"}


def test_b7_input_that_changed_is_refused_even_with_its_old_times(tmp_path: Path) -> None:
    source = tmp_path / "in"
    runs.run(source, "gate.share=0", "write._target_=synthaug.formats.folder.writer.FolderWriter")
    root = tmp_path / "out"
    convert = [f"read.root={source}", f"write.root={root}", "write=folder", "engine.workers=0", "engine.progress=none"]
    assert local.run(compose("convert", convert)) == 0
    picture = next((source / "images").rglob("00007.png"))
    times = picture.stat()
    data = bytearray(picture.read_bytes())
    data[60] ^= 1
    picture.write_bytes(data)
    os.utime(picture, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(ConfigError, match=r"inputs: "):
        local.run(compose("convert", convert))


def test_b7_input_that_changes_while_a_run_is_under_way_is_never_mixed_in(tmp_path: Path) -> None:
    source = tmp_path / "in"
    runs.run(source, "gate.share=0", "write._target_=synthaug.formats.folder.writer.FolderWriter")
    picture = next((source / "images").rglob("00009.png"))
    convert = [f"read.root={source}", f"write.root={tmp_path / 'out'}", "write=folder", "engine.progress=none"]
    job = open_job(compose("convert", convert))
    made = job.plan({})
    data = bytearray(picture.read_bytes())
    data[60] ^= 1
    picture.write_bytes(data)
    with pytest.raises(InputError, match=r"00009\.png .* changed since the plan"):
        read_one(job.reader_spec(made).build(), "fake/00009", made.inputs)


def test_b8_another_environment_is_refused_unless_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "out"
    runs.run(root, "gate.share=0")
    (root / ".synthaug/shards/000001.json").unlink()
    monkeypatch.setattr("synthaug.engine.identity._version", lambda package: "99.9")
    with pytest.raises(ConfigError, match=r"environment\.numpy: .* -> 99\.9"):
        runs.run(root, "gate.share=0")
    assert runs.run(root, "gate.share=0", "engine.allow_env_change=true") == 0
    assert runs.shard(root, 1)["environment"]["numpy"] == "99.9"
    assert runs.shard(root, 0)["environment"]["numpy"] != "99.9"


def test_b10_a_damaged_manifest_counts_as_not_done_and_no_finished_shard_is_deleted(tmp_path: Path) -> None:
    root = tmp_path / "out"
    small = ("gate.share=0", "read.count=4", "engine.shard_size=2", "read.width=16", "read.height=12")
    runs.run(root, *small)
    golden = golden_digest(root)
    book = root / ".synthaug/shards/000000.json"
    whole = book.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 12)):
        book.write_bytes(whole[:length])
        assert runs.run(root, *small) == 0
        assert golden_digest(root) == golden, f"manifest cut to {length} bytes"
    plan = root / ".synthaug/plan.json"
    data = plan.read_bytes()
    for length in (0, 1, len(data) // 2, len(data) - 2):
        plan.write_bytes(data[:length])
        with pytest.raises((ConfigError, InputError), match="damaged"):
            runs.run(root, *small)
        assert book.read_bytes() == whole, "a refusal deletes nothing"


def test_b10_a_newer_format_is_refused_with_both_versions(tmp_path: Path) -> None:
    root = tmp_path / "out"
    runs.run(root, "gate.share=0")
    book = root / ".synthaug/shards/000000.json"
    newer = {k: v for k, v in json.loads(book.read_bytes()).items() if k != "seal"} | {"format": 7}
    book.write_bytes(manifest.sealed_bytes(newer))
    with pytest.raises(ConfigError, match="has format 7, this version of synthaug reads 1"):
        runs.run(root, "gate.share=0")


def test_b11_a_shard_executed_twice_changes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "out"
    runs.run(root, "gate.share=0")
    golden = golden_digest(root)
    for n in range(3):
        (root / f".synthaug/shards/{n:06d}.json").unlink()
        (root / "manifest.json").unlink()
        runs.run(root, "gate.share=0")
        assert golden_digest(root) == golden
