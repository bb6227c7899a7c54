"""The settings of a run that belong to no stage: what each means, its unit, its range."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from synthaug.errors import ConfigError, nearest


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        kind: Type of the value; an int is taken where a float is expected.
        text: Meaning and unit, as `synthaug help` prints it.
        low: Smallest value, `high` the largest; both included.
        choices: The words allowed, where they are few.
        form: Pattern of the whole text, and `words` what it means.
        operational: May differ between a run and its resume; changes no byte of the dataset.
    """

    name: str
    kind: type
    text: str
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[str, ...] = ()
    operational: bool = False
    form: str = ""
    words: str = ""

    def check(self, value: object, where: str) -> Any:
        """The value, or a `ConfigError` that says what arrived and what was expected."""
        right = isinstance(value, (int, float) if self.kind is float else self.kind)
        if not right or (isinstance(value, bool) and self.kind is not bool):
            raise ConfigError(f"{where}{self.name}: {value!r} is a {type(value).__name__}, expected {self.expected()}")
        if isinstance(value, (int, float)) and not self.low <= value <= self.high:
            raise ConfigError(f"{where}{self.name}: {value!r} is out of range, expected {self.expected()}")
        if self.choices and value not in self.choices:
            raise ConfigError(f"{where}{self.name}: {value!r} is not known.{nearest(str(value), self.choices)}")
        if self.form and not re.fullmatch(self.form, str(value)):
            raise ConfigError(f"{where}{self.name}: {value!r} is not known, expected {self.words}")
        return float(value) if self.kind is float else value  # type: ignore[arg-type]

    def expected(self) -> str:
        """Type and range in words: `int, 1 or more`."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.words:
            return self.words
        low, high = math.isfinite(self.low), math.isfinite(self.high)
        span = f", {self.low} to {self.high}" if low and high else f", {self.low} or more" if low else ""
        return self.kind.__name__ + span


RUN: tuple[Setting, ...] = (
    Setting("seed", int, "Seed of all randomness in the run.", 0, 2**63 - 1),
    Setting("variants", int, "Results per sample read, each with an id of its own.", 1, 10_000),
    Setting("attempts", int, "Tries per sample before a gate's no is final, the first included.", 1, 100),
    Setting("split", dict, "Share in (0, 1] by split name, sum 1; empty keeps the splits of the reader."),
    Setting(
        "max_reject_ratio",
        float,
        "Rejected and failed per planned sample that still ends with status 0.",
        0,
        1,
        operational=True,
    ),
    Setting("ungated", bool, "Lets a recipe without a gate run."),
    Setting("min_visible", float, "Share of its area an instance must keep through the warps.", 0, 1),
    Setting("min_area", float, "Square pixels below which an instance is dropped.", 0),
)

ENGINE: tuple[Setting, ...] = (
    Setting("workers", int, "Reader processes; 0 reads in the main process.", 0, 1024, operational=True),
    Setting(
        "encoders", int, "Encoder threads; 0 does everything in one thread, for debuggers.", 0, 1024, operational=True
    ),
    Setting("prefetch", int, "Samples read ahead.", 1, 65_536, operational=True),
    Setting("progress", str, "How progress shows.", choices=("auto", "bar", "lines", "none"), operational=True),
    Setting("shard_size", int, "Samples per shard, the unit of resume; a group is never split.", 1, 1_000_000),
    Setting("micro_batch", int, "Samples per device step, padded to this length.", 1, 4096),
    Setting(
        "memory",
        str,
        "When a micro-batch does not fit: strict ends the run, adaptive goes on with half of it, as the shard records.",
        choices=("strict", "adaptive"),
    ),
    Setting(
        "device",
        str,
        "Where stages of torch compute; auto takes a GPU where there is one. Its name belongs to the run's identity.",
        operational=True,
        form=r"auto|cpu|cuda(:\d{1,3})?",
        words="auto, cpu, cuda or cuda:N",
    ),
    Setting("devices", int, "Processes over the same plan, one per device.", 1, 1024, operational=True),
    Setting("deadline", float, "Seconds that reading one sample may take.", 0.001, operational=True),
    Setting(
        "resume_check",
        str,
        "What a resume checks of finished shards: every file's hash, or its size alone.",
        choices=("full", "sizes"),
        operational=True,
    ),
    Setting(
        "allow_env_change",
        bool,
        "Lets a resume go on under other library versions; recorded per shard.",
        operational=True,
    ),
)

OPERATIONAL = frozenset([s.name for s in RUN if s.operational] + [f"engine.{s.name}" for s in ENGINE if s.operational])
"""Dotted names of the fields that are no part of a run's identity."""


def check(values: Mapping[str, Any], table: tuple[Setting, ...], where: str = "") -> dict[str, Any]:
    """The values of one table, each checked; `where` is the prefix that an override would carry.

    Raises:
        ConfigError: A value is missing, unknown, of the wrong type or out of range.
    """
    known = {setting.name: setting for setting in table}
    for name in values:
        if name not in known:
            raise ConfigError(f"'{where}{name}' is no setting.{nearest(name, known)}")
    missing = [name for name in known if name not in values]
    if missing:
        raise ConfigError(f"'{where}{missing[0]}' is missing; start the recipe's defaults list with /config")
    checked = {name: setting.check(values[name], where) for name, setting in known.items()}
    if "split" in checked:
        checked["split"] = _check_split(checked["split"])
    return checked


def _check_split(split: Mapping[Any, Any]) -> dict[str, float]:
    share = Setting("share", float, "", 0, 1)
    checked = {str(name): cast("float", share.check(value, f"split.{name}: ")) for name, value in split.items()}
    if checked and not math.isclose(sum(checked.values()), 1.0, abs_tol=1e-6):
        raise ConfigError(f"split: the shares {checked} sum to {sum(checked.values()):g}, expected 1")
    return checked
