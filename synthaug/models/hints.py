"""Guidance images in the denoising loop: what ControlNets are shown, place by place and tile by tile.

ControlNet: Zhang et al., ICCV 2023. Their residuals are scaled per place, by weights averaged to each resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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

    def added(
        self, tile: int, latents: Tensor, timestep: Tensor, tokens: Tensor, more: dict[str, Tensor] | None
    ) -> tuple[list[Tensor], Tensor]:
        """What the net adds to the denoiser's blocks, weighted place by place."""
        import torch

        net, image, weights = self.hint.net, self.images[tile], self.weights[tile]
        if self.hint.mode is None:
            down, mid = net(
                latents, timestep, encoder_hidden_states=tokens, controlnet_cond=image, added_cond_kwargs=more,
                return_dict=False,
            )  # fmt: skip
        else:
            kinds = torch.zeros(len(latents), net.config.num_control_type, device=latents.device, dtype=latents.dtype)
            kinds[:, self.hint.mode] = 1
            down, mid = net(
                latents, timestep, encoder_hidden_states=tokens, controlnet_cond=[image], control_type=kinds,
                control_type_idx=[self.hint.mode], conditioning_scale=[1.0], added_cond_kwargs=more, return_dict=False,
            )  # fmt: skip
        return [_weighted(part, weights) for part in down], _weighted(mid, weights)


def _weighted(part: Tensor, weights: Tensor) -> Tensor:
    """Residuals of any resolution, by the weights averaged over the area of each place."""
    import torch

    return part * torch.nn.functional.adaptive_avg_pool2d(weights, (part.shape[-2], part.shape[-1]))


def residuals(added: Sequence[tuple[list[Tensor], Tensor]]) -> dict[str, Any]:
    """The sum of what all nets add, as the denoiser takes it."""
    if not added:
        return {}
    down = [sum(parts[1:], parts[0]) for parts in zip(*(rows for rows, _ in added), strict=True)]
    middles = [mid for _, mid in added]
    return {
        "down_block_additional_residuals": down,
        "mid_block_additional_residual": sum(middles[1:], middles[0]),
    }
