"""Pixel by pixel: gated masked convolutions in raster order, on a torus, sampled from cached activations.

Van den Oord et al., "Conditional image generation with PixelCNN decoders" (NeurIPS 2016): a vertical stack sees the
rows above, a horizontal one the pixels to the left, gates join them. Sampling computes each activation once, as in
Ramachandran et al., "Fast generation for convolutional autoregressive models" (ICLR 2017, workshop).

Raster order is blind to the wrap, so this model is told what it may know of it: rows above are known all around, and
their convolutions are circular; the last rows see the first ones, as they lie below them on the torus, and the last
pixels of a row its first ones. All of that was drawn before, so the product of conditionals stays exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug.errors import ConfigError
from synthaug.models.texture.family import Recipe, TextureModel, descend, periodic, scalars, uniforms
from synthaug.models.texture.looks import Looks, alike, levelled, look_of

_DILATIONS = (1, 2, 4)
_RANGE = 3.0
"""Levels go from minus to plus this, in units of a tile's spread; what is beyond is cut."""


class PixelCNN(TextureModel):
    """The likelihood of a tile as a product over pixels and channels, each a softmax over levels of intensity.

    Colours and contrast of the tile are those of a look, drawn first (`looks`); levels are those of what is left.
    Good at grain, stone, lava, cloth: statistics that a neighbourhood decides. Fails where something far away decides:
    long lines drift, and a tile may turn from one material into another.

    Args:
        side: Of the tiles that it learns from, pixels; at least twice `reach`.
        classes: How many; 0 for none.
        channels: Of the hidden layers.
        layers: Gated layers; their dilations are 1, 2, 4, 1, 2, ...
        levels: Of intensity, of each channel, over six spreads of a tile; 64 does not show.
        reach: How far the first layer sees, pixels: upwards, to both sides, and across the wrap.
    """

    family: ClassVar[str] = "pixelcnn"
    rolled: ClassVar[bool] = False
    recipe: ClassVar[Recipe] = Recipe(steps=2500, batch=4, lr=4e-3)

    def __init__(
        self,
        *,
        side: int = 64,
        classes: int = 0,
        channels: int = 32,
        layers: int = 6,
        levels: int = 64,
        reach: int = 6,
    ) -> None:
        super().__init__(side=side, classes=classes, channels=channels, layers=layers, levels=levels, reach=reach)
        if not 2 <= levels <= 256 or not 1 <= reach <= side // 2:
            raise ConfigError(f"levels={levels}, reach={reach}: expected 2 to 256, and 1 to side / 2 = {side // 2}")
        self.levels, self.reach = levels, reach
        self.above, self.below = (nn.Conv2d(4, channels, (reach, 2 * reach + 1)) for _ in range(2))
        self.left, self.right = (nn.Conv2d(4, channels, (1, reach)) for _ in range(2))
        self.layers: Any = nn.ModuleList(_Gated(channels, _DILATIONS[i % len(_DILATIONS)]) for i in range(layers))
        self.looks = Looks(channels, classes)
        self.head = _Head(channels, 2 * channels, levels)

    def optimisers(self, lr: float) -> list[torch.optim.Optimizer]:
        """One for all."""
        return [torch.optim.AdamW(self.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=1e-4)]

    def fit(
        self,
        images: Tensor,
        labels: Tensor | None,
        optimisers: Sequence[torch.optim.Optimizer],
        progress: float,
        rng: torch.Generator,
    ) -> dict[str, Tensor]:
        """One step along the gradient of the negative log-likelihood, `bits` per pixel and channel."""
        values = self.quantised(levelled(images, look_of(images)) / _RANGE)
        logits = self(values, self.looks(self.looks.learn(images, labels, rng), labels))
        nats = F.cross_entropy(logits.flatten(0, -2), values.movedim(1, -1).flatten())
        descend(nats, optimisers[0])
        return scalars({"bits": nats / math.log(2)})

    def quantised(self, images: Tensor) -> Tensor:
        """Levels [B, 3, H, W], integers, of pictures in [-1, 1]."""
        return ((images + 1) / 2 * (self.levels - 1)).round().long().clamp(0, self.levels - 1)

    def pictures(self, values: Tensor) -> Tensor:
        """In [-1, 1], of levels; the lowest is -1, the highest 1."""
        return values / (self.levels - 1) * 2 - 1

    def forward(self, values: Tensor, look: Tensor) -> Tensor:
        """Logits [B, H, W, 3, levels] of every pixel, given those before it in raster order, and the look.

        Args:
            values: [B, 3, H, W] levels.
            look: [B, channels], as `looks` tells it.
        """
        return self.head(self.features(self._known(values), look).movedim(1, -1), values.movedim(1, -1))

    def features(self, known: Tensor, look: Tensor) -> Tensor:
        """[B, C, H, W] of every pixel, of what comes before it, from [B, 4, H, W]: pictures, and ones."""
        rows = self.above(_around(_zeros_before(known, self.reach, 2)[:, :, :-1], self.reach))
        rows = _added_at_end(rows, self._beneath(known), 2)
        line = self.left(_zeros_before(known, self.reach, 3)[..., :-1])
        line = _added_at_end(line, self._beside(known), 3)
        for layer in self.layers:
            given = layer.given(_zeros_before(rows, layer.dilation, 2), look)
            rows = rows + _gate(given, 1)
            line = layer.along(line, given)
        return line

    def _known(self, values: Tensor) -> Tensor:
        """Pictures with a channel of ones, which tells black from what is not drawn yet."""
        return F.pad(self.pictures(values), (0, 0, 0, 0, 0, 1), value=1.0)

    def _beneath(self, known: Tensor) -> Tensor:
        """[B, C, reach, W] for the last rows, of the first rows of the torus, which lie below them."""
        return self.below(_around(_zeros_before(known[:, :, : self.reach], self.reach - 1, 2), self.reach))

    def _beside(self, known: Tensor) -> Tensor:
        """[B, C, H, reach] for the last pixels of each row, of its first ones."""
        return self.right(_zeros_before(known[..., : self.reach], self.reach - 1, 3))

    @torch.no_grad()
    def sample(self, labels: Tensor | None, seeds: Sequence[int], side: int) -> Tensor:
        """As the contract says. One pass per pixel over one pixel's activations: 1 to 2 s for a few tiles of 64."""
        labels = self.wanted(labels, seeds, side)
        chances = uniforms(seeds, (side, side, 3), self.device)
        look = self.looks.draw(seeds, labels)
        structure = _RANGE * self.pictures(self.drawn(self.looks(look, labels), chances))
        return alike(periodic(structure), look).clamp(-1, 1)

    def drawn(self, look: Tensor, chances: Tensor) -> Tensor:
        """Levels [B, 3, side, side] from uniform numbers [B, side, side, 3] and what `looks` tells."""
        return _Sampler(self, look, chances).run()


