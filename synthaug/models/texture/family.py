"""What every family of texture models shares: one signature (fit a step, sample), tensors that wrap, noise by seed.

A family is one class in one file. Training (`train/texture`) and everybody who samples know this page alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from synthaug import seeds as philox
from synthaug.errors import ConfigError, InputError

Scalar = bool | int | float | str
Value = Scalar | Sequence[Scalar]
"""What a configuration may hold, so that JSON gives it back."""
_LARGEST_GRADIENT = 1.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a family is trained unless the user says otherwise: 242 tiles of 64 x 64 in half an hour on two CPU cores.

    Attributes:
        steps: Calls of `fit`.
        batch: Tiles per call.
        lr: Highest learning rate, as handed to `optimisers`.
        ema: Decay of the running mean of `averaged`.
    """

    steps: int
    batch: int
    lr: float
    ema: float = 0.995


class TextureModel(nn.Module, ABC):
    """A generator of tiles.

    Subclasses take keyword-only scalars and lists, with defaults, `side` and `classes` among them, and hand all of
    them on to this constructor: together they are `config`, from which the same network is built again.

    All that a training remembers between two steps is in `state_dict()` and in the optimisers: a resumed training
    ends with the same bytes. Buffers that must survive are therefore persistent.

    Args:
        side: Of the tiles that it learns from, pixels.
        classes: How many classes it can be asked for; 0 for a model without classes.
        config: Whatever else the subclass's constructor takes.

    Attributes:
        family: Name in `table.FAMILIES`.
        recipe: How to train it.
        training_only: First parts of the names of what serves training alone (a discriminator): not saved with the
            model, not averaged.
        multiple: `side` must be one of it, and so must the `side` of samples; a model with more levels `needs` more.
        rolled: Whether samples are `moved`.
        any_side: Whether samples may be of another side than the tiles it learnt from.
        staged: Whether what `fit` does goes by `progress`, so that a training cannot be made longer afterwards.
    """

    family: ClassVar[str]
    recipe: ClassVar[Recipe]
    training_only: ClassVar[tuple[str, ...]] = ()
    multiple: int = 8
    rolled: ClassVar[bool] = True
    any_side: ClassVar[bool] = True
    staged: ClassVar[bool] = True

    def __init__(self, *, side: int, classes: int, **config: Value) -> None:
        super().__init__()
        self.config: dict[str, Value] = {"side": side, "classes": classes, **config}
        self.side, self.classes = side, classes
        self.needs(self.multiple)
        if classes < 0:
            raise ConfigError(f"classes={classes}: expected 0 for none, or how many")
        for name, value in config.items():
            for one in [value] if isinstance(value, Scalar) else value:
                if isinstance(one, int) and not isinstance(one, bool) and one < 1:
                    raise ConfigError(f"{name}={value}: expected 1 or more")

    def needs(self, multiple: int) -> None:
        """Sides must be a multiple of this from now on. Raises `ConfigError` where that of the tiles is none."""
        self.multiple = multiple
        if self.side < multiple or self.side % multiple:
            raise ConfigError(f"side={self.side}: this {self.family} needs a multiple of {multiple}")

    @abstractmethod
    def optimisers(self, lr: float) -> list[torch.optim.Optimizer]:
        """Optimisers at the highest learning rate `lr`, in a fixed order; the trainer lets their rates rise and fall.

        Adam or AdamW (two moments and a step per parameter), over disjoint parameters.
        """

    @abstractmethod
    def fit(
        self,
        images: Tensor,
        labels: Tensor | None,
        optimisers: Sequence[torch.optim.Optimizer],
        progress: float,
        rng: torch.Generator,
    ) -> dict[str, Tensor]:
        """One training step: losses, backward passes, steps of the optimisers.

        Args:
            images: [B, 3, side, side] in [-1, 1], rolled and mirrored at random already.
            labels: [B] class numbers from 0; None for a model without classes.
            optimisers: As `optimisers` made them.
            progress: Share of all steps that are done, in [0, 1); staged families go by it.
            rng: On the CPU, this step's own; all noise comes from it (`drawn`).

        Returns:
            Losses by name, detached scalars; the first is the one that is plotted. The same names at every step.
        """

    @abstractmethod
    def sample(self, labels: Tensor | None, seeds: Sequence[int], side: int) -> Tensor:
        """[B, 3, side, side] tiles in [-1, 1], without gradients.

        A tile is a function of its label, seed and side: batch size and order change nothing but rounding.

        Args:
            labels: [B] class numbers; None draws classes by the seeds (and is all a model without classes takes).
            seeds: 63 bits each, as `synthaug.seeds.fork` makes them.
            side: Of the tiles, pixels.

        Raises:
            InputError: A side or labels that this model does not have.
        """

    @property
    def averaged(self) -> frozenset[str]:
        """Names of the parameters whose running mean serves for sampling: all that are saved, unless overridden."""
        return frozenset(name for name, _ in self.named_parameters() if self._is_saved(name))

    def saved(self) -> dict[str, Tensor]:
        """What a model's file holds: the state without what serves training alone."""
        return {name: value for name, value in self.state_dict().items() if self._is_saved(name)}

    def _is_saved(self, name: str) -> bool:
        return name.split(".", 1)[0] not in self.training_only

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def wanted(self, labels: Tensor | None, seeds: Sequence[int], side: int) -> Tensor | None:
        """Checks what `sample` was asked for; returns labels on this model's device, drawn where there were none.

        Raises:
            InputError: As `sample`.
        """
        if side < self.multiple or side % self.multiple:
            raise InputError(f"side={side}: {self.family} makes tiles with a multiple of {self.multiple} pixels")
        if side != self.side and not self.any_side:
            raise InputError(f"side={side}: this {self.family} makes tiles of {self.side} pixels; cut or repeat those")
        if not self.classes:
            if labels is not None:
                raise InputError("this model was trained without classes; ask for none")
            return None
        if labels is None:
            drawn = [int(philox.generator(seed, "texture", 0, "class").integers(self.classes)) for seed in seeds]
            labels = torch.tensor(drawn)
        if len(labels) != len(seeds) or not bool(((labels >= 0) & (labels < self.classes)).all()):
            raise InputError(f"labels {labels.tolist()}: expected {len(seeds)} of 0 to {self.classes - 1}")
        return labels.to(self.device)


