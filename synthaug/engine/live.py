"""Samples through the pipeline without publishing anything: for previews and for training loops.

The same brackets and the same draws as a run, so a sample looks as it would in the written dataset; only
repair waves stay within the batch at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from synthaug.engine import bracket
from synthaug.engine.appearance import Work
from synthaug.engine.bracket import Outcome, Settings
from synthaug.engine.job import Job
from synthaug.engine.pools import Inline
from synthaug.engine.workers import Failed
from synthaug.errors import Rejected
from synthaug.sample import Sample


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
        sample: The last accepted state: the finished sample, or where it stood when it was turned down.
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
    results: dict[int, Result] = {}
    for row in job.pipeline.brackets:
        waiting = [w for w in works if w.index not in results]
        done: dict[int, Work] = {}
        while waiting:
            again: list[Work] = []
            outcomes = bracket.run(row, waiting, settings, begun)
            begun = None
            for work, outcome in zip(waiting, outcomes, strict=True):
                if isinstance(outcome, Work):
                    done[work.index] = outcome
                elif isinstance(outcome, Rejected) and work.attempt + 1 < int(job.config.settings["attempts"]):
                    again.append(replace(work, attempt=work.attempt + 1))
                else:
                    results[work.index] = Result(work.sample, outcome)
            waiting = again
        works = [replace(done[w.index], attempt=0) if w.index in done else w for w in works]
    return [results.get(w.index) or Result(w.sample) for w in works]
