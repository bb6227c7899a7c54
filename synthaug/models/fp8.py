"""Linear layers in 8-bit floating point: weights and inputs as float8 e4m3, each row with a scale of its own.

Scales of inputs are found per token, never per batch, so that what a picture becomes does not depend on its
neighbours. Convolutions stay as they are, and so do layers that see a few tokens alone (text, timesteps): there the
conversion costs more than the product saves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from synthaug.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LARGEST = 448.0
"""Largest finite float8 e4m3; what is larger would become NaN."""
_BLOCKS = ("attentions", "transformer_blocks", "single_transformer_blocks", "layers", "blocks")
_FEW_TOKENS = ("norm", "time", "to_k_ip", "to_v_ip", "attn2.to_k", "attn2.to_v", "add_k_proj", "add_v_proj")


def refuse_device(device: str) -> None:
    """Refuses devices without float8 products. Raises `ConfigError`, saying what was found."""
    import torch

    if not device.startswith("cuda"):
        raise ConfigError(f"speed.fp8 on {device}: expected a CUDA device of compute capability 8.9 or more")
    found = torch.cuda.get_device_capability(device)
    if found < (8, 9):
        name = torch.cuda.get_device_name(device)
        raise ConfigError(
            f"speed.fp8: {name} has compute capability {found[0]}.{found[1]}, expected 8.9 or more; leave fp8 out"
        )


def convert(net: Any, *, least: int = 512) -> int:
    """Replaces the linear layers of a denoiser where that pays, in place.

    Args:
        net: In bfloat16 on its device.
        least: Smallest number of input and of output features; smaller layers stay.

    Returns:
        How many were replaced.

    Raises:
        ConfigError: Another dtype, or no layer that would gain.
    """
    import torch

    if net.dtype != torch.bfloat16:
        raise ConfigError(f"speed.fp8 with dtype {net.dtype}: expected bfloat16")
    linear = _linear_class()
    found = [
        (name, module)
        for name, module in net.named_modules()
        if type(module) is torch.nn.Linear and pays(name, module.in_features, module.out_features, least)
    ]
    if not found:
        raise ConfigError(f"speed.fp8: {type(net).__name__} has no linear layer that would gain; leave fp8 out")
    for name, module in found:
        parent, _, own = name.rpartition(".")
        setattr(net.get_submodule(parent), own, linear(module))
    return len(found)


def pays(name: str, inputs: int, outputs: int, least: int = 512) -> bool:
    """Whether a linear layer gains, by its dotted name and its size: large, many tokens, sides of multiples of 16."""
    inside = any(part in _BLOCKS for part in name.split("."))
    few = any(part in name for part in _FEW_TOKENS)
    return inside and not few and min(inputs, outputs) >= least and inputs % 16 == 0 == outputs % 16


def quantised(rows: Tensor) -> tuple[Tensor, Tensor]:
    """[N, K] of any dtype as float8 e4m3 with a float32 scale [N, 1] per row: rows = values * scale."""
    import torch

    scale = (rows.abs().amax(1, keepdim=True).float() / LARGEST).clamp_min(1e-12)
    return (rows.float() / scale).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn), scale


def _linear_class() -> type[torch.nn.Module]:
    """Made on demand: this module must not import torch."""
    import torch

    class Fp8Linear(torch.nn.Module):
        """A linear layer whose product runs in float8; off CUDA the same numbers in float32, for tests."""

        def __init__(self, source: torch.nn.Linear) -> None:
            super().__init__()
            self.in_features, self.out_features = source.in_features, source.out_features
            weight, scale = quantised(source.weight.detach())
            self.register_buffer("weight", weight)
            self.register_buffer("scale", scale.t().contiguous())
            self.bias = source.bias

        def forward(self, x: Tensor) -> Tensor:
            rows, row_scale = quantised(x.reshape(-1, self.in_features))
            weight, scale = self.get_buffer("weight"), self.get_buffer("scale")
            if x.is_cuda:
                product: Any = torch._scaled_mm  # pyright: ignore[reportPrivateImportUsage]
                made = product(
                    rows, weight.t(), scale_a=row_scale, scale_b=scale, bias=self.bias, out_dtype=torch.bfloat16,
                    use_fast_accum=True,
                )  # fmt: skip
            else:
                made = (rows.float() @ weight.float().t()) * row_scale * scale
                made = made + self.bias.float() if self.bias is not None else made
            return made.to(x.dtype).reshape(*x.shape[:-1], self.out_features)

    return Fp8Linear
