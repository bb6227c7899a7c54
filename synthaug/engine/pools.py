"""The threads of a run, or none at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
_LANES = 3
_SHARDS = 2


class Inline(Executor):
    """Runs what is submitted at once, in the calling thread: for debuggers, and for a loader's worker."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@dataclass(frozen=True, slots=True)
class Pools:
    """Where the work of a run happens.

    Attributes:
        shards: Shards in flight; the next one reads while the last one encodes and publishes.
        lanes: Micro-batches in flight.
        host: Samples in host stages.
        encoders: Samples being encoded, verified and written.
    """

    shards: Executor
    lanes: Executor
    host: Executor
    encoders: Executor


@contextmanager
def pools(encoders: int) -> Generator[Pools]:
    """Thread pools for one run.

    Args:
        encoders: Encoder threads. 0 does everything in the calling thread, one thing after the other.
    """
    if encoders == 0:
        inline = Inline()
        yield Pools(inline, inline, inline, inline)
        return
    with (
        ThreadPoolExecutor(_SHARDS, thread_name_prefix="shard") as shards,
        ThreadPoolExecutor(_LANES, thread_name_prefix="lane") as lanes,
        ThreadPoolExecutor(max(1, os.cpu_count() or 1), thread_name_prefix="host") as host,
        ThreadPoolExecutor(encoders, thread_name_prefix="encode") as encode,
    ):
        yield Pools(shards, lanes, host, encode)
