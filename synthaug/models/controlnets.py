"""ControlNets from local folders, after the same checks as pipelines: data alone, and a class of our table."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from synthaug.errors import ConfigError, InputError, printable
from synthaug.models.snapshot import inspect_part

CLASSES = ("ControlNetModel", "ControlNetUnionModel", "FluxControlNetModel")
"""Residual networks; those of UNets run in our loop (`open_controlnet`), that of FLUX.1 in its pipeline (`opening`)."""

_MODES = {"ControlNetUnionModel": ("num_control_type", 6), "FluxControlNetModel": ("num_mode", None)}


def digest(path: str) -> str:
    """The identity of a ControlNet folder, for a run's fingerprint. Raises as `open_controlnet`."""
    return inspect_part(path, CLASSES)[1]


def inputs(path: str) -> int | None:
    """How many kinds of guidance a union net takes; None for a net of one kind."""
    config, _ = inspect_part(path, CLASSES)
    field, count = _MODES.get(str(config["_class_name"]), ("", None))
    found = config.get(field, count)
    return None if found is None else int(found)


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
    _keep_apart(net)
    return net.to(device).eval().requires_grad_(False)


def _keep_apart(net: Any) -> None:
    """Lets the pictures of a batch into a union net without seeing each other.

    Its attention runs along the first axis (as CLIP lays it out), and that axis holds pictures: in a batch, each
    would attend to its neighbours. Published nets are run with one picture, where attention over one row, or two
    equal ones, gives the value back; so that is what each picture gets.
    """
    for layer in getattr(net, "transformer_layes", ()):
        layer.attn = _value_only(layer.attn)


def _value_only(attention: Any) -> Any:
    """`torch.nn.MultiheadAttention` of every row to itself alone, in the same form."""
    import torch

    class ValueOnly(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = attention

        def forward(self, *given: Any, **ignored: Any) -> tuple[Any, None]:
            width, bias = self.inner.embed_dim, self.inner.in_proj_bias
            value = torch.nn.functional.linear(
                given[2], self.inner.in_proj_weight[2 * width :], None if bias is None else bias[2 * width :]
            )
            return self.inner.out_proj(value), None

    return ValueOnly()


def shared(
    paths: Sequence[str], opener: Callable[[str], Any], name: Callable[[str], str] = os.path.realpath
) -> list[Any]:
    """One net per path, in order; a net that occurs twice is one, so that a union net is loaded once and shown all of
    its kinds together.

    Args:
        opener: From a path to a net, such as `Img2ImgModel.open_net`.
        name: What two paths to one net have in common; `digest` where a copy counts as the same, as it does to a
            run's fingerprint.
    """
    opened: dict[str, Any] = {}
    names = [name(path) for path in paths]
    for known, path in zip(names, paths, strict=True):
        if known not in opened:
            opened[known] = opener(path)
    return [opened[known] for known in names]
