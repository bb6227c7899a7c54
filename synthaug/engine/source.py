"""Where a training loop's samples come from: a dataset that a run wrote, or a pipeline that runs along."""

from __future__ import annotations

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from synthaug import seeds
from synthaug.contracts import Description, Reader
from synthaug.engine import bracket, identity, live, manifest
from synthaug.engine.appearance import Work
from synthaug.engine.build import build
from synthaug.engine.configure import compose
from synthaug.engine.job import Job, open_job
from synthaug.engine.live import Result
from synthaug.engine.plan import Entry, describe_all, planned
from synthaug.engine.workers import Failed, read_one
from synthaug.errors import ConfigError, Rejected, nearest
from synthaug.labels import Labels
from synthaug.sample import Picture, Sample, Space


@dataclass(frozen=True, slots=True)
class Half:
    """A sample that a worker has begun.

    Attributes:
        index: In the source.
        start: As it was read; what a repair goes back to.
        done: After the host stages before the first device stage, or why it is out already.
        epoch: Whose draws it has.
    """

    index: int
    start: Work
    done: Work | Rejected | Failed
    epoch: int


class Source(ABC):
    """Numbered samples. `begin` runs in workers, `finish` in the consuming process."""

    needs_device = False
    seed = 0
    excluded = 0
    """Samples that were left out because their headers are broken."""
    splits: tuple[str, ...] = ()
    """Names of the splits that the input holds, sorted."""
    identity = ""
    """Changes with the samples, their order, and whatever decides their looks."""

    @abstractmethod
    def __len__(self) -> int:
        """Samples that can be read, as far as headers say."""

    @abstractmethod
    def begin(self, index: int, epoch: int) -> Half:
        """Reads a sample and does what needs no device."""

    @abstractmethod
    def finish(self, halves: Sequence[Half]) -> list[Result]:
        """The rest; a rejected sample comes back as its reference on the final canvas, with the problem."""


class Written(Source):
    """A dataset on disk, through the reader of its format. Unreadable samples are left out, and counted.

    Args:
        node: Configuration of the reader.
        split: Only this one; None takes all.
        digest: Of the plan behind the dataset.
    """

    def __init__(self, node: Mapping[str, Any], split: str | None, digest: str) -> None:
        self._node = dict(node)
        self._reader: Reader | None = None
        described = describe_all(self.reader)
        readable = [d for d in described if isinstance(d, Description)]
        self.excluded = len(described) - len(readable)
        self.splits = tuple(sorted({d.split for d in readable}))
        if not readable:
            raise ConfigError(f"none of {len(described)} samples of {node.get('root')} can be read")
        if split is not None and split not in self.splits:
            raise ConfigError(f"{node.get('root')} has no split {split!r}.{nearest(split, self.splits)}")
        good = [d for d in readable if split in (None, d.split)]
        self._passes = frozenset(good[0].passes).intersection(*(d.passes for d in good))
        self._space: Space = good[0].space
        self._entries = [Entry(d.id, d.id, 0, d.size, d.group or d.id, d.split, d.files) for d in good]
        self.identity = _digest(digest, [entry.id for entry in self._entries])

    @property
    def reader(self) -> Reader:
        """Opened on first use in each process."""
        if self._reader is None:
            self._reader = build(self._node, "read")
        assert self._reader is not None
        return self._reader

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None}

    def __len__(self) -> int:
        return len(self._entries)

    def begin(self, index: int, epoch: int) -> Half:
        work, problem = _read(self.reader, index, self._entries[index], self._passes, self._space)
        return Half(index, work, problem or work, epoch)

    def finish(self, halves: Sequence[Half]) -> list[Result]:
        return [Result(h.start.sample, None if isinstance(h.done, Work) else h.done) for h in halves]


def _read(
    reader: Reader, index: int, entry: Entry, passes: Iterable[str], space: Space
) -> tuple[Work, Rejected | None]:
    """One sample, or why it cannot be read and a blank one with the passes of the others in its place."""
    read = read_one(reader, entry.source, {})
    if isinstance(read, Sample):
        return Work(index, entry, 0, planned(read, entry)), None
    dot = Picture(np.zeros((1, 1, 3), np.float32 if space == "linear" else np.uint8), space)
    like = Sample(entry.id, dot, Labels((1, 1), reader.categories()), dot, group=entry.group, split=entry.split)
    return Work(index, entry, 0, live.blank(like, entry.size, passes)), read


def _digest(*facts: Any) -> str:
    return identity.digest(list(facts))


