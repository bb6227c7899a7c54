"""A run on this machine: lock, plan, shards that are not done yet, finalise.

Exit status: 0 complete; 2 refused; 3 complete, but over the reject budget; 75 interrupted, the same command
goes on; 130 at a second Ctrl-C.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Generator
from types import FrameType
from typing import TYPE_CHECKING, Any

from synthaug.engine import identity, manifest
from synthaug.engine.devices import run_on_devices
from synthaug.engine.execute import Task, execute
from synthaug.engine.finalise import finalise
from synthaug.engine.job import STAMPS, Job, known_hashes, open_job, stamps_of
from synthaug.engine.lock import RunLock
from synthaug.engine.plan import Plan, Shard
from synthaug.engine.progress import Progress
from synthaug.engine.publish import Output
from synthaug.engine.verify import counted, stored_plan

if TYPE_CHECKING:
    from synthaug.engine.configure import RunConfig

COMPLETE, OVER_BUDGET = 0, 3


def run(config: RunConfig) -> int:
    """Does the run, or what is left of it.

    Raises:
        Refusal: It does not start: nothing was changed.
        Interrupted: Stopped; what is published is whole.
    """
    job = open_job(config)
    output = Output(job.root)
    output.preflight()
    with RunLock(output.root), _stopping() as stop:
        output.sweep()
        made = _settled_plan(job, output)
        todo = unfinished(output, made, full=str(config.engine["resume_check"]) == "full")
        dataset = job.dataset(made)
        with Progress(str(config.engine["progress"]), len(made), done=_count(made, todo)) as progress:
            if todo:
                output.remove(manifest.COMPLETE)
                task = Task(config, made, dataset, output.root)
                if int(config.engine["devices"]) > 1:
                    run_on_devices(task, todo, stop, progress.settled)
                else:
                    execute(task, job, output, todo, stop, progress.settled)
        if todo or not _complete(output, made):
            finalise(output, made, job.make_writer(), dataset)
        return _report(output, float(config.settings["max_reject_ratio"]), resumed=not todo)


def _settled_plan(job: Job, output: Output) -> Plan:
    """The plan; the stored one must say the same, or the run is refused."""
    stored = stored_plan(output)
    made = job.plan(known_hashes(output, job.reader))
    if stored is None:
        output.publish_file(manifest.PLAN, manifest.sealed_bytes(made.to_json()))
    else:
        allow = bool(job.config.engine["allow_env_change"])
        identity.refuse_other_identity(stored["identity"], _as_json(made.identity), str(output.root), allow)
    if made.inputs:
        output.publish_file(STAMPS, manifest.to_bytes(stamps_of(job.reader, made)))
    return made


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


def _report(output: Output, budget: float, *, resumed: bool) -> int:
    found = json.loads(output.read(manifest.COMPLETE) or b"{}")
    counts = found["totals"]
    lost = sum(counts["rejected"].values()) + sum(counts["failed"].values())
    word = "was complete already" if resumed else "complete"
    print(f"{output.root}: {word}. {counted(counts)}")
    if output.read(manifest.SHEET) is not None:
        print(f"  contact sheet: {output.root / manifest.SHEET}")
    if lost:
        print(f"  why: {output.root / manifest.REJECTED}")
    if lost > budget * counts["planned"]:
        print(f"  {lost} of {counts['planned']} samples are missing, over max_reject_ratio={budget:g}: exit status 3")
        return OVER_BUDGET
    return COMPLETE


def _count(made: Plan, todo: list[Shard]) -> int:
    return len(made) - sum(len(shard.entries) for shard in todo)


@contextlib.contextmanager
def _stopping() -> Generator[threading.Event]:
    """SIGTERM and the first Ctrl-C ask for a stop at the next safe point; the second Ctrl-C ends at once."""
    stop = threading.Event()

    def ask(number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT and stop.is_set():
            os._exit(130)
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
