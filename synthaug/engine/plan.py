"""Configuration + inputs, checked and cut once, before any model is loaded.

The plan is immutable: entries in natural order, shards that never split a group, micro-batches of one
canvas size in plan order. How the work is cut depends on identity fields alone, so any number of workers,
devices or resumes walks the same plan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from synthaug.contracts import Description, Reader
from synthaug.engine import groups, hashing, identity
from synthaug.engine.pipeline import Pipeline
from synthaug.errors import InputError, Rejected, first_of
from synthaug.labels import Size
from synthaug.sample import Sample, Space

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One planned sample.

    Attributes:
        id: Id of the emitted sample: the source's id, plus the variant.
        source: Id by which the reader knows it.
        problem: (reason, message) where the headers already say that it cannot be read.
    """

    id: str
    source: str
    variant: int
    size: Size
    group: str
    split: str
    files: tuple[str, ...] = ()
    problem: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Shard:
    """The unit of work, of publication and of resume.

    Attributes:
        name: Six digits, in plan order.
        entries: In plan order.
        batches: Micro-batches as indices into `entries`, one canvas size each.
    """

    name: str
    entries: tuple[Entry, ...]
    batches: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """All the work there is.

    Attributes:
        identity: What decides the bytes: configuration, inputs, stages, environment.
        inputs: SHA-256 of every input file, by path below the reader's root.
        passes: Passes that every sample brings.
        space: Colour space of the input pictures.
    """

    identity: Mapping[str, Any]
    shards: tuple[Shard, ...]
    inputs: Mapping[str, str]
    passes: tuple[str, ...]
    space: Space

    @property
    def digest(self) -> str:
        """Names the cut: the identity without its environment, which a user may knowingly change."""
        return identity.digest({k: v for k, v in self.identity.items() if k != "environment"})

    @property
    def entries(self) -> Iterable[Entry]:
        """All entries in plan order."""
        return (entry for shard in self.shards for entry in shard.entries)

    def __len__(self) -> int:
        return sum(len(shard.entries) for shard in self.shards)

    def to_json(self) -> dict[str, Any]:
        """The stored form (`plan.json`)."""
        return {
            "format": FORMAT,
            "digest": self.digest,
            "identity": self.identity,
            "inputs": self.inputs,
            "passes": self.passes,
            "space": self.space,
            "shards": [
                {"name": s.name, "entries": [asdict(e) for e in s.entries], "batches": s.batches} for s in self.shards
            ],
        }


@dataclass(frozen=True, slots=True)
class Cut:
    """How a plan is cut: identity fields of the configuration.

    Attributes:
        shard_size: Samples per shard, at most (a group larger than that gets a shard of its own).
        micro_batch: Pictures per device batch.
        variants: Emitted samples per source sample.
        splits: Share of groups by split name, such as {val: 0.1}; the rest keeps the reader's split.
        seed: The run's seed; decides which group goes to which split.
    """

    shard_size: int
    micro_batch: int
    variants: int
    splits: Mapping[str, float]
    seed: int


def make(
    reader: Reader,
    pipeline: Pipeline,
    cut: Cut,
    *,
    config: Mapping[str, Any],
    environment: Mapping[str, str],
    known: Mapping[str, str] | None,
) -> Plan:
    """Describes, hashes and cuts the input.

    Args:
        config: Identity fields of the configuration.
        known: Hashes of files that are proven untouched; the others are read and hashed here. None
            hashes nothing: for a preview, never for a run.

    Raises:
        InputError: No samples, duplicate ids, ids that collide on a case-insensitive file system.
    """
    described = describe_all(reader)
    good = [d for d in described if isinstance(d, Description)]
    if not good:
        reasons = [f"{d[0]}: {d[1].message}" for d in described if not isinstance(d, Description)]
        raise InputError(f"none of {len(described)} samples can be read:" + first_of(reasons, 5))
    groups.refuse_uneven(pipeline, good)
    entries = [entry for d in described for entry in _entries(d, cut)]
    _refuse_collisions([entry.id for entry in entries])
    inputs = {} if known is None else hash_inputs(reader, good, known)
    shards = cut_shards(entries, cut)
    facts = {
        "format": FORMAT,
        "config": config,
        "inputs": identity.digest(inputs),
        "samples": hashlib.sha256("\n".join(e.id for e in entries).encode()).hexdigest(),
        "reader": reader.identity(),
        "stages": pipeline.identity(),
        "environment": environment,
    }
    return Plan(facts, shards, inputs, _common_passes(good), _common_space(good))


