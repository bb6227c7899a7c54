"""Pixels through Appearance stages: raised to float once, rounded once, labels out of reach.

Neighbouring `Pointwise` stages on an 8-bit picture become one 256-entry table per channel; the values are
those that painting one after the other in float would give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug import seeds
from synthaug.contracts import Appearance, Draw, Geometry, Painted, Pointwise, Stage
from synthaug.engine import blame
from synthaug.engine.pipeline import Slot
from synthaug.engine.plan import Entry
from synthaug.errors import Rejected, SynthaugError
from synthaug.labels import Labels
from synthaug.sample import Picture, Sample, Space, Step
from synthaug.transfer import linear_from_srgb, srgb_from_linear

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Work:
    """One sample on its way through a bracket.

    Attributes:
        index: Its place in the shard.
        entry: Its plan.
        attempt: 0, or the number of the repair.
        sample: As it stands now.
        brought: Steps of its trail that it came with.
    """

    index: int
    entry: Entry
    attempt: int
    sample: Sample
    brought: int = 0


def seen_by(stage: Stage, labels: Labels) -> Labels:
    """The copy of the labels that a stage gets: the passes it asked for and no others."""
    return labels.copy((*stage.needs, *stage.wants))


def drawn(slot: Slot, work: Work, labels: Labels, seed: int) -> Draw:
    """The draw of a stage for one sample; under scope `object`, one draw by object id.

    A group moves as one: its motion does not depend on the attempt, for a frame that is repaired alone must not
    leave the others, whose `flow` counts on it. Its look does, or a repair would change nothing.

    Raises:
        Rejected: Under `draw`, when the draw cannot be stored (`blame.as_json`).
    """
    stage, entry = slot.stage, work.entry
    assert isinstance(stage, Appearance | Geometry)
    with blame.at(slot):
        if stage.scope != "object":
            scope_id = entry.group if stage.scope == "group" else entry.source
            as_one = stage.scope == "group" and isinstance(stage, Geometry)
            attempt = 0 if as_one else work.attempt
            rng = seeds.generator(seed, scope_id, entry.variant, slot.name, attempt)
            return blame.as_json(stage.draw(rng, labels, attempt))
        draws: Draw = {}
        for instance in labels.instances:
            object_id = instance.object_id or f"{entry.source}#{instance.id}"
            rng = seeds.generator(seed, object_id, entry.variant, slot.name, work.attempt)
            draws[object_id] = blame.as_json(stage.draw(rng, labels.of((instance,)), work.attempt))
        return draws


def paint_host(slot: Slot, work: Work, seed: int) -> Work:
    """One host stage on one sample; raises `Rejected` with the slot's name."""
    stage = slot.stage
    assert isinstance(stage, Appearance)
    labels = seen_by(stage, work.sample.labels)
    draw = drawn(slot, work, labels, seed)
    images = to_planes(work.sample.image, stage.takes)
    with blame.at(slot):
        painted = stage.paint(images, [seen_by(stage, work.sample.labels)], [draw])
    images, reasons, facts = opened(slot, painted, 1)
    return finish(slot, work, draw, np.asarray(images[0]), reasons[0], facts[0])


def paint_table(slots: Sequence[Slot], work: Work, seed: int, *, last: bool) -> Work:
    """A row of Pointwise stages on an 8-bit picture: one table, one look-up; values as of `paint_host`.

    Args:
        last: Whether the bracket ends here, so that a table of sRGB is itself rounded to 8 bits.

    Raises:
        Rejected: The picture holds a value for which a curve has none.
    """
    pixels = work.sample.image.pixels
    table = np.repeat(np.arange(256, dtype=np.float32)[:, None] / np.float32(255), 3, axis=1)
    space: Space = "srgb"
    renews = False
    steps: list[Step] = []
    for slot in slots:
        stage = slot.stage
        assert isinstance(stage, Pointwise)
        draw = drawn(slot, work, seen_by(stage, work.sample.labels), seed)
        with blame.at(slot):
            table = np.clip(stage.curve(_as_space(table, space, stage.takes), draw), 0.0, 1.0).astype(np.float32)
        _check_table(slot, work, table, pixels)
        space, renews = stage.gives, stage.renews_reference
        steps.append(Step(slot.name, type(stage).__name__, work.attempt, draw))
    if last and space == "srgb":
        rounded_table = to_bytes(table)
        grey = bool((rounded_table == rounded_table[:, :1]).all())  # one table for all channels takes half the time
        painted: Array = cv2.LUT(pixels, rounded_table[:, 0] if grey else rounded_table[None])
    else:
        painted = np.stack([table[:, c][pixels[..., c]] for c in range(3)], axis=-1)
    return repainted(work, Picture(painted, space), tuple(steps), renews=renews)


def _as_space(values: Array, space: Space, wanted: Space) -> Array:
    if space == wanted:
        return values
    return linear_from_srgb(values) if wanted == "linear" else srgb_from_linear(values)