def wrapping(module: nn.Module) -> nn.Module:
    """Turns every padded convolution below `module` into a circular one; returns it.

    A convolution that wraps commutes with rolling: what is built of them and of pointwise layers makes tiles. The
    downsampling layers of diffusers' autoencoders, which pad by hand on two sides, pad around all four instead.

    Raises:
        ConfigError: A layer that cannot be made to wrap.
    """
    for layer in module.modules():
        below = getattr(layer, "conv", None)
        if getattr(layer, "padding", None) == 0 and isinstance(below, nn.Conv2d) and below.stride != (1, 1):
            layer.padding, below.padding = 1, (1, 1)  # type: ignore[assignment]
            below._reversed_padding_repeated_twice = [1] * 4
    for name, layer in module.named_modules():
        if isinstance(layer, nn.ConvTranspose2d):
            raise ConfigError(f"{name} is a transposed convolution, which cannot be made to wrap")
        if isinstance(layer, nn.Conv2d):
            if layer.padding in (0, (0, 0)) and layer.kernel_size != layer.stride and layer.kernel_size != (1, 1):
                raise ConfigError(f"{name} pads by hand, so it cannot be made to wrap")
            layer.padding_mode = "circular"
    return module


def normals(seeds: Sequence[int], shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """[B, *shape] standard normal, each row from its own seed, drawn on the CPU in float32."""
    rows = [philox.normal(seed, tuple(shape)) for seed in seeds]
    return torch.from_numpy(np.stack(rows)).to(device)


def uniforms(seeds: Sequence[int], shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """[B, *shape] in [0, 1), each row from its own seed, drawn on the CPU in float32."""
    rows = [philox.from_seed(seed).random(tuple(shape), dtype=np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(rows)).to(device)


def moved(tiles: Tensor, seeds: Sequence[int]) -> Tensor:
    """[B, C, H, W], each rolled anywhere by its seed.

    Layers that double leave steps that are larger between cells, and the wrap would always lie on one.
    """
    places = moves(seeds, tiles.shape[-1])
    return torch.stack([tile.roll(place, (1, 2)) for tile, place in zip(tiles, places, strict=True)])


def moves(seeds: Sequence[int], side: int) -> list[tuple[int, int]]:
    """How far `moved` rolls each tile, down and to the right."""
    drawn = [philox.generator(seed, "texture", 0, "roll").integers(side, size=2) for seed in seeds]
    return [(int(y), int(x)) for y, x in drawn]


def periodic(maps: Tensor) -> Tensor:
    """[B, C, H, W] without steps across the wrap that are larger than those inside.

    The smooth part that has the same steps is taken out, all of it where they are half as large again in the mean;
    where they are no larger the maps stay as they are.

    What is written in raster order sees its beginning at the end, and still drifts from it over a tile of errors.
    Moisan, "Periodic plus smooth image decomposition", Journal of Mathematical Imaging and Vision 2011.
    """
    steps = torch.zeros_like(maps)
    for dim in (2, 3):
        last = maps.shape[dim] - 1
        jump = maps.select(dim, last) - maps.select(dim, 0)
        times = jump.abs().mean((1, 2)) / maps.diff(dim=dim).abs().mean((1, 2, 3)).clamp(min=1e-6)
        jump = jump * (2 * (times - 1)).clamp(0, 1)[:, None, None]
        steps.select(dim, 0).add_(jump)
        steps.select(dim, last).sub_(jump)
    height, width = maps.shape[-2:]
    down, across = (torch.arange(n, device=maps.device) * (2 * math.pi / n) for n in (height, width))
    waves = 2 * down.cos()[:, None] + 2 * across.cos()[None, : width // 2 + 1] - 4
    waves[0, 0] = 1.0
    smooth = torch.fft.rfft2(steps) / waves
    smooth[..., 0, 0] = 0
    return maps - torch.fft.irfft2(smooth, (height, width))


def drawn(rng: torch.Generator, shape: Sequence[int], like: Tensor) -> Tensor:
    """Standard normal noise of a training step, on the device and in the type of `like`."""
    return torch.randn(tuple(shape), generator=rng).to(like)


def descend(
    loss: Tensor, optimiser: torch.optim.Optimizer, most: float = _LARGEST_GRADIENT, *, retain: bool = False
) -> None:
    """One step of an optimiser along the gradient of `loss`, whose norm is clipped to `most`."""
    optimiser.zero_grad()
    loss.backward(retain_graph=retain)
    values: list[Tensor] = [value for group in optimiser.param_groups for value in group["params"]]
    nn.utils.clip_grad_norm_(values, most)
    optimiser.step()


def scalars(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Losses as `fit` returns them."""
    return {name: value.detach() for name, value in losses.items()}
