"""Neighbouring geometries on one sample: composed into one warp, resampled once, on the host or on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from synthaug.contracts import Border, Geometry
from synthaug.engine import appearance, blame
from synthaug.engine.appearance import Work
from synthaug.engine.pipeline import Slot
from synthaug.errors import SynthaugError
from synthaug.labels import Labels, Size
from synthaug.sample import Sample, Step
from synthaug.warp import device as warp_device
from synthaug.warp import motion, move
from synthaug.warp.motion import Warp
from synthaug.warp.move import Resample


@dataclass(frozen=True, slots=True)
class Rules:
    """How samples move, whatever the motion.

    Attributes:
        seed: Of the run.
        min_visible: As for `move.apply`.
        min_area: Likewise.
        resample: Moves the pictures elsewhere than here; None: here.
    """

    seed: int
    min_visible: float
    min_area: float
    resample: Resample | None = None


@dataclass(slots=True)
class _Pending:
    """Motions that are composed but not carried out yet, and whose they are."""

    slots: list[Slot] = field(default_factory=list[Slot])
    warp: Warp | None = None
    border: Border | None = None


def moved(slots: Sequence[Slot], work: Work, rules: Rules) -> Work:
    """A row of geometries on one sample.

    A stage that asks for passes gets those that its predecessors moved, and stages whose borders contradict each
    other show each their own: such a row is resampled more than once.
    """
    sample, view, pending = work.sample, work.sample.labels, _Pending()
    for slot in slots:
        stage = slot.stage
        assert isinstance(stage, Geometry)
        if pending.warp is not None:
            if stage.needs or stage.wants or {stage.border, pending.border} == {"constant", "reflect"}:
                sample, pending = _carried(sample, pending, rules), _Pending()
                view = sample.labels
            else:
                assert pending.warp is not None
                view = move.preview(sample.labels, pending.warp, stage.sees)
        warp, step = _asked(slot, stage, work, view, rules.seed)
        sample = replace(sample, trail=(*sample.trail, step))
        pending.warp = warp if pending.warp is None else pending.warp.then(warp)
        pending.border = pending.border or stage.border
        pending.slots.append(slot)
    return replace(work, sample=_carried(sample, pending, rules))


def _asked(slot: Slot, stage: Geometry, work: Work, view: Labels, seed: int) -> tuple[Warp, Step]:
    """The motion that a stage draws for a sample, held against the plan."""
    labels = appearance.seen_by(stage, view)
    draw = appearance.drawn(slot, work, labels, seed)
    with blame.at(slot):
        warp = stage.warp(labels, draw)
    planned = stage.canvas(view.size)
    if tuple(warp.source) != tuple(view.size) or tuple(warp.target) != tuple(planned):
        raise SynthaugError(
            f"slot {slot.name} ({type(stage).__name__}) warps {warp.source} to {warp.target}; "
            f"the picture is {view.size} and the plan expects {planned}"
        )
    return warp, Step(slot.name, type(stage).__name__, work.attempt, draw)


def _carried(sample: Sample, pending: _Pending, rules: Rules) -> Sample:
    """Pixels and labels through a composed warp; what became of each annotation goes into the trail."""
    if pending.warp is None:
        return sample
    name = "+".join(slot.name for slot in pending.slots)
    with blame.at(Slot(name, pending.slots[0].stage)):
        result = move.apply(
            sample,
            pending.warp,
            min_visible=rules.min_visible,
            min_area=rules.min_area,
            same_for_group=all(slot.stage.scope == "group" for slot in pending.slots),
            border=pending.border or "constant",
            resample=rules.resample,
        )
    step = Step(name, "Warp", 0, {}, result.tally)
    return replace(result.sample, trail=(*result.sample.trail, step))


def stretched(slots: Sequence[Slot], work: Work, rules: Rules) -> Work:
    """The sample on the canvas that a row of geometries leads to, by plain scaling: where their motion cannot be."""
    size = work.sample.labels.size
    pending = _Pending(list(slots), motion.resize(size, canvas(slots, size)))
    return replace(work, sample=_carried(work.sample, pending, rules))


def canvas(slots: Sequence[Slot], size: Size) -> Size:
    """The size to which a row of geometries leads."""
    for slot in slots:
        assert isinstance(slot.stage, Geometry)
        size = slot.stage.canvas(size)
    return size


def resample_on(device: str, turn: Callable[[Callable[[], Any]], Any]) -> Resample:
    """Pictures through warps on the device, one at a time and each alone, so that none depends on another.

    Args:
        device: As torch names it.
        turn: Runs what the device computes, one call at a time.

    Returns:
        For `move.apply`; errors of the device, such as a lack of memory, end the run and not the sample.
    """

    def resample(values: NDArray[Any], warp: Warp, border: Border) -> NDArray[Any]:
        try:
            return turn(lambda: warp_device.pixels(values, warp, border, device))
        except SynthaugError:
            raise
        except Exception as error:
            raise SynthaugError(f"resampling a picture of {values.shape} failed on {device}: {error}") from error

    return resample
