"""Networks of full size with random weights, built from configurations: nothing is downloaded.

Weights are normal with a spread by fan-in: never zeros, on which a GPU runs faster. Shapes are those of SD-Turbo
(Stable Diffusion 2.1), SDXL, their ControlNets, the KL autoencoder and TAESD; `tiny` ones have the same parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.models.tiny import WORDS

_SD: Mapping[str, Any] = {
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "use_linear_projection": True,
}
_XL: Mapping[str, Any] = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
}
UNETS: Mapping[tuple[str, bool], Mapping[str, Any]] = {
    ("sd_turbo", False): {
        **_SD, "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 1024, "sample_size": 64,
        "attention_head_dim": (5, 10, 20, 20),
    },
    ("sd_turbo", True): {
        **_SD, "block_out_channels": (16, 16, 32, 32), "cross_attention_dim": 16, "sample_size": 8,
        "attention_head_dim": 2, "norm_num_groups": 8, "layers_per_block": 1,
    },
    ("sdxl", False): {
        **_XL, "block_out_channels": (320, 640, 1280), "cross_attention_dim": 2048, "sample_size": 128,
        "attention_head_dim": (5, 10, 20), "transformer_layers_per_block": (1, 2, 10), "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    ("sdxl", True): {
        **_XL, "block_out_channels": (16, 16, 32), "cross_attention_dim": 32, "sample_size": 8,
        "attention_head_dim": 2, "transformer_layers_per_block": (1, 1, 2), "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 64, "norm_num_groups": 8, "layers_per_block": 1,
    },
}  # fmt: skip
SIDES = {("sd_turbo", False): 512, ("sdxl", False): 1024, ("sd_turbo", True): 64, ("sdxl", True): 64}
SCALING = {"sd_turbo": 0.18215, "sdxl": 0.13025}


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a UNet is called with."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def unet(kind: str, tiny: bool) -> Any:
    """On the device that is current: `meta` for counting."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**dict(UNETS[kind, tiny])).eval().requires_grad_(False)


def controlnet(kind: str, tiny: bool) -> Any:
    """With the published one's small network for its condition."""
    from diffusers import ControlNetModel

    config = {name: value for name, value in UNETS[kind, tiny].items() if name not in ("up_block_types", "sample_size")}
    widths = (4, 4, 8, 8) if tiny else (16, 32, 96, 256)
    return ControlNetModel(**config, conditioning_embedding_out_channels=widths).eval().requires_grad_(False)


def vae(kind: str, tiny: bool) -> Any:
    """The KL autoencoder, run in half precision (its weights of full size are safe there in bfloat16)."""
    from diffusers import AutoencoderKL

    widths = (8, 8, 8, 8) if tiny else (128, 256, 512, 512)
    config = {
        "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": widths, "layers_per_block": 1 if tiny else 2, "norm_num_groups": 4 if tiny else 32,
        "latent_channels": 4, "scaling_factor": SCALING[kind], "force_upcast": False, "sample_size": SIDES[kind, tiny],
    }  # fmt: skip
    return AutoencoderKL(**config).eval().requires_grad_(False)


def taesd(tiny: bool) -> Any:
    """The tiny autoencoder, whose configuration is diffusers' default."""
    from diffusers import AutoencoderTiny

    small = {"encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4} if tiny else {}
    return AutoencoderTiny(**small).eval().requires_grad_(False)


def made(make: Callable[[], Any], device: str, dtype: torch.dtype, seed: int = 0) -> Any:
    """Built on `meta`, filled on the device: neither a host nor a disk in between."""
    with torch.device("meta"):
        net = make()
    names = [name for name, _ in net.named_buffers()]
    assert not names, f"buffers would stay empty: {names}"
    net = net.to_empty(device=device).to(dtype)
    generator = torch.Generator(device).manual_seed(seed)
    for name, parameter in net.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
        else:
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    return net


def flops(make: Callable[[], Any], call: Callable[[Any], Any]) -> float:
    """Floating-point operations of one call, two per multiply-add, attention products included; nothing is run."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        call(make())
    return float(counter.get_total_flops())


def unet_inputs(kind: str, tiny: bool, batch: int, device: str, dtype: torch.dtype, seed: int = 0) -> Inputs:
    """Latents, a timestep and words, random."""
    config = UNETS[kind, tiny]
    side = SIDES[kind, tiny] // 8
    random = {"device": device, "dtype": dtype}
    if device != "meta":
        random["generator"] = torch.Generator(device).manual_seed(seed)
    latents = torch.randn(batch, 4, side, side, **random)
    words = torch.randn(batch, 77, config["cross_attention_dim"], **random)
    kwargs: dict[str, Any] = {"encoder_hidden_states": words, "return_dict": False}
    if kind == "sdxl":
        pooled = config["projection_class_embeddings_input_dim"] - 6 * config["addition_time_embed_dim"]
        kwargs["added_cond_kwargs"] = {
            "text_embeds": torch.randn(batch, pooled, **random),
            "time_ids": torch.full((batch, 6), 8.0 * side, device=device, dtype=dtype),
        }
    return Inputs((latents, torch.tensor(500, device=device)), kwargs)


def write_pipeline(folder: Path, kind: str, tiny: bool, device: str, dtype: torch.dtype) -> Path:
    """Saves a whole text-to-image pipeline of this shape as diffusers lays it out, with safetensors weights."""
    import diffusers
    from transformers import CLIPTokenizer

    token = CLIPTokenizer(vocab=WORDS, merges=[], model_max_length=77)
    scheduler = diffusers.EulerDiscreteScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, timestep_spacing="trailing"
    )
    shared: dict[str, Any] = {
        "unet": made(lambda: unet(kind, tiny), device, dtype, 1),
        "vae": made(lambda: vae(kind, tiny), device, dtype, 2),
        "scheduler": scheduler,
        "tokenizer": token,
    }
    if kind == "sdxl":
        width = UNETS[kind, tiny]["cross_attention_dim"]
        pipe: Any = diffusers.StableDiffusionXLPipeline(
            **shared, tokenizer_2=token, text_encoder=_text(0.375 if not tiny else 0.5, width, tiny, device, dtype),
            text_encoder_2=_text(0.625 if not tiny else 0.5, width, tiny, device, dtype, projected=True),
            add_watermarker=False,
        )  # fmt: skip
    else:
        text = _text(1.0, UNETS[kind, tiny]["cross_attention_dim"], tiny, device, dtype)
        pipe = diffusers.StableDiffusionPipeline(
            **shared, text_encoder=text, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(folder, safe_serialization=True)
    return folder


def _text(
    share: float, width: int, tiny: bool, device: str, dtype: torch.dtype, *, projected: bool = False
) -> torch.nn.Module:
    """A CLIP text encoder whose states take a share of the UNet's text width."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    hidden = int(width * share)
    pooled = UNETS["sdxl", tiny]["projection_class_embeddings_input_dim"]
    pooled -= 6 * UNETS["sdxl", tiny]["addition_time_embed_dim"]
    layers = {768: 12, 1024: 23, 1280: 32}.get(hidden, 2)
    config = CLIPTextConfig(
        vocab_size=64 if tiny else 49408, hidden_size=hidden, intermediate_size=4 * hidden, num_hidden_layers=layers,
        num_attention_heads=max(hidden // 64, 2), max_position_embeddings=77, bos_token_id=0, eos_token_id=1,
        pad_token_id=1, projection_dim=pooled if projected else hidden,
    )  # fmt: skip
    with torch.device(device):
        model = (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)
    return model.to(dtype).eval().requires_grad_(False)
