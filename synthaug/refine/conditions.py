"""What is true of a picture, as what a denoiser can be told: guidance images, and how far each place may change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import ConfigError
from synthaug.labels import Category, Labels, Size
from synthaug.models import controlnets
from synthaug.models.hints import Hint
from synthaug.models.latent import Hold
from synthaug.models.pipelines import Extras, pad_reflect
from synthaug.refine import paste, small, tiles
from synthaug.refine import sequence as frames
from synthaug.refine.differential import DifferentialBlend, free_from, to_latent
from synthaug.refine.guidance import control as guides
from synthaug.refine.guidance import union
from synthaug.refine.guidance.control import Control
from synthaug.refine.protect import PASSES, Protected, Protection, protect
from synthaug.refine.sequence import Anchoring

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
        anchoring: How starting noise is tied to surfaces; None where each picture draws its own.
    """

    controls: tuple[Control, ...]
    protection: Protection
    feather: float
    tile: int
    overlap: int
    anchoring: Anchoring | None = None

    @staticmethod
    def parse(
        controls: Mapping[str, Any] | None,
        protect: Mapping[str, Any] | None,
        feather: float,
        tile: int,
        overlap: int,
        sequence: bool | Mapping[str, Any],
    ) -> Rules:
        """From the stage's parameters of these names. Raises `ConfigError` naming the one that is out of range."""
        if not 0 <= feather <= 256:
            raise ConfigError(f"feather={feather}: expected 0 to 256 pixels")
        if tile < 0 or tile % 64:
            raise ConfigError(f"tile={tile}: expected 0 or a multiple of 64 pixels")
        if tile and not 0 <= overlap <= tile - 8:
            raise ConfigError(f"overlap={overlap}: expected 0 to {tile - 8} for tiles of {tile}")
        asked, along = guides.parse(controls or {}), frames.parse(sequence)
        return Rules(asked, Protection.parse(protect), feather, tile, overlap, along)

    def check(self, categories: Sequence[Category], passes: Sequence[str]) -> None:
        """Holds the rules against the dataset. Raises `ConfigError` where it lacks a class or a pass."""
        self.protection.check(categories)
        guides.plan(self.controls, passes=passes, categories=categories)
        if self.anchoring is not None:
            frames.check(passes)

    @property
    def knobs(self) -> tuple[str, ...]:
        """Which of `families.KNOBS` are asked for."""
        asked = {
            "controls": self.controls,
            "class_weights": any(control.masked for control in self.controls),
            "protect": self.protection.graded,
            "tile": self.tile,
            "sequence": self.anchoring is not None,
        }
        return tuple(knob for knob, wanted in asked.items() if wanted)

    def identity(self) -> list[dict[str, Any]]:
        """Every control with the content of its ControlNet in place of the path. Hashes each file once."""
        return [{**asdict(c), "kind": c.source.kind, "model": controlnets.digest(c.model)} for c in self.controls]

    @property
    def wants(self) -> tuple[str, ...]:
        """Passes that are used where they are present."""
        along = frames.PASSES if self.anchoring is not None else ()
        return tuple(sorted({*PASSES, *guides.wanted_passes(self.controls), *along}))

    @property
    def plain(self) -> bool:
        """Whether nothing was asked for."""
        return not self.controls and not self.protection.active and not self.tile and self.anchoring is None

    @property
    def looks(self) -> bool:
        """Whether anything is made from labels, beside protection."""
        return bool(self.controls) or self.anchoring is not None


@dataclass(frozen=True, slots=True)
class Grid:
    """How a model sees a picture.

    Attributes:
        factor: Pixels per place of its latent, along one side.
        multiple: Sides are padded to a multiple of this many pixels; `factor` divides it.
        channels: Of its latent; 0 where nobody needs to know.
        holds: Whether its denoising lets places be held back; elsewhere what is protected is pasted back alone.
    """

    factor: int
    multiple: int
    channels: int = 0
    holds: bool = True


@dataclass(frozen=True, slots=True)
class Conditions:
    """One batch's worth of it, on the device.

    Attributes:
        extras: For the model; None where nothing was asked for, so that every family can be told.
        maps: What protection says of each picture; empty where nothing is protected.
        kept: For each of them [H, W], how much of the input is pasted back.
        shares: The same on the device, [B, 1, H, W]; None where nothing is protected.
        facts: For the trail, one per picture.
    """

    extras: Extras | None
    maps: Sequence[Protected]
    kept: Sequence[Float32]
    shares: Any
    facts: list[dict[str, Any]]


