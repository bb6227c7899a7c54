"""Several processes learn what one does: joined by accelerate, on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from synthaug.train.checkpoint import NAME
from tests.train.photos import make_photos

torch.set_num_threads(1)


@pytest.mark.slow
def test_two_processes_and_one_take_the_same_steps(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    photos = make_photos(tmp_path / "photos", 10)
    words = [
        "train", "refiner", f"data={photos}", "steps=3", "batch=4", "crop=32", "smallest=40", "channels=[8,16]",
        "device=cpu", "threads=1", "precision=float32",
    ]  # fmt: skip
    alone = [sys.executable, "-m", "synthaug"]
    joined = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "synthaug"]
    for name, command in (("one", alone), ("two", joined)):
        done = subprocess.run(
            [*command, *words, f"out={tmp_path / name}"],
            capture_output=True,
            text=True,
            env={**os.environ},
            timeout=500,
        )
        assert done.returncode == 0, done.stderr
        # One of them speaks and writes.
        assert done.stdout.count("3 steps on 10 photos") == 1
    one, two = (load_file(tmp_path / name / NAME) for name in ("one", "two"))
    moved = [name for name in one if name.startswith("network.") and name.endswith("weight")]
    assert all(torch.allclose(one[name], two[name], atol=2e-5) for name in moved)
    # Sums in another order, and no more: gradients of four crops, not of two.
    gathered = [name for name in one if name.endswith(".exp_avg")]
    assert all(torch.allclose(one[name], two[name], rtol=1e-3, atol=1e-5) for name in gathered)
