"""A row of stages on the device: up once, one stage after the other on one tensor, down once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from synthaug.contracts import Appearance, Draw
from synthaug.engine import appearance, blame, wire
from synthaug.engine.appearance import Work
from synthaug.engine.pipeline import Slot
from synthaug.errors import Rejected, SynthaugError
from synthaug.labels import Labels
from synthaug.sample import Picture, Step

if TYPE_CHECKING:
    from torch import Tensor


Told = tuple[Sequence[Labels], Sequence[Draw]]


@dataclass(slots=True)
class _Lane:
    """One picture of the batch: its sample, what was done to it in this row, and why it is out."""

    work: Work
    steps: list[Step] = field(default_factory=list[Step])
    rejected: Rejected | None = None


def at_once(compute: Callable[[], Any]) -> Any:
    """A turn for those who have the device to themselves."""
    return compute()


def paint_device(
    slots: Sequence[Slot],
    batch: Sequence[Work],
    length: int,
    device: str,
    seed: int,
    *,
    last: bool = False,
    turn: Callable[[Callable[[], Any]], Any] = at_once,
) -> Sequence[Work | Rejected]:
    """A row of stages on one micro-batch of fixed length; the tail is padded and thrown away.

    Only the stages wait for their turn: while they compute, the next batch goes up and the last one comes down.

    Args:
        slots: Device stages, and host stages that are `also_on_device`; each takes the space that the one before
            it gives.
        batch: At least one sample, at most `length`; all of one canvas size.
        length: Pictures per call of a stage.
        device: As torch names it.
        seed: Of the run.
        last: Whether the bracket ends here, so that sRGB pictures come back rounded to 8 bits.
        turn: Runs the stages, one batch at a time.

    Returns:
        The next state of each sample, or why it is out. A picture that is not finite goes on as a black one. Where
        a stage raises `Rejected`, nobody knows whose picture it means: each is then painted alone, and what raises
        again is out. What a picture becomes does not depend on its batch-mates, so the others are as they would be.
    """
    try:
        return _together(slots, batch, length, device, seed, last, turn)
    except Rejected as problem:
        if len(batch) == 1:
            where = batch[0].entry.id
            return [Rejected(problem.reason, problem.message, sample_id=where, slot=problem.slot)]
    return [paint_device(slots, [w], length, device, seed, last=last, turn=turn)[0] for w in batch]


def _together(
    slots: Sequence[Slot],
    batch: Sequence[Work],
    length: int,
    device: str,
    seed: int,
    last: bool,
    turn: Callable[[Callable[[], Any]], Any],
) -> Sequence[Work | Rejected]:
    """`paint_device` on the whole batch; raises what the stages raise."""
    import torch

    lanes = [_Lane(work) for work in (*batch, *(batch[0] for _ in range(length - len(batch))))]
    takes, gives = _stage(slots[0]).takes, _stage(slots[-1]).gives
    with torch.inference_mode():
        images = wire.sent([lane.work.sample.image for lane in lanes], takes, device)
    told = [_told(_stage(slot), slot, lanes, seed) for slot in slots]

    def computed() -> wire.Packed:
        done = _through(slots, told, lanes, images)
        with torch.inference_mode():
            return wire.packed(done, as_bytes=last and gives == "srgb")

    packed = turn(computed)
    with torch.inference_mode():
        pixels = wire.fetched(packed)
    renews = _stage(slots[-1]).renews_reference
    return [
        lane.rejected or appearance.repainted(lane.work, Picture(own.copy(), gives), tuple(lane.steps), renews=renews)
        for lane, own in zip(lanes[: len(batch)], pixels, strict=False)
    ]


def _stage(slot: Slot) -> Appearance:
    assert isinstance(slot.stage, Appearance)
    return slot.stage


def _told(stage: Appearance, slot: Slot, lanes: Sequence[_Lane], seed: int) -> Told:
    """What a stage is told of each picture: its labels and its draw."""
    views = [appearance.seen_by(stage, lane.work.sample.labels) for lane in lanes]
    draws = [appearance.drawn(slot, lane.work, view, seed) for lane, view in zip(lanes, views, strict=True)]
    return [appearance.seen_by(stage, lane.work.sample.labels) for lane in lanes], draws


def _through(slots: Sequence[Slot], told: Sequence[Told], lanes: Sequence[_Lane], images: Tensor) -> Tensor:
    """One stage after the other on the batch."""
    import torch

    space = _stage(slots[0]).takes
    with torch.inference_mode():
        for slot, words in zip(slots, told, strict=True):
            stage = _stage(slot)
            if stage.takes != space:
                raise SynthaugError(f"slot {slot.name} takes {stage.takes}, the stage before it gives {space}")
            images, space = _painted(slot, words, lanes, images), stage.gives
    return images


def _painted(slot: Slot, told: Told, lanes: Sequence[_Lane], images: Tensor) -> Tensor:
    """One stage on the batch: finite values, sRGB within [0, 1]; what became of each picture goes to its lane."""
    import torch

    stage, (labels, draws) = _stage(slot), told
    with blame.at(slot):
        painted = stage.paint(images, labels, draws)
    images_done, reasons, facts = appearance.opened(slot, painted, len(lanes))
    done = images_done.to(torch.float32)
    low, high = torch.aminmax(done.flatten(1), dim=1)  # a NaN stands in both, whatever is beside it
    finite = torch.isfinite(low) & torch.isfinite(high)
    good: list[bool] = finite.cpu().numpy().tolist()
    counts = [0 if fine else int((~torch.isfinite(own)).sum()) for fine, own in zip(good, done, strict=True)]
    for lane, draw, reason, count, noted in zip(lanes, draws, reasons, counts, facts, strict=True):
        if lane.rejected is None:
            lane.rejected = appearance.refusal(slot, lane.work, reason, done.shape[1:], count)
            lane.steps.append(Step(slot.name, type(stage).__name__, lane.work.attempt, draw, noted))
    if done.shape != images.shape:
        return torch.zeros_like(images)  # every lane is out
    if any(counts):
        done = torch.where(finite[:, None, None, None], done, 0.0)
    # A copy in any case: the stage may use its own memory again while this batch is on its way down.
    return done.clamp(0, 1) if stage.gives == "srgb" else done.clone()
