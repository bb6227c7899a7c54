"""ControlNets from local folders, after the same checks as pipelines: data alone, and a class of our table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from synthaug.errors import ConfigError, InputError, printable
from synthaug.models.snapshot import inspect_part

CLASSES = ("ControlNetModel", "ControlNetUnionModel")
"""Residual networks of the UNet families; transformers have others, which their own pipelines run."""

_MODES = {"ControlNetUnionModel": "num_control_type"}


def digest(path: str) -> str:
    """The identity of a ControlNet folder, for a run's fingerprint. Raises as `open_controlnet`."""
    return inspect_part(path, CLASSES)[1]


def inputs(path: str) -> int | None:
    """How many kinds of guidance a union net takes; None for a net of one kind."""
    config, _ = inspect_part(path, CLASSES)
    field = _MODES.get(str(config["_class_name"]))
    return None if field is None else int(config.get(field, 6))


def open_controlnet(path: str | Path, *, device: str, dtype: str, width: int) -> Any:
    """Loads one ControlNet. Offline, from safetensors alone.

    Args:
        path: Folder with `config.json` and safetensors weights.
        device: `cpu`, `cuda:0`, ...
        dtype: As of the pipeline.
        width: Channels of the pipeline's text embeddings, which tell the families apart.

    Raises:
        ConfigError: No such folder, or a ControlNet of another family.
        InputError: Truncated, altered or incomplete files.
        SecurityError: Code, pickles, or a class outside of `CLASSES`.
    """
    import diffusers
    import torch

    config, _ = inspect_part(path, CLASSES)
    own = config.get("cross_attention_dim")
    if own != width:
        raise ConfigError(
            f"ControlNet {printable(str(path))} was made for text embeddings of {own} channels, the model has {width}: "
            "they are of two families (768 is Stable Diffusion 1, 1024 is 2, 2048 is XL)"
        )
    try:
        net = getattr(diffusers, str(config["_class_name"])).from_pretrained(
            str(path), torch_dtype=getattr(torch, dtype), use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"ControlNet {printable(str(path))} does not load: {error}") from error
    return net.to(device).eval().requires_grad_(False)
