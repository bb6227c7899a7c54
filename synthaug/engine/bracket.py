"""One bracket on one micro-batch: geometry composed, pixels painted, gates asked.

Host stages run side by side in threads, one sample each; device stages take the batch as the plan cut it.
Nothing here depends on which batch-mates survive: a missing one is padding.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from synthaug.contracts import Gate, Geometry, Verdict
from synthaug.engine import appearance, rows
from synthaug.engine.appearance import Work
from synthaug.engine.device_row import paint_device
from synthaug.engine.pipeline import Bracket, Slot
from synthaug.engine.rows import Row
from synthaug.engine.workers import Failed
from synthaug.errors import Rejected, SynthaugError
from synthaug.labels import Labels
from synthaug.sample import Sample, Step
from synthaug.warp import move
from synthaug.warp.motion import Warp

Outcome = Work | Rejected | Failed


@dataclass(frozen=True, slots=True)
class Settings:
    """What every bracket needs to know of the run; identity fields, but for the executors.

    Attributes:
        seed: Of the run.
        micro_batch: Pictures per device batch.
        device: As torch names it.
        min_visible: Share of an instance that must stay on the canvas, in [0, 1].
        min_area: Smallest instance that is kept, in pixels.
        hdr: The input is scene-linear.
        host: Threads for host stages.
        on_device: Runs what the device computes, one call at a time; copies to it and back need no turn.
    """

    seed: int
    micro_batch: int
    device: str
    min_visible: float
    min_area: float
    hdr: bool
    host: Executor
    on_device: Callable[[Callable[[], Any]], Any]


def run(
    bracket: Bracket, batch: Sequence[Work], settings: Settings, begun: Sequence[Outcome] | None = None
) -> list[Outcome]:
    """Every sample of the batch through the bracket: its next state, or why it is out.

    Args:
        begun: What `run_prefix` made of the batch elsewhere; the bracket goes on from there.

    A `Rejected` of a stage or gate stands for this attempt; whether there is another is the caller's.
    """
    outcomes: list[Outcome] = list(batch if begun is None else begun)
    cut = rows.rows(bracket.stages, settings.device)
    first = 0 if begun is None else len(rows.prefix(bracket.stages, settings.device))
    for index, row in enumerate(cut[first:], start=first):
        outcomes = _row(row, outcomes, settings, last=index == len(cut) - 1)
    outcomes = _each(lambda w: replace(w, sample=appearance.rounded(w.sample, hdr=settings.hdr)), outcomes, settings)
    for gate in bracket.gates:
        outcomes = _gate(gate, outcomes, settings)
    return outcomes


def run_prefix(bracket: Bracket, batch: Sequence[Work], settings: Settings) -> list[Outcome]:
    """Only the stages before the first device stage: the part that a loader's worker can do."""
    outcomes: list[Outcome] = list(batch)
    for row in rows.prefix(bracket.stages, settings.device):
        outcomes = _row(row, outcomes, settings, last=False)
    return outcomes


def _row(row: Row, outcomes: list[Outcome], settings: Settings, *, last: bool) -> list[Outcome]:
    if row.kind == "geometry":
        return _each(lambda w: moved(row.slots, w, settings), outcomes, settings)
    if row.kind == "device":
        return _device(row.slots, outcomes, settings, last=last)
    return _each(lambda w: _painted(row, w, settings, last=last), outcomes, settings)


def _painted(row: Row, work: Work, settings: Settings, *, last: bool) -> Work:
    if row.kind == "pointwise" and work.sample.image.pixels.dtype == np.uint8:
        return appearance.paint_table(row.slots, work, settings.seed, last=last)
    for slot in row.slots:
        work = appearance.paint_host(slot, work, settings.seed)
    return work


def _device(slots: tuple[Slot, ...], outcomes: list[Outcome], settings: Settings, *, last: bool) -> list[Outcome]:
    alive = [o for o in outcomes if isinstance(o, Work)]
    if not alive:
        return outcomes

    def compute() -> Sequence[Outcome]:
        batch, turn = settings.micro_batch, settings.on_device
        return paint_device(slots, alive, batch, settings.device, settings.seed, last=last, turn=turn)

    done = iter(_on_device(compute, slots, alive, settings))
    return [next(done) if isinstance(o, Work) else o for o in outcomes]


def _on_device(
    compute: Callable[[], Sequence[Outcome]], slots: Sequence[Slot], alive: Sequence[Work], settings: Settings
) -> Sequence[Outcome]:
    """Device work, its errors in words: a whole batch is lost, so the run stops and can be resumed."""
    try:
        return compute()
    except (SynthaugError, KeyboardInterrupt):
        raise
    except (Exception, SystemExit) as error:
        names, ids = "+".join(slot.name for slot in slots), ", ".join(work.entry.id for work in alive)
        way = ""
        if "out of memory" in str(error).lower():
            way = f" Lower engine.micro_batch={settings.micro_batch}, with another write.root."
        message = f"slot {names} failed on {settings.device} with samples {ids}: {told(error)}.{way}"
        raise SynthaugError(message) from error