def make(
    images: Any,
    labels: Sequence[Labels],
    rules: Rules,
    nets: Sequence[Any],
    grid: Grid,
    anchors: Sequence[int],
    maps: Sequence[Protected] | None = None,
) -> Conditions:
    """Draws guidance, maps and noise on the host and sends them to where the pictures are.

    Args:
        images: [B, 3, H, W] float32 in [0, 1], a tensor.
        labels: One per picture, with the passes that `wants` named.
        nets: One loaded ControlNet per control.
        grid: Of the model.
        anchors: One per picture, 63 bits: what frames of a sequence have in common.
        maps: What is protected, where it is known already; None follows the rules.

    Raises:
        Rejected: Under `guidance` or `sequence`, for a picture that lacks what these are made of.
    """
    facts: list[dict[str, Any]] = [{} for _ in labels]
    if rules.plain:
        return Conditions(None, (), (), None, facts)
    hints = _hints(images, labels, rules.controls, nets, grid, facts)
    noise = _noise(images, labels, rules, grid, anchors, facts)
    hold, kept, shares = None, list[Float32](), None
    if rules.protection.active and maps is None:
        maps = [protect(own, rules.protection) for own in labels]
    if maps:
        for fact, found in zip(facts, maps, strict=True):
            fact["protect"] = found.facts()
        hold = _hold(maps, images, grid) if grid.holds else None
        kept = [paste.coverage(found.never, rules.feather) for found in maps]
        shares = images.new_tensor(np.stack(kept)[:, None])
    return Conditions(Extras(hints, hold, _tiles(images, rules, grid), noise), maps or (), kept, shares, facts)


def weakened(painted: Any, images: Any, conditions: Conditions) -> Any:
    """The input with a share of what was changed, for what is no denoising loop and cannot be held back in one."""
    if not conditions.maps:
        return painted
    strength = images.new_tensor(np.stack([found.strength for found in conditions.maps])[:, None])
    return paste.weakened(painted, images, strength)


def pasted(painted: Any, images: Any, conditions: Conditions) -> Any:
    """What was painted, with the input's own values where nothing may change."""
    return painted if conditions.shares is None else paste.paste(painted, images, conditions.shares)


def told(done: Any, painted: Any, images: Any, conditions: Conditions) -> tuple[Mapping[str, Any], ...]:
    """The facts of every picture, with the seams that are left.

    Args:
        done: [B, 3, H, W], the result.
        painted: [B, 3, H, W], what the model gave, before anything was pasted back.
        images: [B, 3, H, W], the input.
    """
    shares = conditions.shares
    if shares is not None:
        measured = (paste.seam(done, shares), paste.seam(images, shares), paste.ring(painted, images, shares))
        numbers = np.stack([one.cpu().numpy() for one in measured], axis=1)
        for fact, row, said in zip(conditions.facts, numbers, paste.facts(*numbers.T.tolist()), strict=True):
            if np.isfinite(row).all():  # a picture that is not is rejected, and its reason is not the seam
                fact["protect"] = {**fact["protect"], **said}
    return tuple(conditions.facts)


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


def _noise(
    images: Any,
    labels: Sequence[Labels],
    rules: Rules,
    grid: Grid,
    anchors: Sequence[int],
    facts: list[dict[str, Any]],
) -> Any:
    if rules.anchoring is None:
        return None
    form = {"channels": grid.channels, "canvas": _canvas(images, grid), "factor": grid.factor}
    rows = zip(labels, anchors, strict=True)
    drawn = [frames.starting(own, rules.anchoring, anchor, **form) for own, anchor in rows]
    for fact, (_, share) in zip(facts, drawn, strict=True):
        fact["sequence"] = {"places_per_pixel": round(share, 4)}
    return images.new_tensor(np.stack([noise for noise, _ in drawn]))


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
    drawn = [guides.guides(asked, own, picture) for own, picture in zip(labels, pictures, strict=True)]
    for fact, shown in zip(facts, drawn, strict=True):
        fact["guidance"] = [{"kind": c.source.kind, **g.facts} for c, g in zip(asked, shown, strict=True)]
    hints: list[Hint] = []
    for index, (one, net) in enumerate(zip(asked, nets, strict=True)):
        shown = images.new_tensor(np.stack([row[index].image for row in drawn]))
        weights = images.new_tensor(np.stack([one.weights(own) for own in labels])[:, None])
        places = small.average(pad_reflect(weights, grid.multiple), grid.factor)
        modes = {"sdxl": "num_control_type", "flux": "num_mode"}
        found = {family: getattr(net.config, field, None) for family, field in modes.items()}
        mode = next((union.mode(one.source, family, kinds) for family, kinds in found.items() if kinds), None)
        hints.append(Hint(net, pad_reflect(shown, grid.multiple), places, one.start, one.end, mode))
    return hints
