"""A tiny pipeline of Stable Diffusion 1 as one file: the names under which its makers keep the weights.

Written from the structure of the two networks, so that what diffusers makes of the names is held against it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def save_single_file(folder: Path, path: Path) -> Path:
    """Weights of the pipeline in `folder` (one layer per block, as `build_tiny_sd` makes it) in one file."""
    from safetensors.torch import load_file, save_file

    parts = {
        "unet": ("diffusion_pytorch_model", "model.diffusion_model.", _unet_name),
        "vae": ("diffusion_pytorch_model", "first_stage_model.", _vae_name),
        "text_encoder": ("model", "cond_stage_model.transformer.", _text_name),
    }
    found: dict[str, Any] = {}
    for part, (file, prefix, name) in parts.items():
        weights = load_file(folder / part / f"{file}.safetensors")
        blocks = 1 + max((int(k.split(".")[2]) for k in weights if k.startswith("encoder.down_blocks")), default=0)
        for key, value in weights.items():
            # The old autoencoders have convolutions where diffusers has linear layers.
            told = value[..., None, None] if part == "vae" and ".to_" in key and key.endswith("weight") else value
            found[prefix + name(key, blocks)] = told.contiguous()
    save_file(found, path)
    return path


def _text_name(key: str, _: int) -> str:
    return key if key.startswith("text_model.") else f"text_model.{key}"


def _renamed(rest: str, table: dict[str, str]) -> str:
    module, _, leaf = rest.rpartition(".")
    return f"{table.get(module, module)}.{leaf}"


def _unet_name(key: str, blocks: int) -> str:
    head, *tail = key.split(".")
    simple = {
        "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
        "time_embedding": "time_embed",
    }  # fmt: skip
    if head == "time_embedding":
        return f"time_embed.{0 if tail[0] == 'linear_1' else 2}.{tail[1]}"
    if head in simple:
        return ".".join((simple[head], *tail))
    if head == "mid_block":
        kind, index, rest = tail[0], int(tail[1]), ".".join(tail[2:])
        place = 1 if kind == "attentions" else 2 * index
        return f"middle_block.{place}.{_renamed(rest, _RESNET) if kind == 'resnets' else rest}"
    block, kind, index, rest = int(tail[0]), tail[1], int(tail[2]), ".".join(tail[3:])
    inner = _renamed(rest, _RESNET) if kind == "resnets" else rest
    if head == "down_blocks":  # one layer, then a downsampler
        return (
            f"input_blocks.{2 * block + 2}.0.op.{tail[-1]}"
            if kind == "downsamplers"
            else (f"input_blocks.{2 * block + 1}.{0 if kind == 'resnets' else 1}.{inner}")
        )
    if kind == "upsamplers":  # two layers, the upsampler with the second
        return f"output_blocks.{2 * block + 1}.{2 if block == 0 else 1}.conv.{tail[-1]}"
    return f"output_blocks.{2 * block + index}.{0 if kind == 'resnets' else 1}.{inner}"


def _vae_name(key: str, blocks: int) -> str:
    if not key.startswith(("encoder.", "decoder.")):
        return key
    side, head, *tail = key.split(".")
    if head == "conv_norm_out":
        return f"{side}.norm_out.{tail[0]}"
    if head in ("conv_in", "conv_out"):
        return key
    if head == "mid_block":
        rest = ".".join(tail[2:])
        if tail[0] == "attentions":
            return f"{side}.mid.attn_1.{_renamed(rest, _ATTENTION)}"
        return f"{side}.mid.block_{int(tail[1]) + 1}.{rest.replace('conv_shortcut', 'nin_shortcut')}"
    block = int(tail[0]) if head == "down_blocks" else blocks - 1 - int(tail[0])
    word = "down" if head == "down_blocks" else "up"
    if tail[1] in ("downsamplers", "upsamplers"):
        return f"{side}.{word}.{block}.{word}sample.{'.'.join(tail[3:])}"
    return f"{side}.{word}.{block}.block.{tail[2]}.{'.'.join(tail[3:]).replace('conv_shortcut', 'nin_shortcut')}"
