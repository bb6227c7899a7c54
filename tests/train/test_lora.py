"""Adapters trained as a user does it: settings, resuming, outputs, bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from synthaug.cli import main
from synthaug.engine.targets import find_conf
from synthaug.errors import ConfigError, Interrupted, SynthaugError
from synthaug.models import finetune, loras
from synthaug.train import checkpoint, lora_work
from synthaug.train.fitting import Fit
from synthaug.train.lora import Settings, train
from synthaug.train.lora_crops import SaidCrops
from synthaug.train.lora_words import words_for
from synthaug.train.machine import Machine
from synthaug.train.photos import find
from synthaug.train.words import values
from tests.models.families import build_flux, build_sdxl
from tests.models.tiny import build_tiny_sd
from tests.train.photos import make_photos

torch.set_num_threads(1)
TINY: dict[str, Any] = {
    "steps": 6, "batch": 2, "crop": 32, "rank": 2, "device": "cpu", "save_every": 2, "show_every": 100, "threads": 1,
    "lr": 1e-2, "prompt": "a photo",
}  # fmt: skip
SAVED = f"model/{finetune.WEIGHTS}"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("data") / "photos", 8)


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_sd(tmp_path_factory.mktemp("sd") / "sd")


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sdxl(tmp_path_factory.mktemp("xl") / "xl")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora_work, "_SHOWN", 1)
    monkeypatch.setattr(finetune, "_STEPS", 2)


def settings(photos: Path, base: Path, out: Path, /, **changes: Any) -> Settings:
    return Settings.of({"data": str(photos), "base": str(base), "out": str(out)} | TINY | changes)


def work_of(made: Settings) -> lora_work.LoraWork:
    found = find(made.folders(), made.crop)
    words = words_for(found, made.prompt, made.captions)
    crops = SaidCrops(found, words, made.crop, made.share, made.flip, made.seed)
    torch.manual_seed(made.seed)
    return lora_work.LoraWork(made, crops, Machine.of(made))


def mean_of(out: Path) -> dict[str, torch.Tensor]:
    tensors = load_file(out / checkpoint.NAME)
    return {n.removeprefix("average."): value for n, value in tensors.items() if n.startswith("average.")}


@pytest.mark.parametrize("family", ["sd", "xl"])
def test_twenty_steps_lower_the_loss_on_fixed_noise(
    family: str, photos: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    base = request.getfixturevalue(family)
    made = settings(photos, base, tmp_path / "out", steps=20, batch=4, lr=3e-2, ema=0.9, rank=4, alpha=8)
    assert train(made) == 0
    work = work_of(made)
    drawn = [work.draw(-5 - i, range(4)) for i in range(4)]

    def loss() -> float:
        with torch.no_grad():
            return float(np.mean([float(work.loss(work.network, each)) for each in drawn]))

    before = loss()
    with work.base.wearing(mean_of(tmp_path / "out")):
        after = loss()
    # Nothing but attention may learn, in a network of random weights: little, and surely.
    assert after < before - 1e-3


def test_what_is_published(photos: Path, sd: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(
        settings(photos, sd, out, hold_out=0, alpha=3.0, lr=0.1, show_every=4, licence="CC0", prompt=["a photo", "b"])
    )
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file() and ".synthaug" not in p.parts} == {
        SAVED, "model/README.md", "checkpoint.safetensors", "loss.png", "samples/0000004.png", "samples/0000006.png"
    }  # fmt: skip
    sheet = cv2.imread(str(out / "samples" / "0000006.png"))
    assert sheet is not None
    assert sheet.shape[:2] == (32, 4 * 36 - 4)
    plain, bare, adapted, photo = (sheet[:, x * 36 : x * 36 + 32].astype(int) for x in range(4))
    assert np.abs(adapted - bare).max() >= 2
    assert 0 < np.abs(plain - photo).mean() < 20
    card = (out / "model" / "README.md").read_text()
    for part in ("CC0", "`b`", "8 used", "rank 2, alpha 3", "synthaug train lora 'data=[photos]' base=sd out=out"):
        assert part in card
    assert str(tmp_path) not in card
    # The running mean is what is saved, alpha / rank multiplied in.
    mean = mean_of(out)
    scaled = sorted(float((v * (1.5 if ".lora_B." in n else 1)).abs().sum()) for n, v in mean.items())
    assert sorted(float(v.abs().sum()) for v in load_file(out / SAVED).values()) == pytest.approx(scaled, rel=1e-6)


def test_the_stage_s_stack_takes_the_folder(photos: Path, sd: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    train(settings(photos, sd, tmp_path / "out", steps=2, lr=0.1))
    pipe, plain = (StableDiffusionPipeline.from_pretrained(sd, safety_checker=None) for _ in range(2))
    assert loras.merge(pipe, [loras.Lora("mine", str(tmp_path / "out" / "model"))])
    plain.load_lora_weights(tmp_path / "out" / "model")
    noisy, words = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 16)
    with torch.no_grad():
        merged, beside = (one.unet(noisy, 5, words).sample for one in (pipe, plain))
        plain.unload_lora_weights()
        bare = plain.unet(noisy, 5, words).sample
    assert torch.allclose(merged, beside, atol=1e-5)
    assert not torch.allclose(merged, bare, atol=1e-4)


def test_a_killed_run_ends_as_a_straight_one(
    photos: Path, sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(settings(photos, sd, tmp_path / "straight", steps=13))
    step = Fit._step

    def killed(self: Fit, drawn: Any, number: int) -> torch.Tensor:
        if number == 9:
            raise KeyboardInterrupt
        return step(self, drawn, number)

    monkeypatch.setattr(Fit, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(settings(photos, sd, tmp_path / "killed", steps=13))
    assert not (tmp_path / "killed" / "model").exists()
    monkeypatch.setattr(Fit, "_step", step)
    train(settings(photos, sd, tmp_path / "killed", steps=13))
    for name in (SAVED, checkpoint.NAME):
        straight, resumed = (load_file(tmp_path / run / name) for run in ("straight", "killed"))
        assert straight.keys() == resumed.keys()
        assert all(torch.equal(straight[key], resumed[key]) for key in straight)
    straight_file, resumed_file = ((tmp_path / run / SAVED).read_bytes() for run in ("straight", "killed"))
    assert straight_file == resumed_file
    # And what it knows beside tensors: losses of the steps before the kill are not lost.
    told = [checkpoint.state_of((tmp_path / run / checkpoint.NAME).read_bytes()) for run in ("straight", "killed")]
    assert told[0] == told[1]
    assert len(told[0].losses) == 2


def test_a_signal_leaves_a_checkpoint(photos: Path, sd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Fit._step

    def signalled(self: Fit, drawn: Any, number: int) -> torch.Tensor:
        if number == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, drawn, number)

    monkeypatch.setattr(Fit, "_step", signalled)
    with pytest.raises(Interrupted, match="stopped after step 3"):
        train(settings(photos, sd, tmp_path / "out", save_every=100))
    assert checkpoint.state_of((tmp_path / "out" / checkpoint.NAME).read_bytes()).step == 3


def test_another_training_does_not_go_on_and_is_told_apart(photos: Path, sd: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(settings(photos, sd, out, steps=2))
    with pytest.raises(ConfigError, match=r"another training: lr was 0\.01, is 0\.001; rank was 2, is 3\. Choose"):
        train(settings(photos, sd, out, steps=2, lr=1e-3, rank=3))
    with pytest.raises(ConfigError, match=r"prompt and captions \(SHA-256\) was [0-9a-f]{64}, is [0-9a-f]{64}\."):
        train(settings(photos, sd, out, steps=2, prompt="another photo"))
    with pytest.raises(ConfigError, match=r"base \(SHA-256\) was"):
        train(settings(photos, build_tiny_sd(tmp_path / "other", seed=1), out, steps=2))
    more = make_photos(tmp_path / "photos", 9)
    with pytest.raises(ConfigError, match=r"photos: 1 new \(photo08\.jpg\)\."):
        train(settings(more, sd, out, steps=2))
    # More steps are the same training, longer; and so is the same one from another place.
    os.rename(sd, tmp_path / "moved")
    try:
        assert train(settings(photos, tmp_path / "moved", out, steps=3)) == 0
    finally:
        os.rename(tmp_path / "moved", sd)


def test_gradient_checkpointing_and_min_snr(photos: Path, sd: Path, tmp_path: Path) -> None:
    for name, changes in {"plain": {}, "frugal": {"checkpointing": True}, "weighted": {"min_snr": 0.05}}.items():
        train(settings(photos, sd, tmp_path / name, steps=2, **changes))
    plain, frugal, weighted = (load_file(tmp_path / name / SAVED) for name in ("plain", "frugal", "weighted"))
    assert all(torch.allclose(plain[name], frugal[name], atol=1e-6) for name in plain)
    assert not all(torch.equal(plain[name], weighted[name]) for name in plain)


def test_bfloat16_is_for_the_base_alone(photos: Path, sd: Path, tmp_path: Path) -> None:
    made = settings(photos, sd, tmp_path / "out", steps=2, precision="bfloat16", checkpointing=True)
    train(made)
    saved = load_file(tmp_path / "out" / SAVED)
    assert all(value.dtype == torch.float32 and value.isfinite().all() for value in saved.values())
    work = work_of(made)
    assert {value.dtype for value in work.parameters.values()} == {torch.float32}
    frozen = {value.dtype for value in work.network.parameters() if not value.requires_grad}
    assert frozen == {torch.bfloat16}


def test_captions_are_learnt_under_their_own_words(photos: Path, sd: Path, tmp_path: Path) -> None:
    lines = "".join(f"photo{i:02d}.jpg\t{'a' if i % 2 else 'b'} {i}\n" for i in range(8))
    (tmp_path / "words.tsv").write_text(lines)
    made = settings(photos, sd, tmp_path / "out", steps=2, prompt="", captions=[str(tmp_path / "words.tsv")])
    train(made)
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    assert "8 captions of their own" in card
    assert "captions=[words.tsv]" in card
    assert str(tmp_path) not in card


def test_a_loss_that_is_not_finite_stops(photos: Path, sd: Path, tmp_path: Path, monkeypatch: Any) -> None:
    loss = finetune.Adapted.loss
    monkeypatch.setattr(finetune.Adapted, "loss", lambda *given: loss(*given) * torch.nan)
    with pytest.raises(SynthaugError, match=r"the loss is nan(.|\n)*smaller lr"):
        train(settings(photos, sd, tmp_path / "out"))


def test_out_of_memory_names_the_remedy(photos: Path, sd: Path, tmp_path: Path, monkeypatch: Any) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(finetune.Adapted, "loss", full)
    with pytest.raises(ConfigError, match=r"batch=2(.|\n)*checkpointing=true"):
        train(settings(photos, sd, tmp_path / "out"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"crop": 24}, "crop=24: this base needs a multiple of 16"), ({"rank": 0}, "rank=0"), ({"alpha": 0}, "alpha=0"),
        ({"share": 0.0}, "share=0"), ({"share": 1.5}, "share=1.5"), ({"min_snr": -1.0}, "min_snr=-1"),
        ({"targets": []}, "targets"), ({"targets": ["to_z"]}, "to_z"), ({"precision": "float16"}, "precision=float16"),
        ({"hold_out": [1]}, "hold_out"), ({"hold_out": [2, 2]}, "hold_out"), ({"captions": ["", ""]}, "captions"),
        ({"stepz": 3}, "stepz.*steps"), ({"rank": 1.5}, "expected int"), ({"data": []}, "data=FOLDER"),
        ({"base": ""}, "base=FOLDER"), ({"base": "nowhere"}, "base=nowhere: no such folder"),
        ({"device": "toaster"}, "device=toaster"), ({"prompt": 3}, "prompt=3"),
        ({"prompt": "a {weather} photo"}, "unknown placeholder"), ({"prompt": "{caption}"}, "set captions="),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(photos: Path, sd: Path, tmp_path: Path, change: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        train(settings(photos, sd, tmp_path / "out", **change))


def test_photos_that_cannot_be_learnt_from(photos: Path, sd: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="0 usable photos among 0"):
        train(settings(tmp_path / "empty", sd, tmp_path / "out"))
    dots = make_photos(tmp_path / "dots", 8, (1, 1))
    with pytest.raises(ConfigError, match=r"0 usable photos among 8(.|\n)*1x1, smaller than 32"):
        train(settings(dots, sd, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_base_of_another_family_is_refused_before_anything_is_written(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"FLUX\.1; a LoRA can be trained for Stable Diffusion 1/2 and"):
        train(settings(photos, build_flux(tmp_path / "flux"), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_someone_elses_folder_is_not_written_into(photos: Path, sd: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"mine\.txt"):
        train(settings(photos, sd, tmp_path / "out"))


def test_the_conf_file_shows_the_defaults() -> None:
    data = yaml.safe_load((find_conf() / "train" / "lora.yaml").read_text())
    assert data.pop("data") == data.pop("out") == data.pop("base") == "???"
    assert Settings.of({"data": "photos", "base": "b", "out": "out", **data}) == Settings(("photos",), "b", "out")
    assert {*data, "data", "out", "base"} == set(Settings.__dataclass_fields__)
    assert Settings.of(values("lora", ["data=p", "base=b", "out=o", "lr=1e-3"])).lr == 1e-3


def test_the_command(photos: Path, sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"{name}={json.dumps(value)}" for name, value in TINY.items()]
    where = [f"data={photos}", f"base={sd}", f"out={tmp_path / 'out'}"]
    assert main(["train", "lora", *where, *words]) == 0
    assert (tmp_path / "out" / SAVED).is_file()
    assert "6 steps on 8 photos" in capsys.readouterr().out
    assert main(["train", "lora", *where[:2], f"out={tmp_path / 'other'}", "rnak=3"]) == 2
    assert "rank" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_learn_what_one_does(photos: Path, sd: Path, tmp_path: Path) -> None:
    given = {**TINY, "steps": 4, "batch": 4, "lr": 1e-3}
    words = [f"{name}={json.dumps(value)}" for name, value in given.items()]
    where = ["-m", "synthaug", "train", "lora", f"data={photos}", f"base={sd}"]
    launch = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29577"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    for start, out in (([], "one"), (launch, "two")):
        command = [sys.executable, *start, *where, f"out={tmp_path / out}", *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (load_file(tmp_path / name / SAVED) for name in ("one", "two"))
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)
    assert any(value.abs().max() > 1e-4 for name, value in one.items() if ".up." in name)