class Running(Source):
    """A pipeline at work. Its job is built again in every process, so nothing but text travels."""

    def __init__(self, recipe: tuple[str, tuple[str, ...], str | None, tuple[str, ...]]) -> None:
        self._recipe = recipe
        self._job: Job | None = None
        self._device = ""
        self._loaded: set[str] = set()
        made = self.job.plan(known=None)
        self._entries = [entry for entry in made.entries if not entry.problem]
        self.excluded = len(made) - len(self._entries)
        self._space: Space = made.space
        self._passes = made.passes
        self.splits = tuple(sorted({entry.split for entry in self._entries}))
        self.identity = _digest(made.digest, [entry.id for entry in self._entries])
        self.seed = self.job.cut.seed
        self.needs_device = self.job.pipeline.needs_device

    @property
    def job(self) -> Job:
        """Opened on first use in each process."""
        if self._job is None:
            name, overrides, config_dir, plugins = self._recipe
            job = open_job(compose(name, overrides, config_dir=config_dir, plugins=plugins))
            # Where a row of stages runs hangs on the device, and a worker may not see the one of its consumer.
            self._device = self._device or job.device
            self._job = replace(job, device=self._device)
        return self._job

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_job": None, "_loaded": set[str]()}

    def __len__(self) -> int:
        return len(self._entries)

    def _settings(self, epoch: int) -> bracket.Settings:
        return live.settings_of(self.job, hdr=self._space == "linear", seed=self.epoch_seed(epoch))

    def epoch_seed(self, epoch: int) -> int:
        """The seed of an epoch's draws; epoch 0 has the run's own."""
        return seeds.key(self.seed, "epoch", 0, "loader", epoch) >> 65 if epoch else self.seed

    def _load(self, place: str) -> None:
        """Loads the stages of one place, once a process: device weights never reach a worker."""
        if place not in self._loaded:
            self._loaded.add(place)
            for slot in self.job.pipeline.slots:
                if slot.stage.place == place:
                    slot.stage.load(self.job.device if place == "device" else "cpu")

    def begin(self, index: int, epoch: int) -> Half:
        self._load("host")
        start, problem = _read(self.job.reader, index, self._entries[index], self._passes, self._space)
        if problem:
            return Half(index, start, problem, epoch)
        if not self.needs_device:
            return Half(index, start, start, epoch)
        first = self.job.pipeline.brackets[0]
        return Half(index, start, bracket.run_prefix(first, [start], self._settings(epoch))[0], epoch)

    def finish(self, halves: Sequence[Half]) -> list[Result]:
        self._load("host")
        self._load("device")
        results: dict[int, Result] = {}
        rows: dict[Any, list[Half]] = {}
        for position, half in enumerate(halves):
            if isinstance(half.done, Rejected) and half.done.slot == "read":
                results[position] = Result(self._blank(half), half.done)
            else:
                rows.setdefault((half.epoch, half.start.sample.image.size), []).append(half)
        where = {id(half): position for position, half in enumerate(halves)}
        for (epoch, _), row in rows.items():
            for start in range(0, len(row), self.job.cut.micro_batch):
                batch = row[start : start + self.job.cut.micro_batch]
                begun = [h.done for h in batch] if self.needs_device else None
                done = live.process(self.job, [h.start for h in batch], self._settings(epoch), begun=begun)
                results.update({where[id(h)]: result for h, result in zip(batch, done, strict=True)})
        return [results[i] for i in range(len(halves))]

    def _blank(self, half: Half) -> Sample:
        """What stands for a sample that could not be read, on the canvas of the finished ones."""
        pipeline = self.job.pipeline
        return live.stand_in(pipeline, pipeline.brackets, half.start, self._settings(half.epoch))


def written(root: str | Path, *, split: str | None = None) -> Source:
    """The samples of a finished dataset.

    Args:
        root: What was `write.root`.
        split: Only this split. None takes all of them, mixed, and warns where there are several: samples for
            validation do not belong into training.

    Raises:
        ConfigError: No finished run there, its format has no reader, or it has no such split.
    """
    complete = Path(root) / manifest.COMPLETE
    if not complete.is_file():
        raise ConfigError(f"{root} holds no finished dataset (no {manifest.COMPLETE}); finish the run first")
    found = json.loads(complete.read_text("utf-8"))
    reader = found.get("reader")
    if not reader:
        raise ConfigError(f"{root} was written in a format without a reader; use the format's own tools")
    source = Written({**reader, "root": str(root)}, split, str(found.get("plan", "")))
    if split is None and len(source.splits) > 1:
        names = ", ".join(source.splits)
        warnings.warn(f"{root}: splits {names} come mixed; choose one with split='{source.splits[0]}'", stacklevel=2)
    return source


def pipeline(
    name: str, overrides: Sequence[str] = (), *, config_dir: str | None = None, plugins: Sequence[str] = ()
) -> Source:
    """The samples of a recipe, made while they are asked for.

    Args:
        name: As for `synthaug run`; a writer is configured but never used, so any `write.root` will do.
        overrides: As on the command line.
        plugins: Modules whose stages the recipe names.
    """
    rooted = overrides if any(o.startswith("write.root=") for o in overrides) else (*overrides, "write.root=unused")
    return Running((name, tuple(rooted), config_dir, tuple(plugins)))
