"""What is added to a model, through the stage: each addition shows, counts by content, and keeps pictures apart."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from synthaug import seeds
from synthaug.contracts import Painted
from synthaug.errors import ConfigError
from synthaug.labels import Category, Labels
from synthaug.models.pipelines import open_img2img
from synthaug.refine.img2img import Img2Img
from tests.models.families import build_flux
from tests.models.tiny_additions import adapter_tensors, build_encoder, lora_tensors, save

torch.set_num_threads(1)
LABELS = Labels((40, 56), (Category("car"),))
FEW: dict[str, Any] = {"strength": 0.5, "steps": 4, "guidance": 2.0}


@pytest.fixture(scope="module")
def added(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """One of each addition, as fields of the stage."""
    folder = tmp_path_factory.mktemp("added")
    pipe: Any = open_img2img(tiny_sd, device="cpu", dtype="float32")._pipe  # pyright: ignore[reportPrivateUsage]
    save(folder / "grain.safetensors", lora_tensors(pipe))
    save(folder / "word.safetensors", {"emb_params": torch.randn((2, 16), generator=torch.Generator().manual_seed(1))})
    save(folder / "adapter.safetensors", adapter_tensors(pipe.unet))
    (folder / "photos").mkdir()
    for number in range(4):
        picture = np.random.default_rng(number).integers(0, 256, (20, 30, 3), np.uint8)
        cv2.imwrite(str(folder / "photos" / f"{number}.png"), picture)
    photos = {
        "adapter": str(folder / "adapter.safetensors"),
        "encoder": str(build_encoder(folder / "encoder")),
        "photos": str(folder / "photos"),
    }
    return {
        "loras": {"grain": {"path": str(folder / "grain.safetensors"), "weight": 0.8}},
        "scheduler": {"name": "euler", "trailing": True},
        "image_prompt": photos,
        "embeddings": {"<grain>": str(folder / "word.safetensors")},
    }


def painted(stage: Img2Img, names: str = "ab") -> tuple[Painted, list[dict[str, Any]]]:
    if stage._loaded is None:  # pyright: ignore[reportPrivateUsage]
        stage.expect(LABELS.categories, ())
        stage.load("cpu")
    rows = [np.random.default_rng(ord(name)).random((3, *LABELS.size), np.float32) for name in names]
    draws = [stage.draw(seeds.generator(0, name, 0, "refine", 0), LABELS, 0) for name in names]
    with torch.inference_mode():
        return stage.paint(torch.from_numpy(np.stack(rows)), [LABELS] * len(names), draws), draws


def built(tiny_sd: Path, **fields: Any) -> Img2Img:
    prompt = "a <grain> b" if "embeddings" in fields else "a b"
    return Img2Img(model=str(tiny_sd), prompt=prompt, **{**FEW, **fields})


@pytest.mark.parametrize("name", ["loras", "scheduler", "image_prompt", "embeddings"])
def test_each_addition_changes_the_picture_and_the_identity(tiny_sd: Path, added: Mapping[str, Any], name: str) -> None:
    plain, stage = built(tiny_sd), built(tiny_sd, **{name: added[name]})
    before, after = painted(plain)[0], painted(stage)[0]
    assert after.reasons == ("", "")
    assert (after.images - before.images).abs().max() > 1e-4
    assert stage.identity() != plain.identity()
    assert set(plain.identity()) < set(stage.identity()) | {"additions"}


def test_all_of_them_together_keep_pictures_apart(tiny_sd: Path, added: Mapping[str, Any]) -> None:
    stage = built(tiny_sd, **added, speed={"channels_last": True})
    both, draws = painted(stage)
    assert {draw["photo"] for draw in draws} <= {f"{number}.png" for number in range(4)}
    assert torch.equal(painted(stage, "ac")[0].images[0], both.images[0])
    assert torch.equal(painted(stage, "cb")[0].images[1], both.images[1])
    drawn = {stage.draw(seeds.generator(0, str(k), 0, "refine", 0), LABELS, 0)["photo"] for k in range(40)}
    assert len(drawn) == 4, "every photo has its turn"


def test_files_count_by_content_wherever_they_lie(tiny_sd: Path, added: Mapping[str, Any], tmp_path: Path) -> None:
    shutil.copytree(Path(added["image_prompt"]["photos"]).parent, tmp_path / "moved")
    old, new = str(Path(added["image_prompt"]["photos"]).parent), str(tmp_path / "moved")
    moved = {
        "loras": {"grain": {**added["loras"]["grain"], "path": f"{new}/grain.safetensors"}},
        "image_prompt": {k: v.replace(old, new) for k, v in added["image_prompt"].items()},
        "embeddings": {"<grain>": f"{new}/word.safetensors"},
    }
    assert set(moved) < Img2Img.operational
    stages = [built(tiny_sd, **{**added, **fields}) for fields in ({}, moved)]
    assert stages[0].identity() == stages[1].identity()
    (tmp_path / "moved/photos/3.png").unlink()
    assert built(tiny_sd, **{**added, **moved}).identity() != stages[0].identity()


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"loras": {"grain": {"path": "x", "weight": 9}}}, r"LoRA .grain. weight=9"),
        ({"scheduler": "eulr"}, r"scheduler=eulr.*euler"),
        ({"image_prompt": {"adapter": "x", "encoder": "y"}}, r"image_prompt\.photos"),
        ({"embeddings": {"grain": "x"}}, "grain"),
        ({"speed": {"compiled": "whole"}}, r"speed\.compiled"),
        ({"speed": {"fp8": True}}, r"fp8 without speed"),
        ({"speed": {"cache": {"every": 0}}}, r"speed\.cache\.every=0"),
    ],
)
def test_fields_out_of_range_are_refused_when_built(fields: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Img2Img(model="m", **fields)


def test_what_cannot_work_is_refused_when_planned(tiny_sd: Path, added: Mapping[str, Any], tmp_path: Path) -> None:
    def refused(model: Path, match: str, **fields: Any) -> None:
        with pytest.raises(ConfigError, match=match):
            built(model, **fields).expect(LABELS.categories, ())

    refused(tiny_sd, "needs 8 or more", speed={"cache": {"every": 2}})
    refused(tiny_sd, "expected bfloat16", speed={"fp8": True, "compile": "regional"})
    refused(tiny_sd, "strength=null, but Stable Diffusion 1/2 needs one", strength=None)
    refused(tiny_sd, "scheduler=flow_euler does not fit", scheduler="flow_euler")
    with pytest.raises(ConfigError, match="<grain>"):
        Img2Img(model=str(tiny_sd), prompt="a b", embeddings=added["embeddings"], **FEW).expect(LABELS.categories, ())
    flux = build_flux(tmp_path / "flux")
    refused(flux, r"image_prompt .* FLUX\.1 has no such knob.*Stable Diffusion XL", image_prompt=added["image_prompt"])
    refused(flux, "one at a time|leave one of them out", negative_prompt="c", controls={"depth": {"model": "m"}})
