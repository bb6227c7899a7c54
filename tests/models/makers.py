"""Tiny transformers of Stable Diffusion 3.5 and FLUX.1 as one file, under the names that their makers gave.

Written from the structure of the networks, as `ldm`, so that what diffusers makes of the names is held against it.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.models.ldm import autoencoder

_SD3_BLOCK = {
    "attn.norm_q": "x_block.attn.ln_q", "attn.norm_k": "x_block.attn.ln_k",
    "attn.norm_added_q": "context_block.attn.ln_q", "attn.norm_added_k": "context_block.attn.ln_k",
    "attn.to_out.0": "x_block.attn.proj", "attn.to_add_out": "context_block.attn.proj",
    "attn2.norm_q": "x_block.attn2.ln_q", "attn2.norm_k": "x_block.attn2.ln_k", "attn2.to_out.0": "x_block.attn2.proj",
    "norm1.linear": "x_block.adaLN_modulation.1", "norm1_context.linear": "context_block.adaLN_modulation.1",
    "ff.net.0.proj": "x_block.mlp.fc1", "ff.net.2": "x_block.mlp.fc2",
    "ff_context.net.0.proj": "context_block.mlp.fc1", "ff_context.net.2": "context_block.mlp.fc2",
    "attn.qkv": "x_block.attn.qkv", "attn.added_qkv": "context_block.attn.qkv", "attn2.qkv": "x_block.attn2.qkv",
}  # fmt: skip
_SD3 = {
    "pos_embed.proj": "x_embedder.proj", "context_embedder": "context_embedder", "proj_out": "final_layer.linear",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2", "norm_out.linear": "final_layer.adaLN_modulation.1",
}  # fmt: skip
_FLUX_DOUBLE = {
    "norm1.linear": "img_mod.lin", "norm1_context.linear": "txt_mod.lin",
    "attn.qkv": "img_attn.qkv", "attn.added_qkv": "txt_attn.qkv",
    "attn.to_out.0": "img_attn.proj", "attn.to_add_out": "txt_attn.proj",
    "attn.norm_q": "img_attn.norm.query_norm", "attn.norm_k": "img_attn.norm.key_norm",
    "attn.norm_added_q": "txt_attn.norm.query_norm", "attn.norm_added_k": "txt_attn.norm.key_norm",
    "ff.net.0.proj": "img_mlp.0", "ff.net.2": "img_mlp.2", "ff_context.net.0.proj": "txt_mlp.0",
    "ff_context.net.2": "txt_mlp.2",
}  # fmt: skip
_FLUX_SINGLE = {
    "norm.linear": "modulation.lin", "attn.qkv": "linear1", "proj_out": "linear2",
    "attn.norm_q": "norm.query_norm", "attn.norm_k": "norm.key_norm",
}  # fmt: skip
_FLUX = {
    "context_embedder": "txt_in", "x_embedder": "img_in", "proj_out": "final_layer.linear",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
} | {
    f"time_text_embed.{ours}_embedder.linear_{i}": f"{theirs}_in.{layer}_layer"
    for ours, theirs in (("timestep", "time"), ("text", "vector"), ("guidance", "guidance"))
    for i, layer in ((1, "in"), (2, "out"))
}  # fmt: skip


def save_sd3_file(folder: Path, path: Path, *, pictures: bool = True, words: bool = False) -> Path:
    """Weights of an SD 3.5 in `folder`: the transformer, `pictures` the autoencoder, `words` three text encoders."""
    from safetensors.torch import load_file, save_file

    weights = _fused(load_file(folder / "transformer/diffusion_pytorch_model.safetensors"))
    last = max(int(key.split(".")[1]) for key in weights if key.startswith("transformer_blocks."))
    found: dict[str, Any] = {"pos_embed": weights.pop("pos_embed.pos_embed")}
    for key, value in weights.items():
        module, _, leaf = key.rpartition(".")
        swapped = module in ("norm_out.linear", f"transformer_blocks.{last}.norm1_context.linear")
        if module in _SD3:
            name = _SD3[module]
        else:
            _, block, inner = module.split(".", 2)
            name = f"joint_blocks.{block}.{_SD3_BLOCK[inner]}"
        found[f"{name}.{leaf}"] = _shift_first(value) if swapped else value
    told = {f"model.diffusion_model.{name}": value.contiguous() for name, value in found.items()}
    if pictures:
        told |= autoencoder(folder)
    for part, word in (("", "clip_l"), ("_2", "clip_g"), ("_3", "t5xxl")) if words else ():
        encoder = load_file(folder / f"text_encoder{part}/model.safetensors")
        told |= {f"text_encoders.{word}.transformer.{key}": value.contiguous() for key, value in encoder.items()}
    save_file(told, path)
    return path


def save_flux_file(folder: Path, path: Path) -> Path:
    """The transformer of a FLUX.1 in `folder`, which is all that its makers' file holds."""
    from safetensors.torch import load_file, save_file

    found: dict[str, Any] = {}
    for key, value in _fused(load_file(folder / "transformer/diffusion_pytorch_model.safetensors")).items():
        module, _, leaf = key.rpartition(".")
        if module in _FLUX:
            name = _FLUX[module]
        else:
            kind, block, inner = module.split(".", 2)
            single = kind.startswith("single")
            name = f"{'single' if single else 'double'}_blocks.{block}."
            name += (_FLUX_SINGLE if single else _FLUX_DOUBLE)[inner]
        leaf = "scale" if name.endswith(("query_norm", "key_norm")) else leaf
        found[f"{name}.{leaf}"] = (_shift_first(value) if module == "norm_out.linear" else value).contiguous()
    save_file(found, path)
    return path


def narrowed(convert: Any, width: int) -> Any:
    """Diffusers' own conversion of FLUX.1's names, with the one number in it that is the width of the real network."""
    code = convert.__code__
    assert code.co_consts.count(3072) == 1
    consts = tuple(width if value == 3072 else value for value in code.co_consts)
    return types.FunctionType(code.replace(co_consts=consts), convert.__globals__)


def _fused(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Queries, keys and values in one, and with them what FLUX's single blocks make beside."""
    import torch

    found = dict(weights)
    for key in weights:
        for first, rest, name in (
            ("to_q", ("to_k", "to_v"), "qkv"), ("add_q_proj", ("add_k_proj", "add_v_proj"), "added_qkv"),
        ):  # fmt: skip
            if f".{first}." in key:
                parts = [found.pop(key), *(found.pop(key.replace(first, other)) for other in rest)]
                beside = key.replace(f"attn.{first}", "proj_mlp")
                parts += [found.pop(beside)] if key.startswith("single") else []
                found[key.replace(first, name)] = torch.cat(parts)
    return found


def _shift_first(value: Any) -> Any:
    """Shift and scale in the order of the makers; diffusers has the scale first."""
    import torch

    scale, shift = value.chunk(2)
    return torch.cat([shift, scale])
