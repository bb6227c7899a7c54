"""Shards on one device: weights loaded, threads started, the loop entered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthaug.contracts import DatasetInfo
from synthaug.engine import bracket as brackets
from synthaug.engine import identity, memory
from synthaug.engine.appearance import Work
from synthaug.engine.bracket import Settings
from synthaug.engine.capacity import Capacity, largest
from synthaug.engine.finalise import sheet_ids
from synthaug.engine.flight import Flight
from synthaug.engine.job import Job
from synthaug.engine.pipeline import Bracket
from synthaug.engine.plan import Plan, Shard, planned
from synthaug.engine.pools import pools
from synthaug.engine.publish import Output
from synthaug.engine.run import Context, run_shards
from synthaug.engine.workers import ReadPool
from synthaug.sample import Sample

if TYPE_CHECKING:
    from synthaug.engine.configure import RunConfig

_BATCHES = 4  # on their way up, computing, coming down, being encoded


@dataclass(frozen=True, slots=True)
class Task:
    """What a run is about, as it travels to the processes that share it.

    Attributes:
        lengths: Micro-batches by shard, as earlier runs of this dataset used them.
    """

    config: RunConfig
    plan: Plan
    dataset: DatasetInfo
    root: Path
    lengths: Mapping[str, int] = field(default_factory=dict[str, int])


def execute(
    task: Task,
    job: Job,
    output: Output,
    shards: Iterable[Shard],
    stop: threading.Event,
    settled: Callable[[str, int], None],
) -> None:
    """Loads the stages and runs the shards as they come.

    Raises:
        Interrupted: `stop` was set, or the disk is full.
        SynthaugError: The run cannot go on; what was published is whole.
    """
    made, engine, settings = task.plan, task.config.engine, task.config.settings
    memory.keep_freed()
    job.pipeline.load(job.device)
    identity.refuse_other_stages(made.identity["stages"], job.pipeline.identity())
    reads = ReadPool(job.reader_spec(made), int(engine["workers"]), float(engine["deadline"]))
    turn = threading.Lock()

    def on_device(compute: Callable[[], Any]) -> Any:
        with turn:
            return compute()

    with pools(int(engine["encoders"])) as executors:
        context = Context(
            plan=made,
            brackets=job.pipeline.brackets,
            attempts=int(settings["attempts"]),
            settings=Settings(
                seed=job.cut.seed,
                micro_batch=job.cut.micro_batch,
                device=job.device,
                min_visible=float(settings["min_visible"]),
                min_area=float(settings["min_area"]),
                hdr=made.space == "linear",
                host=executors.host,
                on_device=on_device,
                adaptive=str(engine["memory"]) == "adaptive",
            ),
            capacity=Capacity(job.cut.micro_batch, adaptive=str(engine["memory"]) == "adaptive", recorded=task.lengths),
            make_writer=job.make_writer,
            dataset=task.dataset,
            output=output,
            reads=reads,
            pools=executors,
            sheet=sheet_ids(made),
            prefetch=int(engine["prefetch"]),
            flight=Flight(int(engine["prefetch"]) + _BATCHES * job.cut.micro_batch, stop),
            stop=stop,
            settled=settled,
        )
        try:
            if job.device.startswith("cuda"):
                warm_up(context)
            run_shards(context, shards)
        finally:
            reads.close()


def warm_up(context: Context) -> None:
    """A micro-batch of each of the largest canvases through the stages of the device, and away with it.

    What does not fit is known before the first sample, and what a device must compile or record is. Costs a batch
    for each size.

    Raises:
        SynthaugError: It does not fit, or a stage fails; under adaptive memory the run begins with what fits.
    """
    for entry in largest(context.plan):
        read = context.reads.submit(entry.source).result()
        if not isinstance(read, Sample):
            continue
        work = Work(0, entry, 0, planned(read, entry), len(read.trail))

        def attempt(length: int, work: Work = work) -> None:
            settings = replace(context.settings, micro_batch=length)
            outcome: Any = work
            for one in context.brackets:
                gates = tuple(gate for gate in one.gates if gate.stage.place == "device")
                outcome = brackets.run(Bracket(one.stages, gates), [outcome], settings)[0]
                if not isinstance(outcome, Work):
                    return

        context.capacity.fitted(context.capacity.of(""), attempt)
