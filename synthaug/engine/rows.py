"""Which neighbouring slots of a bracket execute together, and where: a pure function of slots and device.

Host stages run one by one in threads, tone curves as one table. A device stage draws its neighbours that can
also compute there (`also_on_device`) into its row, so that a picture travels to the device and back once.
Geometries beside such a row have their pictures resampled there; their labels move on the host.
Without a device stage beside them all of these stay on the host, and so they do where the device is the CPU itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
        away: Whether its pictures are computed on the device: every `device` row, and a `geometry` beside one.
    """

    kind: Kind
    slots: tuple[Slot, ...]
    away: bool = False


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
        found += [Row(kind, row[a:b], kind == "device") for a, b in zip([0, *cuts], [*cuts, len(row)], strict=True)]
    return [_beside(i, found) for i in range(len(found))] if _elsewhere(device) else found


def _beside(index: int, found: Sequence[Row]) -> Row:
    """The row, told whether it is a geometry with a row of the device before or after it."""
    neighbours = found[max(index - 1, 0) : index + 2]
    away = found[index].kind == "geometry" and any(row.kind == "device" for row in neighbours)
    return replace(found[index], away=True) if away else found[index]


def on_device(slots: Sequence[Slot], device: str) -> list[bool]:
    """For each slot, whether it paints on the device."""
    willing = _elsewhere(device)
    found: list[bool] = []
    for _, members in groupby(slots, key=lambda slot: _at_home(slot) or (willing and _can_travel(slot))):
        row = list(members)
        found += [any(map(_at_home, row))] * len(row)
    return found


def prefix(slots: Sequence[Slot], device: str) -> list[Row]:
    """The rows before the first one that needs the device: what a process without it can do."""
    return list(takewhile(lambda row: not row.away, rows(slots, device)))


def _elsewhere(device: str) -> bool:
    return device.partition(":")[0] != "cpu"


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
