"""What is true of a picture, as what a denoiser can be told: guidance images, and how far each place may change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.labels import Labels, Size
from synthaug.models.hints import Hint
from synthaug.models.latent import Hold
from synthaug.models.pipelines import Extras, pad_reflect
from synthaug.refine import paste, small, tiles
from synthaug.refine.differential import DifferentialBlend, free_from, to_latent
from synthaug.refine.guidance import control as controls
from synthaug.refine.guidance import union
from synthaug.refine.guidance.control import Control
from synthaug.refine.protect import Protected, Protection, protect

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a user asked for beside words.

    Attributes:
        controls: Guidance, one ControlNet each.
        protection: How far classes, instances and small things may change.
        feather: Pixels over which a never-touched region fades into what was painted around it.
        tile: Side of a tile in pixels, 0 for pictures in one piece.
        overlap: Pixels that neighbouring tiles share.
    """

    controls: tuple[Control, ...]
    protection: Protection
    feather: float
    tile: int
    overlap: int

    @property
    def plain(self) -> bool:
        """Whether nothing was asked for."""
        return not self.controls and not self.protection.active and not self.tile


@dataclass(frozen=True, slots=True)
class Grid:
    """How a model sees a picture.

    Attributes:
        factor: Pixels per place of its latent, along one side.
        multiple: Sides are padded to a multiple of this many pixels; `factor` divides it.
    """

    factor: int
    multiple: int


@dataclass(frozen=True, slots=True)
class Conditions:
    """One batch's worth of it, on the device.

    Attributes:
        extras: For the model.
        shares: [B, 1, H, W], how much of the input is pasted back; None where nothing is protected.
        facts: For the trail, one per picture.
    """

    extras: Extras
    shares: Any
    facts: list[dict[str, Any]]


def make(images: Any, labels: Sequence[Labels], rules: Rules, nets: Sequence[Any], grid: Grid) -> Conditions:
    """Draws guidance and maps on the host and sends them to where the pictures are.

    Args:
        images: [B, 3, H, W] float32 in [0, 1], a tensor.
        labels: One per picture, with the passes that `wants` named.
        nets: One loaded ControlNet per control.
        grid: Of the model.

    Raises:
        Rejected: Under `guidance`, for a picture that lacks what its guidance is made of.
    """
    facts: list[dict[str, Any]] = [{} for _ in labels]
    hints = _hints(images, labels, rules.controls, nets, grid, facts)
    hold, shares = None, None
    if rules.protection.active:
        maps = [protect(own, rules.protection) for own in labels]
        for fact, found in zip(facts, maps, strict=True):
            fact["protect"] = found.facts()
        hold = _hold(maps, images, grid)
        shares = images.new_tensor(np.stack([paste.coverage(found.never, rules.feather) for found in maps])[:, None])
    return Conditions(Extras(hints, hold, _tiles(images, rules, grid)), shares, facts)


def finish(painted: Any, images: Any, conditions: Conditions) -> tuple[Any, tuple[Mapping[str, Any], ...]]:
    """The input's own values where nothing may change, and the facts of every picture."""
    shares = conditions.shares
    if shares is None:
        return painted, tuple(conditions.facts)
    done = paste.paste(painted, images, shares)
    measured = (paste.seam(done, shares), paste.seam(images, shares), paste.ring(painted, images, shares))
    numbers = np.stack([one.cpu().numpy() for one in measured], axis=1)
    for fact, row, told in zip(conditions.facts, numbers, paste.facts(*numbers.T.tolist()), strict=True):
        if np.isfinite(row).all():  # a picture that is not is rejected, and its reason is not the seam
            fact["protect"] = {**fact["protect"], **told}
    return done, tuple(conditions.facts)


def _canvas(images: Any, grid: Grid) -> Size:
    """(height, width) as the model pads it."""
    height, width = (-(-int(side) // grid.multiple) * grid.multiple for side in images.shape[-2:])
    return height, width


def _tiles(images: Any, rules: Rules, grid: Grid) -> tiles.Tiling | None:
    if not rules.tile or max(_canvas(images, grid)) <= rules.tile:
        return None
    size: Size = tuple(images.shape[-2:])
    side = (rules.tile, rules.tile)
    found = tiles.plan(size, tile=side, overlap=rules.overlap, multiple=grid.multiple, grid=grid.factor)
    return found.scaled(grid.factor)


def _hold(maps: Sequence[Protected], images: Any, grid: Grid) -> Hold:
    """The map says which share of the steps that are run is free; the strength decides how many those are."""
    canvas = _canvas(images, grid)
    latent = np.stack([to_latent(found.strength, found.guard, grid.factor, canvas) for found in maps])[:, None]

    def hold(original: Any, noised: Callable[[int], Any], steps: int) -> DifferentialBlend:
        first = images.new_tensor(free_from(latent, steps)).to(original.device)
        return DifferentialBlend(first, original, noised, steps)

    return hold


def _hints(
    images: Any,
    labels: Sequence[Labels],
    asked: Sequence[Control],
    nets: Sequence[Any],
    grid: Grid,
    facts: list[dict[str, Any]],
) -> list[Hint]:
    if not asked:
        return []
    pictures: list[Float32] = list(images.cpu().numpy())
    drawn = [controls.guides(asked, own, picture) for own, picture in zip(labels, pictures, strict=True)]
    for fact, guides in zip(facts, drawn, strict=True):
        fact["guidance"] = [{"kind": c.source.kind, **g.facts} for c, g in zip(asked, guides, strict=True)]
    hints: list[Hint] = []
    for index, (one, net) in enumerate(zip(asked, nets, strict=True)):
        shown = images.new_tensor(np.stack([guides[index].image for guides in drawn]))
        weights = images.new_tensor(np.stack([one.weights(own) for own in labels])[:, None])
        places = small.average(pad_reflect(weights, grid.multiple), grid.factor)
        kinds = getattr(net.config, "num_control_type", None)
        mode = None if kinds is None else union.mode(one.source, "sdxl", kinds)
        hints.append(Hint(net, pad_reflect(shown, grid.multiple), places, one.start, one.end, mode))
    return hints
