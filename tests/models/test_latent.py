"""Our loop against diffusers' own pipelines, and what only ours can do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synthaug.models import controlnets
from synthaug.models.hints import Asked, Hint, Shown, residuals
from synthaug.models.noise import SampleNoise
from synthaug.models.pipelines import Extras, Img2ImgModel, Request, open_img2img
from synthaug.refine import tiles
from synthaug.refine.differential import DifferentialBlend, free_from
from tests.models.families import build_sdxl
from tests.models.tiny import build_tiny_controlnet, build_tiny_sd

torch.set_num_threads(1)
STEPS: dict[str, Any] = {"steps": 6, "guidance": 4.0}


def pictures(count: int, height: int = 64, width: int = 64) -> torch.Tensor:
    return torch.rand((count, 3, height, width), generator=torch.Generator().manual_seed(0))


def requests(*prompts: str, strength: float = 0.7) -> list[Request]:
    return [Request(prompt, "z", strength, 10 + i) for i, prompt in enumerate(prompts)]


@pytest.fixture(scope="module")
def model(tiny_sd: Path) -> Img2ImgModel:
    return open_img2img(tiny_sd, device="cpu", dtype="float32")


def both(model: Img2ImgModel, guidance: float = 4.0, strength: float = 0.7) -> tuple[torch.Tensor, torch.Tensor]:
    """The same batch through our loop and through diffusers' pipeline, with the same noise."""
    asked = requests("a b", "c", "a b", strength=strength)
    ours = model(pictures(3), asked, steps=6, guidance=guidance).images
    theirs, _, _ = model._run(pictures(3), asked, strength, 6, guidance)  # pyright: ignore[reportPrivateUsage]
    return ours, theirs


SCHEDULERS = ["DDIM", "EulerDiscrete", "EulerAncestralDiscrete", "UniPCMultistep", "DPMSolverMultistep", "LCM"]


@pytest.mark.parametrize("scheduler", [f"{name}Scheduler" for name in SCHEDULERS])
def test_the_pictures_are_those_of_diffusers(tmp_path: Path, scheduler: str) -> None:
    model = open_img2img(build_tiny_sd(tmp_path / "m", scheduler=scheduler), device="cpu", dtype="float32")
    ours, theirs = both(model)
    assert ours.std() > 0.01
    assert (ours - theirs).abs().max() < 1e-4


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_and_those_of_xl_with_its_sizes_and_pooled_words(tmp_path: Path, guidance: float) -> None:
    model = open_img2img(build_sdxl(tmp_path / "xl"), device="cpu", dtype="float32")
    ours, theirs = both(model, guidance, 0.5)
    assert (ours - theirs).abs().max() < 1e-4


@pytest.mark.parametrize("zeros", [True, False])
def test_no_words_against_are_to_xl_what_they_are_in_diffusers(tmp_path: Path, zeros: bool) -> None:
    """Zeros where it has learnt that, an empty text elsewhere; beside a picture that has words against."""
    model = open_img2img(build_sdxl(tmp_path / "xl"), device="cpu", dtype="float32")
    pipe: Any = model._pipe  # pyright: ignore[reportPrivateUsage]
    pipe.register_to_config(force_zeros_for_empty_prompt=zeros)
    asked = [Request("a b", "", 0.5, 10), Request("a b", "z", 0.5, 11)]
    images, noise = pictures(2), SampleNoise([10])
    ours = model(images, asked, steps=6, guidance=5.0).images
    with torch.inference_mode(), noise:
        theirs = pipe(
            prompt=["a b"], image=images[:1], strength=0.5, num_inference_steps=6, guidance_scale=5.0,
            generator=noise.tokens, output_type="pt",
        ).images  # fmt: skip
    assert (ours[:1] - theirs).abs().max() < 1e-4
    other = [Request("a b", "c", 0.5, 10), asked[1]]
    assert not torch.equal(model(images, other, steps=6, guidance=5.0).images[0], ours[0])


def test_every_unique_prompt_is_encoded_once(tiny_sd: Path) -> None:
    model = open_img2img(tiny_sd, device="cpu", dtype="float32")
    assert model.loop is not None
    for _ in range(2):
        model(pictures(3), requests("a", "b", "a"), **STEPS)
    assert model.loop.words.encodes == 3, "a, b, and the negative z"


def held(first: torch.Tensor) -> Extras:
    def hold(original: Any, noised: Callable[[int], Any], steps: int) -> DifferentialBlend:
        return DifferentialBlend(torch.from_numpy(free_from(first.numpy(), steps)), original, noised, steps)

    return Extras(hold=hold)