def describe_all(reader: Reader) -> list[Description | tuple[str, Rejected]]:
    """Every sample from its headers, or why it cannot be read, in the reader's order."""
    out: list[Description | tuple[str, Rejected]] = []
    for sample_id in reader.ids():
        try:
            out.append(reader.describe(sample_id))
        except Rejected as problem:
            out.append((sample_id, problem))
    if not out:
        raise InputError(
            "the input holds no samples; check read.root and the folder names (read.images=, read.labels=)"
        )
    return out


def _entries(described: Description | tuple[str, Rejected], cut: Cut) -> list[Entry]:
    if isinstance(described, Description):
        d = described
        group = d.group or d.id
        split = _split(group, d.split, cut)
        base = Entry(d.id, d.id, 0, d.size, group, split, d.files)
    else:
        sample_id, problem = described
        base = Entry(sample_id, sample_id, 0, (0, 0), sample_id, "train", (), (problem.reason, problem.message))
    return [
        Entry(
            f"{base.id}~v{v}" if v else base.id,
            base.source,
            v,
            base.size,
            base.group,
            base.split,
            base.files,
            base.problem,
        )
        for v in range(cut.variants)
    ]


def _split(group: str, read: str, cut: Cut) -> str:
    """A group's split: a hash of its name against the shares, so no group is ever separated."""
    if not cut.splits:
        return read
    digest = hashlib.blake2b(f"{cut.seed}\0{group}".encode(), digest_size=8).digest()
    point = int.from_bytes(digest, "little") / 2**64
    for name in sorted(cut.splits):
        point -= cut.splits[name]
        if point < 0:
            return name
    return read


def cut_shards(entries: Sequence[Entry], cut: Cut) -> tuple[Shard, ...]:
    """Rows of whole groups, at most `shard_size` samples each, in the order in which groups first occur."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.group, []).append(entry)
    rows: list[list[Entry]] = [[]]
    for members in groups.values():
        if rows[-1] and len(rows[-1]) + len(members) > cut.shard_size:
            rows.append([])
        rows[-1].extend(members)
    return tuple(Shard(f"{i:06d}", tuple(row), cut_batches(row, cut.micro_batch)) for i, row in enumerate(rows))


def cut_batches(entries: Sequence[Entry], length: int) -> tuple[tuple[int, ...], ...]:
    """Micro-batches of one canvas size, in the order of their first member."""
    batches: list[list[int]] = []
    open_batch: dict[Size, list[int]] = {}
    for index, entry in enumerate(entries):
        if entry.problem:
            continue
        batch = open_batch.get(entry.size)
        if batch is None or len(batch) == length:
            batch = open_batch[entry.size] = []
            batches.append(batch)
        batch.append(index)
    return tuple(tuple(batch) for batch in batches)


def planned(sample: Sample, entry: Entry) -> Sample:
    """The sample under the id, in the group and in the split that the plan gave it."""
    return replace(sample, id=entry.id, split=entry.split, group=entry.group)


def hash_inputs(reader: Reader, described: Iterable[Description], known: Mapping[str, str]) -> dict[str, str]:
    """SHA-256 of every file that the run will open.

    Raises:
        InputError: One that a label file or an earlier run names is gone, or cannot be read.
    """
    files = sorted({*reader.files(), *(file for d in described for file in d.files)})
    todo = [file for file in files if file not in known]
    try:
        fresh = dict(zip(todo, hashing.each(reader.digest, todo), strict=True))
    except Rejected as rejected:
        raise InputError(
            f"an input file cannot be hashed: {rejected.message}. Restore it, or take it out of the labels that name it"
        ) from rejected
    return {file: fresh.get(file) or known[file] for file in files}


def _refuse_collisions(ids: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    clashes: list[str] = []
    for sample_id in ids:
        other = seen.setdefault(sample_id.lower(), sample_id)
        if other != sample_id:
            clashes.append(f"{other} / {sample_id}")
    if len(set(ids)) != len(ids):
        counts: dict[str, int] = {}
        for sample_id in ids:
            counts[sample_id] = counts.get(sample_id, 0) + 1
        clashes += [f"{sample_id} ({n} times)" for sample_id, n in counts.items() if n > 1]
    if clashes:
        raise InputError(
            "sample ids collide, so their files would overwrite each other (case-insensitive file systems included); "
            "rename the sources:" + first_of(clashes)
        )


def _common_passes(described: Sequence[Description]) -> tuple[str, ...]:
    common = set(described[0].passes).intersection(*(d.passes for d in described))
    return tuple(sorted(common))


def _common_space(described: Sequence[Description]) -> Space:
    spaces: set[Space] = {d.space for d in described}
    if len(spaces) > 1:
        raise InputError("the input mixes sRGB and scene-linear pictures; read them as two datasets")
    return spaces.pop()
