"""What was done, file by file and sample by sample, and the law it obeys.

For every shard: planned = written + rejected(reason) + failed(reason). A shard is done when its manifest
names the plan it belongs to and every file it vouches for has the SHA-256 it says.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from synthaug.engine.plan import Entry, Plan, Shard
from synthaug.engine.publish import PRIVATE, FileEntry, Output
from synthaug.engine.staging import seal, sealed
from synthaug.errors import ConfigError, SynthaugError
from synthaug.formats import strays
from synthaug.sample import Sample

FORMAT = 1
COMPLETE = "manifest.json"
PLAN = f"{PRIVATE}/plan.json"
REJECTED = "rejected.jsonl"
SHEET = "contact_sheet.png"
LEFT_OUT = "left_out"
"""Key of `annotations` for what samples had and the written format does not hold."""


def shard_name(name: str) -> str:
    """Where a shard's manifest lies."""
    return f"{PRIVATE}/shards/{name}.json"


def rows_name(name: str) -> str:
    """Where the rows that a shard leaves for `finalise` lie."""
    return f"{PRIVATE}/shards/{name}.rows.jsonl"


def trail_name(name: str) -> str:
    """Where the trails of a shard's samples lie."""
    return f"{PRIVATE}/shards/{name}.trail.jsonl"


def panel_name(sample_id: str) -> str:
    """Where the picture of one sample for the contact sheet lies."""
    return f"{PRIVATE}/sheet/{sample_id}.png"


