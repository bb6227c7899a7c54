"""What is true of a picture, as what a denoiser can be told: guidance images, and how far each place may change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.labels import Labels
from synthaug.models.hints import Hint
from synthaug.models.latent import Hold
from synthaug.models.pipelines import Extras, pad_reflect
from synthaug.refine import paste, tiles
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


def make(images: Any, labels: Sequence[Labels], rules: Rules, nets: Sequence[Any], *, multiple: int) -> Conditions:
    """Draws guidance and maps on the host and sends them to where the pictures are.

    Args:
        images: [B, 3, H, W] float32 in [0, 1], a tensor.
        labels: One per picture, with the passes that `wants` named.
        nets: One loaded ControlNet per control.
        multiple: Sides are padded to a multiple of this, as the model pads them; 8 divides it.

    Raises:
        Rejected: Under `guidance`, for a picture that lacks what its guidance is made of.
    """
    height, width = images.shape[-2:]
    canvas = (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
    facts: list[dict[str, Any]] = [{} for _ in labels]
    hints = _hints(images, labels, rules.controls, nets, multiple, facts)
    hold, shares = None, None
    if rules.protection.active:
        maps = [protect(own, rules.protection) for own in labels]
        for fact, found in zip(facts, maps, strict=True):
            fact["protect"] = found.facts()
        hold = _hold(maps, canvas, images)
        covers = np.stack([paste.coverage(found.never, rules.feather) for found in maps])[:, None]
        shares = images.new_tensor(covers)
    tiling = None
    if rules.tile and max(canvas) > rules.tile:
        side = (rules.tile, rules.tile)
        tiling = tiles.plan((height, width), tile=side, overlap=rules.overlap, multiple=multiple).scaled(8)
    return Conditions(Extras(hints, hold or _nothing, tiling), shares, facts)


def finish(painted: Any, images: Any, conditions: Conditions) -> tuple[Any, tuple[Mapping[str, Any], ...]]:
    """The input's own values where nothing may change, and the facts of every picture."""
    shares = conditions.shares
    if shares is None:
        return painted, tuple(conditions.facts)
    done = paste.paste(painted, images, shares)
    rows = paste.facts(
        paste.seam(done, shares).tolist(),
        paste.seam(images, shares).tolist(),
        paste.ring(painted, images, shares).tolist(),
    )
    for fact, row in zip(conditions.facts, rows, strict=True):
        fact["protect"] = {**fact["protect"], **row}
    return done, tuple(conditions.facts)


def _nothing(strength: float) -> Hold | None:
    del strength
    return None


def _hold(maps: Sequence[Protected], canvas: tuple[int, int], images: Any) -> Callable[[float], Hold | None]:
    latent = np.stack([to_latent(found.strength, found.guard, 8, canvas) for found in maps])[:, None]

    def hold(strength: float) -> Hold:
        del strength  # The map says which share of the steps that are run; the strength decided how many those are.

        def blend(original: Any, noised: Callable[[int], Any], steps: int) -> DifferentialBlend:
            first = images.new_tensor(free_from(latent, steps)).to(original.device)
            return DifferentialBlend(first, original, noised, steps)

        return blend

    return hold


def _hints(
    images: Any,
    labels: Sequence[Labels],
    asked: Sequence[Control],
    nets: Sequence[Any],
    multiple: int,
    facts: list[dict[str, Any]],
) -> list[Hint]:
    if not asked:
        return []
    pictures: Float32 = images.cpu().numpy()
    drawn = [controls.guides(asked, own, picture) for own, picture in zip(labels, list(pictures), strict=True)]
    for fact, guides in zip(facts, drawn, strict=True):
        fact["guidance"] = {c.source.kind: g.facts for c, g in zip(asked, guides, strict=True)}
    hints: list[Hint] = []
    for index, (one, net) in enumerate(zip(asked, nets, strict=True)):
        shown = images.new_tensor(np.stack([guides[index].image for guides in drawn]))
        weights = np.stack([one.weights(own) for own in labels])[:, None]
        padded = pad_reflect(images.new_tensor(weights), multiple)
        height, width = padded.shape[-2:]
        blocks = padded.reshape(len(labels), 1, height // 8, 8, width // 8, 8).mean((3, 5))
        kinds = getattr(net.config, "num_control_type", None)
        mode = None if kinds is None else union.mode(one.source, "sdxl", kinds)
        hints.append(Hint(net, pad_reflect(shown, multiple), blocks, one.start, one.end, mode))
    return hints
