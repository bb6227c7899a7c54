"""Tiny, random things that are added to a tiny pipeline: LoRAs, image prompts, learnt words, union ControlNets."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj")
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1")


def layers(pipe: Any, part: str, ends: Sequence[str]) -> dict[str, Any]:
    """Layers of one network of a pipeline whose names end so."""
    return {name: layer for name, layer in getattr(pipe, part).named_modules() if name.endswith(tuple(ends))}


def lora_tensors(
    pipe: Any, *, seed: int = 0, rank: int = 2, size: float = 0.3, parts: Sequence[str] = ("unet",)
) -> dict[str, torch.Tensor]:
    """Random LoRA matrices for attention and feed-forward layers, under the names that diffusers saves."""
    draw = torch.Generator().manual_seed(seed)
    found: dict[str, torch.Tensor] = {}
    for part in parts:
        for name, layer in layers(pipe, part, TEXT if part.startswith("text") else PROJECTIONS).items():
            out, into = layer.weight.shape[0], layer.weight[0].numel()
            found[f"{part}.{name}.lora_A.weight"] = torch.randn((rank, into), generator=draw) * size
            found[f"{part}.{name}.lora_B.weight"] = torch.randn((out, rank), generator=draw) * size
    return found


def save(path: Path, tensors: dict[str, torch.Tensor], **metadata: Any) -> Path:
    """A safetensors file with fields of metadata; those that are not text become JSON."""
    from safetensors.torch import save_file

    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata={"format": "pt", **texts})
    return path


def kohya(tensors: dict[str, torch.Tensor], alpha: float) -> dict[str, torch.Tensor]:
    """The same LoRA under the names of kohya's scripts, with an alpha for every layer."""
    found: dict[str, torch.Tensor] = {}
    heads = {"unet": "lora_unet", "text_encoder": "lora_te", "text_encoder_2": "lora_te2"}
    for key, value in tensors.items():
        part, _, rest = key.partition(".")
        name, _, side = rest.removesuffix(".weight").rpartition(".lora_")
        name = name if part == "unet" or name.startswith("text_model.") else f"text_model.{name}"
        flat = f"{heads[part]}_{name.replace('.', '_')}"
        found[f"{flat}.lora_{'down' if side == 'A' else 'up'}.weight"] = value
        found[f"{flat}.alpha"] = torch.tensor(alpha)
    return found


def beside(pipe: Any, tensors: dict[str, torch.Tensor], scale: float) -> Callable[[], None]:
    """Runs LoRA beside its layers, y + scale * up(down(x)), with hooks; returns what takes them off again."""
    handles = []
    for key, down in tensors.items():
        if ".lora_A." not in key:
            continue
        part, _, rest = key.removesuffix(".lora_A.weight").partition(".")
        up = tensors[key.replace("lora_A", "lora_B")]

        def hook(layer: Any, given: Any, result: Any, down: Any = down, up: Any = up) -> Any:
            return result + scale * (given[0] @ down.T @ up.T)

        handles.append(getattr(pipe, part).get_submodule(rest).register_forward_hook(hook))

    def undo() -> None:
        for handle in handles:
            handle.remove()

    return undo


def build_encoder(path: Path, *, width: int = 16, seed: int = 5) -> Path:
    """Saves a CLIP image encoder for pictures of 32 pixels whose embeddings have `width` channels."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32,
                patch_size=8, projection_dim=width,
            )
        ).eval().save_pretrained(path)  # fmt: skip
    return path


def adapter_tensors(
    unet: Any, *, width: int = 16, tokens: int = 4, plus: bool = False, seed: int = 6, size: float = 0.3
) -> dict[str, torch.Tensor]:
    """A random IP-Adapter for a denoiser, under the names that are published.

    Args:
        width: Channels of the image encoder's embeddings; of its hidden states for `plus`.
        plus: The kind that looks at patches.
    """
    draw = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw) * size

    cross = int(unet.config.cross_attention_dim)
    found = {"norm.weight": torch.ones(cross), "norm.bias": torch.zeros(cross)}
    found |= {"proj.weight": random(tokens * cross, width), "proj.bias": random(tokens * cross)}
    if plus:
        found = _resampler(random, width, cross, tokens)
    named = {f"image_proj.{key}": value for key, value in found.items()}
    names = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    # Published files count all attention layers, and only those that look at words have projections.
    for number, name in enumerate(names):
        out = unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape[0]
        for side in ("k", "v"):
            named[f"ip_adapter.{2 * number + 1}.to_{side}_ip.weight"] = random(out, cross)
    return named


def _resampler(random: Callable[..., torch.Tensor], width: int, cross: int, tokens: int) -> dict[str, torch.Tensor]:
    """What adapters of the kind Plus make tokens of patches with."""
    found = {
        "latents": random(1, tokens, cross), "proj_in.weight": random(cross, width), "proj_in.bias": random(cross),
        "proj_out.weight": random(cross, cross), "proj_out.bias": random(cross),
        "norm_out.weight": torch.ones(cross), "norm_out.bias": torch.zeros(cross),
    }  # fmt: skip
    for layer in range(4):
        norms = {f"{norm}.{kind}" for norm in ("0.norm1", "0.norm2", "1.0") for kind in ("weight", "bias")}
        parts = {name: torch.ones(cross) if name.endswith("weight") else torch.zeros(cross) for name in sorted(norms)}
        parts |= {
            "0.to_q.weight": random(64, cross), "0.to_kv.weight": random(128, cross),
            "0.to_out.weight": random(cross, 64), "1.1.weight": random(4 * cross, cross),
            "1.3.weight": random(cross, 4 * cross),
        }  # fmt: skip
        found |= {f"layers.{layer}.{name}": value for name, value in parts.items()}
    return found


def build_union(path: Path, xl: Path, *, kinds: int = 6, seed: int = 7) -> Path:
    """Saves a union ControlNet of the tiny XL in `xl` whose zero layers are filled, so that it has an effect."""
    from diffusers.models.controlnets.controlnet_union import ControlNetUnionModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    unet: Any = UNet2DConditionModel.from_pretrained(xl / "unet")
    config = {key: unet.config[key] for key in _SHARED}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net: Any = ControlNetUnionModel(
            **config, conditioning_embedding_out_channels=(4, 4), num_control_type=kinds, num_trans_channel=8,
            num_trans_head=2, num_proj_channel=8,
        )  # fmt: skip
        for layer in (*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out):
            torch.nn.init.normal_(layer.weight, std=0.2)
        torch.nn.init.normal_(net.spatial_ch_projs.weight, std=0.2)
    net.eval().save_pretrained(path, safe_serialization=True)
    return path


_SHARED = (
    "in_channels", "flip_sin_to_cos", "freq_shift", "down_block_types", "block_out_channels", "layers_per_block",
    "norm_num_groups", "cross_attention_dim", "transformer_layers_per_block", "attention_head_dim",
    "use_linear_projection", "addition_embed_type", "addition_time_embed_dim",
    "projection_class_embeddings_input_dim",
)  # fmt: skip
