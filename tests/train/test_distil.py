"""Distillation as a user meets it: a refiner in, a faster refiner out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synthaug.errors import ConfigError
from synthaug.models import rectified
from synthaug.models.maps import MapSpec
from synthaug.models.refiner import WEIGHTS, Facts, read_facts, to_files
from synthaug.refine.restore import Restore
from synthaug.train import checkpoint, fitting
from synthaug.train.refiner import Settings, train
from tests.models.tiny_refiner import SPREAD, build_tiny_refiner
from tests.train.photos import make_photos

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("data") / "photos", 10)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_refiner(tmp_path_factory.mktemp("teacher") / "model")


def settings(photos: Path, teacher: Path, out: Path, **changes: Any) -> Settings:
    tiny = {
        "data": str(photos), "out": str(out), "distil": str(teacher), "steps": 6, "batch": 2, "crop": 32,
        "smallest": 40, "channels": [8, 16], "device": "cpu", "save_every": 2, "show_every": 6, "threads": 1,
        "teacher_steps": 4,
    }  # fmt: skip
    return Settings.of({**tiny, **changes})


def test_the_faster_refiner_says_its_steps_and_resumes_to_the_same_bytes(
    photos: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(settings(photos, teacher, tmp_path / "straight"))
    step = fitting.Fit._step

    def killed(self: Any, drawn: Any, number: int) -> Any:
        if number == 5:
            raise KeyboardInterrupt
        return step(self, drawn, number)

    monkeypatch.setattr(fitting.Fit, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(settings(photos, teacher, tmp_path / "killed"))
    monkeypatch.setattr(fitting.Fit, "_step", step)
    train(settings(photos, teacher, tmp_path / "killed"))
    straight, resumed = ((tmp_path / name / "model" / WEIGHTS).read_bytes() for name in ("straight", "killed"))
    assert straight == resumed
    facts, taught = read_facts(tmp_path / "straight" / "model"), read_facts(teacher)
    assert facts.steps == 2
    assert (facts.spread, facts.grain, facts.shape) == (taught.spread, taught.grain, taught.shape)
    assert facts.weights != taught.weights
    stage = Restore(model=str(tmp_path / "straight" / "model"))
    stage.load("cpu")
    card = (tmp_path / "straight" / "model" / "README.md").read_text()
    assert "made for 2 steps, in place of 4" in card
    assert "distil=model" in card
    assert str(teacher.parent) not in card


def test_it_comes_nearer_to_its_teacher(photos: Path, tmp_path: Path) -> None:
    # Random weights flow nearly straight; ten times the velocity does not.
    torch.manual_seed(0)
    network = rectified.network(rectified.Shape((8, 16)))
    with torch.no_grad():
        network.conv_out.weight *= 10
    for name, file in to_files(network, Facts((8, 16), 1, SPREAD, (0.001,), "")).items():
        (tmp_path / "curved" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "curved" / name).write_bytes(file)
    curved = tmp_path / "curved"
    train(settings(photos, curved, tmp_path / "out", steps=60, batch=4, lr=1e-3, save_every=100, show_every=100))
    losses = checkpoint.state_of((tmp_path / "out" / checkpoint.NAME).read_bytes()).losses
    assert np.mean(losses[-2:]) < 0.9 * losses[0]


def test_a_teacher_with_maps_has_pupils_with_maps(photos: Path, tmp_path: Path) -> None:
    told = build_tiny_refiner(tmp_path / "told", MapSpec(("depth",)))
    with pytest.raises(ConfigError, match=r"maps=\[\].*\['depth'\]"):
        train(settings(photos, told, tmp_path / "out"))


def test_another_teacher_does_not_go_on_from_a_checkpoint(photos: Path, teacher: Path, tmp_path: Path) -> None:
    train(settings(photos, teacher, tmp_path / "out", steps=2))
    moved = build_tiny_refiner(tmp_path / "elsewhere" / "model")
    assert train(settings(photos, moved, tmp_path / "out", steps=4)) == 0
    other = build_tiny_refiner(tmp_path / "other", steps=4)
    with pytest.raises(ConfigError, match="teacher"):
        train(settings(photos, other, tmp_path / "out", steps=4))


def test_folders_that_are_no_refiner(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"distil=.*no refiner\.json in it"):
        train(settings(photos, tmp_path / "nowhere", tmp_path / "out"))
    other = tmp_path / "pipeline"
    other.mkdir()
    (other / "model_index.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"distil=.*pipeline: no refiner\.json in it"):
        train(settings(photos, other, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"distil_steps": 0}, "distil_steps=0"), ({"distil_steps": 3}, "multiple of distil_steps=3"),
        ({"distil_steps": 4}, "more than distil_steps"), ({"channels": [8, 8]}, r"channels=\[8, 8\].*\[8, 16\]"),
        ({"layers": 2}, "layers=2"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_the_teacher(
    photos: Path, teacher: Path, tmp_path: Path, change: dict[str, Any], match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        train(settings(photos, teacher, tmp_path / "out", **change))
