"""A preview: four samples, a sheet, an estimate, and nothing that a run would mistake for its own work."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from synthaug import cli
from synthaug.contracts import Description
from synthaug.engine.preview import SHEET, preview
from synthaug.errors import ConfigError, InputError, Rejected
from synthaug.formats import png
from tests.engine import runs
from tests.fakes import FakeReader


def test_preview_shows_four_samples_and_the_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert preview(runs.config(out, "read.count=40", "gate.share=0")) == 0
    said = capsys.readouterr().out
    assert said.count(" bytes\n") == 4
    assert "40 samples: about 0:00:" in said
    sheet = png.decode((out / SHEET).read_bytes())
    assert sheet.shape[0] > 500
    assert sheet.std() > 20
    assert not (out / "images").exists()


def test_a_run_follows_a_preview_in_the_same_place(tmp_path: Path) -> None:
    runs.run(tmp_path / "plain", "gate.share=0")
    preview(runs.config(tmp_path / "out", "gate.share=0"))
    assert runs.run(tmp_path / "out", "gate.share=0") == 0
    (tmp_path / "out" / SHEET).unlink()
    assert runs.digest(tmp_path / "out") == runs.digest(tmp_path / "plain")


def test_preview_needs_no_output_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    overrides = ["gate.share=0", "engine.workers=0", "read.count=5"]
    assert cli.main(["preview", runs.RECIPE, *overrides, "--plugin", runs.PLUGIN]) == 0
    said = capsys.readouterr().out
    place = Path(next(line for line in said.splitlines() if line.startswith("contact sheet: "))[15:])
    assert place.is_relative_to(tmp_path)
    assert png.decode(place.read_bytes()).std() > 20
    assert cli.main(["run", runs.RECIPE, *overrides, "--plugin", runs.PLUGIN]) == 2, "a run does need one"


def test_preview_counts_what_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    described = FakeReader.describe

    def describe(reader: FakeReader, sample_id: str) -> Description:
        if sample_id in ("fake/00001", "fake/00003"):
            raise Rejected("decode", "no picture")
        return described(reader, sample_id)

    monkeypatch.setattr(FakeReader, "describe", describe)
    assert preview(runs.config(tmp_path / "out", "gate.share=0", "read.count=10")) == 0
    said = capsys.readouterr().out
    assert "skipped as unreadable: 2 of 10 samples (decode 2), the first fake/00001: no picture" in said
    assert "\n8 samples: about" in said


def test_a_refused_preview_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        preview(runs.config(tmp_path / "out", "~gate"))
    assert list(tmp_path.iterdir()) == []


def test_preview_says_why_samples_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = "read.broken=[fake/00000,fake/00001,fake/00002,fake/00003]"
    with pytest.raises(InputError, match="none of 4 previewed samples"):
        preview(runs.config(tmp_path / "out", "read.count=4", broken))
    assert "fake/00002: rejected by the reader: decode: the fake file is broken" in capsys.readouterr().out
