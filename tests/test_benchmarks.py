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
    "gpu_end_to_end": ("--tiny",),
    "gpu_networks": ("--tiny",),
    "memory": ("--samples", "400"),
    "overlap": ("--samples", "16", "--size", "64", "--rounds", "1", "--seconds", "0.05"),
    "png": (),
    "render": (),
    "retexture": ("--side", "64", "--scenes", "1", "--samples", "1", "--paths", "2", "--big", "64"),
    "rle": (),
    "sequence": ("--size", "64", "--frames", "2", "--scenes", "boxes"),
    "startup": (),
    "texture": ("--side", "64", "--crop", "48", "--rounds", "1"),
    "texture_families": ("side=16", "steps=2", "samples=8", "rounds=3", "data=none", "weights=none"),
    "tiny_vae": ("--crop", "64", "--count", "2", "--rounds", "1"),
    "usefulness": (
        *("--renders", "6", "--held-out", "3", "--side", "96", "--steps", "4"),
        *("--seeds", "1", "--rounds", "2", "--jobs", "1", "--photos", "0"),
    ),
}
LONG = {"convert", "memory", "png", "render", "augment", "rle", "diffusion", "sequence", "usefulness"}
LONG |= {"gpu_end_to_end", "gpu_networks", "retexture", "texture_families"}
NEEDS_DATA = {"refiner"}
"""Photos and renders that are not in the repository: `tests/metrics` tests its parts."""
NO_SCRIPT = {
    "tile_sets",
    "gpu_bench",
    "gpu_engine",
    "gpu_loops",
    "gpu_models",
    "judge",
    "measure",
    "sources",
    "stand_ins",
    "plain_loop",
    "augment_scene",
    "stages",
    "precision",
}


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
