"""Which neighbouring slots of a bracket execute together, and where: a pure function of slots and device.

Host stages run one by one in threads, tone curves as one table. A device stage draws its neighbours that can
also compute there (`also_on_device`) into its row, so that a picture travels to the device and back once.
Without a device stage beside them they stay on the host, and so they do where the device is the CPU itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from typing import Literal

from synthaug.contracts import Appearance, Geometry, Pointwise
from synthaug.engine.pipeline import Slot

Kind = Literal["geometry", "device", "pointwise", "host"]


@dataclass(frozen=True, slots=True)
class Row:
    """Slots that execute together.

    Attributes:
        kind: `geometry`: composed, resampled once. `device`: one after the other on one tensor. `pointwise`: one
            table on 8-bit pictures. `host`: a single stage.
        slots: At least one.
    """

    kind: Kind
    slots: tuple[Slot, ...]


def rows(slots: Sequence[Slot], device: str) -> list[Row]:
    """The rows of a bracket's stages.

    Args:
        slots: In the order of running.
        device: Of the run, as torch names it; nothing is asked of it but its name.
    """
    moved = on_device(slots, device)
    found: list[Row] = []
    for (kind, _), members in groupby(enumerate(slots), key=lambda item: _key(*item, moved[item[0]])):
        row = tuple(slot for _, slot in members)
        cuts = [i for i in range(1, len(row)) if kind == "device" and _space_changes(row[i - 1], row[i])]
        found += [Row(kind, row[a:b]) for a, b in zip([0, *cuts], [*cuts, len(row)], strict=True)]
    return found


def on_device(slots: Sequence[Slot], device: str) -> list[bool]:
    """For each slot, whether it runs on the device."""
    willing = device.partition(":")[0] != "cpu"
    found: list[bool] = []
    for _, members in groupby(slots, key=lambda slot: _at_home(slot) or (willing and _can_travel(slot))):
        row = list(members)
        found += [any(map(_at_home, row))] * len(row)
    return found


def prefix(slots: Sequence[Slot], device: str) -> list[Row]:
    """The rows before the first one on the device: what a process without it can do."""
    return list(takewhile(lambda row: row.kind != "device", rows(slots, device)))


def _key(index: int, slot: Slot, moved: bool) -> tuple[Kind, int]:
    """Neighbours with equal keys share a row; host stages have one each."""
    if isinstance(slot.stage, Geometry):
        return "geometry", 0
    if moved:
        return "device", 0
    return ("pointwise", 0) if isinstance(slot.stage, Pointwise) else ("host", index)


def _at_home(slot: Slot) -> bool:
    return slot.stage.place == "device"


def _can_travel(slot: Slot) -> bool:
    return isinstance(slot.stage, Appearance) and slot.stage.also_on_device


def _space_changes(before: Slot, after: Slot) -> bool:
    """Whether the pictures must pass through the engine, which alone converts between sRGB and linear."""
    return (
        isinstance(before.stage, Appearance)
        and isinstance(after.stage, Appearance)
        and before.stage.gives != after.stage.takes
    )
