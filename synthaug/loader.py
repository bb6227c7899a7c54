"""Torch datasets over a written dataset or a live pipeline.

    from synthaug import loader
    train = loader.Loader(loader.pipeline("driving", ["read.root=..."]), batch_size=8, workers=4)
    for epoch in range(30):
        train.set_epoch(epoch)
        for batch in train: ...

A sample's look in epoch e depends on the run's seed, e and its id, never on rank, worker or batch-mates;
epoch 0 looks as the written dataset would. Workers read, draw and run host stages; device stages run in the
consuming process. `Loader.state_dict` counts what was delivered, not what was prefetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from synthaug import seeds
from synthaug.engine.source import Half, Source, pipeline, written
from synthaug.errors import ConfigError
from synthaug.items import Item, collate_detection, collate_segmentation, to_item

__all__ = [
    "Loader", "SampleDataset", "SampleStream", "collate_detection", "collate_segmentation", "pipeline", "written",
]  # fmt: skip

Collate = Callable[[Sequence[Item]], Any]


class SampleDataset(Dataset[Item]):
    """Map-style: as many items as the source has readable samples, whatever is rejected on the way.

    An item is a dict: `image` uint8 [3, H, W]; `boxes` float32 [N, 4] x0, y0, x1, y1 in pixels; `labels`
    int64 [N] class ids from 1; `ignore` bool [N]; `masks` bool [N, H, W] where there are masks; `keypoints`
    float32 [N, K, 3]; the label passes under their names, channels first (`ignore_map` wherever there is `semantic`);
    `sample_id`, `index`, and `rejected`: empty, or the reason why the item is its reference, moved as the finished
    sample would have been, or black where it cannot be read.

    Args:
        source: From `written` or `pipeline`.
        transform: Applied to each finished item.
    """

    def __init__(self, source: Source, transform: Callable[[Item], Item] | None = None) -> None:
        self.source = source
        self.transform = transform
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the draws. Call it before iterating; worker processes copy it when they start."""
        self.epoch = _whole("epoch", epoch, 0)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Item:
        return self.at(index, self.epoch)

    def at(self, index: int, epoch: int) -> Any:
        """One item of one epoch; in a worker of a pipeline with device stages, the half that a worker can do."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} samples")
        half = self.source.begin(index % len(self), epoch)
        if self.source.needs_device and get_worker_info() is not None:
            return half
        return self.finish([half])[0]

    def finish(self, halves: Sequence[Half]) -> list[Item]:
        """Device stages and what follows them, for samples that workers began."""
        items = [to_item(result, half.index) for result, half in zip(self.source.finish(halves), halves, strict=True)]
        return [self.transform(item) for item in items] if self.transform else items


def order(length: int, seed: int, epoch: int, shuffle: bool, rank: int, world_size: int) -> list[int]:
    """The sample indices of one rank in one epoch: disjoint between ranks, equally many on each.

    What does not divide by the world size is left out; under `shuffle` another part every epoch.
    """
    indices = np.arange(length)
    if shuffle:
        indices = seeds.generator(seed, "order", 0, "loader", epoch).permutation(length)
    each = length // world_size
    return [int(i) for i in indices[rank : each * world_size : world_size]]


class SampleStream(IterableDataset[Item]):
    """Iterable: one rank's share of an epoch, cut again among the workers of its DataLoader.

    For `torch.utils.data.DataLoader` and for loaders that keep state per worker: `state_dict` counts what
    this copy of the dataset has yielded. For a count of what a loop has received use `Loader`.

    Args:
        source: From `written` or `pipeline`.
        shuffle: A new order every epoch.
        rank: Of this process; from `torch.distributed` where that is initialised, else 0.
        world_size: Number of processes likewise.
        transform: Applied to each finished item.
    """

    def __init__(
        self,
        source: Source,
        *,
        shuffle: bool = True,
        rank: int | None = None,
        world_size: int | None = None,
        transform: Callable[[Item], Item] | None = None,
    ) -> None:
        self.samples = SampleDataset(source, transform)
        self.shuffle = shuffle
        self.rank, self.world_size = placed(rank, world_size)
        self.epoch = self.yielded = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses order and draws, and starts the epoch from its beginning."""
        self.epoch, self.yielded = _whole("epoch", epoch, 0), 0

    def __len__(self) -> int:
        return len(self.samples) // self.world_size

    def __iter__(self) -> Iterator[Item]:
        if self.samples.source.needs_device and get_worker_info() is not None:
            raise ConfigError("this pipeline has device stages, which run in the consuming process: use loader.Loader")
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        mine = order(len(self.samples), self.samples.source.seed, self.epoch, self.shuffle, self.rank, self.world_size)
        for index in mine[first::step][self.yielded :]:
            item = self.samples.at(index, self.epoch)
            self.yielded += 1
            yield item
        self.yielded = 0

    def state_dict(self) -> dict[str, Any]:
        """Epoch and number of items that this copy has yielded in it, and whose they are."""
        return {"epoch": self.epoch, "yielded": self.yielded, **self._whose()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state_dict` was taken; `ConfigError` for a state of other samples, shares or workers."""
        self.epoch, self.yielded = _restored(state, "yielded", self._whose(), len(self))

    def _whose(self) -> dict[str, Any]:
        worker = get_worker_info()
        return _whose(self.samples, self.shuffle, self.world_size) | {"workers": worker.num_workers if worker else 1}


class Loader:
    """Batches for a training loop, with resume in the middle of an epoch.

    Args:
        source: From `written` or `pipeline`.
        batch_size: Samples per batch and rank.
        workers: Reading processes; 0 does everything in this one.
        shuffle: A new order every epoch.
        drop_last: Leaves out a last batch that is not full.
        rank: Of this process; from `torch.distributed` where that is initialised, else 0.
        world_size: Number of processes likewise.
        collate: From a list of items to a batch; the default keeps what has one shape per sample in lists.
        transform: Applied to each finished item.
        options: Passed on to `torch.utils.data.DataLoader` (`pin_memory`, `prefetch_factor`, ...).

    Raises:
        ConfigError: `batch_size`, `workers`, `rank` or `world_size` out of range, or no batch at all: fewer samples
            than ranks, or than a whole batch under `drop_last`.
    """

    def __init__(
        self,
        source: Source,
        *,
        batch_size: int = 1,
        workers: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        collate: Collate = collate_detection,
        transform: Callable[[Item], Item] | None = None,
        **options: Any,
    ) -> None:
        self.samples = SampleDataset(source, transform)
        self.batch_size, self.workers = _whole("batch_size", batch_size, 1), _whole("workers", workers, 0)
        self.drop_last = drop_last
        self.shuffle, self.collate, self.options = shuffle, collate, options
        self.rank, self.world_size = placed(rank, world_size)
        self.epoch = self.delivered = 0
        if not len(self):
            raise ConfigError(
                f"{len(self.samples)} samples make no batch of {batch_size} on {self.world_size} ranks"
                + (" with drop_last" if drop_last else "")
            )

    def set_epoch(self, epoch: int) -> None:
        """Chooses order and draws, and starts the epoch from its beginning; keeps a resumed position in it."""
        if _whole("epoch", epoch, 0) != self.epoch:
            self.epoch, self.delivered = epoch, 0

    def __len__(self) -> int:
        """Batches of a whole epoch on this rank."""
        each = len(self.samples) // self.world_size
        return each // self.batch_size if self.drop_last else -(-each // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        epoch = self.epoch
        mine = order(len(self.samples), self.samples.source.seed, epoch, self.shuffle, self.rank, self.world_size)
        batches = DataLoader(
            _Epoch(self.samples, epoch, mine[self.delivered :]),
            batch_size=self.batch_size,
            num_workers=self.workers,
            shuffle=False,
            drop_last=self.drop_last,
            collate_fn=_as_list,
            **self.options,
        )
        for received in batches:
            halves = [i for i, item in enumerate(received) if isinstance(item, Half)]
            for i, item in zip(halves, self.samples.finish([received[i] for i in halves]), strict=True):
                received[i] = item
            self.delivered += len(received)
            yield self.collate(received)
        self.epoch, self.delivered = epoch + 1, 0

    def state_dict(self) -> dict[str, Any]:
        """Epoch and samples delivered to the loop on this rank, and whose they are; take it between two batches.

        All ranks have delivered equally many, so the state of one serves all. JSON.
        """
        whose = _whose(self.samples, self.shuffle, self.world_size)
        return {"epoch": self.epoch, "delivered": self.delivered, **whose}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on with the first sample that was not delivered.

        Raises:
            ConfigError: The state is damaged, or of other samples, another order or another world size.
        """
        whose = _whose(self.samples, self.shuffle, self.world_size)
        self.epoch, self.delivered = _restored(state, "delivered", whose, len(self.samples) // self.world_size)


class _Epoch(Dataset[Any]):
    """The samples still to come of one epoch, in order."""

    def __init__(self, samples: SampleDataset, epoch: int, indices: Sequence[int]) -> None:
        self.samples, self.epoch, self.indices = samples, epoch, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Any:
        return self.samples.at(self.indices[position], self.epoch)


def _as_list(items: list[Any]) -> list[Any]:
    return items


def _whole(name: str, value: object, low: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        raise ConfigError(f"{name}={value!r}: expected a whole number, {low} or more")
    return int(value)


def _whose(samples: SampleDataset, shuffle: bool, world_size: int) -> dict[str, Any]:
    """What a position in an epoch counts: it means nothing to other samples, in another order, in other shares."""
    source = samples.source
    return {"samples": len(source), "source": source.identity, "shuffle": shuffle, "world_size": world_size}


def _restored(state: Mapping[str, Any], count: str, whose: Mapping[str, Any], most: int) -> tuple[int, int]:
    """Epoch and position of a state, held against what goes on with it."""
    missing = [key for key in ("epoch", count, *whose) if key not in state]
    if missing:
        raise ConfigError(f"the state lacks {', '.join(missing)}; expected what state_dict() of this class returned")
    for key, own in whose.items():
        if state[key] != own:
            raise ConfigError(
                f"the state has {key}={state[key]!r} and this {key}={own!r}: its position counts other samples; "
                "start the next epoch instead (set_epoch)"
            )
    done = _whole(f"state's {count}", state[count], 0)
    if done > most:
        raise ConfigError(f"the state has {count}={done} of {most} samples")
    return _whole("state's epoch", state["epoch"], 0), done


def placed(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Rank and world size, from `torch.distributed` where it is initialised and they are not given."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        rank = torch.distributed.get_rank() if rank is None else rank
        world_size = torch.distributed.get_world_size() if world_size is None else world_size
    rank, world_size = 0 if rank is None else rank, 1 if world_size is None else world_size
    if not 0 <= rank < world_size:
        raise ConfigError(f"rank={rank} of world_size={world_size}: expected 0 <= rank < world_size")
    return rank, world_size
