"""The command line: cheap to ask, plain in its refusals, and it leaves nothing where it is called."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from synthaug import __version__, cli
from synthaug.engine import local, verify
from synthaug.engine.configure import RunConfig
from synthaug.errors import ConfigError, InputError, Interrupted

ROOT = Path(__file__).resolve().parents[1]
CONF = str(ROOT / "tests" / "plugins" / "conf")
OPTIONS = ["--config-dir", CONF, "--plugin", "tests.plugins.stand_ins"]
GIVEN = ["read.root=/in", "write.root=/out"]
HEAVY = {
    "numpy",
    "cv2",
    "PIL",
    "torch",
    "hydra",
    "omegaconf",
    "yaml",
    "diffusers",
    "transformers",
    "datasets",
    "pyarrow",
}


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[RunConfig]:
    seen: list[RunConfig] = []

    def run(config: RunConfig) -> int:
        seen.append(config)
        return 3

    monkeypatch.setattr(local, "run", run)
    monkeypatch.chdir(tmp_path)
    return seen


def test_run_hands_over_the_checked_configuration(runs: list[RunConfig]) -> None:
    assert cli.main(["run", "trial", *GIVEN, "tint.strength=0.3", "~polish", "seed=7", *OPTIONS]) == 3
    assert list(runs[0].stages) == ["tint"]
    assert runs[0].stages["tint"]["strength"] == 0.3
    assert runs[0].settings["seed"] == 7
    assert os.listdir() == []


def test_options_may_stand_between_overrides(runs: list[RunConfig]) -> None:
    assert cli.main(["run", "trial", "seed=1", *OPTIONS, *GIVEN, "tint=cold"]) == 3
    assert runs[0].settings["seed"] == 1
    assert runs[0].stages["tint"]["strength"] == 0.25


def test_nothing_is_written_where_it_is_called(runs: list[RunConfig], capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--cfg", "job"], ["--cfg", "hydra"], ["--cfg", "all"], ["--info", "defaults"], ["--info"]):
        assert cli.main(["run", "trial", *GIVEN, *OPTIONS, *words]) == 0
    assert cli.main(["run", "-m", "trial", *GIVEN, *OPTIONS, "seed=1,2"]) == 3
    assert os.listdir() == []
    assert "tint/warm" in capsys.readouterr().out


def test_cfg_prints_the_composed_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "trial", *OPTIONS, "--cfg", "job", "-p", "tint", "tint.steps=4"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("_target_: tests.plugins.stand_ins.Tint\n")
    assert "steps: 4\n" in out


def test_refusals_have_status_2_and_no_traceback(
    runs: list[RunConfig], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["run", "trial", *GIVEN, *OPTIONS, "tint.strenght=1"]) == 2
    error = capsys.readouterr().err
    assert error == "synthaug: there is no 'tint.strenght' to override. Did you mean 'tint.strength'?\n"
    monkeypatch.setenv("SYNTHAUG_TRACEBACK", "1")
    with pytest.raises(ConfigError):
        cli.main(["run", "trial", *GIVEN, *OPTIONS, "tint.strenght=1"])


def test_control_characters_do_not_reach_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def status(path: str) -> int:
        raise InputError(f"{path}: refused\n  - second")

    monkeypatch.setattr(verify, "status", status)
    assert cli.main(["status", "a\x1b[31m\r"]) == 2
    assert capsys.readouterr().err == "synthaug: a\\x1b[31m\\r: refused\n  - second\n"


def test_statuses_of_the_engine_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(path: str) -> int:
        raise Interrupted("run the same command again")

    def pressed_twice(path: str) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(verify, "verify", lambda path: 2 if path == "out" else 0)
    assert cli.main(["verify", "out"]) == 2
    monkeypatch.setattr(verify, "verify", interrupted)
    assert cli.main(["verify", "out"]) == 75
    monkeypatch.setattr(verify, "verify", pressed_twice)
    assert cli.main(["verify", "out"]) == 130


def test_a_defect_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: str) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(verify, "status", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["status", "out"])


@pytest.mark.parametrize(
    "words",
    [[], ["walk"], ["run"], ["run", "trial", "--colour"], ["status", "out", "more"], ["run", "x", "--cfg", "y"]],
)
def test_unknown_words_have_status_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    assert "usage: synthaug" in capsys.readouterr().err


def test_help_names_commands_statuses_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for word in ("run", "preview", "status", "verify", "help", "refine.strength=0.3", "~slot", "75 interrupted"):
        assert word in text
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"synthaug {__version__}\n"


def test_help_of_a_pipeline(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["help", "trial", *OPTIONS]) == 0
    assert "tint.strength=0.5  (float, default 0.5)" in capsys.readouterr().out
    assert cli.main(["help"]) == 0
    assert "convert" in capsys.readouterr().out


def test_help_costs_little_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom synthaug.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n"
        "    print(' '.join(sorted({name.split('.')[0] for name in sys.modules})), file=sys.stderr)"
    )
    seconds: list[float] = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert not HEAVY & set(done.stderr.split())
        assert "PIPELINE" in done.stdout
    assert sorted(seconds)[2] <= 0.15


def test_a_closed_pipe_is_no_error() -> None:
    words = f"{sys.executable} -m synthaug help trial {' '.join(OPTIONS)} | head -n 1"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-o", "pipefail", "-c", words], env=environment, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert done.stdout.startswith("trial: read ->")