def _each(step: Callable[[Work], Work], outcomes: list[Outcome], settings: Settings) -> list[Outcome]:
    """One step for every living sample, in threads; a rejection takes the sample's place."""

    def guarded(outcome: Outcome) -> Outcome:
        if not isinstance(outcome, Work):
            return outcome
        try:
            return step(outcome)
        except Rejected as rejected:
            return _located(rejected, outcome)
        except SynthaugError:
            raise
        except (Exception, SystemExit) as error:  # a stage's bug costs the sample, not the night's run
            return Failed("error", told(error))

    return list(settings.host.map(guarded, outcomes))


def told(error: BaseException) -> str:
    """The error and the line that raised it, so that a counted failure is not an unexplained one."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno} in {last.name})"


def _located(rejected: Rejected, work: Work) -> Rejected:
    return Rejected(rejected.reason, rejected.message, sample_id=work.entry.id, slot=rejected.slot)


def moved(slots: tuple[Slot, ...], work: Work, settings: Settings) -> Work:
    """Neighbouring geometries, composed into one warp and resampled once."""
    sample = work.sample
    total: Warp | None = None
    view = sample.labels
    for slot in slots:
        stage = slot.stage
        assert isinstance(stage, Geometry)
        if total is not None and (stage.needs or stage.wants):
            sample = _carried(sample, total, settings, slots)
            total, view = None, sample.labels
        elif total is not None:
            view = move.preview(sample.labels, total, stage.sees)
        labels = appearance.seen_by(stage, view)
        draw = appearance.drawn(slot, work, labels, settings.seed)
        warp = stage.warp(labels, draw)
        _check_canvas(slot, stage, warp, view)
        step = Step(slot.name, type(stage).__name__, work.attempt, draw)
        sample = replace(sample, trail=(*sample.trail, step))
        total = warp if total is None else total.then(warp)
    if total is not None:
        sample = _carried(sample, total, settings, slots)
    return replace(work, sample=sample)


def _carried(sample: Sample, warp: Warp, settings: Settings, slots: tuple[Slot, ...]) -> Sample:
    """Pixels and labels through a composed warp; what became of each annotation goes into the trail."""
    together = all(slot.stage.scope == "group" for slot in slots)
    result = move.apply(
        sample, warp, min_visible=settings.min_visible, min_area=settings.min_area, same_for_group=together
    )
    step = Step("+".join(slot.name for slot in slots), "Warp", 0, {}, result.tally)
    return replace(result.sample, trail=(*result.sample.trail, step))


def _check_canvas(slot: Slot, stage: Geometry, warp: Warp, labels: Labels) -> None:
    planned = stage.canvas(labels.size)
    if tuple(warp.source) != tuple(labels.size) or tuple(warp.target) != tuple(planned):
        raise SynthaugError(
            f"slot {slot.name} ({type(stage).__name__}) warps {warp.source} to {warp.target}; "
            f"the picture is {labels.size} and the plan expects {planned}"
        )


def _gate(slot: Slot, outcomes: list[Outcome], settings: Settings) -> list[Outcome]:
    gate = slot.stage
    assert isinstance(gate, Gate)
    if gate.place == "host":
        return _each(lambda w: _verdict(slot, w, _judge(gate, w)), outcomes, settings)
    alive = [o for o in outcomes if isinstance(o, Work)]
    if not alive:
        return outcomes

    def compute() -> list[Outcome]:
        return _judge_batch(slot, gate, alive, settings)

    done = iter(_on_device(compute, (slot,), alive, settings))
    return [next(done) if isinstance(o, Work) else o for o in outcomes]


def _judge(gate: Gate, work: Work) -> Verdict:
    sample = work.sample
    images = appearance.to_planes(sample.image, "srgb")
    untouched = sample.reference is sample.image
    references = images.copy() if untouched else appearance.to_planes(sample.reference, "srgb")
    return gate.judge(images, references, [appearance.seen_by(gate, sample.labels)])[0]


def _judge_batch(slot: Slot, gate: Gate, alive: Sequence[Work], settings: Settings) -> list[Outcome]:
    import torch

    padded = [*alive, *(alive[0] for _ in range(settings.micro_batch - len(alive)))]
    images, references = (
        torch.as_tensor(np.concatenate([appearance.to_planes(p, "srgb") for p in row]), device=settings.device)
        for row in ([w.sample.image for w in padded], [w.sample.reference for w in padded])
    )
    labels = [appearance.seen_by(gate, w.sample.labels) for w in padded]

    def judge() -> Sequence[Verdict]:
        with torch.inference_mode():
            return gate.judge(images, references, labels)

    verdicts = settings.on_device(judge)
    outcomes: list[Outcome] = []
    for work, verdict in zip(alive, verdicts, strict=False):
        try:
            outcomes.append(_verdict(slot, work, verdict))
        except Rejected as rejected:
            outcomes.append(_located(rejected, work))
    return outcomes


def _verdict(slot: Slot, work: Work, verdict: Verdict) -> Work:
    scores = appearance.scores_of(verdict.scores)
    if not verdict.accepted:
        shown = ", ".join(f"{name}={value:g}" for name, value in scores.items())
        raise Rejected(verdict.reason, f"attempt {work.attempt} failed ({shown})", slot=slot.name)
    facts: dict[str, Any] = {"scores": scores}
    if verdict.instances:
        facts["instances"] = {str(i): appearance.scores_of(s) for i, s in verdict.instances.items()}
    step = Step(slot.name, type(slot.stage).__name__, work.attempt, {}, facts)
    return replace(work, sample=replace(work.sample, trail=(*work.sample.trail, step)))
