"""What counts as another run: libraries, plug-ins, files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import cv2
import pytest

from synthaug.engine import identity
from synthaug.errors import ConfigError
from tests.crash.job import PROJECT
from tests.engine import runs


def test_opencv_counts_whichever_distribution_brings_it() -> None:
    import synthaug.formats.coco.writer

    facts = identity.environment(False, "cpu", [synthaug.formats.coco.writer.__name__])
    assert cv2.__version__ in facts["cv2"]
    assert "absent" not in (facts["cv2"], facts["PIL"], facts["isal"], facts["numpy"])
    assert facts["numpy"] == metadata.version("numpy")
    assert "pyarrow" not in facts


@pytest.mark.parametrize("kind", ["opencv-python", "opencv-contrib-python-headless"])
def test_opencv_under_another_name(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_version", lambda name: "9.9" if name == kind else "")
    assert identity.version_of("cv2") == f"{kind} 9.9"


def test_a_writer_brings_the_libraries_that_make_its_bytes() -> None:
    import synthaug.formats.huggingface.writer

    facts = identity.environment(False, "cpu", [synthaug.formats.huggingface.writer.__name__])
    assert facts["pyarrow"] == metadata.version("pyarrow")
    assert "torch" not in facts


def test_the_plan_knows_the_libraries_of_its_stages(tmp_path: Path) -> None:
    runs.run(tmp_path / "out", "gate.share=0", "read.count=2")
    stored = json.loads((tmp_path / "out/.synthaug/plan.json").read_text())["identity"]["environment"]
    assert {"python", "synthaug", "numpy", "cv2", "PIL", "isal", "torch"} <= set(stored), "tests.fakes imports torch"


def test_versions_of_other_names_and_of_nothing() -> None:
    assert identity.version_of("yaml") == metadata.version("pyyaml")
    assert identity.version_of("no_such_library_anywhere") == "absent"


def test_editing_a_helper_of_a_plugin_refuses_the_resume(tmp_path: Path) -> None:
    source = (PROJECT / "tests" / "fakes.py").read_text()
    (tmp_path / "own_stages.py").write_text(source.replace("import json\n", "import json\nimport own_help\n", 1))
    (tmp_path / "own_help.py").write_text("LEVEL = 1\n")
    recipe = (PROJECT / "tests" / "fake.yaml").read_text().replace("tests.fakes", "own_stages")
    (tmp_path / "mine.yaml").write_text(recipe)
    words = ["run", "mine.yaml", "--plugin", "own_stages", "write.root=out", "read.count=3", "gate.share=0"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "synthaug", *words, "engine.workers=0"]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    first = run()
    assert first.returncode == 0, first.stderr
    assert run().returncode == 0
    (tmp_path / "own_help.py").write_text("LEVEL = 2\n")
    refused = run()
    assert refused.returncode == 2
    assert "config.plugins.own_stages:" in refused.stderr


def test_files_that_moved_are_named_the_gone_ones_first() -> None:
    old, new = {"a": "1", "b": "2", "c": "3"}, {"b": "9", "c": "3", "d": "4"}
    assert identity.moved_files(old, new) == ["a: is gone", "b: changed", "d: is new"]
    with pytest.raises(ConfigError) as refusal:
        identity.refuse_other_identity(
            {"inputs": "x", "environment": {}}, {"inputs": "y", "environment": {}}, "OUT", False, ["a: is gone"]
        )
    assert "a: is gone\nRestore the input, or give another write.root" in str(refusal.value)
