"""Words of the command line into settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthaug.cli import main
from synthaug.errors import ConfigError
from synthaug.train.refiner import Settings
from synthaug.train.words import values


def test_the_file_holds_every_setting_with_its_default() -> None:
    found = values("refiner", ["data=photos", "out=here"])
    assert Settings.of(found) == Settings(("photos",), "here")


def test_values_are_yaml() -> None:
    found = Settings.of(values("refiner", ["data=[a, b]", "out=x", "steps=7", "hold_out=[0, 5]", "lr=1e-3"]))
    assert (found.data, found.steps, found.hold_out, found.lr) == (("a", "b"), 7, (0, 5), 1e-3)


def test_the_home_folder_is_spelled_out() -> None:
    assert values("refiner", ["data=[~/a]", "out=~/b"])["out"] == str(Path.home() / "b")


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["data=a"], "needs out="),
        (["out=a"], "needs data="),
        (["data=a", "out=b", "step=3"], "no setting 'step'.*steps"),
        (["data=a", "out=b", "steps"], "no setting; expected KEY=VALUE"),
        (["data=a", "out=b", "data=c"], "twice"),
        (["data=[a", "out=b"], "not a value"),
    ],
)
def test_mistakes_are_told(words: list[str], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        values("refiner", words)


def test_the_command_refuses_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["train", "refiner", f"data={tmp_path}", f"out={tmp_path / 'out'}", "stepps=2"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "steps" in said
