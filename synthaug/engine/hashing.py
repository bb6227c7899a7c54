"""Reading many files at once, in threads that nobody has to wait for."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def each(call: Callable[[A], B], items: Sequence[A], threads: int = 4) -> list[B]:
    """`call` of each item, in order; the first error is raised at once.

    The threads are daemons: one that hashes a large file does not hold up a Ctrl-C, as those of an executor do.
    """
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, B | None, BaseException | None]] = queue.SimpleQueue()
    over = threading.Event()
    for index in range(len(items)):
        todo.put(index)

    def work() -> None:
        while not over.is_set():
            try:
                index = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((index, call(items[index]), None))
            except BaseException as error:  # travels to the thread that waits for it
                done.put((index, None, error))

    for number in range(min(threads, len(items))):
        threading.Thread(target=work, name=f"hash-{number}", daemon=True).start()
    results: dict[int, B] = {}
    try:
        for _ in items:
            index, result, error = done.get()
            if error is not None:
                raise error
            results[index] = result  # type: ignore[assignment]
    finally:
        over.set()
    return [results[index] for index in range(len(items))]
