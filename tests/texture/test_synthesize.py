"""`synthaug texture synthesize` as it is typed: settings from configuration, tiles into a library, once each."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthaug.cli import main
from synthaug.engine import targets, texture_methods, vet
from synthaug.texture import noise_blend, quilting
from synthaug.texture.library import Library
from tests.models.tiny import build_tiny_sd, edit_weights
from tests.texture.pictures import noise, save

CONF = targets.find_conf() / "texture" / "synthesize"
COMMON = {
    "size", "count", "seed", "into", "licence", "name", "metres", "material", "tags", "source", "tileable", "near",
    "maps",
}  # fmt: skip


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_sd(tmp_path_factory.mktemp("m") / "sd")


def run(*words: object) -> int:
    return main(["texture", "synthesize", *map(str, words)])


def prompted(sd: Path, into: Path, *words: object) -> int:
    return run("method=prompt", f"model={sd}", f"into={into}", "licence=MIT", "size=64", "steps=2", *words)


@pytest.mark.parametrize("method", texture_methods.METHODS)
def test_configuration_tells_every_setting(method: str) -> None:
    settings, text = vet.read_yaml(CONF / f"{method}.yaml")
    assert settings.keys() >= COMMON
    assert text.count("???") == (1 if method == "model" else 3)
    make = {"noise": noise_blend, "patches": quilting}.get(method)
    if make is not None:
        knobs = inspect.signature(make.synthesize).parameters.values()
        assert {k.name: k.default for k in knobs if k.kind is k.KEYWORD_ONLY}.items() <= settings.items()
    assert all(" # " in line or line.startswith("#") for line in text.splitlines()), "each with what it is"


def test_the_model_that_comes_along(tmp_path: Path) -> None:
    into = tmp_path / "lib"
    assert run("method=model", f"into={into}", "count=3") == 0
    library = Library.open(into)
    assert len(library) == 3
    for entry in library.entries:
        assert "BSD-3-Clause" in entry.licence
        assert (entry.height, entry.width) == (64, 64)
        assert entry.seam <= 1.05
        assert library.read(entry).std() > 1


def test_tiles_of_a_material(sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    into = tmp_path / "lib"
    assert prompted(sd, into, "material=wood", "count=2", "seed=9007199254740993") == 0
    said = capsys.readouterr().out
    assert "wood_prompt_9007199254740993 added" in said
    library = Library.open(into)
    assert len(library) == 2
    for entry in library.entries:
        assert entry.method == "prompt"
        assert re.fullmatch("[0-9a-f]{64}", entry.model)
        assert entry.material == "wood"
        assert entry.source == "made by StableDiffusionPipeline of sd"
        assert entry.tileable
        prompt = entry.parameters["prompt"]
        assert "seamless texture, photographed straight from above" in prompt
        assert entry.parameters["negative"].startswith("perspective")
        assert (entry.parameters["steps"], entry.parameters["guidance"], entry.parameters["size"]) == (2, 5.0, 64)
        assert library.read(entry).shape == (64, 64, 3)
    assert sorted(e.seed or 0 for e in library.entries) == [9007199254740993, 9007199254740994]


def test_the_same_command_makes_what_is_missing(
    sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from synthaug.models.tile_model import TileModel

    into, asked = tmp_path / "lib", list[int]()
    called = TileModel.__call__

    def counting(self: TileModel, requests: Any, *args: Any, **more: Any) -> Any:
        asked.append(len(requests))
        return called(self, requests, *args, **more)

    monkeypatch.setattr(TileModel, "__call__", counting)
    words = ("prompt=old {material}", "material=stone", "near=skip")
    assert prompted(sd, into, *words) == 0
    assert prompted(sd, into, *words, "count=2") == 0
    assert asked == [1, 1], "the first is there"
    assert "stone_prompt_0 there" in capsys.readouterr().out
    entries = Library.open(into).entries
    assert {e.parameters["prompt"] for e in entries} == {"old stone"}
    for path in (into / "objects").glob("*/*"):
        path.unlink()
    assert prompted(sd, into, *words, "count=2") == 0
    assert asked == [1, 1, 1, 1], "lost maps are made again"
    assert all(Library.open(into).read(e).shape for e in entries)
    assert prompted(sd, into, *words, "guidance=1") == 0
    assert asked[4:] == [1], "another setting is another tile"


def test_words_of_ones_own_an_exemplar_and_maps(sd: Path, tmp_path: Path) -> None:
    save(tmp_path / "start.png", noise(3, (48, 48)))
    words = (f"exemplar={tmp_path / 'start.png'}", "crop=0,0,32,32", "strength=0.6", "maps=yes", "name=mine")
    assert prompted(sd, tmp_path / "lib", "prompt=worn oak boards", "negative=", *words) == 0
    (entry,) = Library.open(tmp_path / "lib").entries
    assert entry.name == "mine"
    assert entry.material == "unknown"
    assert set(entry.maps) == {"albedo", "height", "normal", "roughness", "occlusion"}
    kept = entry.parameters
    assert (kept["prompt"], kept["negative"], kept["strength"], kept["crop"]) == (
        "worn oak boards",
        "",
        0.6,
        "0,0,32,32",
    )
    assert kept["exemplar"] == "start.png"
    assert len(kept["exemplar_sha256"]) == 64
    assert prompted(sd, tmp_path / "lib", "prompt=worn oak boards") == 0
    named = {e.name: e.material for e in Library.open(tmp_path / "lib").entries}
    assert named["worn_oak_boards_prompt_0"] == "wood"


def test_several_tiles_of_an_exemplar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "photo.png", noise(9, (64, 64), 3))
    words = ("method=noise", f"exemplar={tmp_path / 'photo.png'}", f"into={tmp_path / 'lib'}", "licence=MIT", "size=64")
    assert run(*words, "count=3", "seed=2", "patch=0.3", "device=cpu") == 0
    entries = Library.open(tmp_path / "lib").entries
    assert sorted(e.name for e in entries) == ["photo_noise_2", "photo_noise_3", "photo_noise_4"]
    assert all(e.parameters["patch"] == 0.3 and e.parameters["sharpness"] == 2 for e in entries)
    assert run(*words, "count=3", "seed=2", "patch=0.3", "device=cpu") == 0
    assert capsys.readouterr().out.count(" there, ") == 3


def test_a_trained_model_makes_textures(tmp_path: Path) -> None:
    from synthaug.models.texture.saving import pack
    from synthaug.models.texture.table import family_of

    made: Any = family_of("vae")
    model = made(side=16, classes=2)
    (tmp_path / "model").mkdir()
    data = pack(model.eval(), ["stone", "wood"], {})
    (tmp_path / "model" / "model.safetensors").write_bytes(data)
    words = ("method=model", f"model={tmp_path}", f"into={tmp_path / 'lib'}", "count=2", "class=wood")
    assert run(*words) == 2, "no licence"
    assert run(*words, "licence=CC0-1.0") == 0
    import hashlib

    for entry in Library.open(tmp_path / "lib").entries:
        assert (entry.method, entry.material, entry.width) == ("model", "wood", 16)
        assert entry.model == hashlib.sha256(data).hexdigest()
        assert entry.parameters == {"family": "vae", "class": "wood", "size": 16}
        assert np.ptp(Library.open(tmp_path / "lib").read(entry)) > 0
    (tmp_path / "model" / "model.safetensors").write_bytes(pack(model.eval(), ["stone", "wood"], {"licence": "MIT"}))
    assert run(*words, "seed=20") == 0
    assert [e.licence for e in Library.open(tmp_path / "lib").entries if e.seed == 20] == ["MIT"]
    assert run(*words[:3], "count=12", "near=keep", "licence=MIT", "seed=50") == 0
    drawn = [e for e in Library.open(tmp_path / "lib").entries if e.seed and e.seed >= 50]
    assert {e.parameters["class"] for e in drawn} == {e.material for e in drawn} == {"stone", "wood"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["method=promt"], "Did you mean 'prompt'"),
        (["method=prompt", "into=LIB"], "needs model=...: the folder of a diffusers pipeline"),
        (["method=prompt", "model=SD", "into=LIB"], "needs licence=...: that the model allows"),
        (["method=prompt", "model=SD", "into=LIB", "licence=MIT"], "needs words: material=wood, or prompt="),
        (["method=prompt", "model=SD", "into=LIB", "licence=MIT", "material=wood", "size=100"], "use 64 or 128"),
        (["method=prompt", "model=SD", "into=LIB", "licence=MIT", "material=wood", "steps=0"], "steps=0: expected"),
        (["method=prompt", "model=SD", "into=LIB", "licence=MIT", "material=wood", "strength=0.4"], "give one"),
        (["method=prompt", "model=SD", "into=LIB", "licence=MIT", "material=a b"], "expected one word"),
        (["method=prompt", "model=SD", "into=LIB", "licence=MIT", "material=wood", "device=cuda:9"], "device=cuda:9"),
        (["method=prompt", "model=SD", "into=LIB", "licence=MIT", "material=wood", "lora=none.safetensors"], "none.s"),
        (["method=prompt", "model=SD", "into=LIB", "licence=MIT", "prompt={x}"], "only {material} may"),
        (["method=prompt", "modell=SD"], "Did you mean 'model'"),
        (["method=prompt", "model=SD", "into=BAD", "licence=MIT", "material=wood"], "is no texture library"),
        (["method=model", "model=SD", "into=LIB", "licence=MIT"], "no model.safetensors there"),
        (["into=LIB", "exemplar=SD/model_index.json", "licence=MIT"], "no picture that is read here"),
    ],
)
def test_mistakes_are_told_and_make_nothing(
    sd: Path, tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "file").write_text("x")
    places = {"SD": sd, "LIB": tmp_path / "lib", "BAD": tmp_path / "bad"}
    assert run(*(re.sub(r"\b(SD|LIB|BAD)\b", lambda found: str(places[found[1]]), word) for word in words)) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "lib").exists()


def test_tiles_that_are_not_finite_are_counted(sd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = build_tiny_sd(tmp_path / "broken")
    edit_weights(broken / "unet" / "diffusion_pytorch_model.safetensors", **{"conv_out.bias": float("nan")})
    assert prompted(broken, tmp_path / "lib", "material=wood", "count=2") == 2
    told = capsys.readouterr()
    assert told.out.count("refused: nonfinite") == 2
    assert "none of 2 tiles could be taken" in told.err
