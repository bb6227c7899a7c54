"""The only loop: shards of the plan through read, brackets, repair, encode, publish.

Read, compute and encode overlap, within a shard and across two neighbouring shards. What a sample becomes
depends on the plan alone, so none of the concurrency here can change a byte.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as futures_wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from synthaug.contracts import DatasetInfo, Encoded, Writer
from synthaug.engine import batches, bracket, failpoints, manifest
from synthaug.engine.appearance import Work
from synthaug.engine.blame import told
from synthaug.engine.bracket import Settings
from synthaug.engine.capacity import Capacity, Full
from synthaug.engine.flight import Flight, wait
from synthaug.engine.manifest import Ledger
from synthaug.engine.pipeline import Bracket
from synthaug.engine.plan import Plan, Shard, planned
from synthaug.engine.pools import Pools
from synthaug.engine.publish import Output, Staging
from synthaug.engine.workers import Failed, ReadPool
from synthaug.errors import Interrupted, Rejected, SynthaugError
from synthaug.formats import png
from synthaug.report import sheet
from synthaug.sample import Sample


@dataclass(frozen=True, slots=True)
class Context:
    """What the shards of one run share.

    Attributes:
        make_writer: A fresh writer for each shard in flight.
        capacity: Pictures that the device takes at once; `settings` holds those of the shard at hand.
        prefetch: Samples read ahead of the stages.
        flight: Seats for the samples in memory.
        pools: Where the work happens.
        sheet: Ids of the samples that the contact sheet shows.
        stop: Set when the run shall end at the next safe point.
        settled: Told of every sample's end, for progress: kind, number.
    """

    plan: Plan
    brackets: tuple[Bracket, ...]
    attempts: int
    settings: Settings
    capacity: Capacity
    make_writer: Callable[[], Writer]
    dataset: DatasetInfo
    output: Output
    reads: ReadPool
    pools: Pools
    sheet: frozenset[str]
    prefetch: int
    flight: Flight
    stop: threading.Event
    settled: Callable[[str, int], None]


@dataclass(slots=True)
class ShardRun:
    """One shard from reading to its published manifest."""

    context: Context
    shard: Shard
    ledger: Ledger = field(init=False)
    writer: Writer = field(init=False)
    staging: Staging = field(init=False)
    _encoded: dict[int, Future[tuple[Encoded, bytes, list[Any]]]] = field(init=False)
    _repair: dict[tuple[int, int], dict[int, Work]] = field(init=False)
    _flows: list[Future[None]] = field(default_factory=list[Future[None]])
    _told: Counter[str] = field(default_factory=Counter[str])
    _book: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.ledger, self._encoded, self._repair = Ledger(self.shard), {}, {}

    def run(self, read_ahead: Callable[[], None] = lambda: None) -> None:
        """Does the shard; returns when its manifest is durable.

        Args:
            read_ahead: Called when the last sample is handed to the stages: the next shard may begin.

        Raises:
            Interrupted: Stopped, or the disk is full; nothing of the shard is published.
            SynthaugError: The run cannot go on.
        """
        context = self.context
        self.writer = context.make_writer()
        self.writer.open(context.dataset)
        self.staging = context.output.begin(self.shard.name)
        with self.staging, context.flight.of(self.shard.name), self._whole():
            for index, entry in enumerate(self.shard.entries):
                if entry.problem:
                    self._settle(index, Rejected(*entry.problem, slot="read"))
            flows = deque[Future[None]]()
            for works in self._works():
                flows.append(self._begun(works, 0))
                while len(flows) > 3:
                    wait(flows.popleft(), context.stop)
            read_ahead()
            for flow in flows:
                wait(flow, context.stop)
            self._repairs()
            self._publish()

    def _begun(self, works: Sequence[Work], number: int) -> Future[None]:
        """A micro-batch on its way through the brackets, from `number` on."""
        self._flows.append(self.context.pools.lanes.submit(self._flow, works, number))
        return self._flows[-1]

    @contextmanager
    def _whole(self) -> Generator[None]:
        """Where a batch does not fit, lets the others end and takes back what was told: the shard begins again."""
        try:
            yield
        except Full:
            futures_wait(self._flows)
            futures_wait(self._encoded.values())
            for kind, number in self._told.items():
                self.context.settled(kind, -number)
            raise

    def _works(self) -> Iterator[list[Work]]:
        """The planned micro-batches, read ahead; what cannot be read is settled here."""
        order = [(index, self.shard.entries[index]) for batch in self.shard.batches for index in batch]
        board = partial(self.context.flight.board, self.shard.name)
        reads = batches.ahead(self.context.reads, order, self.context.prefetch, board)
        for batch in self.shard.batches:
            works: list[Work] = []
            for index in batch:
                entry = self.shard.entries[index]
                outcome = wait(next(reads), self.context.stop)
                if isinstance(outcome, Sample):
                    works.append(Work(index, entry, 0, planned(outcome, entry), len(outcome.trail)))
                else:
                    self._settle(index, outcome)
            if works:
                yield works

    def _flow(self, works: Sequence[Work], start: int) -> None:
        """One micro-batch through the brackets from `start` on; whatever happens, its seats are given back."""
        try:
            self._through(works, start)
        except BaseException:
            for work in works:
                self._leave(work.index)
            raise

    def _through(self, works: Sequence[Work], start: int) -> None:
        """The brackets, one after the other; failures wait for their repair wave."""
        brackets = self.context.brackets
        for number in range(start, len(brackets)):
            if self.context.stop.is_set():
                raise Interrupted("stopped; run the same command again to go on")
            outcomes = bracket.run(brackets[number], works, self.context.settings)
            for work, outcome in zip(works, outcomes, strict=True):
                if not isinstance(outcome, Work):
                    self._missed(number, work, outcome)
            works = [replace(o, attempt=0) for o in outcomes if isinstance(o, Work)]
            if not works:
                return
        for work in works:
            self._encode(work)

    def _missed(self, number: int, work: Work, outcome: Rejected | Failed) -> None:
        """A failed attempt: another one from the bracket's start, or the end."""
        retry = bracket.again(work, outcome, self.context.attempts)
        if retry is not None:
            with self._book:
                self._repair.setdefault((number, retry.attempt), {})[work.index] = retry
            self._leave(work.index)
        else:
            self._settle(work.index, outcome)

    def _repairs(self) -> None:
        """Waves: failures in plan order fill padded micro-batches, bracket by bracket, attempt by attempt."""
        length = self.context.settings.micro_batch
        for number in range(len(self.context.brackets)):
            for attempt in range(1, self.context.attempts):
                waiting = self._repair.pop((number, attempt), {})
                works = [waiting[index] for index in sorted(waiting)]
                rows = batches.one_size(works, length)
                for flow in [self._begun(row, number) for row in rows]:
                    wait(flow, self.context.stop)

    def _encode(self, work: Work) -> None:
        index = work.index  # a future keeps its callbacks, and they must not keep the sample
        with self._book:
            self._encoded[index] = self.context.pools.encoders.submit(self._encode_one, work)
        self._encoded[index].add_done_callback(lambda done: self._left(index, done))

    def _encode_one(self, work: Work) -> tuple[Encoded, bytes, list[Any]]:
        """In an encoder thread: bytes, verified, written to the staging area."""
        work.sample.labels.check()
        encoded = self.writer.encode(work.sample)
        # As text, which takes a tenth of the memory until the shard is whole; and what is no JSON costs this sample.
        trail = manifest.to_lines([manifest.trail_row(work.sample, work.entry, self.context.plan)])
        manifest.to_lines([encoded.row])
        for file in encoded.files:
            self.staging.write(file.name, file.data)
        if work.entry.id in self.context.sheet:
            self.staging.write(manifest.panel_name(work.entry.id), png.encode(sheet.panel(work.sample)))
        return replace(encoded, files=()), trail, manifest.annotations_of(work.sample, work.brought, encoded.left_out)

    def _publish(self) -> None:
        """Everything encoded, in plan order, then the manifest."""
        trails: list[bytes] = []
        tallies: list[Mapping[str, Any]] = []
        for index in sorted(self._encoded):
            try:
                encoded, trail, tally = wait(self._encoded.pop(index), self.context.stop)
            except Rejected as rejected:
                self._settle(index, Rejected(rejected.reason, rejected.message, slot="write"))
                continue
            except SynthaugError:
                raise
            except (Exception, SystemExit) as error:
                self._settle(index, Failed("error", f"slot write: {told(error)}"))
                continue
            self.writer.add(encoded)
            trails.append(trail)
            tallies += tally
            self.ledger.settle(index, "written")
        fragment = self.writer.close_shard(self.shard.name)
        for file in fragment.files:
            self.staging.write(file.name, file.data)
        self.staging.write(manifest.rows_name(self.shard.name), manifest.to_lines(fragment.rows))
        self.staging.write(manifest.trail_name(self.shard.name), b"".join(trails))
        plan, facts, name = self.context.plan, manifest.added(tallies), manifest.shard_name(self.shard.name)
        environment = plan.identity["environment"]
        length = self.context.settings.micro_batch
        self.ledger.micro_batch = length if length != self.context.capacity.planned else 0
        self.staging.commit(name, lambda files: self.ledger.manifest(plan.digest, files, environment, facts))

    def _settle(self, index: int, outcome: Rejected | Failed) -> None:
        kind = "rejected" if isinstance(outcome, Rejected) else "failed"
        with self._book:
            self.ledger.settle(index, kind, outcome.reason, outcome.message, outcome.slot)
        self._leave(index)
        self._tell(kind)

    def _left(self, index: int, done: Future[Any]) -> None:
        """Progress as it happens, not when the shard is published."""
        self._leave(index)
        if not done.cancelled() and done.exception() is None:
            self._tell("written")

    def _tell(self, kind: str) -> None:
        with self._book:
            self._told[kind] += 1
        self.context.settled(kind, 1)

    def _leave(self, index: int) -> None:
        self.context.flight.leave(self.shard.name, index)


def run_shards(context: Context, shards: Iterable[Shard]) -> None:
    """All given shards, the next one reading while the last one encodes and publishes.

    Raises:
        Interrupted: `context.stop` was set, or the disk is full.
        SynthaugError: The run cannot go on; what was published is whole.
    """
    running: deque[Future[None]] = deque()
    try:
        for shard in shards:
            begun = threading.Event()
            running.append(context.pools.shards.submit(_run_one, context, shard, begun))
            while not begun.wait(0.2) and not context.stop.is_set() and not running[-1].done():
                pass
            while len(running) > 1 or (running and running[0].done()):
                wait(running.popleft(), context.stop)
        while running:
            wait(running.popleft(), context.stop)
    except BaseException:
        context.stop.set()
        raise


def _run_one(context: Context, shard: Shard, begun: threading.Event) -> None:
    def attempt(length: int) -> None:
        fitting = replace(context, settings=replace(context.settings, micro_batch=length))
        ShardRun(fitting, batches.cut(shard, length)).run(begun.set)

    try:
        context.capacity.fitted(context.capacity.of(shard.name), attempt)
        failpoints.interrupt_at("run.interrupt")
    finally:
        begun.set()