def to_bytes(value: Any) -> bytes:
    """Canonical JSON: sorted keys, no NaN, a newline at the end; the same bytes for the same facts."""
    return (json.dumps(value, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()


def sealed_bytes(value: Mapping[str, Any]) -> bytes:
    """Canonical JSON that vouches for itself: its last field is the SHA-256 of what stands before it."""
    return seal(to_bytes(value))


def intact(data: bytes) -> dict[str, Any] | None:
    """The object behind `sealed_bytes`; None where a bit has flipped or the end is missing."""
    return cast("dict[str, Any]", json.loads(data)) if sealed(data) else None


def to_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """One canonical JSON object a line."""
    return "".join(
        json.dumps(row, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False) + "\n"
        for row in rows
    ).encode()


def from_lines(data: bytes) -> list[dict[str, Any]]:
    """Inverse of `to_lines`."""
    return [json.loads(line) for line in data.decode().splitlines()]


@dataclass(slots=True)
class Ledger:
    """What became of every sample of one shard. Each index is settled exactly once.

    Attributes:
        micro_batch: What the shard was made with, where that is not what was planned; else 0.
    """

    shard: Shard
    micro_batch: int = 0
    outcomes: dict[int, tuple[str, str, str, str]] = field(default_factory=dict[int, tuple[str, str, str, str]])

    def settle(self, index: int, kind: str, reason: str = "", message: str = "", slot: str = "") -> None:
        """Notes the end of one sample: kind `written`, `rejected` or `failed`."""
        if index in self.outcomes:
            raise SynthaugError(f"shard {self.shard.name}: sample {self.shard.entries[index].id} was settled twice")
        self.outcomes[index] = (kind, reason, message, slot)

    def ids(self, kind: str) -> list[str]:
        """Ids of one kind, in plan order."""
        return [e.id for i, e in enumerate(self.shard.entries) if i in self.outcomes and self.outcomes[i][0] == kind]

    def rows(self, kind: str) -> list[dict[str, str]]:
        """Id, reason, message and slot of each sample of one kind, in plan order."""
        return [
            {"id": e.id, "reason": o[1], "message": o[2], "slot": o[3]}
            for i, e in enumerate(self.shard.entries)
            if (o := self.outcomes.get(i)) and o[0] == kind
        ]

    def check(self) -> None:
        """The ledger law."""
        lost = [e.id for i, e in enumerate(self.shard.entries) if i not in self.outcomes]
        if lost:
            raise SynthaugError(f"shard {self.shard.name}: {len(lost)} samples are unaccounted for, such as {lost[0]}")

    def manifest(
        self, plan: str, files: Sequence[FileEntry], environment: Mapping[str, str], annotations: Mapping[str, Any]
    ) -> bytes:
        """The shard's manifest."""
        self.check()
        return sealed_bytes(
            {
                "format": FORMAT,
                "shard": self.shard.name,
                "plan": plan,
                "planned": [e.id for e in self.shard.entries],
                "written": self.ids("written"),
                "rejected": self.rows("rejected"),
                "failed": self.rows("failed"),
                "files": [{"name": f.name, "size": f.size, "sha256": f.sha256} for f in files],
                "annotations": most_frequent(annotations),
                "environment": dict(environment),
                **({"micro_batch": self.micro_batch} if self.micro_batch else {}),
            }
        )


def trail_row(sample: Sample, entry: Entry, plan: Plan) -> dict[str, Any]:
    """Everything needed to make one sample again."""
    return {
        "id": entry.id,
        "source": entry.source,
        "variant": entry.variant,
        "group": entry.group,
        "split": entry.split,
        "inputs": {file: plan.inputs[file] for file in entry.files},
        "steps": [
            {"slot": s.slot, "stage": s.stage, "attempt": s.attempt, "draw": dict(s.draw), "facts": dict(s.facts)}
            for s in sample.trail
        ],
    }


def annotations_of(sample: Sample, brought: int, left_out: Mapping[str, int]) -> list[Mapping[str, Any]]:
    """The label tallies of this run's warps, what the reader found that stands in no table, what the writer left out.

    Args:
        brought: Steps that the sample came with; an earlier run's warps are not counted again.
        left_out: As the writer says it.
    """
    tallies: list[Mapping[str, Any]] = [step.facts for step in sample.trail[brought:] if step.stage == "Warp"]
    found = {strays.KEY: strays.counts(sample.trail), LEFT_OUT: {k: n for k, n in left_out.items() if n}}
    return [*tallies, *({key: counts} for key, counts in found.items() if counts)]


def most_frequent(annotations: Mapping[str, Any]) -> dict[str, Any]:
    """Summed tallies with the most frequent stray values alone by name: soft edges of masks bring thousands."""
    found = annotations.get(strays.KEY)
    return {**annotations, strays.KEY: strays.total([found])} if found else dict(annotations)


def added(tallies: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Sums nested tallies: numbers add up, mappings recurse, anything else is left out."""
    total: dict[str, Any] = {}
    for tally in tallies:
        for key, value in tally.items():
            if isinstance(value, Mapping):
                total[key] = added([total.get(key, {}), cast("Mapping[str, Any]", value)])
            elif isinstance(value, int | float) and not isinstance(value, bool):
                total[key] = total.get(key, 0) + value
    return total


def read_shard(output: Output, name: str) -> dict[str, Any] | None:
    """A shard's manifest, None where it is missing or damaged (the shard then counts as not done)."""
    data = output.read(shard_name(name))
    if data is None:
        return None
    manifest = intact(data)
    if manifest is None:
        return None
    if manifest.get("format") != FORMAT:
        raise ConfigError(
            f"{shard_name(name)} has format {manifest['format']}, this version of synthaug reads {FORMAT}; "
            "go on with the version that began the dataset, or use another write.root"
        )
    return manifest


def damaged(output: Output, manifest: Mapping[str, Any], *, sizes_only: bool = False) -> list[str]:
    """Names of files that a manifest vouches for and that are missing or have other bytes."""
    bad: list[str] = []
    for file in manifest["files"]:
        if sizes_only:
            path = output.root / file["name"]
            intact = path.is_file() and path.stat().st_size == file["size"]
        else:
            intact = output.sha256_of(file["name"]) == file["sha256"]
        if not intact:
            bad.append(file["name"])
    return bad


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts over shards."""

    planned: int
    written: int
    rejected: Mapping[str, int]
    failed: Mapping[str, int]

    @property
    def lost(self) -> int:
        """Samples that are not in the dataset."""
        return sum(self.rejected.values()) + sum(self.failed.values())

    def to_json(self) -> dict[str, Any]:
        """As it stands in the manifest of the dataset."""
        return {
            "planned": self.planned,
            "written": self.written,
            "rejected": dict(sorted(self.rejected.items())),
            "failed": dict(sorted(self.failed.items())),
        }


def totals(manifests: Iterable[Mapping[str, Any]]) -> Totals:
    """Adds up shard manifests."""
    planned = written = 0
    rejected: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for manifest in manifests:
        planned += len(manifest["planned"])
        written += len(manifest["written"])
        rejected.update(row["reason"] for row in manifest["rejected"])
        failed.update(row["reason"] for row in manifest["failed"])
    return Totals(planned, written, rejected, failed)
