"""Diffusion on a torus: what a network pads, it pads from the other side, so that its pictures wrap.

Convolutions are what tells a UNet and an autoencoder where a picture ends; attention without positions knows no
places, and group norms look at all of them. So with every padding circular such a model commutes with rolls: roll its
noise, and the picture is rolled. Transformers with position embeddings do know the border. They see their latents
rolled by another offset in every step, and what they say is rolled back: the border is everywhere once, and no seam
is left in one place. Nothing of a model is changed, so nothing has to be put back.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from synthaug import seeds
from synthaug.errors import ConfigError, SynthaugError
from synthaug.labels import Size

_CONVOLUTIONS = {torch.conv2d: 2, torch.conv3d: 3}


class Torus(TorchFunctionMode):
    """While it is active, two-dimensional zero padding is circular.

    That is the padding of `conv2d` and `conv3d`, in height and width, and `pad` by zeros at both of the last two axes
    (autoencoders pad one side before they halve); transposed convolutions in two dimensions grow over the border.
    Time, sequences of words and masks are padded as ever. Sides of pictures must divide by all strides of the
    networks. Costs a copy of each layer's input.

    Raises:
        SynthaugError: In it, of a transposed convolution whose output is not its stride times its input.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _CONVOLUTIONS:
            return _convolved(func, _CONVOLUTIONS[func], *args, **kwargs)
        if func is functional.pad:
            return _padded(*args, **kwargs)
        if func is torch.conv_transpose2d:
            return _grown(*args, **kwargs)
        return func(*args, **kwargs)


def _convolved(
    func: Callable[..., Any],
    axes: int,
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """A convolution whose height and width wrap. The names are those of torch, which callers may use."""
    before, after = _amounts(padding, weight.shape[-axes:], dilation)
    if any((*before[-2:], *after[-2:])):
        ends = (before[-1], after[-1], before[-2], after[-2])
        input = _wrapped(input, ends)
        before, after = (*before[:-2], 0, 0), (*after[:-2], 0, 0)
    if before != after:  # `same` with an even kernel, in time
        input = functional.pad(input, [end for pair in zip(before[::-1], after[::-1], strict=True) for end in pair])
        before = (0,) * axes
    return func(input, weight, bias, stride, before, dilation, groups)


def _amounts(padding: Any, kernel: Sequence[int], dilation: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What a convolution pads before and after each of its axes."""
    if padding == "valid":
        padding = 0
    if padding == "same":
        steps = [dilation] * len(kernel) if isinstance(dilation, int) else dilation
        total = [step * (side - 1) for step, side in zip(steps, kernel, strict=True)]
        return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    each = (padding,) * len(kernel) if isinstance(padding, int) else tuple(padding)
    each = each * len(kernel) if len(each) == 1 else each
    return each, each


def _grown(
    input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *more: Any, **named: Any
) -> Any:
    """A transposed convolution on the torus: over a continued input, without what grew of the continuation."""
    reach = max(weight.shape[-2:])
    wide = torch.conv_transpose2d(_wrapped(input, (reach,) * 4), weight, bias, *more, **named)
    (height, width), (high, broad) = input.shape[-2:], wide.shape[-2:]
    rows, columns = high // (height + 2 * reach), broad // (width + 2 * reach)
    if (rows * (height + 2 * reach), columns * (width + 2 * reach)) != (high, broad):
        raise SynthaugError("a transposed convolution whose output is no multiple of its input cannot be made to wrap")
    return wide[..., reach * rows : (reach + height) * rows, reach * columns : (reach + width) * columns]


def _padded(input: torch.Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    """As `functional.pad`; what is zero padding of height and width wraps."""
    flat = mode == "constant" and not value and input.ndim in (4, 5) and len(pad) >= 4
    if not (flat and any(pad[:2]) and any(pad[2:4]) and min(pad[:4]) >= 0):
        return functional.pad(input, pad, mode, value)
    if any(pad[4:]):
        input = functional.pad(input, (0, 0, 0, 0, *pad[4:]))
    return _wrapped(input, tuple(pad[:4]))


def _wrapped(input: torch.Tensor, ends: tuple[int, ...]) -> torch.Tensor:
    """[..., H, W] continued by (left, right, top, bottom) from the other side, however small it is."""
    height, width = input.shape[-2:]
    if max(ends[:2]) <= width and max(ends[2:]) <= height:
        return functional.pad(input, (*ends, 0, 0) if input.ndim == 5 else ends, mode="circular")
    rows, columns = (
        torch.arange(-first, side + last, device=input.device) % side
        for side, first, last in ((height, *ends[2:]), (width, *ends[:2]))
    )
    return input.index_select(-2, rows).index_select(-1, columns)


@contextmanager
def rolled(network: Any, scheduler: Any, noise_seeds: Sequence[int], grid: Size) -> Generator[None]:
    """Within it, a transformer sees the latents of each picture rolled, by an offset of its own in every step.

    The offset is drawn from the picture's seed and the number of the step, so that it depends on nothing else; calls
    of one step share it. Latents may be tokens [B, L, C], with a reference picture of the same grid behind them, maps
    [B, C, h, w], or a list of [C, 1, h, w]. With guidance the batch may come twice.

    Args:
        network: A transformer of diffusers that takes `hidden_states` and returns a tuple.
        scheduler: Of the pipeline; says which step it is.
        noise_seeds: One per picture.
        grid: Tokens of one picture, (rows, columns).

    Raises:
        ConfigError: In it, where a reference picture has another grid.
    """
    offsets: list[tuple[int, int]] = []

    def before(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        offsets[:] = [_offset(seed, scheduler.step_index or 0, grid) for seed in noise_seeds]
        if args:
            return (_moved(args[0], offsets, grid), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": _moved(kwargs["hidden_states"], offsets, grid)}

    def after(_module: Any, _args: Any, output: tuple[Any, ...]) -> tuple[Any, ...]:
        return (_moved(output[0], [(-down, -right) for down, right in offsets], grid), *output[1:])

    hooks = network.register_forward_pre_hook(before, with_kwargs=True), network.register_forward_hook(after)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _offset(seed: int, step: int, grid: Size) -> tuple[int, int]:
    """How far a picture is rolled at a step, in tokens."""
    down, right = seeds.generator(seed, "roll", 0, "tiling", step).random(2)
    return int(down * grid[0]), int(right * grid[1])


def _moved(latents: Any, offsets: Sequence[tuple[int, int]], grid: Size) -> Any:
    """Latents with each picture rolled by its offset; `offsets` are taken again where there are more pictures."""
    rows = [_one(row, offsets[place % len(offsets)], grid) for place, row in enumerate(latents)]
    return torch.stack(rows) if isinstance(latents, torch.Tensor) else rows


def _one(latent: torch.Tensor, offset: tuple[int, int], grid: Size) -> torch.Tensor:
    if latent.ndim > 2:
        cell = latent.shape[-2] // grid[0]
        return torch.roll(latent, (offset[0] * cell, offset[1] * cell), (-2, -1))
    if latent.shape[0] not in (grid[0] * grid[1], 2 * grid[0] * grid[1]):
        raise ConfigError(
            f"this model sees {latent.shape[0]} tokens for a tile of {grid[0]}x{grid[1]}: its reference picture has"
            " another size, and cannot be rolled with it. Give the exemplar and the tile the size that the model wants"
        )
    pictures = latent.unflatten(0, (-1, *grid))
    return torch.roll(pictures, offset, (1, 2)).flatten(0, 2)
