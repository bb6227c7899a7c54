"""Training as a user meets it: settings, resuming, outputs, bad input."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from synthaug.engine.lock import RunLock
from synthaug.engine.targets import find_conf
from synthaug.errors import ConfigError, InputError, Interrupted, Refusal, SynthaugError
from synthaug.models import rectified
from synthaug.models.refiner import WEIGHTS, read_facts
from synthaug.refine.restore import Restore
from synthaug.train import fitting
from synthaug.train.machine import rate_at
from synthaug.train.refiner import Settings, train
from synthaug.train.words import values
from tests.train.photos import make_photos

torch.set_num_threads(1)
TINY: dict[str, Any] = {
    "steps": 6, "batch": 2, "crop": 32, "smallest": 40, "channels": [8, 16], "device": "cpu", "save_every": 2,
    "show_every": 6, "threads": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("data") / "photos", 10)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthaug.train.measure.BATCHES", 2)


def settings(photos: Path, out: Path, **changes: Any) -> Settings:
    return Settings.of({"data": str(photos), "out": str(out), **TINY, **changes})


def test_trains_and_the_stage_loads_the_result(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert train(settings(photos, out, hold_out=5, licence="CC0")) == 0
    stage = Restore(model=str(out / "model"), steps=2)
    stage.load("cpu")
    grid = cv2.imread(str(out / "samples" / "0000006.png"))
    assert grid is not None
    assert grid.shape[1] == 3 * 36 - 4
    assert cv2.imread(str(out / "loss.png")) is not None
    card = (out / "model" / "README.md").read_text()
    for part in ("photo00.jpg", "photo05.jpg", "CC0", "8 used, 2 held out", "synthaug train refiner 'data=[photos]'"):
        assert part in card
    assert str(tmp_path) not in card


def test_the_running_mean_is_what_is_published_and_its_pace_is_told(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fitting, "_TELL_EVERY", 0.0)
    out = tmp_path / "out"
    train(settings(photos, out, lr=0.01, ema=0.8))
    told = capsys.readouterr().err
    assert re.search(r"^3/6  loss -  [\d.]+/s  ETA \d", told, re.MULTILINE), told
    kept, published = load_file(out / "checkpoint.safetensors"), load_file(out / "model" / WEIGHTS)
    for name, value in published.items():
        assert torch.equal(kept[f"average.{name}"].half(), value)
    assert any(not torch.equal(kept[f"network.{name}"].half(), value) for name, value in published.items())


def test_a_killed_run_ends_as_a_straight_one(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(settings(photos, tmp_path / "straight"))
    step = fitting.Fit._step

    def killed(self: Any, drawn: Any, number: int) -> Any:
        if number == 5:
            raise KeyboardInterrupt
        return step(self, drawn, number)

    monkeypatch.setattr(fitting.Fit, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(settings(photos, tmp_path / "killed"))
    assert not (tmp_path / "killed" / "model").exists()
    monkeypatch.setattr(fitting.Fit, "_step", step)
    train(settings(photos, tmp_path / "killed"))
    straight, resumed = (load_file(tmp_path / name / "model" / WEIGHTS) for name in ("straight", "killed"))
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_a_signal_leaves_a_checkpoint(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import signal

    step = fitting.Fit._step

    def signalled(self: Any, drawn: Any, number: int) -> Any:
        if number == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, drawn, number)

    monkeypatch.setattr(fitting.Fit, "_step", signalled)
    with pytest.raises(Interrupted, match="stopped after step 3"):
        train(settings(photos, tmp_path / "out", save_every=100))
    assert (tmp_path / "out" / "checkpoint.safetensors").is_file()


def test_two_trainings_do_not_share_an_output(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with RunLock(tmp_path / "out"), pytest.raises(Refusal, match="out"):
        train(settings(photos, tmp_path / "out"))


def test_other_settings_do_not_go_on_from_a_checkpoint(photos: Path, tmp_path: Path) -> None:
    train(settings(photos, tmp_path / "out", steps=2))
    with pytest.raises(ConfigError, match=r"another training: lr was 0\.0008, is 0\.0001"):
        train(settings(photos, tmp_path / "out", lr=1e-4))
    # More steps are the same training, longer.
    assert train(settings(photos, tmp_path / "out", steps=4)) == 0
    (tmp_path / "out" / "checkpoint.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match="cannot be read"):
        train(settings(photos, tmp_path / "out", steps=4))


def test_learns(photos: Path, tmp_path: Path) -> None:
    train(settings(photos, tmp_path / "out", steps=120, batch=4, lr=3e-3, save_every=1000, show_every=1000))
    data = (tmp_path / "out" / "checkpoint.safetensors").read_bytes()
    head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    losses = json.loads(head["__metadata__"]["state"])["losses"]
    # Noise and target of unit variance: 2 is what is lost by knowing nothing.
    assert np.mean(losses[-3:]) < 0.9 * losses[0]


def test_a_loss_that_is_not_finite_stops(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rectified, "flow_loss", lambda unet, *rest: sum(p.sum() for p in unet.parameters()) * np.nan)
    with pytest.raises(SynthaugError, match=r"the loss is nan(.|\n)*smaller lr"):
        train(settings(photos, tmp_path / "out"))


def test_out_of_memory_names_the_remedy(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(rectified, "flow_loss", full)
    with pytest.raises(ConfigError, match=r"batch=2(.|\n)*checkpointing=true"):
        train(settings(photos, tmp_path / "out"))


def test_gradient_checkpointing_changes_no_result(photos: Path, tmp_path: Path) -> None:
    for name, flag in (("plain", False), ("frugal", True)):
        train(settings(photos, tmp_path / name, steps=2, checkpointing=flag))
    plain, frugal = (load_file(tmp_path / name / "model" / WEIGHTS) for name in ("plain", "frugal"))
    assert all(torch.allclose(plain[name], frugal[name], atol=1e-3) for name in plain)


def test_bfloat16_trains_too(photos: Path, tmp_path: Path) -> None:
    train(settings(photos, tmp_path / "out", steps=2, precision="bfloat16"))
    assert read_facts(tmp_path / "out" / "model").channels == (8, 16)


def test_someone_elses_folder_is_not_written_into(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"mine\.txt"):
        train(settings(photos, tmp_path / "out"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"crop": 33}, "crop=33"), ({"crop": 0}, "crop=0"), ({"steps": 0}, "steps=0"), ({"lr": 0.0}, "lr=0"),
        ({"precision": "float8"}, "precision=float8"), ({"hold_out": [1]}, "hold_out"),
        ({"hold_out": [2, 2]}, "hold_out"),
        ({"stepz": 3}, "stepz.*steps"), ({"steps": "many"}, "expected int"), ({"ema": True}, "expected float"),
        ({"data": []}, "data=FOLDER"), ({"device": "toaster"}, "device=toaster"),
    ],
)  # fmt: skip
def test_settings_out_of_range(photos: Path, tmp_path: Path, change: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        train(settings(photos, tmp_path / "out", **change))


def test_the_conf_file_shows_the_defaults() -> None:
    data = yaml.safe_load((find_conf() / "train" / "refiner.yaml").read_text())
    assert data.pop("data") == data.pop("out") == "???"
    made = Settings.of({"data": "photos", "out": "out", **data})
    assert made == Settings(("photos",), "out") == Settings.of(values("refiner", ["data=photos", "out=out"]))
    assert {*data, "data", "out"} == set(Settings.__dataclass_fields__)


@pytest.mark.parametrize("steps", [1, 10, 1000])
def test_learning_rate_rises_and_falls(steps: int) -> None:
    rates = [rate_at(step, steps) for step in range(steps)]
    assert 0 < min(rates) <= max(rates) <= 1
    top = int(np.argmax(rates))
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_a_longer_training_begins_as_a_shorter_one() -> None:
    assert [rate_at(step, 1000) for step in range(750)] == [rate_at(step, 5000) for step in range(750)]
    assert rate_at(999, 1000) == pytest.approx(0.01)
