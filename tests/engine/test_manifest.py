"""What stands in manifests beside the ledger: tallies of this run alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from synthaug.engine import local
from synthaug.engine.configure import compose


def moved(source: Path, out: Path, *, instances: bool) -> dict[str, Any]:
    """Runs a flip over a folder of ours (or of files) and gives its tally of annotations."""
    read = [f"read.root={source}"]
    read += ['read.passes={instance:{path:"ids/{stem}.png"}}', "read.names=names.txt"] if instances else []
    flip = ["+augment@flip=flip", "engine.workers=0", "engine.progress=none"]
    assert local.run(compose("convert", ["read=folder", *read, "write=folder", f"write.root={out}", *flip])) == 0
    return json.loads((out / "manifest.json").read_text())["annotations"]


def test_warps_of_an_earlier_run_are_not_counted_again(tmp_path: Path) -> None:
    source = tmp_path / "in"
    for name in ("images", "ids"):
        (source / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(3):
        picture = rng.integers(40, 200, (4, 4, 3), np.uint8).repeat(16, 0).repeat(16, 1)
        ids = np.zeros((64, 64), np.uint8)
        ids[16:48, 16:32] = 1
        cv2.imwrite(str(source / "images" / f"{number}.png"), picture)
        cv2.imwrite(str(source / "ids" / f"{number}.png"), ids)
    (source / "names.txt").write_text("thing\n")
    first = moved(source, tmp_path / "one", instances=True)
    assert first["annotations_in"] == first["kept"] == 3
    assert moved(tmp_path / "one", tmp_path / "two", instances=False) == first
