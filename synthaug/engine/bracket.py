"""One bracket on one micro-batch: geometry composed, pixels painted, gates asked.

Host stages run side by side in threads, one sample each; device stages take the batch as the plan cut it.
Nothing here depends on which batch-mates survive: a missing one is padding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from synthaug.contracts import Gate, Verdict
from synthaug.engine import appearance, rows, wire
from synthaug.engine.appearance import Work
from synthaug.engine.blame import Broken, at, failed, told
from synthaug.engine.capacity import OOM, Full, short_of_memory
from synthaug.engine.device_row import paint_device
from synthaug.engine.motions import Rules, moved, resample_on
from synthaug.engine.pipeline import Bracket, Slot
from synthaug.engine.rows import Row
from synthaug.engine.workers import Failed
from synthaug.errors import Rejected, SynthaugError
from synthaug.sample import Step

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
        adaptive: A picture that does not fit alone is lost, and not the run.
    """

    seed: int
    micro_batch: int
    device: str
    min_visible: float
    min_area: float
    hdr: bool
    host: Executor
    on_device: Callable[[Callable[[], Any]], Any]
    adaptive: bool = False


def run(
    bracket: Bracket, batch: Sequence[Work], settings: Settings, begun: Sequence[Outcome] | None = None
) -> list[Outcome]:
    """Every sample of the batch through the bracket: its next state, or why it is out.

    Args:
        begun: What `run_prefix` made of the batch elsewhere; the bracket goes on from there.

    A `Rejected` of a stage or gate stands for this attempt; whether there is another is the caller's (`again`).
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


def again(work: Work, outcome: Outcome, attempts: int) -> Work | None:
    """The next attempt of a sample that failed this one, from the bracket's start; None where there is none.

    Args:
        work: As it entered the bracket.
        outcome: What the bracket made of it. What is `Failed` is not tried again: no draw is to blame.
        attempts: Of the run, the first one included.
    """
    if not isinstance(outcome, Rejected) or work.attempt + 1 >= attempts:
        return None
    return replace(work, attempt=work.attempt + 1)


def run_prefix(bracket: Bracket, batch: Sequence[Work], settings: Settings) -> list[Outcome]:
    """Only the stages before the first device stage: the part that a loader's worker can do."""
    outcomes: list[Outcome] = list(batch)
    for row in rows.prefix(bracket.stages, settings.device):
        outcomes = _row(row, outcomes, settings, last=False)
    return outcomes


def _row(row: Row, outcomes: list[Outcome], settings: Settings, *, last: bool) -> list[Outcome]:
    if row.kind == "geometry":
        resample = resample_on(settings.device, settings.on_device) if row.away else None
        rules = Rules(settings.seed, settings.min_visible, settings.min_area, resample)
        return _each(lambda w: moved(row.slots, w, rules), outcomes, settings)
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
    """Device work, its errors in words: a whole batch is lost, so the run stops and can be resumed.

    Raises:
        Full: It did not fit; from here, so that nothing holds what it had reached.
    """
    try:
        return compute()
    except (SynthaugError, KeyboardInterrupt):
        raise
    except (Exception, SystemExit) as error:
        ids = ", ".join(work.entry.id for work in alive)
        names = error.slot if isinstance(error, Broken) else "+".join(slot.name for slot in slots)
        message = f"slot {names} failed on {settings.device} with samples {ids}: {told(error)}."
        if not short_of_memory(error):
            raise SynthaugError(message) from error
    if settings.adaptive and settings.micro_batch == 1:
        return [Failed(OOM, message, names)]
    raise Full(
        f"{message} Lower engine.micro_batch={settings.micro_batch}, or set engine.memory=adaptive, with another"
        " write.root."
    )


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
            return failed(error)

    return list(settings.host.map(guarded, outcomes))


def _located(rejected: Rejected, work: Work) -> Rejected:
    return Rejected(rejected.reason, rejected.message, sample_id=work.entry.id, slot=rejected.slot)


def _gate(slot: Slot, outcomes: list[Outcome], settings: Settings) -> list[Outcome]:
    gate = slot.stage
    assert isinstance(gate, Gate)
    if gate.place == "host":
        return _each(lambda w: _verdict(slot, w, _judge(slot, gate, w)), outcomes, settings)
    alive = [o for o in outcomes if isinstance(o, Work)]
    if not alive:
        return outcomes

    def compute() -> list[Outcome]:
        return _judge_batch(slot, gate, alive, settings)

    done = iter(_on_device(compute, (slot,), alive, settings))
    return [next(done) if isinstance(o, Work) else o for o in outcomes]


def _judge(slot: Slot, gate: Gate, work: Work) -> Verdict:
    sample = work.sample
    images = appearance.to_planes(sample.image, "srgb")
    untouched = sample.reference is sample.image
    references = images.copy() if untouched else appearance.to_planes(sample.reference, "srgb")
    with at(slot):
        return gate.judge(images, references, [appearance.seen_by(gate, sample.labels)])[0]


def _judge_batch(slot: Slot, gate: Gate, alive: Sequence[Work], settings: Settings) -> list[Outcome]:
    import torch

    padded = [*alive, *(alive[0] for _ in range(settings.micro_batch - len(alive)))]
    images, references = (
        wire.sent(row, "srgb", settings.device)
        for row in ([w.sample.image for w in padded], [w.sample.reference for w in padded])
    )
    labels = [appearance.seen_by(gate, w.sample.labels) for w in padded]

    def judge() -> Sequence[Verdict]:
        with torch.inference_mode(), at(slot):
            return gate.judge(images, references, labels)

    try:
        verdicts = settings.on_device(judge)
    except Rejected as rejected:
        if len(alive) == 1:
            return [_located(rejected, alive[0])]
        return [_judge_batch(slot, gate, [work], settings)[0] for work in alive]
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