def test_places_of_strength_zero_keep_their_latents_and_the_rest_moves(
    model: Img2ImgModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model.loop is not None
    seen: list[torch.Tensor] = []
    decoded = model.loop._decoded  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(model.loop, "_decoded", lambda latents: (seen.append(latents.clone()), decoded(latents))[1])
    strength = torch.zeros(1, 1, 8, 8)
    strength[..., 4:] = 1
    images = pictures(1)
    model(images, requests("a"), **STEPS, extras=held(torch.zeros(1, 1, 8, 8)))
    model(images, requests("a"), **STEPS, extras=held(strength))
    free = model(images, requests("a"), **STEPS, extras=held(torch.ones(1, 1, 8, 8))).images
    assert torch.equal(free, model(images, requests("a"), **STEPS).images)
    none, half = seen[:2]
    assert torch.equal(half[..., :4], none[..., :4])
    assert (half[..., 4:] != none[..., 4:]).all()


@pytest.fixture(scope="module")
def net(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = build_tiny_controlnet(tmp_path_factory.mktemp("net") / "net", tiny_sd)
    return controlnets.open_controlnet(folder, device="cpu", dtype="float32", width=16)


def hint(net: Any, weight: float | torch.Tensor = 1.0, **when: float) -> Hint:
    images = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    weights = torch.full((1, 1, 8, 8), weight) if isinstance(weight, float) else weight
    return Hint(net, images, weights, **when)


def test_a_hint_of_weight_zero_or_out_of_its_time_changes_nothing(model: Img2ImgModel, net: Any) -> None:
    plain = model(pictures(1), requests("a"), **STEPS).images
    for idle in (hint(net, 0.0), hint(net, start=0.99)):
        assert torch.equal(plain, model(pictures(1), requests("a"), **STEPS, extras=Extras([idle])).images)
    assert not torch.equal(plain, model(pictures(1), requests("a"), **STEPS, extras=Extras([hint(net)])).images)


def test_a_hint_is_that_of_diffusers_own_controlnet_pipeline(model: Img2ImgModel, net: Any) -> None:
    from diffusers.pipelines.controlnet.pipeline_controlnet_img2img import StableDiffusionControlNetImg2ImgPipeline

    from synthaug.models.noise import SampleNoise

    pipe: Any = model._pipe  # pyright: ignore[reportPrivateUsage]
    theirs: Any = StableDiffusionControlNetImg2ImgPipeline(
        vae=pipe.vae, text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer, unet=pipe.unet, controlnet=net,
        scheduler=pipe.scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    theirs.set_progress_bar_config(disable=True)
    asked, noise, one, images = requests("a"), SampleNoise([10]), hint(net, 0.6), pictures(1)
    with torch.inference_mode(), noise:
        found = theirs(
            prompt=["a"], negative_prompt=["z"], image=images, control_image=one.images, strength=0.7,
            num_inference_steps=6, guidance_scale=4.0, controlnet_conditioning_scale=0.6, generator=noise.tokens,
            output_type="pt",
        ).images  # fmt: skip
    ours = model(images, asked, **STEPS, extras=Extras([one])).images
    assert (ours - found).abs().max() < 1e-4


def test_weights_differ_from_place_to_place(net: Any) -> None:
    weight = torch.zeros(1, 1, 8, 8)
    weight[..., 4:] = 1
    latents, words = torch.rand(1, 4, 8, 8), torch.rand(1, 5, 16)
    rows = []
    for given in (hint(net, weight), hint(net)):
        found = residuals([Shown.of(given, None, twice=False)], Asked(latents, torch.tensor(500), words, None))
        rows.append([*found["down_block_additional_residuals"], found["mid_block_additional_residual"]])
    for masked, whole in zip(*rows, strict=True):
        half = masked.shape[-1] // 2
        assert not masked[..., :half].any()
        assert torch.equal(masked[..., half:], whole[..., half:])
        assert whole.any()


def test_one_tile_is_the_whole_and_several_cover_it(model: Img2ImgModel, net: Any) -> None:
    images = pictures(1, 64, 128)
    wide = Hint(net, torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(1)), torch.ones(1, 1, 8, 16))
    whole = model(images, requests("a"), **STEPS, extras=Extras([wide])).images
    one = tiles.plan((64, 128), tile=(64, 128), overlap=32).scaled(8)
    assert torch.equal(whole, model(images, requests("a"), **STEPS, extras=Extras([wide], tiles=one)).images)
    several = tiles.plan((64, 128), tile=(64, 64), overlap=32).scaled(8)
    found = model(images, requests("a"), **STEPS, extras=Extras([wide], tiles=several)).images
    assert found.shape == whole.shape
    assert torch.isfinite(found).all()
    assert np.corrcoef(found.flatten(), whole.flatten())[0, 1] > 0.9
