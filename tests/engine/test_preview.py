"""A preview: four samples, a sheet, an estimate, and nothing that a run would mistake for its own work."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthaug.engine.preview import SHEET, preview
from synthaug.errors import InputError
from synthaug.formats import png
from tests.engine import runs


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


def test_preview_says_why_samples_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = "read.broken=[fake/00000,fake/00001,fake/00002,fake/00003]"
    with pytest.raises(InputError, match="none of 4 previewed samples"):
        preview(runs.config(tmp_path / "out", "read.count=4", broken))
    assert "fake/00002: rejected by the reader: decode: the fake file is broken" in capsys.readouterr().out
