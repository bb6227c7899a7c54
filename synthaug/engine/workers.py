"""Reading in processes of their own: a decoder that crashes or hangs costs one sample, never the run.

One thread per worker process hands out one sample at a time, so whoever dies names its sample. A worker
dies with its parent (`PR_SET_PDEATHSIG`), and a sample that kills its worker three times is `failed`.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future
from multiprocessing.connection import Connection
from typing import Any

from synthaug.contracts import Reader
from synthaug.engine import memory
from synthaug.engine.channel import Channel
from synthaug.engine.reading import Failed as Failed
from synthaug.engine.reading import Outcome as Outcome
from synthaug.engine.reading import ReaderSpec as ReaderSpec
from synthaug.engine.reading import built
from synthaug.engine.reading import read_one as read_one
from synthaug.errors import Rejected, SynthaugError

_PR_SET_PDEATHSIG = 1
_TRIES = 3
_READY = "ready"
_STARTING = 120.0
"""Seconds that a reading process may take to import its reader and build it."""


class ReadPool:
    """Reads samples ahead, in `workers` processes (0: in one thread of this process)."""

    def __init__(self, spec: ReaderSpec, workers: int, deadline: float) -> None:
        self._spec = spec
        self._deadline = deadline
        self._tasks: queue.SimpleQueue[tuple[str, Future[Outcome]] | None] = queue.SimpleQueue()
        serve = self._serve_process if workers else self._serve_inline
        self._threads = [threading.Thread(target=serve, name=f"read-{i}", daemon=True) for i in range(max(workers, 1))]
        self._closing = threading.Event()
        self._alive: set[_Worker] = set()
        for thread in self._threads:
            thread.start()

    def submit(self, sample_id: str) -> Future[Outcome]:
        """A promise of the sample; its exception is a refusal of the whole run."""
        future: Future[Outcome] = Future()
        self._tasks.put((sample_id, future))
        return future

    def close(self) -> None:
        """Ends the workers; tasks not begun are dropped."""
        self._closing.set()
        for _ in self._threads:
            self._tasks.put(None)
        for worker in list(self._alive):
            worker.end()
        for thread in self._threads:
            thread.join(timeout=5)

    def _next(self) -> tuple[str, Future[Outcome]] | None:
        task = self._tasks.get()
        return None if self._closing.is_set() else task

    def _serve_inline(self) -> None:
        reader: Reader | None = None
        while task := self._next():
            sample_id, future = task
            try:
                reader = reader or built(self._spec)
                future.set_result(read_one(reader, sample_id, self._spec.inputs))
            except SynthaugError as error:
                future.set_exception(error)
            except BaseException as error:  # a thread that dies in silence leaves the run waiting for ever
                future.set_result(_crashed(error))

    def _serve_process(self) -> None:
        worker: _Worker | None = None
        while task := self._next():
            sample_id, future = task
            try:
                worker, outcome = self._tried(worker, sample_id)
            except Exception as error:  # a thread that dies in silence leaves the run waiting for ever
                said = f"{type(error).__name__}: {error}"
                worker, outcome = None, SynthaugError(f"no reading process could be had for {sample_id} ({said})")
            if isinstance(outcome, SynthaugError) and not isinstance(outcome, Rejected):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        if worker:
            worker.kill()

    def _tried(self, worker: _Worker | None, sample_id: str) -> tuple[_Worker | None, Outcome | SynthaugError]:
        """One sample, in a fresh process where the last one died over it; and the process that is still there."""
        outcome: Outcome | SynthaugError = Failed("worker_crash", "")
        for _ in range(_TRIES):
            if worker is None:
                worker = _Worker(self._spec)
                self._alive.add(worker)
            outcome = worker.await_reader() or worker.read(sample_id, self._deadline)
            if worker.ready and (not isinstance(outcome, Failed) or outcome.reason == "error"):
                break
            self._alive.discard(worker)
            worker.kill()
            if self._closing.is_set() or worker.refused:
                return None, outcome
            worker = None
        return worker, outcome


class _Worker:
    """One reading process and the pipe to it.

    A fresh interpreter, not a fork (threads) and not a spawn (which runs the caller's main script again).
    """

    def __init__(self, spec: ReaderSpec) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-m", "synthaug.engine.workers", str(theirs.fileno()), str(os.getpid())]
            self._process = subprocess.Popen(
                command,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )
        self._pipe = Channel(Connection(ours.detach()))
        self.ready = self.refused = False
        self._pipe.send(spec)

    def await_reader(self) -> SynthaugError | None:
        """Waits until the process has its reader; else why it has none: told by itself (`refused`), or it died."""
        if self.ready:
            return None
        try:
            said = self._pipe.receive() if self._pipe.waits(_STARTING) else None
        except (EOFError, OSError):
            said = None
            self._process.wait(timeout=5)
        self.ready, self.refused = said == _READY, isinstance(said, SynthaugError)
        if self.ready or self.refused:
            return said if isinstance(said, SynthaugError) else None
        code = self._process.poll()
        what = f"built no reader in {_STARTING:g} s" if code is None else f"ended with exit code {code}"
        return SynthaugError(
            f"a reading process {what} before its first sample; what it said, if anything, stands above. Run with "
            "engine.workers=0 to see why"
        )

    def read(self, sample_id: str, deadline: float) -> Outcome | SynthaugError:
        try:
            self._pipe.send(sample_id)
            if not self._pipe.waits(deadline):
                return Failed("worker_hang", f"reading took longer than {deadline:g} s (engine.deadline)")
            return self._pipe.receive()
        except (EOFError, OSError):
            code = self._process.wait(timeout=5)
            return Failed("worker_crash", f"the reading process died (exit code {code})")

    def end(self) -> None:
        """Ends the process, from any thread; the one that serves it notices, and alone closes the pipe."""
        self._process.kill()

    def kill(self) -> None:
        """Ends the process and the conversation."""
        self._process.kill()
        self._process.wait(timeout=5)
        self._pipe.close()


def serve(pipe: Channel) -> None:
    """The whole life of a reading process: a specification, then ids in and outcomes out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    memory.keep_freed()
    spec: ReaderSpec = pipe.receive()
    try:
        reader = built(spec)
    except SynthaugError as error:
        pipe.send(error)
        return
    pipe.send(_READY)
    while True:
        try:
            sample_id = pipe.receive()
        except (EOFError, OSError):
            return
        try:
            outcome: Any = read_one(reader, sample_id, spec.inputs)
        except SynthaugError as error:
            outcome = error
        except Exception as error:
            outcome = _crashed(error)
        pipe.send(outcome)


def _crashed(error: BaseException) -> Failed:
    return Failed("error", f"{type(error).__name__}: {error}")


def die_with_parent(parent: int) -> None:
    """Asks Linux to kill this process when its parent dies; elsewhere the closed pipe ends it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


if __name__ == "__main__":
    from synthaug.engine import workers  # under its own name, so that what travels unpickles on the other side

    workers.die_with_parent(int(sys.argv[2]))
    workers.serve(Channel(Connection(int(sys.argv[1]))))
