"""How many samples are in memory at once, whatever the shards they belong to."""

from __future__ import annotations

import threading
from collections.abc import Generator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from typing import TypeVar

from synthaug.engine import memory
from synthaug.errors import Interrupted

T = TypeVar("T")
_POLL = 0.2


def wait(future: Future[T], stop: threading.Event) -> T:
    """The result of a future, or `Interrupted` soon after `stop` is set."""
    while True:
        try:
            return future.result(timeout=_POLL)
        except FutureTimeout:
            if future.done():
                raise
            if stop.is_set():
                raise Interrupted("stopped; run the same command again to go on") from None


class Flight:
    """Seats for samples between reading and encoding. A sample that waits for its repair has given its seat back.

    Args:
        seats: At least what one shard reads ahead and one micro-batch together, or a shard waits for itself.
        stop: Ends all waiting.
    """

    def __init__(self, seats: int, stop: threading.Event) -> None:
        self._seats, self._left = seats, 0
        self._free = threading.BoundedSemaphore(seats)
        self._stop = stop
        self._taken: set[tuple[str, int]] = set()
        self._book = threading.Lock()

    def board(self, shard: str, index: int) -> None:
        """Takes a seat, and waits for one where there is none. Raises `Interrupted` when the run stops."""
        while not self._free.acquire(timeout=_POLL):
            if self._stop.is_set():
                raise Interrupted("stopped; run the same command again to go on")
        with self._book:
            self._taken.add((shard, index))

    def leave(self, shard: str, index: int) -> None:
        """Gives the seat back; nothing happens where the sample has none (any more)."""
        with self._book:
            if (shard, index) not in self._taken:
                return
            self._taken.remove((shard, index))
            self._left += 1
            tidy = self._left % self._seats == 0
        self._free.release()
        if tidy:
            memory.hand_back()

    @contextmanager
    def of(self, shard: str) -> Generator[None]:
        """Gives back at its end, however it comes, what is left of the seats of one shard."""
        try:
            yield
        finally:
            with self._book:
                left = [key for key in self._taken if key[0] == shard]
            for key in left:
                self.leave(*key)