class _Gated(nn.Module):
    """One layer of both stacks. Every shift to what is already known happens before the first layer."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.vertical = nn.Conv2d(channels, 2 * channels, (2, 3), dilation=dilation)
        self.across = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.horizontal = nn.Conv2d(channels, 2 * channels, (1, 2), dilation=dilation)
        self.out = nn.Conv2d(channels, channels, 1)
        self.look = nn.Linear(channels, 2 * channels)

    def given(self, rows: Tensor, look: Tensor) -> Tensor:
        """[B, 2 C, R, W] of what is known above, from [B, C, dilation + R, W], and of the look."""
        return self.vertical(_around(rows, self.dilation)) + self.look(look)[:, :, None, None]

    def along(self, line: Tensor, given: Tensor) -> Tensor:
        """The horizontal stack, all pixels at once."""
        mixed = self.horizontal(_zeros_before(line, self.dilation, 3)) + self.across(given)
        return line + self.out(_gate(mixed, 1))

    def step(self, now: Tensor, past: Tensor, across: Tensor) -> Tensor:
        """The same for one pixel: [B, C] of this pixel, of the one `dilation` to the left, and [B, 2 C] from above."""
        weight = self.horizontal.weight[:, :, 0]
        mixed = torch.addmm(across, past, weight[..., 0].T) + F.linear(now, weight[..., 1], self.horizontal.bias)
        return now + F.linear(_gate(mixed, 1), self.out.weight[:, :, 0, 0], self.out.bias)


class _Head(nn.Module):
    """Red from the features, green given red, blue given both."""

    def __init__(self, channels: int, hidden: int, levels: int) -> None:
        super().__init__()
        self.features = nn.Linear(channels, hidden)
        self.seen: Any = nn.ModuleList(nn.Embedding(levels, hidden) for _ in range(2))
        self.logits: Any = nn.ModuleList(nn.Linear(hidden, levels) for _ in range(3))

    def forward(self, features: Tensor, values: Tensor) -> Tensor:
        """[..., 3, levels], from [..., C] and the true levels [..., 3]."""
        state = self.features(features)
        found = [self.logits[0](F.relu(state))]
        for channel, seen in enumerate(self.seen):
            state = state + seen(values[..., channel])
            found.append(self.logits[channel + 1](F.relu(state)))
        return torch.stack(found, -2)

    def draw(self, features: Tensor, chances: Tensor) -> Tensor:
        """[B, 3] levels, from [B, C] and uniform numbers [B, 3]: the inverse of the distribution."""
        state, found = self.features(features), list[Tensor]()
        for channel, logits in enumerate(self.logits):
            state = state + self.seen[channel - 1](found[-1]) if channel else state
            sums = logits(F.relu(state)).softmax(-1).cumsum(-1)
            found.append((sums < chances[:, channel, None]).sum(-1).clamp_(max=sums.shape[-1] - 1))
        return torch.stack(found, 1)


class _Sampler:
    """Raster order with every activation computed once: a row of the vertical stack, a pixel of the horizontal one."""

    def __init__(self, net: PixelCNN, look: Tensor, chances: Tensor) -> None:
        batch, side = chances.shape[:2]
        width = net.left.out_channels
        self._net, self._look, self._chances, self._side = net, look, chances, side
        self._values = torch.zeros(batch, 3, side, side, dtype=torch.long, device=net.device)
        self._known = torch.zeros(batch, 4, net.reach + side, net.reach + side, device=net.device)
        self._rows = [torch.zeros(batch, width, i.dilation + side, side, device=net.device) for i in net.layers]
        self._lines = [torch.zeros(side + i.dilation, batch, width, device=net.device) for i in net.layers]

    def run(self) -> Tensor:
        """Levels [B, 3, side, side]."""
        beneath = None
        for y in range(self._side):
            if y == self._side - self._net.reach:
                beneath = self._net._beneath(self._drawn(slice(0, self._net.reach)))
            self._row(y, self._given(y, beneath))
        return self._values

    def _drawn(self, rows: slice) -> Tensor:
        reach = self._net.reach
        return self._known[:, :, reach:, reach:][:, :, rows]

    def _given(self, y: int, beneath: Tensor | None) -> list[Tensor]:
        """[side, B, 2 C] of each layer: what its horizontal stack is told of the rows above."""
        net, across = self._net, []
        rows = net.above(_around(self._known[:, :, y : y + net.reach, net.reach :], net.reach))
        if beneath is not None:
            first = y - (self._side - net.reach)
            rows = rows + beneath[:, :, first : first + 1]
        for layer, kept in zip(net.layers, self._rows, strict=True):
            kept[:, :, layer.dilation + y] = rows[:, :, 0]
            given = layer.given(kept[:, :, y : y + layer.dilation + 1], self._look)
            across.append(layer.across(given)[:, :, 0].permute(2, 0, 1).contiguous())
            rows = rows + _gate(given, 1)
        return across

    def _row(self, y: int, across: list[Tensor]) -> None:
        net, reach = self._net, self._net.reach
        known, left = self._known[:, :, reach + y], net.left.weight.flatten(1)
        beside = None
        for x in range(self._side):
            line = F.linear(known[:, :, x : x + reach].flatten(1), left, net.left.bias)
            if x == self._side - reach:
                beside = net._beside(known[:, :, None, reach : 2 * reach])[:, :, 0]
            if beside is not None:
                line = line + beside[:, :, x - (self._side - reach)]
            for layer, kept, given in zip(net.layers, self._lines, across, strict=True):
                kept[x + layer.dilation] = line
                line = layer.step(line, kept[x], given[x])
            drawn = net.head.draw(line, self._chances[:, y, x])
            self._values[:, :, y, x] = drawn
            known[:, :3, reach + x] = net.pictures(drawn)
            known[:, 3, reach + x] = 1


def _gate(mixed: Tensor, dim: int) -> Tensor:
    content, gate = mixed.chunk(2, dim)
    return content.tanh() * gate.sigmoid()


def _around(rows: Tensor, reach: int) -> Tensor:
    """Wrapped to both sides."""
    return F.pad(rows, (reach, reach, 0, 0), mode="circular")


def _zeros_before(maps: Tensor, count: int, dim: int) -> Tensor:
    """`count` rows (`dim` 2) or columns (3) of zeros before the first: nothing is known there."""
    return F.pad(maps, (0, 0, count, 0) if dim == 2 else (count, 0, 0, 0))


def _added_at_end(maps: Tensor, last: Tensor, dim: int) -> Tensor:
    """`last` added to the last rows or columns."""
    return maps + _zeros_before(last, maps.shape[dim] - last.shape[dim], dim)
