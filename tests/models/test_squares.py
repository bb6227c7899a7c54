"""Karlo's unCLIP: squares of one side whatever the canvas, no words, noise in every step."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from synthaug.errors import ConfigError, SecurityError
from synthaug.models import capabilities, families
from synthaug.models.additions import Additions
from synthaug.models.finite import FiniteWatch
from synthaug.models.noise import SampleNoise
from synthaug.models.pipelines import Img2ImgModel, Request, open_img2img
from synthaug.models.snapshot import inspect
from synthaug.models.speed import Speed
from synthaug.models.squares import resized, squeezed
from tests.models.builders import build_karlo
from tests.models.tiny import edit_weights

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return build_karlo(tmp_path_factory.mktemp("karlo") / "m")


@pytest.fixture(scope="module")
def model(folder: Path) -> Img2ImgModel:
    return open_img2img(folder, device="cpu", dtype="float32")


def pictures(count: int, *size: int) -> torch.Tensor:
    return torch.rand((count, 3, *size), generator=torch.Generator().manual_seed(0))


def run(model: Img2ImgModel, images: torch.Tensor, guidance: float = 4.0) -> torch.Tensor:
    made = model(images, [Request("", "", None, 1 + i) for i in range(len(images))], steps=3, guidance=guidance)
    assert made.reasons == ("",) * len(images)
    return made.images


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_the_pictures_are_those_of_diffusers(model: Img2ImgModel, guidance: float) -> None:
    """On a canvas of the side that it looks at; its own result is a square of 32."""
    images, pipe, noise = pictures(2, 28, 28), model._pipe, SampleNoise([1, 2])
    shown = [Image.fromarray((one.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)) for one in images]
    with torch.inference_mode(), noise:
        theirs = pipe(
            shown, decoder_num_inference_steps=3, decoder_guidance_scale=guidance, generator=noise.tokens,
            output_type="np",
        ).images  # fmt: skip
    assert theirs.shape == (2, 32, 32, 3)
    wanted = resized(torch.from_numpy(theirs).permute(0, 3, 1, 2), 28, 28)
    assert (run(model, images, guidance) - wanted).abs().max() < 1e-4


@pytest.mark.parametrize("size", [(1, 1), (7, 130), (32, 32), (100, 33)])
def test_any_canvas_comes_back_in_its_own_size(model: Img2ImgModel, size: tuple[int, int]) -> None:
    made = run(model, pictures(2, *size))
    assert made.shape == (2, 3, *size)
    assert 0 <= made.min() <= made.max() <= 1


def test_all_of_a_wide_picture_is_seen(model: Img2ImgModel) -> None:
    """What its pipeline would make of it by itself is cropped to the middle."""
    images = pictures(1, 28, 112)
    other = images.clone()
    other[..., :20] = 1 - other[..., :20]
    assert not torch.equal(run(model, images), run(model, other))


@pytest.mark.parametrize("size", [(32, 32), (9, 50), (64, 17), (1, 1)])
def test_resizing_is_that_of_pillow(size: tuple[int, int]) -> None:
    images = pictures(2, 24, 40)
    made = resized(images, *size)
    for one, plane in zip(made.flatten(0, 1), images.flatten(0, 1), strict=True):
        wanted = Image.fromarray(plane.numpy()).resize(size[::-1], Image.Resampling.BICUBIC)
        assert np.abs(one.numpy() - np.asarray(wanted).clip(0, 1)).max() < 1e-5
    assert resized(images, 24, 40) is images
    assert torch.allclose(resized(torch.full((1, 3, 24, 40), 0.3), *size), torch.tensor(0.3))


@pytest.mark.parametrize("sides", [{"shortest_edge": 12}, {"height": 12, "width": 12}])
def test_a_processor_says_its_side_in_two_ways(sides: dict[str, int]) -> None:
    from transformers import CLIPImageProcessor

    assert squeezed(pictures(1, 20, 50), CLIPImageProcessor(size=sides)).shape == (1, 3, 12, 12)


@pytest.mark.parametrize(
    ("net", "weight"),
    [("decoder", "conv_out.bias"), ("super_res_first", "conv_out.bias"), ("super_res_last", "conv_out.bias")],
)
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_what_its_schedulers_would_clip_is_seen(
    folder: Path, tmp_path: Path, net: str, weight: str, value: float
) -> None:
    path = Path(shutil.copytree(folder, tmp_path / "m"))
    edit_weights(path / net / "diffusion_pytorch_model.safetensors", **{weight: value})
    broken = open_img2img(path, device="cpu", dtype="float32")
    made = broken(pictures(2, 30, 30), [Request("", "", None, 1)] * 2, steps=3, guidance=4.0)
    assert made.reasons == ("nonfinite", "nonfinite")
    assert made.images.isnan().all()


def test_halves_of_guidance_are_seen_by_picture() -> None:
    class Processor:
        def postprocess(self, image: torch.Tensor) -> torch.Tensor:
            return image

    watch = FiniteWatch(Processor())
    watch.reset(2)
    values = torch.zeros(4, 3)
    watch.see(values)
    assert watch.alive == [True, True]
    values[3] = torch.inf
    watch.see(values)
    watch.see(values[:3])  # of something else
    assert watch.alive == [True, False]


def test_few_steps_strength_and_words_are_refused(model: Img2ImgModel) -> None:
    with pytest.raises(ConfigError, match=r"steps=1: the scheduler of unCLIP .Karlo. needs 2 or more"):
        model.check(negative=False, steps=1, strength=None)
    with pytest.raises(ConfigError, match=r"strength .* is set"):
        model.check(negative=False, steps=25, strength=0.5)
    with pytest.raises(ConfigError, match=r"negative_prompt .* is set"):
        model.check(negative=True, steps=25, strength=None)
    with pytest.raises(ConfigError, match=r"prompt \(words\) is set"):
        model(pictures(2, 8, 8), [Request("", "", None, 1), Request("a", "", None, 2)], steps=3, guidance=1.0)
    assert capabilities.having("prompt") == tuple(f.name for f in capabilities.families() if f is not families.KARLO)


def test_its_pictures_of_words_alone_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"UnCLIPPipeline is unCLIP .Karlo. from words alone.*image variations"):
        inspect(build_karlo(tmp_path / "words", "UnCLIPPipeline"))


def indexed(folder: Path, path: Path, **changes: list[Any]) -> Path:
    copied = Path(shutil.copytree(folder, path))
    index = json.loads((copied / "model_index.json").read_text())
    (copied / "model_index.json").write_text(json.dumps(index | changes))
    return copied


def test_folders_load_as_diffusers_writes_them_and_as_they_were_published(
    folder: Path, model: Img2ImgModel, tmp_path: Path
) -> None:
    """Diffusers itself loads neither: it has moved the class."""
    assert json.loads((folder / "model_index.json").read_text())["text_proj"] == ["diffusers", "UnCLIPTextProjModel"]
    old = indexed(
        folder, tmp_path / "old", text_proj=["unclip", "UnCLIPTextProjModel"],
        feature_extractor=["transformers", "CLIPFeatureExtractor"],
    )  # fmt: skip
    images = pictures(1, 28, 40)
    assert torch.equal(run(open_img2img(old, device="cpu", dtype="float32"), images), run(model, images))


@pytest.mark.parametrize("library", ["os", "", None, "transformers", "deprecated", ["unclip"]])
def test_no_other_library_is_asked_for_its_class(folder: Path, tmp_path: Path, library: Any) -> None:
    with pytest.raises(SecurityError, match="not in our table"):
        inspect(indexed(folder, tmp_path / "m", text_proj=[library, "UnCLIPTextProjModel"]))
    with pytest.raises(SecurityError, match="not in our table"):
        inspect(indexed(folder, tmp_path / "n", decoder=[library or None, "UNet2DConditionModel"]))


def test_a_network_that_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    path = indexed(folder, tmp_path / "m", image_encoder=[None, None])
    with pytest.raises(ConfigError, match=r"does not load.*image_encoder"):
        open_img2img(path, device="cpu", dtype="float32")


def test_speed_reaches_its_three_networks(folder: Path, model: Img2ImgModel) -> None:
    images = pictures(1, 28, 40)
    quick = open_img2img(folder, device="cpu", dtype="float32")
    facts = quick.equip(Additions(), Speed(channels_last=True), steps=3)
    assert facts["fp8_layers"] == 0
    for name in ("decoder", "super_res_first", "super_res_last"):
        weight = getattr(quick._pipe, name).conv_in.weight
        assert weight.is_contiguous(memory_format=torch.channels_last)
    assert (run(quick, images) - run(model, images)).abs().max() < 1e-4
    speed = Speed.parse({"cache": {"every": 2}})
    with pytest.raises(ConfigError, match="a decoder of pixels offers no place for a cache"):
        speed.check(components=model.snapshot.components, steps=25, strength=1.0, dtype="float32")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_on_a_cpu_is_refused_before_anything_is_loaded(folder: Path, dtype: str) -> None:
    with pytest.raises(ConfigError, match=f"dtype={dtype}: .* set dtype=float32"):
        open_img2img(folder, device="cpu", dtype=dtype)
    image = torch.zeros(1, 3, 4, 4, dtype=getattr(torch, dtype))
    with pytest.raises(NotImplementedError):  # once torch has it, so have we
        torch.nn.functional.interpolate(image, (8, 8), mode="bicubic", antialias=True)
