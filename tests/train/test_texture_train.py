"""Training texture models as a user does it: settings, outputs, resuming, bad input, for every family."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from synthaug.cli import main
from synthaug.engine.targets import find_conf
from synthaug.errors import ConfigError, InputError, Interrupted, SynthaugError
from synthaug.models.texture.ddpm import DDPM
from synthaug.models.texture.looks import levelled, look_of
from synthaug.models.texture.saving import NAME, open_texture_model
from synthaug.models.texture.vae import VAE
from synthaug.train import checkpoint, texture_work
from synthaug.train.fitting import Fit
from synthaug.train.texture import Settings, train
from synthaug.train.texture_work import Several
from synthaug.train.words import values
from tests.models.texture.tiny import SIDE, TINY
from tests.train.tiles import make_textures

torch.set_num_threads(1)
GIVEN: dict[str, Any] = {
    "side": SIDE, "steps": 6, "batch": 2, "device": "cpu", "save_every": 2, "show_every": 100, "threads": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "textures"
    make_textures(folder / "brick", 8)
    make_textures(folder / "wood", 11, first=20)
    return folder


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texture_work, "_COLUMNS", 2)


def settings(textures: Path, out: Path, family: str = "vae", **changes: Any) -> Settings:
    given = {"family": family, "data": str(textures), "out": str(out), "model": TINY[family], **GIVEN, **changes}
    return Settings.of(given)


def test_what_is_published(textures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert train(settings(textures, out, show_every=4, licence="CC0", hold_out=9)) == 0
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file() and ".synthaug" not in p.parts} == {
        f"model/{NAME}", "model/README.md", "checkpoint.safetensors", "loss.png", "samples/0000004.png",
        "samples/0000006.png",
    }  # fmt: skip
    sheet = cv2.imread(str(out / "samples" / "0000006.png"))
    assert sheet is not None
    assert sheet.shape == (2 * (SIDE + 4) - 4, 2 * (SIDE + 4) - 4, 3)
    card = (out / "model" / "README.md").read_text()
    for part in ("CC0", "brick, wood", "16 used, 3 held out", "wood/tile021.png", "Texture model: vae",
                 "synthaug train texture family=vae 'data=[textures]' out=out"):  # fmt: skip
        assert part in card
    assert str(tmp_path) not in card
    opened = open_texture_model(out)
    assert opened.classes == ("brick", "wood")
    assert opened.facts["steps"] == 6
    assert opened.facts["licence"] == "CC0"
    assert opened.model.sample(torch.tensor([opened.number("wood")]), [3], 32).shape == (1, 3, 32, 32)
    # The running mean is what is saved.
    saved, kept = load_file(out / "model" / NAME), load_file(out / checkpoint.NAME)
    assert all(torch.equal(saved[name], kept[f"average.{name}"]) for name in opened.model.averaged)
    assert not any(torch.equal(saved[n], kept[f"network.{n}"]) for n in ("out.conv.weight", "ground.weight"))


@pytest.mark.parametrize("family", TINY)
def test_a_killed_run_ends_with_the_bytes_of_a_straight_one(
    family: str, textures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(settings(textures, tmp_path / "straight", family))
    step = Fit._step

    def killed(self: Fit, drawn: Any, number: int) -> torch.Tensor:
        if number == 5:
            raise KeyboardInterrupt
        return step(self, drawn, number)

    monkeypatch.setattr(Fit, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(settings(textures, tmp_path / "killed", family))
    assert not (tmp_path / "killed" / "model").exists()
    monkeypatch.setattr(Fit, "_step", step)
    torch.manual_seed(99)
    train(settings(textures, tmp_path / "killed", family))
    for name in (f"model/{NAME}", checkpoint.NAME, "samples/0000006.png", "loss.png"):
        straight, resumed = ((tmp_path / run / name).read_bytes() for run in ("straight", "killed"))
        assert straight == resumed, name


def test_training_gets_somewhere(tmp_path: Path) -> None:
    """Samples have the colours of their class, and a diffusion of 160 steps errs less than one of a single step."""
    colours, pictures = {"bright": (210, 190, 60), "dark": (20, 40, 110)}, list[np.ndarray]()
    for name, colour in colours.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(10):
            stripes = 12 * np.sign(np.sin(np.arange(SIDE) * 2 * np.pi / 8 + number + 0.5))[:, None, None]
            pixels = np.broadcast_to(np.array(colour) + stripes, (SIDE, SIDE, 3)).astype(np.uint8)
            cv2.imwrite(str(tmp_path / "data" / name / f"{number}.png"), pixels[..., ::-1])
            pictures.append(pixels)
    images = torch.from_numpy(np.stack(pictures)).movedim(3, 1) / 127.5 - 1
    labels, look = torch.arange(20) // 10, look_of(images)

    def error(steps: int) -> tuple[float, float]:
        out = tmp_path / str(steps)
        train(settings(tmp_path / "data", out, "ddpm", steps=steps, batch=8, lr=4e-3, ema=0.98, save_every=1000))
        opened, apart = open_texture_model(out), list[float]()
        model = cast(DDPM, opened.model)
        for name, colour in colours.items():
            tiles = model.sample(torch.full((16,), opened.number(name)), list(range(16)), SIDE)
            apart.append(float(np.abs((tiles.mean((0, 2, 3)).numpy() + 1) / 2 - np.array(colour) / 255).max()))
        with torch.no_grad():
            maps, told = model.bands(levelled(images, look)), model.looks(look, labels)
            return float(model.diffusion.loss(maps, told, torch.Generator().manual_seed(0))), max(apart)

    (before, _), (after, colour) = error(1), error(160)
    assert after < 0.5 * before
    assert colour < 0.05


@pytest.mark.parametrize("family", list(TINY))
def test_bfloat16_trains_too(textures: Path, tmp_path: Path, family: str) -> None:
    assert train(settings(textures, tmp_path, family, steps=2, precision="bfloat16")) == 0
    tiles = open_texture_model(tmp_path).model.sample(None, [1, 2], SIDE)
    assert bool(tiles.isfinite().all())


def test_a_signal_leaves_a_checkpoint(textures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Fit._step

    def signalled(self: Fit, drawn: Any, number: int) -> torch.Tensor:
        if number == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, drawn, number)

    monkeypatch.setattr(Fit, "_step", signalled)
    with pytest.raises(Interrupted, match="stopped after step 3"):
        train(settings(textures, tmp_path / "out", save_every=100))
    assert checkpoint.state_of((tmp_path / "out" / checkpoint.NAME).read_bytes()).step == 3


def test_another_training_does_not_go_on(textures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    train(settings(textures, out, steps=2))
    with pytest.raises(ConfigError, match=r"another training: family was vae, is aae; model was"):
        train(settings(textures, out, "aae", steps=2))
    with pytest.raises(ConfigError, match=r"textures: 1 gone"):
        train(settings(textures, out, steps=2, hold_out=19))
    with pytest.raises(ConfigError, match=r"model was .*'width': 8}, is .*'width': 16}"):
        train(settings(textures, out, steps=2, model={**TINY["vae"], "width": 16}))
    # A family without stages may go on for longer; one with stages may not.
    assert train(settings(textures, out, steps=3)) == 0
    train(settings(textures, tmp_path / "staged", "latent_diffusion", steps=2))
    with pytest.raises(ConfigError, match="steps was 2, is 3"):
        train(settings(textures, tmp_path / "staged", "latent_diffusion", steps=3))


def test_the_family_s_recipe_stands_where_nothing_was_said() -> None:
    told = Settings.of({"family": "vae", "data": "d", "out": "o"}).completed(VAE)
    recipe = VAE.recipe
    assert (told.steps, told.batch, told.lr, told.ema) == (recipe.steps, recipe.batch, recipe.lr, recipe.ema)
    own = Settings.of({"family": "vae", "data": "d", "out": "o", "steps": 7, "ema": 0.0}).completed(VAE)
    assert (own.steps, own.batch, own.ema) == (7, recipe.batch, 0.0)


def test_several_optimisers_keep_their_own_state() -> None:
    def build() -> tuple[list[torch.nn.Parameter], list[torch.optim.Optimizer], Several]:
        some = [torch.nn.Parameter(torch.ones(2)) for _ in range(3)]
        each = [torch.optim.AdamW(some[:2], lr=0.1), torch.optim.Adam(some[2:], lr=0.2)]
        return some, each, Several(each)

    some, each, several = build()
    some[1].grad = torch.ones(2)
    each[0].step()  # the first has never had a gradient
    for _ in range(3):
        some[2].grad = torch.ones(2)
        each[1].step()
    state = several.state_dict()["state"]
    assert {number: float(moments["step"]) for number, moments in state.items()} == {1: 1, 2: 3}
    others, again, fresh = build()
    fresh.load_state_dict({"state": state, "param_groups": []})
    assert [len(one.state) for one in again] == [1, 1]
    assert float(again[1].state[others[2]]["step"]) == 3
    fresh.set_rate(0.5)
    assert [one.param_groups[0]["lr"] for one in again] == [0.05, 0.1]
    with pytest.raises(ConfigError, match="SGD: expected Adam or AdamW"):
        Several([torch.optim.SGD(some, lr=1.0)])


def test_a_loss_that_is_not_finite_stops(textures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VAE, "fit", lambda *given: {"loss": torch.tensor(torch.nan)})
    with pytest.raises(SynthaugError, match=r"the loss is nan(.|\n)*smaller lr"):
        train(settings(textures, tmp_path / "out"))


def test_out_of_memory_names_the_remedy(textures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(VAE, "fit", full)
    with pytest.raises(ConfigError, match=r"batch=2 tiles of 16 pixels(.|\n)*smaller batch"):
        train(settings(textures, tmp_path / "out"))


def test_a_broken_picture_is_told_and_training_goes_on(
    textures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_textures(tmp_path / "t", 17)
    (folder / "torn.png").write_bytes((folder / "tile003.png").read_bytes()[:300])
    assert train(settings(folder, tmp_path / "out", steps=2)) == 0
    told = capsys.readouterr()
    assert "17 textures, 0 held out, 1 unusable" in told.err
    assert "not used: 1\n  - t/torn.png: " in told.err
    assert "2 steps on 17 textures" in told.out
    assert "t/torn.png" in (tmp_path / "out" / "model" / "README.md").read_text()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"family": "vea"}, "family=vea: unknown.*'vae'"), ({"family": ""}, "needs family="),
        ({"data": "nowhere"}, "nowhere"), ({"side": 4}, "side=4"), ({"zoom": 0.5}, "zoom=0.5"),
        ({"precision": "float16"}, "precision=float16"), ({"device": "toaster"}, "device=toaster"),
        ({"hold_out": [1]}, "hold_out"), ({"model": 3}, "model=3"), ({"model": {"widht": 8}}, "'widht'.*'width'"),
        ({"model": {"width": "wide"}}, "model.width='wide'"), ({"model": {"width": [8]}}, "model.width"),
        ({"model": {"width": 0}}, "width=0: expected 1 or more"), ({"side": 20}, "side=20"), ({"ema": 1.0}, "ema=1"),
        ({"stepz": 3}, "stepz.*steps"), ({"batch": -1}, "batch=-1"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(textures: Path, tmp_path: Path, change: dict[str, Any], match: str) -> None:
    given = {"family": "vae", "data": str(textures), "out": str(tmp_path / "out"), "model": TINY["vae"], **GIVEN}
    with pytest.raises((ConfigError, InputError), match=match):
        train(Settings.of({**given, **change}))


def test_several_processes_are_refused(textures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synthaug.train.machine import Machine

    monkeypatch.setattr(Machine, "world", 2)
    with pytest.raises(ConfigError, match="runs in one process"):
        train(settings(textures, tmp_path / "out"))


def test_the_conf_file_shows_the_defaults() -> None:
    data = yaml.safe_load((find_conf() / "train" / "texture.yaml").read_text())
    assert data.pop("family") == data.pop("data") == data.pop("out") == "???"
    assert Settings.of({"family": "f", "data": "d", "out": "o", **data}) == Settings("f", ("d",), "o")
    assert {*data, "family", "data", "out"} == set(Settings.__dataclass_fields__)
    words = ["family=vae", "data=d", "out=o", "lr=1e-3", "model={width: 8}"]
    told = Settings.of(values("texture", words))
    assert (told.lr, told.model) == (1e-3, {"width": 8})
    with pytest.raises(ConfigError, match=r"needs family=.*vae, aae"):
        values("texture", ["data=d", "out=o"])


def test_from_the_command_line(textures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"{key}={value}" for key, value in (GIVEN | {"steps": 2}).items()]
    own = "{" + ", ".join(f"{key}: {value}" for key, value in TINY["aae"].items()) + "}"
    out = tmp_path / "out"
    assert main(["train", "texture", "family=aae", f"data={textures}", f"out={out}", f"model={own}", *words]) == 0
    assert open_texture_model(out).model.family == "aae"
    assert main(["train", "texture", "family=aae", f"data={textures}", f"out={out}", "stepz=3"]) == 2
    assert "Did you mean 'steps'?" in capsys.readouterr().err


def test_the_card_s_command_trains_the_same(textures: Path, tmp_path: Path) -> None:
    import shlex

    train(settings(textures, tmp_path / "out", steps=2))
    card = (tmp_path / "out" / "model" / "README.md").read_text()
    line = next(line for line in card.splitlines() if "synthaug train texture" in line)
    words = shlex.split(line)[3:]
    moved = {"data": f"data={textures}", "out": f"out={tmp_path / 'again'}"}
    words = [moved.get(word.partition("=")[0], word) for word in words]
    train(Settings.of(values("texture", words)))
    first, second = ((tmp_path / run / "model" / NAME).read_bytes() for run in ("out", "again"))
    assert first == second
    assert json.loads(json.dumps(open_texture_model(tmp_path / "again").facts))["of"] == 2
