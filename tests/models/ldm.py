"""Tiny pipelines of Stable Diffusion 1, XL and Z-Image as one file: the names under which their makers keep weights.

Written from the structure of the two networks, so that what diffusers makes of the names is held against it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def save_single_file(folder: Path, path: Path) -> Path:
    """Weights of the pipeline in `folder` (one layer per block, as `build_tiny_sd` makes it) in one file."""
    from safetensors.torch import save_file

    save_file({**_pictures(folder), **_renamed_part(folder, "text_encoder", _CLIP)}, path)
    return path


def save_xl_file(folder: Path, path: Path) -> Path:
    """The same of SDXL: two text encoders, the second as OpenCLIP has it, with queries, keys and values in one."""
    import torch
    from safetensors.torch import load_file, save_file

    first = _renamed_part(folder, "text_encoder", "conditioner.embedders.0.transformer.")
    second: dict[str, Any] = {}
    weights = load_file(folder / "text_encoder_2/model.safetensors")
    for key, value in weights.items():
        name = key.removeprefix("text_model.")
        if name == "text_projection.weight":
            second["text_projection"] = value.T.contiguous()
        elif ".self_attn.q_proj." in name:
            three = [weights[key.replace("q_proj", f"{which}_proj")] for which in "qkv"]
            leaf = name.rpartition(".")[2]
            block = _open_clip_name(name).partition(".attn.")[0]
            second[f"{block}.attn.in_proj_{leaf}"] = torch.cat(three)
        elif not any(f".self_attn.{which}_proj." in name for which in "kv"):
            second[_open_clip_name(name)] = value
    found = {f"conditioner.embedders.1.model.{name}": value.contiguous() for name, value in second.items()}
    save_file({**_pictures(folder), **first, **found}, path)
    return path


def save_z_file(folder: Path, path: Path) -> Path:
    """Z-Image's transformer alone, as its files have it: words and autoencoder are elsewhere."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "transformer/diffusion_pytorch_model.safetensors")
    found: dict[str, Any] = {}
    for key, value in weights.items():
        if ".attention.to_q." in key:
            three = [weights[key.replace("to_q", f"to_{which}")] for which in "qkv"]
            found[key.replace("to_q", "qkv")] = torch.cat(three)
        elif not any(f".attention.to_{which}." in key for which in "kv"):
            found[_z_name(key)] = value
    save_file({f"model.diffusion_model.{name}": value.contiguous() for name, value in found.items()}, path)
    return path


_CLIP = "cond_stage_model.transformer."
_OPEN_CLIP = {
    "encoder.layers.": "transformer.resblocks.", "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj", "self_attn.out_proj": "attn.out_proj", "self_attn.q_proj": "attn.q_proj",
    "embeddings.position_embedding.weight": "positional_embedding", "final_layer_norm": "ln_final",
    "embeddings.token_embedding": "token_embedding",
}  # fmt: skip
_Z = {
    "all_final_layer.2-1.": "final_layer.", "all_x_embedder.2-1.": "x_embedder.", "to_out.0": "out",
    "attention.norm_k": "attention.k_norm", "attention.norm_q": "attention.q_norm",
}  # fmt: skip


def _open_clip_name(key: str) -> str:
    for ours, theirs in _OPEN_CLIP.items():
        key = key.replace(ours, theirs)
    return key


def _z_name(key: str) -> str:
    for ours, theirs in _Z.items():
        key = key.replace(ours, theirs)
    return key


def autoencoder(folder: Path) -> dict[str, Any]:
    """The autoencoder of the pipeline in `folder`."""
    return _renamed_parts(folder, {"vae": ("first_stage_model.", _vae_name)})


def _pictures(folder: Path) -> dict[str, Any]:
    """UNet and autoencoder."""
    return _renamed_parts(folder, {"unet": ("model.diffusion_model.", _unet_name)}) | autoencoder(folder)


def _renamed_parts(folder: Path, parts: dict[str, tuple[str, Callable[[str, int], str]]]) -> dict[str, Any]:
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for part, (prefix, name) in parts.items():
        weights = load_file(folder / part / "diffusion_pytorch_model.safetensors")
        blocks = 1 + max((int(k.split(".")[2]) for k in weights if k.startswith("encoder.down_blocks")), default=0)
        for key, value in weights.items():
            # The old autoencoders have convolutions where diffusers has linear layers.
            told = value[..., None, None] if part == "vae" and ".to_" in key and key.endswith("weight") else value
            found[prefix + name(key, blocks)] = told.contiguous()
    return found


def _renamed_part(folder: Path, part: str, prefix: str) -> dict[str, Any]:
    from safetensors.torch import load_file

    weights = load_file(folder / part / "model.safetensors")
    return {prefix + _text_name(key, 0): value.contiguous() for key, value in weights.items()}


def _text_name(key: str, _: int) -> str:
    return key if key.startswith("text_model.") else f"text_model.{key}"


def _renamed(rest: str, table: dict[str, str]) -> str:
    module, _, leaf = rest.rpartition(".")
    return f"{table.get(module, module)}.{leaf}"


def _unet_name(key: str, blocks: int) -> str:
    head, *tail = key.split(".")
    simple = {
        "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    }  # fmt: skip
    if head in ("time_embedding", "add_embedding"):
        word = "time_embed" if head == "time_embedding" else "label_emb.0"
        return f"{word}.{0 if tail[0] == 'linear_1' else 2}.{tail[1]}"
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
