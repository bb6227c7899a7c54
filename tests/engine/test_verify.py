"""`status` and what a run says at its end: counts of what is there, and of what the reader noticed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from synthaug.contracts import Encoded
from synthaug.engine import manifest, verify
from synthaug.engine.lock import RunLock, holder
from synthaug.engine.publish import Output
from synthaug.errors import ConfigError
from synthaug.formats import strays
from synthaug.formats.strays import Strays
from synthaug.sample import Sample
from tests.engine import runs
from tests.fakes import FakeReader, FakeWriter


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "out"
    assert runs.run(out, "gate.share=0", "read.broken=[fake/00001]", "read.count=10") == 0
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out"))


def status(out: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = verify.status(str(out))
    return code, capsys.readouterr().out


def test_status_of_a_finished_run(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = status(out, capsys)
    assert code == 0
    assert f"{out}: complete, 3 of 3 shards\n" in said
    assert "of 10 samples: planned 10 = written 9 + rejected 1 (decode 1) + failed 0, still to do 0" in said


def test_status_of_a_run_that_was_interrupted(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (out / "manifest.json").unlink()
    (out / manifest.shard_name("000001")).unlink()
    code, said = status(out, capsys)
    assert code == 75
    assert "incomplete, 2 of 3 shards" in said
    assert "planned 6 = written 5 + rejected 1 (decode 1) + failed 0, still to do 4" in said
    assert "the same run command again goes on" in said


def test_status_does_not_count_shards_that_belong_to_no_plan(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads((out / manifest.shard_name("000002")).read_text())
    found.popitem()  # its seal
    (out / manifest.shard_name("000002")).write_bytes(manifest.sealed_bytes({**found, "plan": "0" * 64}))
    code, said = status(out, capsys)
    assert (code, "incomplete, 2 of 3 shards" in said) == (75, True), said
    (out / "manifest.json").write_text("{}\n")
    assert status(out, capsys)[0] == 75


def test_status_of_a_run_at_work(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (out / "manifest.json").unlink()
    assert holder(out) == ""
    with RunLock(out):
        code, said = status(out, capsys)
        assert code == 75
        assert "running (host " in said
    assert "running" not in status(out, capsys)[1]


def test_status_while_a_run_plans_and_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Output(tmp_path / "out").preflight()
    with RunLock(tmp_path / "out"):
        assert "a run is planning there (host " in status(tmp_path / "out", capsys)[1]
    for path in (tmp_path / "out", tmp_path / "nothing"):
        with pytest.raises(ConfigError, match="holds no synthaug run"):
            verify.status(str(path))
    assert not (tmp_path / "nothing").exists()


def test_status_after_a_refused_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        runs.run(tmp_path / "out", "~gate")
    with pytest.raises(ConfigError, match="holds no synthaug run"):
        verify.status(str(tmp_path / "out"))


def test_files_of_others_are_told_of_at_the_end(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (out / "images" / "notes.txt").write_text("mine")
    capsys.readouterr()
    runs.run(out, "gate.share=0", "read.broken=[fake/00001]", "read.count=10")
    assert "1 other files lie there, such as images/notes.txt; synthaug verify lists them" in capsys.readouterr().out
    assert verify.verify(str(out)) == 0
    assert "not part of the dataset: images/notes.txt" in capsys.readouterr().out


def test_what_the_reader_found_without_a_class_is_added_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = FakeReader.read

    def found(reader: FakeReader, sample_id: str) -> Sample:
        sample = read(reader, sample_id)
        number = int(sample_id[-5:])
        strange = Strays({"#ff00ff": 500, f"#00000{number}": number} if number else {})
        return replace(sample, trail=strays.steps("FakeReader", {"semantic": strange}))

    monkeypatch.setattr(FakeReader, "read", found)
    monkeypatch.setattr(FakeReader, "notes", lambda reader: {"images": 6, "images without labels": 2, "other": 0})
    assert runs.run(tmp_path / "out", "gate.share=0", "read.count=6") == 0
    said = capsys.readouterr().out
    line = "read: 2515 pixels of 'semantic' off its table in 5 of 6 samples: #ff00ff 2500, #000005 5, "
    assert line in said
    assert "read: 2 images without labels\n" in said
    complete = json.loads((tmp_path / "out/manifest.json").read_text())
    assert complete["notes"] == {"images": 6, "images without labels": 2}
    assert complete["annotations"]["off_table"]["semantic"]["samples"] == 5
    shards = [runs.shard(tmp_path / "out", n)["annotations"]["off_table"]["semantic"] for n in (0, 1)]
    assert sum(shard["count"] for shard in shards) == 2515
    assert runs.run(tmp_path / "out", "gate.share=0", "read.count=6") == 0
    assert line in capsys.readouterr().out, "told again of a finished run"


def test_thousands_of_stray_values_do_not_fill_the_manifest() -> None:
    one = {"read": 1, "samples": 1, "count": 15, "near": 0, "other": 0}
    tallies = [{"off_table": {"x": {**one, "values": {f"#{n:06x}": 15}}}} for n in range(500)]
    short = manifest.most_frequent({**manifest.added(tallies), "kept": 3})
    assert len(short["off_table"]["x"]["values"]) == strays.SHOWN
    assert (short["kept"], short["off_table"]["x"]["count"]) == (3, 7500)
    assert manifest.most_frequent({"a": 1}) == {"a": 1}


def test_what_the_writer_left_out_is_added_up_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    encode = FakeWriter.encode

    def leaving(writer: FakeWriter, sample: Sample) -> Encoded:
        return replace(encode(writer, sample), left_out={"keypoints": 3, "masks": 0})

    monkeypatch.setattr(FakeWriter, "encode", leaving)
    assert runs.run(tmp_path / "out", "gate.share=0", "read.count=6", "read.broken=[fake/00001]") == 0
    line = "write: 15 keypoints left out, which the format or its settings do not hold\n"
    assert line in capsys.readouterr().out
    complete = json.loads((tmp_path / "out/manifest.json").read_text())
    assert complete["annotations"]["left_out"] == {"keypoints": 15}
    assert sum(runs.shard(tmp_path / "out", n)["annotations"]["left_out"]["keypoints"] for n in (0, 1)) == 15
    assert runs.run(tmp_path / "out", "gate.share=0", "read.count=6", "read.broken=[fake/00001]") == 0
    assert line in capsys.readouterr().out, "told again of a finished run"
