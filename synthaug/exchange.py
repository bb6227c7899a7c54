"""What the contracts hand each other: descriptions, verdicts, encoded samples. Frozen, and mostly JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from synthaug.labels import Category, Size
from synthaug.sample import Space


@dataclass(frozen=True, slots=True)
class Description:
    """What a reader knows of a sample from headers and label files alone.

    Attributes:
        id: As `escape_id` makes it.
        size: (height, width) of the canvas.
        passes: Names of the label passes that `read` will bring.
        files: Paths below the reader's root that `read` will open; the plan hashes them.
        space: Of the picture that `read` will bring.
        classes: Class ids that occur, where the labels say it without decoding; for class counts.
    """

    id: str
    size: Size
    passes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    group: str = ""
    view: str = ""
    frame: int = 0
    split: str = "train"
    space: Space = "srgb"
    classes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Painted:
    """Pixels with a word per picture, for stages that know when their own result is no good.

    Attributes:
        images: As `Appearance.paint` returns them.
        reasons: One per picture: empty, or the code under which the engine rejects it (`safety`).
        facts: What to note in each picture's trail, JSON, one per picture; empty where there is nothing to note.
    """

    images: Any
    reasons: tuple[str, ...]
    facts: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate says of one attempt.

    Attributes:
        reason: Empty to accept; else a short code, under which the ledger counts the rejection.
        scores: Numbers behind the decision, by name, for the trail.
        instances: Scores per instance id.
    """

    reason: str = ""
    scores: Mapping[str, float] = field(default_factory=dict[str, float])
    instances: Mapping[int, Mapping[str, float]] = field(default_factory=dict[int, Mapping[str, float]])

    @property
    def accepted(self) -> bool:
        """Whether the attempt passes."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """What a writer knows of the dataset before the first sample, from the plan alone.

    Attributes:
        categories: Class id = index + 1.
        splits: Names of the splits that occur, sorted.
        passes: Passes that the samples will carry.
        card: Facts for a dataset card: seed, stages, licences, version. JSON.
    """

    categories: tuple[Category, ...]
    splits: tuple[str, ...]
    passes: tuple[str, ...]
    card: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class File:
    """One output file: path below the output root, and its bytes."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Encoded:
    """One sample, encoded and verified.

    Attributes:
        files: Loose files, published as they are; names derive from the sample id.
        members: Parts for a container (tar, Parquet) that `close_shard` packs, by field name.
        row: JSON facts that `finalise` or the container needs.
        left_out: What the sample has and the format or its settings do not hold, counted by name in the plural
            (`keypoints`). The engine adds it up and says it at the end.
    """

    sample_id: str
    files: tuple[File, ...] = ()
    members: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    row: Mapping[str, Any] = field(default_factory=dict[str, Any])
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class Fragment:
    """What a shard leaves for `finalise`: container files to publish with it, and JSON rows.

    Rows may be bulky: they go into the shard's own record, not into the manifest.
    """

    files: tuple[File, ...] = ()
    rows: tuple[Mapping[str, Any], ...] = ()
