"""Strays: colours, ids and class names that stand in a sample's labels and in no table. All are counted.

Colours are known only when a mask is decoded, which happens in another process than the count is wanted in.
So a reader that takes strays as background or as ignored puts a step into the sample's trail, with or
without strays: a zero says that somebody looked.

    Step("read", "FolderReader", 0, {}, {"off_table": {"semantic": {
        "read": 1, "samples": 1, "count": 37, "near": 0, "values": {"#808080": 35, "#ff00ff": 2}, "other": 0}}})

The key below `off_table` is a label pass, where `count` is pixels, or `labels`, where it is instances. All
numbers add up over samples; `count` is `values` and `other` together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from synthaug.errors import printable
from synthaug.sample import Step

SLOT = "read"
KEY = "off_table"
LABELS = "labels"
SHOWN = 20
"""Values of one sample, and of a total, that are counted by themselves; the rest adds up in `other`."""
_NUMBERS = ("read", "samples", "count", "near", "other")


@dataclass(frozen=True, slots=True)
class Strays:
    """What stood off one table in one sample.

    Attributes:
        values: Pixels or labels by colour (`#rrggbb`), number or name.
        near: Pixels of colours off the table that `tolerance` took for one on it; they are no strays.
    """

    values: Mapping[str, int]
    near: int = 0

    @property
    def count(self) -> int:
        """Pixels or labels off the table."""
        return sum(self.values.values())


def steps(reader: str, found: Mapping[str, Strays]) -> tuple[Step, ...]:
    """What a reader of the class `reader` puts into a sample's trail; nothing where it looked at no table."""
    if not found:
        return ()
    facts: dict[str, Any] = {}
    for name, strays in found.items():
        values, other = _cut(strays.values)
        numbers = {"read": 1, "samples": int(strays.count > 0), "count": strays.count, "near": strays.near}
        facts[name] = numbers | {"values": values, "other": other}
    return (Step(SLOT, reader, 0, {}, {KEY: facts}),)


def of_labels(reader: str, lost: Mapping[str, int] | None) -> tuple[Step, ...]:
    """Likewise for instances of unknown classes, by word; None where they are refused."""
    return steps(reader, {} if lost is None else {LABELS: Strays(lost)})


def settled(trail: tuple[Step, ...]) -> tuple[Step, ...]:
    """A trail as it was stored, its reader's steps renamed: what an earlier run met is not met again."""
    return tuple(replace(step, slot=f"earlier.{SLOT}") if step.slot == SLOT else step for step in trail)


def counts(trail: Iterable[Step]) -> Mapping[str, Any]:
    """`off_table` of one sample; empty where its reader looked at no table."""
    found: dict[str, Any] = {}
    for step in trail:
        if step.slot == SLOT and KEY in step.facts:
            found |= cast("Mapping[str, Any]", step.facts[KEY])
    return found


def total(every: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum of `counts` of many samples, or of such sums; each value's own number is a lower bound."""
    numbers: dict[str, Counter[str]] = {}
    values: dict[str, Counter[str]] = {}
    for one in every:
        for name, facts in one.items():
            numbers.setdefault(name, Counter()).update({key: int(facts[key]) for key in _NUMBERS})
            values.setdefault(name, Counter()).update(cast("Mapping[str, int]", facts["values"]))
    summed: dict[str, Any] = {}
    for name in sorted(numbers):
        kept, rest = _cut(values[name])
        told = {key: numbers[name][key] for key in _NUMBERS}
        summed[name] = told | {"values": kept, "other": told["other"] + rest}
    return summed


def lines(summed: Mapping[str, Any], first: int = 5) -> Sequence[str]:
    """A total in words, a line for each table, for a console."""
    told: list[str] = []
    for name, facts in sorted(summed.items()):
        unit = "labels of unknown classes" if name == LABELS else f"pixels of '{name}' off its table"
        shown = ", ".join(f"{printable(value)} {count}" for value, count in list(facts["values"].items())[:first])
        more = f": {shown}" + (", ..." if len(facts["values"]) > first or facts["other"] else "") if shown else ""
        told.append(f"{facts['count']} {unit} in {facts['samples']} of {facts['read']} samples{more}")
    return told


def _cut(values: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """The most frequent values, ties in order of their text, and the sum of the others."""
    ordered = sorted(values.items(), key=lambda item: (-item[1], item[0]))
    return dict(ordered[:SHOWN]), sum(count for _, count in ordered[SHOWN:])
