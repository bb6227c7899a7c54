"""Samples through the pipeline without publishing anything: for previews and for training loops.

The same brackets and the same draws as a run, so a sample looks as it would in the written dataset; only
repair waves stay within the batch at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.contracts import Appearance, Geometry
from synthaug.engine import appearance, bracket, motions
from synthaug.engine.appearance import Work
from synthaug.engine.bracket import Outcome, Settings
from synthaug.engine.job import Job
from synthaug.engine.pipeline import Bracket, Pipeline, Slot
from synthaug.engine.pools import Inline
from synthaug.engine.workers import Failed
from synthaug.errors import Rejected
from synthaug.labels import PASSES, Labels, Size
from synthaug.sample import Picture, Sample


def settings_of(job: Job, *, hdr: bool, host: Executor | None = None, seed: int | None = None) -> Settings:
    """Bracket settings of a job that computes in this thread."""
    values = job.config.settings
    return Settings(
        seed=job.cut.seed if seed is None else seed,
        micro_batch=job.cut.micro_batch,
        device=job.device,
        min_visible=float(values["min_visible"]),
        min_area=float(values["min_area"]),
        hdr=hdr,
        host=host or Inline(),
        on_device=lambda compute: compute(),
    )


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one sample.

    Attributes:
        sample: The finished sample; or, for one that is out, its reference on the canvas of a finished one.
        problem: None for a finished sample.
    """

    sample: Sample
    problem: Rejected | Failed | None = None


def process(
    job: Job, works: Sequence[Work], settings: Settings, begun: Sequence[Outcome] | None = None
) -> list[Result]:
    """One micro-batch (one canvas size, at most `micro_batch` samples) through all brackets, repairs included.

    Args:
        begun: What a worker made of the works up to the first device stage of the first bracket.
    """
    attempts, brackets = int(job.config.settings["attempts"]), job.pipeline.brackets
    out: dict[int, Result] = {}
    living = list(works)
    for number, row in enumerate(brackets):
        waiting, passed = living, dict[int, Work]()
        while waiting:
            retries: list[Work] = []
            for work, outcome in zip(waiting, bracket.run(row, waiting, settings, begun), strict=True):
                if isinstance(outcome, Work):
                    passed[work.index] = replace(outcome, attempt=0)
                elif retry := bracket.again(work, outcome, attempts):
                    retries.append(retry)
                else:
                    out[work.index] = Result(stand_in(job.pipeline, brackets[number:], work, settings), outcome)
            waiting, begun = retries, None
        living = [passed[work.index] for work in living if work.index in passed]
    done = {work.index: Result(work.sample) for work in living} | out
    return [done[work.index] for work in works]


def stand_in(pipeline: Pipeline, ahead: Sequence[Bracket], work: Work, settings: Settings) -> Sample:
    """The reference of a sample that is out, as far as it can be like a finished one.

    It moves as the sample would have moved, labels with it (by the draws of its last attempt; where such a motion
    cannot be, by plain scaling), and has the canvas, the colour space and the passes of finished samples.

    Args:
        pipeline: All of it, for what every finished sample has gone through.
        ahead: The bracket that the sample did not pass, and those behind it.
        work: As it entered that bracket.
        settings: Of the brackets.
    """
    work = replace(work, sample=replace(work.sample, image=work.sample.reference))
    rules = motions.Rules(settings.seed, settings.min_visible, settings.min_area)
    for row in ahead:
        for is_geometry, members in groupby(row.stages, key=lambda slot: isinstance(slot.stage, Geometry)):
            if is_geometry:
                work = _moved(tuple(members), work, rules)
        work = replace(work, attempt=0)
    stages = [slot.stage for slot in pipeline.slots if isinstance(slot.stage, Appearance)]
    sample = work.sample
    stale = sample.stale | ({"albedo"} & set(sample.labels.passes) if stages else set[str]())
    hdr = settings.hdr and all(stage.gives == "linear" for stage in stages)
    return appearance.rounded(replace(sample, stale=frozenset(stale)), hdr=hdr)


def _moved(slots: Sequence[Slot], work: Work, rules: motions.Rules) -> Work:
    try:
        return motions.moved(slots, work, rules)
    except Exception:  # perhaps why the sample is out, and that is told already
        try:
            return motions.stretched(slots, work, rules)
        except Rejected:
            size = motions.canvas(slots, work.sample.labels.size)
            return replace(work, sample=blank(work.sample, size, work.sample.labels.passes))


def blank(like: Sample, size: Size, passes: Iterable[str]) -> Sample:
    """What stands for a sample of which nothing can be shown: black, no instances, nothing known anywhere.

    Args:
        like: Whose id, place, classes and colour space it has.
        size: Of its canvas.
        passes: Names of the passes that it needs: invalid everywhere; where there is `semantic`, all is `ignore`.
    """
    names = set(passes)
    made: dict[str, NDArray[Any]] = {}
    for name in sorted(names | ({"ignore"} if "semantic" in names else set())):
        spec = PASSES[name]
        shape = (*size, spec.channels) if spec.channels else size
        unknown = name == "ignore" or (np.nan if spec.kind in ("map", "vectors") and name != "alpha" else 0)
        made[name] = np.full(shape, unknown, spec.dtype)
    space = like.image.space
    picture = Picture(np.zeros((*size, 3), np.float32 if space == "linear" else np.uint8), space)
    labels = Labels(size, like.labels.categories, (), made, attributes=like.labels.attributes)
    return replace(like, image=picture, reference=picture, labels=labels)
