"""A reader that cannot be built is one error of the run, not a failure of every sample."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.job import PROJECT
from tests.engine import runs

PARTS = """
import os
from tests.fakes import FakeReader

if {dies} and os.path.exists("armed") and "synthaug.engine.workers" in " ".join(__import__("sys").orig_argv):
    os._exit(9)


class Picky(FakeReader):
    def __init__(self, **fields):
        super().__init__(**fields)
        if os.path.exists("armed") and "synthaug.engine.workers" in " ".join(__import__("sys").orig_argv):
            raise {error}
"""


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("error", "dies", "status", "words"),
    [
        ("RuntimeError('no licence here')", False, 2, "no licence here"),
        ("SystemExit(3)", False, 1, "before its first sample"),
        ("None", True, 1, "ended with exit code 9 before its first sample"),
    ],
)
def test_a_reader_that_cannot_be_built_in_any_process_stops_the_run(
    tmp_path: Path, workers: int, error: str, dies: bool, status: int, words: str
) -> None:
    (tmp_path / "picky_reader.py").write_text(PARTS.format(error=error, dies=dies))
    (tmp_path / "armed").touch()
    command = [sys.executable, "-m", "synthaug", "run", runs.RECIPE, "--plugin", "tests.fakes"]
    command += ["--plugin", "picky_reader", "read={_target_: picky_reader.Picky}", "write.root=out", "gate.share=0"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [*command, f"engine.workers={workers}"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == status, done.stderr
    assert words in done.stderr
    assert not (tmp_path / "out/manifest.json").exists()
    (tmp_path / "armed").unlink()
