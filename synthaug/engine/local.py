"""A run on this machine: lock, plan, shards that are not done yet, finalise.

Exit status: 0 complete; 2 refused; 3 complete, but over the reject budget; 75 interrupted, the same command
goes on; 130 at a second Ctrl-C, or at the first where there is nothing to lay down (planning, finalising).
"""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Any

from synthaug.contracts import DatasetInfo
from synthaug.engine import identity, manifest, roots
from synthaug.engine.capacity import recorded
from synthaug.engine.devices import run_on_devices
from synthaug.engine.execute import Task, execute
from synthaug.engine.finalise import finalise
from synthaug.engine.job import STAMPS, Job, known_hashes, open_job, refuse_absent_device, stamps_of
from synthaug.engine.lock import RunLock
from synthaug.engine.plan import Plan, Shard
from synthaug.engine.progress import Progress
from synthaug.engine.publish import PRIVATE, Output
from synthaug.engine.stopping import stopping
from synthaug.engine.verify import counted, remarks, stored_plan, strangers
from synthaug.errors import ConfigError, printable

if TYPE_CHECKING:
    from synthaug.engine.configure import RunConfig

COMPLETE, OVER_BUDGET = 0, 3


def run(config: RunConfig) -> int:
    """Does the run, or what is left of it.

    Raises:
        Refusal: It does not start: nothing was changed.
        Interrupted: Stopped; what is published is whole.
    """
    roots.refuse_overlap(config)
    job = open_job(config)
    refuse_absent_device(job)
    output = Output(job.root)
    before = roots.existing(output)
    with stopping() as stop:
        output.preflight()
        with RunLock(output.root), roots.tidied(output, before):
            output.sweep()
            made, dataset = _settled_plan(job, output)
            found = (manifest.read_shard(output, shard.name) for shard in made.shards)
            lengths = recorded([one for one in found if one and one["plan"] == made.digest], job.cut.micro_batch)
            todo = unfinished(output, made, full=str(config.engine["resume_check"]) == "full")
            if todo:
                output.remove(manifest.COMPLETE)
                with stop.between_samples():
                    _do(Task(config, made, dataset, output.root, lengths), job, output, todo, stop.asked)
            if todo or not _complete(output, made):
                finalise(output, made, job.make_writer(), dataset, notes=job.notes())
            return _report(output, made, float(config.settings["max_reject_ratio"]), resumed=not todo)


def _do(task: Task, job: Job, output: Output, todo: list[Shard], stop: threading.Event) -> None:
    total = len(task.plan)
    done = total - sum(len(shard.entries) for shard in todo)
    with Progress(str(task.config.engine["progress"]), total, done=done) as progress:
        if int(task.config.engine["devices"]) > 1:
            run_on_devices(task, todo, stop, progress.settled)
        else:
            execute(task, job, output, todo, stop, progress.settled)


def _settled_plan(job: Job, output: Output) -> tuple[Plan, DatasetInfo]:
    """The plan, and what the writer may know of it; a stored plan must say the same, or the run is refused."""
    stored = stored_plan(output)
    if stored is None:
        _refuse_strangers(output)
    made = job.plan(known_hashes(output, job.reader))
    if stored is not None:
        allow = bool(job.config.engine["allow_env_change"])
        moved = identity.moved_files(stored["inputs"], made.inputs)
        identity.refuse_other_identity(stored["identity"], _as_json(made.identity), str(output.root), allow, moved)
    dataset = job.dataset(made)
    if stored is None:
        output.publish_file(manifest.PLAN, manifest.sealed_bytes(made.to_json()))
    if made.inputs:
        output.publish_file(STAMPS, manifest.to_bytes(stamps_of(job.reader, made)))
    return made, dataset


def _refuse_strangers(output: Output) -> None:
    """A plan is the first file of every run; without one, whatever lies there is none of ours."""
    others = sorted(set(os.listdir(output.root)) - {PRIVATE, "lost+found"})
    if others:
        raise ConfigError(
            f"output {output.root} has no plan of a run, but holds {len(others)} other entries, such as "
            f"{printable(others[0])}; choose an empty folder, so that nothing of yours is overwritten"
        )


def _as_json(value: Any) -> Any:
    """As it reads after a round trip through JSON (tuples become lists)."""
    return json.loads(json.dumps(value))


def unfinished(output: Output, made: Plan, *, full: bool = True) -> list[Shard]:
    """Shards whose manifest is missing, damaged, of another plan, or whose files do not verify.

    Args:
        full: Hash every file; otherwise compare sizes.
    """
    todo: list[Shard] = []
    for shard in made.shards:
        found = manifest.read_shard(output, shard.name)
        if (
            found is not None
            and found["plan"] == made.digest
            and not manifest.damaged(output, found, sizes_only=not full)
        ):
            continue
        if found is not None:
            output.remove(manifest.shard_name(shard.name))
        todo.append(shard)
    return todo


def _complete(output: Output, made: Plan) -> bool:
    data = output.read(manifest.COMPLETE)
    if data is None:
        return False
    found = manifest.intact(data)
    if found is not None and found["plan"] == made.digest and not manifest.damaged(output, found):
        return True
    output.remove(manifest.COMPLETE)
    return False


def _report(output: Output, made: Plan, budget: float, *, resumed: bool) -> int:
    found = json.loads(output.read(manifest.COMPLETE) or b"{}")
    counts = found["totals"]
    lost = sum(counts["rejected"].values()) + sum(counts["failed"].values())
    word = "was complete already" if resumed else "complete"
    print(f"{output.root}: {word}. {counted(counts)}")
    for line in remarks(found):
        print(f"  {line}")
    if others := strangers(output, [shard.name for shard in made.shards]):
        print(f"  {len(others)} other files lie there, such as {printable(others[0])}; synthaug verify lists them")
    if output.read(manifest.SHEET) is not None:
        print(f"  contact sheet: {output.root / manifest.SHEET}")
    if lost:
        print(f"  why: {output.root / manifest.REJECTED}")
    if lost > budget * counts["planned"]:
        print(f"  {lost} of {counts['planned']} samples are missing, over max_reject_ratio={budget:g}: exit status 3")
        return OVER_BUDGET
    return COMPLETE
