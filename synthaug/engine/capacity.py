"""How many pictures the device takes at once: what the plan says, or less where its memory is short.

`strict`: a micro-batch that does not fit ends the run, best before its first sample: the largest canvases are tried
at the start. `adaptive`: the shard is begun again with half as many, and so are those after it. That changes bits, so
each shard's manifest says what it was made with, and a resume goes on from there. A picture that does not fit alone
is `failed(oom)`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from synthaug.engine.blame import Broken
from synthaug.engine.plan import Entry, Plan
from synthaug.errors import SynthaugError

OOM = "oom"
"""Reason under which the ledger counts pictures that do not fit alone."""
_TRIED = 4
_SIGNS = (
    "out of memory",
    "alloc_failed",  # cuBLAS and cuDNN
    "cudnn_status_not_supported",  # how cuDNN says that no algorithm has the room it needs
    "can't allocate memory",
    "not enough memory",
)


class Full(SynthaugError):
    """A micro-batch did not fit into the device's memory."""


def short_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory was short, by its class or its words; libraries have many."""
    cause = error.__cause__ if isinstance(error, Broken) and error.__cause__ is not None else error
    words = f"{type(cause).__name__}: {cause}".lower()
    return isinstance(cause, MemoryError) or "outofmemoryerror" in words or any(sign in words for sign in _SIGNS)


class Capacity:
    """The length of micro-batches, shard by shard; any thread.

    Args:
        planned: Of the configuration.
        adaptive: Whether it may be lowered.
        recorded: By shard name, what earlier runs of this dataset used.
    """

    def __init__(self, planned: int, *, adaptive: bool, recorded: Mapping[str, int] | None = None) -> None:
        self.planned, self.adaptive = planned, adaptive
        self._recorded = dict(recorded or {})
        self._now = min([planned, *self._recorded.values()]) if adaptive else planned
        self._book = threading.Lock()

    def of(self, shard: str) -> int:
        """What a shard begins with: what it had, or the least that was ever used."""
        with self._book:
            return self._recorded.get(shard, self._now) if self.adaptive else self.planned

    def lowered(self, length: int) -> int:
        """Notes that `length` did not fit, 2 or more; what to try next."""
        with self._book:
            self._now = min(self._now, max(length // 2, 1))
            return self._now

    def fitted(self, length: int, attempt: Callable[[int], None]) -> None:
        """Calls `attempt` with less and less until it fits.

        The next attempt begins outside of the handler: frames of the failed one, and tensors in them, are gone.
        """
        while True:
            try:
                attempt(length)
                return
            except Full:
                if not self.adaptive:
                    raise
            length = self.lowered(length)
            give_back()


def give_back() -> None:
    """Returns what torch keeps for later to the device, so that it can be cut anew."""
    import gc
    import sys

    gc.collect()
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def recorded(manifests: Iterable[Mapping[str, Any]], planned: int) -> dict[str, int]:
    """What the finished shards of a dataset were made with, by their names."""
    return {found["shard"]: int(found.get("micro_batch", planned)) for found in manifests}


def largest(plan: Plan) -> list[Entry]:
    """One entry of each of the largest canvases, the largest first; at most 4."""
    first: dict[Any, Entry] = {}
    for entry in plan.entries:
        if not entry.problem:
            first.setdefault(entry.size, entry)
    return sorted(first.values(), key=lambda entry: entry.size[0] * entry.size[1], reverse=True)[:_TRIED]
