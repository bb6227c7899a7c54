"""Adapters in a base: the base's own objective, and files that add the same wherever they are loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.training_utils import compute_snr
from safetensors import safe_open
from safetensors.torch import load

from synthaug.errors import ConfigError, SecurityError
from synthaug.models import loras
from synthaug.models.finetune import METADATA, WEIGHTS, Adapted, Lesson, open_adapted
from synthaug.models.trainable import PREDICTIONS, Rank, check_base
from tests.models.families import build_flux, build_sdxl
from tests.models.tiny import build_tiny_sd

torch.set_num_threads(1)
RANK = Rank(4, 6.0, ("to_q", "to_v"))


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_sd(tmp_path_factory.mktemp("sd") / "sd")


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sdxl(tmp_path_factory.mktemp("xl") / "xl")


def adapted(path: Path, rank: Rank = RANK) -> Adapted:
    """A base whose adapters do something."""
    torch.manual_seed(0)
    base = open_adapted(path, rank, device="cpu", dtype="float32")
    for value in base.parameters.values():
        torch.nn.init.normal_(value, std=0.3)
    return base


def lesson(base: Adapted, count: int = 2, side: int = 32) -> Lesson:
    noise = torch.randn(2, count, base.channels, side // base.model.factor, side // base.model.factor)
    sizes = torch.tensor([[48.0, 64, 0, 8, side, side]] * count)
    return Lesson(torch.rand(count, 3, side, side), ["a b"] * count, sizes, noise[0], noise[1], torch.rand(count))


def picture(pipe: Any) -> torch.Tensor:
    """One text-to-image picture, the same noise every time."""
    pipe.set_progress_bar_config(disable=True)
    noise = torch.Generator().manual_seed(1)
    return pipe("a", num_inference_steps=2, height=32, width=32, generator=noise, output_type="pt").images


def given_to_unet(base: Adapted) -> dict[str, Any]:
    width = base.unet.config.cross_attention_dim
    extra = None
    if base.unet.config.addition_embed_type == "text_time":
        extra = {"text_embeds": torch.ones(1, 16), "time_ids": torch.ones(1, 6)}
    states = torch.linspace(-1, 1, 5 * width).reshape(1, 5, width)
    return {"encoder_hidden_states": states, "added_cond_kwargs": extra}


@pytest.mark.parametrize("kind", PREDICTIONS)
@pytest.mark.parametrize("limit", [0.0, 5.0])
def test_the_loss_is_the_base_s_own(tmp_path: Path, kind: str, limit: float) -> None:
    path = build_tiny_sd(tmp_path / "sd")
    file = path / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "prediction_type": kind}))
    base = adapted(path)
    batch = lesson(base, 3)
    found = base.loss(base.unet, batch, limit).item()

    # By hand, with diffusers' own parts.
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(path)
    schedule = diffusers.DDPMScheduler.from_config(pipe.scheduler.config)
    coded = pipe.vae.encode(batch.photos * 2 - 1).latent_dist
    latents = (coded.mean + coded.std * batch.posterior) * pipe.vae.config.scaling_factor
    times = (batch.times * 1000).long()
    words = pipe.encode_prompt("a b", "cpu", 1, False)[0].repeat(3, 1, 1)
    noised = schedule.add_noise(latents, batch.noise, times)
    with torch.no_grad():
        predicted = base.unet(noised, times, words).sample
    target = {
        "epsilon": batch.noise, "v_prediction": schedule.get_velocity(latents, batch.noise, times), "sample": latents
    }[kind]  # fmt: skip
    each = (predicted - target).square().mean((1, 2, 3))
    if limit:
        snr = compute_snr(schedule, times)
        clamped = torch.minimum(snr, torch.full_like(snr, limit))
        each = each * {"epsilon": clamped / snr, "v_prediction": clamped / (snr + 1), "sample": clamped}[kind]
    assert found == pytest.approx(each.mean().item(), rel=1e-4)


def test_weights_where_no_signal_is_left(sd: Path) -> None:
    base = adapted(sd)
    base._schedule.alphas_cumprod[-1] = 0.0
    times = torch.tensor([999])
    assert [float(base._weights(times, kind, 5.0)) for kind in PREDICTIONS] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("family", ["sd", "xl"])
def test_only_the_adapters_learn(family: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(family)
    torch.manual_seed(0)
    base = open_adapted(path, RANK, device="cpu", dtype="float32")
    # They start as nothing.
    given = given_to_unet(base)
    noisy = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        start = base.unet(noisy, 10, **given).sample
        with base.without():
            bare = base.unet(noisy, 10, **given).sample
    assert torch.equal(start, bare)
    base.loss(base.unet, lesson(base)).backward()
    moved = {name for name, value in base.unet.named_parameters() if value.grad is not None}
    assert moved == set(base.parameters)
    assert all(".lora_" in name for name in moved)


@pytest.mark.parametrize("family", ["sd", "xl"])
def test_the_file_adds_the_same_wherever_it_is_loaded(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path = request.getfixturevalue(family)
    base = adapted(path)
    (tmp_path / WEIGHTS).write_bytes(base.weights(base.parameters, {"steps": 3}))
    given, noisy = given_to_unet(base), torch.randn(1, 4, 8, 8)
    cls = diffusers.StableDiffusionPipeline if family == "sd" else diffusers.StableDiffusionXLPipeline
    told = {"safety_checker": None} if family == "sd" else {"add_watermarker": False}
    pipe, merged = (cls.from_pretrained(path, **told) for _ in range(2))
    with torch.no_grad():
        own, bare, before = base.unet(noisy, 10, **given).sample, pipe.unet(noisy, 10, **given).sample, picture(pipe)
        pipe.load_lora_weights(tmp_path)
        theirs = pipe.unet(noisy, 10, **given).sample
        layers = loras.merge(merged, [loras.Lora("mine", str(tmp_path))])
        stage = merged.unet(noisy, 10, **given).sample
    assert (own - bare).abs().max() > 0.05
    assert torch.allclose(own, theirs, atol=1e-5)
    assert torch.allclose(own, stage, atol=1e-5)
    assert layers == len(base.parameters) // 2
    assert not torch.equal(picture(pipe), before)


def test_names_are_those_that_diffusers_would_write(sd: Path, tmp_path: Path) -> None:
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    base = adapted(sd)
    data = base.weights(base.parameters, {"prompt": ["a"]})
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(base.unet))
    diffusers.StableDiffusionPipeline.save_lora_weights(tmp_path / "theirs", unet_lora_layers=layers)
    with safe_open(tmp_path / "theirs" / WEIGHTS, "pt") as file:
        assert set(file.keys()) == set(load(data))
    (tmp_path / WEIGHTS).write_bytes(data)
    with safe_open(tmp_path / WEIGHTS, "pt") as file:
        facts = json.loads(file.metadata()[METADATA])
    assert facts["base"] == check_base(sd).digest
    assert (facts["rank"], facts["text_width"], facts["prompt"]) == (4, 16, ["a"])


def test_wearing_puts_back_what_was_there(sd: Path) -> None:
    base = adapted(sd)
    before = {name: value.detach().clone() for name, value in base.parameters.items()}
    worn: list[bool] = []

    def interrupted() -> None:
        with base.wearing({name: value * 0 for name, value in before.items()}):
            worn.extend(bool(value.any()) for value in base.parameters.values())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert worn
    assert not any(worn)
    assert all(torch.equal(before[name], value) for name, value in base.parameters.items())


def test_each_prompt_is_encoded_once_and_samples_do_not_spoil_it(sd: Path) -> None:
    base = adapted(sd)
    with base.wearing({name: value.detach().clone() for name, value in base.parameters.items()}):
        base.redraw(torch.rand(1, 3, 32, 32), ["a b"], [5], 0.2)
    encodes = base.model.loop.words.encodes  # type: ignore[union-attr]
    # Encoded where no gradient can pass, and learnt from all the same.
    base.loss(base.unet, lesson(base)).backward()
    assert base.model.loop.words.encodes == encodes  # type: ignore[union-attr]


def test_bases_that_cannot_be_trained(sd: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"FLUX\.1; a LoRA can be trained for Stable Diffusion 1/2 and .* XL"):
        check_base(build_flux(tmp_path / "flux"))
    with pytest.raises(ConfigError, match="no such folder"):
        check_base(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"no layer 'to_qq'.*Did you mean 'to_q'"):
        open_adapted(sd, Rank(4, 4, ("to_qq",)), device="cpu", dtype="float32")
    flow = build_tiny_sd(tmp_path / "flow")
    file = flow / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "prediction_type": "flow_prediction"}))
    with pytest.raises(ConfigError, match="flow_prediction"):
        open_adapted(flow, RANK, device="cpu", dtype="float32")


@pytest.mark.security
def test_a_base_with_code_or_pickles_is_not_opened(tmp_path: Path) -> None:
    path = build_tiny_sd(tmp_path / "sd")
    (path / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(SecurityError, match=r"diffusion_pytorch_model\.bin"):
        check_base(path)
