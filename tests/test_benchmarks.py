"""Every benchmark runs to its end, with its same-work check, at a size that says nothing about speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
TINY: dict[str, tuple[str, ...]] = {
    "augment": (),
    "augment_device": ("--size", "64", "--batch", "4", "--rounds", "2"),
    "convert": ("--samples", "6", "--rounds", "1"),
    "diffusion": ("--pictures", "2", "--rounds", "2"),
    "memory": ("--samples", "400"),
    "overlap": ("--samples", "16", "--size", "64", "--rounds", "1", "--seconds", "0.05"),
    "png": (),
    "render": (),
    "rle": (),
    "startup": (),
}
LONG = {"convert", "memory", "png", "render", "augment", "rle", "diffusion"}
NEEDS_DATA = {"refiner"}
"""Photos and renders that are not in the repository: `tests/metrics` tests its parts."""
NO_SCRIPT = {"measure", "sources", "stand_ins", "plain_loop", "augment_scene"}


def test_every_script_is_run_here() -> None:
    assert {path.stem for path in BENCHMARKS.glob("*.py")} - NO_SCRIPT - NEEDS_DATA == set(TINY)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in TINY])
def test_a_benchmark_runs_whole(name: str, tmp_path: Path) -> None:
    where = {**os.environ, "SYNTHAUG_RESULTS": str(tmp_path), "PYTHONPATH": str(ROOT)}
    more = ("--out", str(tmp_path / "augment_device.json")) if name == "augment_device" else ()
    words = [sys.executable, str(BENCHMARKS / f"{name}.py"), *TINY[name], *more]
    done = subprocess.run(words, cwd=tmp_path, env=where, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / f"{name}.json").read_text())
    assert found["date"]
