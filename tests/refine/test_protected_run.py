"""Protection and words of a whole run, as they are in the files that it leaves: pixels, trail, and a sweep."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from synthaug.engine import local, sweep
from synthaug.engine.configure import compose
from tests.crash import ledger
from tests.engine import runs
from tests.models.tiny_refiner import build_tiny_refiner

torch.set_num_threads(1)
RECIPE = """
defaults:
  - /config
  - /read: folder
  - /refine: {stage}
  - /gate: integrity
  - /write: folder
  - _self_
engine: {{shard_size: 4, micro_batch: 3, workers: 0, progress: none}}
gate: {{boundary: 0.0, instance_boundary: 0.0, flat: 0.0, correlation: -1.0, chroma_shift: 200.0}}
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Discs and squares, with masks, depth and keypoints."""
    out = tmp_path_factory.mktemp("data") / "in"
    target = "write._target_=synthaug.formats.folder.writer.FolderWriter"
    assert runs.run(out, "gate.share=0", "read.count=4", "read.width=64", "read.height=48", target) == 0
    return out


def recipe(folder: Path, stage: str) -> str:
    path = folder / f"{stage}.yaml"
    path.write_text(RECIPE.format(stage=stage))
    return str(path)


def picture(path: Path) -> np.ndarray:
    found = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert found is not None
    return found


@pytest.mark.parametrize("stage", ["restore", "img2img"])
def test_what_must_not_be_touched_is_the_same_in_the_files(
    dataset: Path, tiny_sd: Path, tmp_path: Path, stage: str
) -> None:
    model = build_tiny_refiner(tmp_path / "refiner") if stage == "restore" else tiny_sd
    more = ["refine.steps=2"] if stage == "restore" else ["refine.steps=4", "refine.strength=0.5", "refine.prompt=a b"]
    words = [f"read.root={dataset}", f"refine.model={model}", "refine.protect={never_classes: [disc]}", *more]
    out = tmp_path / "out"
    assert local.run(compose(recipe(tmp_path, stage), [*words, f"write.root={out}"])) == 0
    assert ledger.check(out) == []
    changed = []
    files = sorted((dataset / "images").rglob("*.png"))
    for file in files:
        name = file.relative_to(dataset / "images")
        before, after = picture(file), picture(out / "images" / name)
        ids = cv2.imread(str(dataset / "instance" / name), cv2.IMREAD_UNCHANGED)
        assert ids is not None
        assert (ids == 1).any()
        assert (after[ids == 1] == before[ids == 1]).all()
        changed.append(float((after[ids != 1] != before[ids != 1]).mean()))
    assert len(changed) == 4
    assert min(changed) > 0.1
    facts = [row for row in runs.trail(out).values() if "never" in json.dumps(row)]
    assert len(facts) == 4


def test_a_sweep_over_strength_and_words_makes_a_dataset_for_each(dataset: Path, tiny_sd: Path, tmp_path: Path) -> None:
    words = [
        f"read.root={dataset}", f"write.root={tmp_path / 'out'}", f"refine.model={tiny_sd}", "refine.steps=4",
        "refine.strength=0.25,0.75", "refine.prompt='a {classes}','{count} b'",
    ]  # fmt: skip
    assert sweep.multirun(recipe(tmp_path, "img2img"), words) == 0
    jobs = sorted(path for path in (tmp_path / "out").iterdir() if (path / "manifest.json").is_file())
    assert len(jobs) == 4
    said = {json.dumps(sorted(runs.trail(job).items()), sort_keys=True) for job in jobs}
    assert len(said) == 4
    assert all("a disc" in one or "2 b" in one for one in said)
