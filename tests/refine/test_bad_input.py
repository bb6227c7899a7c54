"""What people hand to img2img by mistake, through a whole run: one error that names the way out, nothing published."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from synthaug.engine import local
from synthaug.engine.configure import compose
from synthaug.errors import ConfigError, SynthaugError
from synthaug.refine.img2img import Img2Img
from tests.crash import ledger
from tests.engine import runs
from tests.models.tiny import build_tiny_controlnet

torch.set_num_threads(1)
RECIPE = str(Path(__file__).parents[1] / "engine/painted.yaml")


def run(model: Path | str, out: Path, *overrides: str) -> int:
    words = [f"refine.model={model}", f"write.root={out}", "engine.workers=0", "engine.progress=none", *overrides]
    return local.run(compose(RECIPE, words, plugins=[runs.PLUGIN]))


@pytest.fixture
def model(tiny_sd: Path, tmp_path: Path) -> Path:
    """A copy of the tiny pipeline, to be spoilt."""
    return Path(shutil.copytree(tiny_sd, tmp_path / "model"))


def gone(model: Path) -> None:
    shutil.rmtree(model)


def empty(model: Path) -> None:
    (model / "model_index.json").unlink()


def with_code(model: Path) -> None:
    (model / "unet/modeling.py").write_text("print()")


def in_pickles(model: Path) -> None:
    for file in model.glob("unet/*.safetensors"):
        file.rename(file.with_suffix(".bin"))


def cut_short(model: Path) -> None:
    weights = model / "unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


MODELS: list[tuple[Callable[[Path], None], str]] = [
    (gone, r"no such folder"),
    (empty, r"model_index\.json"),
    (with_code, r"modeling\.py"),
    (in_pickles, r"safetensors|\.bin"),
    (cut_short, r"safetensors"),
]


@pytest.mark.parametrize(("spoil", "words"), MODELS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_model_folder_that_is_none(model: Path, tmp_path: Path, spoil: Callable[[Path], None], words: str) -> None:
    spoil(model)
    with pytest.raises(SynthaugError, match=words):
        run(model, tmp_path / "out")
    assert not list(tmp_path.glob("out/**/*.png"))


FIELDS = [
    (["refine.prompt='a {weather} street'"], r"unknown placeholder \{weather\}"),
    (["refine.prompt='a {weather street'"], r"write \{\{ and \}\} for braces"),
    (["refine.prompt={a: 0}"], r"prompt: 'a' with weight 0"),
    (["refine.prompt=@nowhere.txt"], r"nowhere\.txt"),
    (["refine.strength=0.1"], r"runs no step at all; raise one of them"),
    (["refine.protect={never_classes: [lorry]}"], r"no class 'lorry'"),
    (["refine.small={belw: 3}"], r"small\.belw: no such field.*below"),
    (["refine.sequence={cel: 3}"], r"sequence\.cel: no such field.*cell"),
    (["refine.controls={depth: {model: ''}}"], r"control depth: no model"),
]


@pytest.mark.parametrize(("overrides", "words"), FIELDS)
def test_a_field_that_cannot_be(model: Path, tmp_path: Path, overrides: list[str], words: str) -> None:
    with pytest.raises(SynthaugError, match=words) as refusal:
        run(model, tmp_path / "out", *overrides)
    assert "Traceback" not in str(refusal.value)
    assert not list(tmp_path.glob("out/**/*.png"))


def test_a_controlnet_of_another_family(model: Path, tmp_path: Path) -> None:
    net = build_tiny_controlnet(tmp_path / "net", model)
    config = json.loads((net / "config.json").read_text())
    (net / "config.json").write_text(json.dumps({**config, "cross_attention_dim": 2048}))
    with pytest.raises(ConfigError, match="2048 channels, the model has 16: they are of two families"):
        run(model, tmp_path / "out", f"refine.controls={{edges: {{model: {net}}}}}")
    assert not list(tmp_path.glob("out/**/*.png"))


def test_frames_without_a_camera_are_counted_as_that(model: Path, tmp_path: Path) -> None:
    """Their passes are there, so that the plan cannot know."""
    out = tmp_path / "out"
    assert run(model, out, "refine.sequence=true", "max_reject_ratio=0.5") == 3
    assert runs.totals(out)["rejected"] == {"sequence": 6}
    assert "needs a camera with a pose for every frame" in (out / "rejected.jsonl").read_text()
    assert ledger.check(out) == []


def test_a_device_that_is_out_of_memory_stops_the_run_and_loses_nothing(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second batch does not fit; with more room the run goes on where it was."""
    golden, out = tmp_path / "golden", tmp_path / "out"
    small = "refine.small={below: 40, at_least: 2, target: 64, most: 8}"
    run(model, golden, small)
    load = Img2Img.load
    calls: list[int] = []

    def loading(self: Img2Img, device: str) -> None:
        load(self, device)
        unet = self._loaded._pipe.unet  # pyright: ignore
        inner = unet.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            if len(calls) > 4:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return inner(*args, **kwargs)

        unet.forward = forward

    with monkeypatch.context() as patch:
        patch.setattr(Img2Img, "load", loading)
        with pytest.raises(
            SynthaugError, match=r"slot refine failed on cpu .*CUDA out of memory.*Lower engine\.micro_batch=3"
        ):
            run(model, out, small)
    assert ledger.check(out, complete=False) == []
    assert run(model, out, small) == 0
    assert runs.digest(out) == runs.digest(golden)
