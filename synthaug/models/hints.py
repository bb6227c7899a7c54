"""Guidance images in the denoising loop: what ControlNets are shown, place by place and tile by tile.

ControlNet: Zhang et al., ICCV 2023. Their residuals are scaled per place, by weights averaged to each resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Tiles(Protocol):
    """Parts of a canvas that are looked at one by one; of latents."""

    def each(self, function: Callable[[Any, int], Any], whole: Any, /) -> Any:
        """`function(crop, index)` on every tile, merged."""
        ...

    def split(self, whole: Any, /) -> list[Any]:
        """Crops of a whole, in the same order."""
        ...


@dataclass(frozen=True, slots=True)
class Hint:
    """What one ControlNet is shown, and how much is made of it.

    Attributes:
        net: The ControlNet, on the device.
        images: [B, 3, H, W] in [0, 1], as large as the pictures.
        weights: [B, 1, h, w] on the latent's grid; multiplies what the net adds.
        start: Share of the denoising at which it sets in.
        end: Share at which it leaves off.
        mode: Input of a union net; None for a net of one kind.
    """

    net: Any
    images: Tensor
    weights: Tensor
    start: float = 0.0
    end: float = 1.0
    mode: int | None = None

    def active(self, step: int, steps: int) -> bool:
        """Whether it takes part in step `step` of `steps`, as diffusers counts them."""
        return not (step / steps < self.start or (step + 1) / steps > self.end)


@dataclass(frozen=True, slots=True)
class Shown:
    """A hint, cut into the tiles of the latent."""

    hint: Hint
    images: Sequence[Tensor]
    weights: Sequence[Tensor]

    @staticmethod
    def of(hint: Hint, tiles: Tiles | None, *, twice: bool) -> Shown:
        import torch

        def doubled(values: Tensor) -> Tensor:
            return torch.cat([values, values]) if twice else values

        images, weights = doubled(hint.images.to(hint.net.dtype)), doubled(hint.weights.to(hint.net.dtype))
        if tiles is None:
            return Shown(hint, [images], [weights])
        factor = images.shape[-1] // weights.shape[-1]
        unshuffled = torch.nn.functional.pixel_unshuffle(images, factor)  # so that latent tiles cut whole pixels
        parts = [torch.nn.functional.pixel_shuffle(part, factor) for part in tiles.split(unshuffled)]
        return Shown(hint, parts, tiles.split(weights))


@dataclass(frozen=True, slots=True)
class Asked:
    """What the nets are asked about: noisy latents, as the denoiser sees them.

    Attributes:
        latents: [B, C, h, w], twice as many where guidance is used.
        timestep: Of the step.
        tokens: Encoded prompts.
        more: Pooled words and sizes, for XL.
        tile: Which tile these latents are.
    """

    latents: Tensor
    timestep: Tensor
    tokens: Tensor
    more: dict[str, Tensor] | None
    tile: int = 0


def residuals(shown: Sequence[Shown], asked: Asked) -> dict[str, Any]:
    """The sum of what all nets add to the denoiser's blocks, as it takes it.

    Hints of one union net are shown to it together, in one call: it was trained to weigh kinds against each other.
    """
    groups: dict[tuple[int, int], list[Shown]] = {}
    for place, one in enumerate(shown):
        alone = 0 if one.hint.mode is not None else 1 + place
        groups.setdefault((id(one.hint.net), alone), []).append(one)
    added = [_added(group, asked) for group in groups.values()]
    if not added:
        return {}
    down = [sum(parts[1:], parts[0]) for parts in zip(*(rows for rows, _ in added), strict=True)]
    middles = [mid for _, mid in added]
    return {
        "down_block_additional_residuals": down,
        "mid_block_additional_residual": sum(middles[1:], middles[0]),
    }


def _added(group: Sequence[Shown], asked: Asked) -> tuple[list[Tensor], Tensor]:
    """What one net adds, weighted place by place."""
    hint, tile = group[0].hint, asked.tile
    told: dict[str, Any] = {"controlnet_cond": group[0].images[tile]}
    if hint.mode is not None:
        told = _kinds(group, asked)
    down, mid = hint.net(
        asked.latents, asked.timestep, encoder_hidden_states=asked.tokens, added_cond_kwargs=asked.more,
        return_dict=False, **told,
    )  # fmt: skip
    if len(group) > 1:  # weighted inside, where the kinds meet
        return list(down), mid
    weights = group[0].weights[tile]
    return [_weighted(part, weights) for part in down], _weighted(mid, weights)


def _kinds(group: Sequence[Shown], asked: Asked) -> dict[str, Any]:
    """What a union net is shown: images, which inputs they are, and how much each counts."""
    import torch

    _lay_open()
    modes = [one.hint.mode for one in group]
    count, latents = group[0].hint.net.config.num_control_type, asked.latents
    kinds = torch.zeros(len(latents), count, device=latents.device, dtype=latents.dtype)
    kinds[:, modes] = 1
    scales = [_Scale(one.weights[asked.tile]) for one in group] if len(group) > 1 else [1.0]
    images = [one.images[asked.tile] for one in group]
    return {
        "controlnet_cond": images, "control_type": kinds, "control_type_idx": modes, "conditioning_scale": scales,
    }  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Scale:
    """A union net's scale of one kind, by place: where the net multiplies by a number, this multiplies by a map.

    Of what has places it scales each; of a picture's summary, [B, 1, C], it scales by the picture's mean.
    """

    weights: Tensor

    def __rmul__(self, values: Tensor) -> Tensor:
        if values.ndim == 3:
            return values * self.weights.mean((2, 3))[:, :, None]
        return values * self.weights


@cache
def _lay_open() -> None:
    """Shows torch the weights in a `_Scale`: a recorded graph takes in anew only the tensors that it can see."""
    from torch.utils import _pytree as tree

    tree.register_pytree_node(
        _Scale, lambda scale: ([scale.weights], None), lambda leaves, _: _Scale(next(iter(leaves)))
    )


def _weighted(part: Tensor, weights: Tensor) -> Tensor:
    """Residuals of any resolution, by the weights averaged over the area of each place."""
    import torch

    return part * torch.nn.functional.adaptive_avg_pool2d(weights, (part.shape[-2], part.shape[-1]))
