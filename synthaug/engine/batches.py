"""Samples into rows: read ahead in plan order, and cut anew where fewer fit or a repair is due."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from synthaug.engine.appearance import Work
from synthaug.engine.plan import Entry, Shard, cut_batches
from synthaug.engine.workers import Outcome as Read
from synthaug.engine.workers import ReadPool


def ahead(
    reads: ReadPool, order: Sequence[tuple[int, Entry]], prefetch: int, board: Callable[[int], None]
) -> Iterator[Future[Read]]:
    """Reads in plan order, `prefetch` ahead; variants of one source share one read."""
    waiting: deque[Future[Read]] = deque()
    last: tuple[str, Future[Read]] | None = None
    for index, entry in order:
        board(index)
        if last is None or last[0] != entry.source:
            last = (entry.source, reads.submit(entry.source))
        waiting.append(last[1])
        if len(waiting) > prefetch:
            yield waiting.popleft()
    yield from waiting


def one_size(works: Sequence[Work], length: int) -> list[list[Work]]:
    """Works of one canvas size, in plan order, in rows of at most `length`."""
    rows: list[list[Work]] = []
    current: dict[Any, list[Work]] = {}
    for work in works:
        size = work.sample.image.size
        row = current.get(size)
        if row is None or len(row) == length:
            row = current[size] = []
            rows.append(row)
        row.append(work)
    return rows


def cut(shard: Shard, length: int) -> Shard:
    """The shard with micro-batches of at most `length`."""
    return replace(shard, batches=cut_batches(shard.entries, length))