def _check_table(slot: Slot, work: Work, table: Array, pixels: Array) -> None:
    """Refuses what a curve has no value for, where the picture needs that value."""
    if np.isfinite(table).all():
        return
    bad = sum(int(np.count_nonzero(~np.isfinite(table[:, c])[pixels[..., c]])) for c in range(3))
    objection = refusal(slot, work, "", (3, *work.sample.image.size), bad)
    if objection is not None:
        raise objection
    np.nan_to_num(table, copy=False)


def opened(slot: Slot, painted: Any, count: int) -> tuple[Any, Sequence[str], Sequence[Mapping[str, Any]]]:
    """What `paint` returned: pictures, and for each a reason and facts."""
    whole = painted if isinstance(painted, Painted) else Painted(painted, ("",) * count)
    none: Mapping[str, Any] = {}
    facts = whole.facts or (none,) * count
    if {len(whole.images), len(whole.reasons), len(facts)} != {count}:
        raise SynthaugError(
            f"slot {slot.name} returned {len(whole.images)} pictures, {len(whole.reasons)} reasons and {len(facts)} "
            f"facts for {count} pictures"
        )
    with blame.at(slot):
        return whole.images, whole.reasons, [blame.as_json(dict(own), "facts") for own in facts]


def finish(slot: Slot, work: Work, draw: Draw, planes: Array, reason: str, facts: Mapping[str, Any]) -> Work:
    """The next state of a sample, from the [3, H, W] planes that a stage returned.

    Raises:
        Rejected: The stage says so, the size changed, or a value is not finite.
    """
    stage = slot.stage
    assert isinstance(stage, Appearance)
    bad = planes.size - int(np.count_nonzero(np.isfinite(planes)))
    objection = refusal(slot, work, reason, planes.shape, bad)
    if objection is not None:
        raise objection
    pixels = cv2.merge([np.ascontiguousarray(plane, dtype=np.float32) for plane in planes])
    if stage.gives == "srgb":
        np.clip(pixels, 0.0, 1.0, out=pixels)
    step = Step(slot.name, type(stage).__name__, work.attempt, draw, facts)
    return repainted(work, Picture(pixels, stage.gives), (step,), renews=stage.renews_reference)


def refusal(slot: Slot, work: Work, reason: str, shape: Sequence[int], bad: int) -> Rejected | None:
    """Why what a stage made of one picture cannot stand; None where it can.

    Args:
        reason: The stage's own word.
        shape: Of the planes that it returned.
        bad: How many of their values are not finite.
    """
    where = {"sample_id": work.entry.id, "slot": slot.name}
    expected = (3, *work.sample.image.size)
    if reason:
        return Rejected(reason, f"{type(slot.stage).__name__} refused its own result", **where)
    if tuple(shape) != expected:
        return Rejected("size", f"stage returned {tuple(shape)}, expected {expected}; a stage may not resize", **where)
    if bad:
        return Rejected("nonfinite", f"{bad} of {np.prod(expected)} values are not finite", **where)
    return None


def repainted(work: Work, picture: Picture, steps: tuple[Step, ...], *, renews: bool) -> Work:
    """The next state of a sample: its new picture, what was done in the trail, and `albedo` stale."""
    sample = work.sample
    stale = sample.stale | ({"albedo"} & set(sample.labels.passes))
    reference = picture if renews else sample.reference
    done = replace(sample, image=picture, reference=reference, trail=(*sample.trail, *steps), stale=frozenset(stale))
    return replace(work, sample=done)


def to_planes(picture: Picture, space: Space) -> NDArray[np.float32]:
    """A fresh [1, 3, H, W] float32 copy of a picture in the space that a stage takes."""
    planes = np.empty((1, 3, *picture.size), dtype=np.float32)
    scale = np.float32(255 if picture.pixels.dtype == np.uint8 else 1)
    for number, plane in enumerate(planes[0]):
        np.divide(cv2.extractChannel(picture.pixels, number), scale, out=plane)  # half the time of a transposed copy
    return np.asarray(_as_space(planes, picture.space, space), dtype=np.float32)


def rounded(sample: Sample, *, hdr: bool) -> Sample:
    """The sample with 8-bit pictures: the one rounding at the end of a bracket.

    Args:
        hdr: The input is scene-linear, so a linear picture is one that was never tone-mapped and stays.
    """

    def eight_bit(picture: Picture) -> Picture:
        if picture.pixels.dtype == np.uint8 or (picture.space == "linear" and hdr):
            return picture
        values = srgb_from_linear(picture.pixels) if picture.space == "linear" else picture.pixels
        return Picture(to_bytes(values))

    same = sample.reference is sample.image
    image = eight_bit(sample.image)
    return replace(sample, image=image, reference=image if same else eight_bit(sample.reference))


def to_bytes(values: Array) -> NDArray[np.uint8]:
    """[0, 1] to 0..255, to the nearest."""
    return np.clip(np.rint(values * np.float32(255)), 0, 255).astype(np.uint8)


def scores_of(step_scores: Mapping[str, float]) -> dict[str, float]:
    """Scores as JSON: rounded to what is meaningful, so that records stay small."""
    return {name: round(float(value), 6) for name, value in step_scores.items()}
