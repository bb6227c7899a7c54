"""Several processes over one plan, one per device. The parent holds the lock and hands out shards.

A shard is a pure function of the plan, so which process does it changes nothing. A process that dies gives
its unfinished shards back; a shard that takes three processes with it stops the run.
"""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from synthaug.engine import manifest
from synthaug.engine.execute import Task, execute
from synthaug.engine.job import open_job
from synthaug.engine.plan import Shard
from synthaug.engine.publish import Output
from synthaug.engine.workers import die_with_parent
from synthaug.errors import Interrupted, SynthaugError

_TRIES = 3
Settled = Callable[[str, int], None]


def run_on_devices(task: Task, todo: list[Shard], stop: threading.Event, settled: Settled) -> None:
    """Runs the shards in `engine.devices` processes.

    Raises:
        Interrupted: `stop` was set.
        SynthaugError: A process reported that the run cannot go on, or a shard keeps killing its process.
    """
    hand = _Hand(task, todo, stop, settled)
    count = min(int(task.config.engine["devices"]), len(todo))
    threads = [threading.Thread(target=hand.serve, args=(i,), name=f"device-{i}") for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.2)
    if hand.error is not None:
        raise hand.error
    if stop.is_set():
        raise Interrupted("stopped; run the same command again to go on")


class _Hand:
    """Hands out shards; one thread for each process."""

    def __init__(self, task: Task, todo: list[Shard], stop: threading.Event, settled: Settled) -> None:
        self._task, self._stop, self._settled = task, stop, settled
        self._todo: queue.SimpleQueue[Shard] = queue.SimpleQueue()
        for shard in todo:
            self._todo.put(shard)
        self._deaths: Counter[str] = Counter()
        self._output = Output(task.root)
        self.error: SynthaugError | None = None

    def serve(self, number: int) -> None:
        while not self._stop.is_set() and self.error is None:
            process, pipe = _start()
            given: list[Shard] = []
            try:
                pipe.send((self._task, number))
                ended = self._converse(pipe, given)
            except (EOFError, OSError):
                ended = False
            finally:
                process.kill()
                process.wait()
                pipe.close()
            if ended or self._stop.is_set() or self.error is not None:
                return
            if given:
                self._take_back(given, process.returncode)
            else:
                self._count_stillborn(process.returncode)

    def _converse(self, pipe: Connection, given: list[Shard]) -> bool:
        """Answers one process until it has nothing left to do; whether it ended well."""
        while not self._stop.is_set() and self.error is None:
            if not pipe.poll(0.2):
                continue
            kind, value = pipe.recv()
            if kind == "want":
                try:
                    given.append(self._todo.get_nowait())
                    pipe.send(given[-1])
                except queue.Empty:
                    pipe.send(None)
            elif kind == "settled":
                self._settled(*value)
            elif kind == "error":
                self.error = value
            else:
                return True
        return False

    def _count_stillborn(self, code: int) -> None:
        """A process that died before it asked for work: weights that do not fit, a device that is not there."""
        self._deaths["start"] += 1
        if self._deaths["start"] >= _TRIES:
            self.error = SynthaugError(
                f"{_TRIES} device processes died before their first shard, the last with exit code {code}; "
                "run with engine.devices=1 to see why"
            )

    def _take_back(self, given: list[Shard], code: int) -> None:
        for shard in given:
            if manifest.read_shard(self._output, shard.name) is not None:
                continue
            self._deaths[shard.name] += 1
            if self._deaths[shard.name] >= _TRIES:
                ids = ", ".join(entry.id for entry in shard.entries[:3])
                self.error = SynthaugError(
                    f"{_TRIES} processes died over shard {shard.name} ({ids}, ...), the last with exit code {code}; "
                    "other shards are whole. Run with engine.devices=1 to see the crash itself"
                )
            self._todo.put(shard)


def _start() -> tuple[subprocess.Popen[bytes], Connection]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "synthaug.engine.devices", str(theirs.fileno()), str(os.getpid())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            start_new_session=True,
        )
    return process, Connection(ours.detach())


def attend(pipe: Connection) -> None:
    """The whole life of a device process: a task, then shards as the parent hands them out."""
    task, number = pipe.recv()
    talking = threading.Lock()

    def say(kind: str, value: Any = None) -> None:
        with talking:
            pipe.send((kind, value))

    def shards() -> Iterator[Shard]:
        while True:
            say("want")
            shard: Shard | None = pipe.recv()
            if shard is None:
                return
            yield shard

    try:
        job = open_job(task.config)
        if job.device.startswith("cuda"):
            job = replace(job, device=f"cuda:{number}")
        stop = threading.Event()
        execute(task, job, Output(task.root), shards(), stop, lambda kind, number: say("settled", (kind, number)))
    except SynthaugError as error:
        say("error", error)
    except Exception as error:
        say("error", SynthaugError(f"device process {number}: {type(error).__name__}: {error}"))
    else:
        say("end")


if __name__ == "__main__":
    from synthaug.engine import devices  # under its own name, so that what travels unpickles on the other side

    die_with_parent(int(sys.argv[2]))
    devices.attend(Connection(int(sys.argv[1])))
