"""The wheel: built, installed away from the checkout, and used from a folder that knows nothing of it."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
XML = """<annotation><filename>{name}.png</filename><size><width>64</width><height>48</height><depth>3</depth></size>
<object><name>{label}</name><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>30</xmax><ymax>28</ymax></bndbox></object>
</annotation>
"""


def call(words: Sequence[str | Path], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a command outside the checkout, with no path to it."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        [str(word) for word in words], cwd=folder, env={**environment, **variables}, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT]
    done = call(words, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def environment_of(folder: Path) -> tuple[Path, Path]:
    """A fresh environment: its python, and its site-packages."""
    done = call([sys.executable, "-m", "venv", "--without-pip", folder], folder.parent)
    assert done.returncode == 0, done.stderr
    python = folder / "bin" / "python"
    site = call([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder)
    return python, Path(site.stdout.strip())


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel; dependencies are borrowed from this one."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    python, site = environment_of(folder)
    done = call([sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel], folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def write_voc(root: Path) -> None:
    """Two labelled pictures in the layout of Pascal VOC."""
    (root / "JPEGImages").mkdir(parents=True)
    (root / "Annotations").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    for name, label in (("one", "car"), ("two", "person")):
        cv2.imwrite(str(root / "JPEGImages" / f"{name}.png"), noise)
        (root / "Annotations" / f"{name}.xml").write_text(XML.format(name=name, label=label))


def test_the_wheel_holds_every_module_and_configuration(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, kind in (("synthaug", "*.py"), ("conf", "*.yaml"), ("pipelines", "*.yaml")):
        for file in (ROOT / folder).rglob(kind):
            inside = file.relative_to(ROOT).as_posix()
            assert (inside if folder == "synthaug" else f"synthaug/{inside}") in names
    assert not [name for name in names if name.startswith(("tests/", "conf/", "pipelines/")) or "__pycache__" in name]


def test_every_library_that_the_package_imports_is_declared() -> None:
    """Imports inside functions count; what is optional stands in an extra or is guarded, and is named here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    words = {"cv2": "opencv-python-headless", "PIL": "pillow", "yaml": "pyyaml", "hydra": "hydra-core"}
    extras = {"mitsuba", "pyoidn", "openexr", "drjit", "torchvision", "pytest", "accelerate"}
    declared = {re.split(r"[<>=!~ ]", line)[0].lower() for line in project["dependencies"]}
    undeclared: set[str] = set()
    for file in (ROOT / "synthaug").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in {found.partition(".")[0] for found in names} - set(sys.stdlib_module_names) - {"synthaug"}:
                if words.get(name, name).lower() not in declared | extras:
                    undeclared.add(f"{file.name}: {name}")
    assert not undeclared


@pytest.mark.slow
def test_a_plain_install_with_its_own_dependencies_runs(wheel: Path, tmp_path: Path) -> None:
    """Nothing borrowed: `pip install` of the wheel under the project's constraints, from the package index."""
    made = call([sys.executable, "-m", "venv", tmp_path / "venv"], tmp_path)
    assert made.returncode == 0, made.stderr
    pip = [tmp_path / "venv/bin/python", "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
    done = call([*pip, wheel], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    write_voc(tmp_path / "in")
    words = ["run", "convert", "read=voc", "read.root=in", "write=coco", "write.root=out"]
    done = call([tmp_path / "venv/bin/synthaug", *words], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "planned 2 = written 2" in done.stdout


def test_the_wheel_is_the_one_that_runs(installed: Path, tmp_path: Path) -> None:
    done = call([installed / "python", "-c", "import synthaug; print(synthaug.__file__)"], tmp_path)
    assert done.stdout.startswith(str(installed.parent))


def test_help_from_another_folder(installed: Path, tmp_path: Path) -> None:
    done = call([installed / "synthaug", "--help"], tmp_path)
    assert done.returncode == 0
    assert "PIPELINE" in done.stdout
    done = call([installed / "synthaug", "help", "convert"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("convert: read -> ")
    assert os.listdir(tmp_path) == []


def test_a_run_from_another_folder(installed: Path, tmp_path: Path) -> None:
    write_voc(tmp_path / "in")
    words = ["run", "convert", "read=voc", "read.root=in", "write=coco", "write.root=out", "engine.progress=none"]
    done = call([installed / "synthaug", *words], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out" / "manifest.json").exists()
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]


@pytest.mark.slow
def test_a_full_install_under_the_constraints(wheel: Path, tmp_path: Path) -> None:
    """Every dependency from the package index, as a user gets them. Minutes, and gigabytes of disk."""
    python, _ = environment_of(tmp_path / "venv")
    words = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "-c", ROOT / "constraints.txt", wheel]
    done = call(words, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    write_voc(tmp_path / "in")
    words = ["run", "convert", "read=voc", "read.root=in", "write=coco", "write.root=out", "engine.progress=none"]
    done = call([python.parent / "synthaug", *words], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
