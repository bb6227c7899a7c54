"""The slots of a recipe, checked against each other and cut into brackets.

A bracket is a row of stages with the gates that judge it. A repair restarts at the bracket's beginning,
so what stands there is the last accepted picture; a stage that renews the reference closes a bracket of
its own, because a repair must not draw a surface anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthaug.contracts import Appearance, Gate, Geometry, Stage
from synthaug.errors import ConfigError
from synthaug.labels import Category, Size
from synthaug.sample import Space


@dataclass(frozen=True, slots=True)
class Slot:
    """One named place in the pipeline and the stage in it."""

    name: str
    stage: Stage


@dataclass(frozen=True, slots=True)
class Bracket:
    """Stages, then the gates that judge what they did. No gates: everything passes."""

    stages: tuple[Slot, ...]
    gates: tuple[Slot, ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """All slots in the order of running."""

    slots: tuple[Slot, ...]

    @property
    def brackets(self) -> tuple[Bracket, ...]:
        """The slots, cut where a repair may restart."""
        brackets: list[Bracket] = []
        stages: list[Slot] = []
        gates: list[Slot] = []

        def close() -> None:
            if stages or gates:
                brackets.append(Bracket(tuple(stages), tuple(gates)))
            stages.clear()
            gates.clear()

        for slot in self.slots:
            if isinstance(slot.stage, Gate):
                gates.append(slot)
                continue
            if gates:
                close()
            stages.append(slot)
            if isinstance(slot.stage, Appearance) and slot.stage.renews_reference:
                close()
        close()
        return tuple(brackets)

    @property
    def needs_device(self) -> bool:
        """Whether any stage computes in torch."""
        return any(slot.stage.place == "device" for slot in self.slots)

    def load(self, device: str) -> None:
        """Loads the weights of every stage; the first point at which anything heavy happens."""
        for slot in self.slots:
            slot.stage.load(device if slot.stage.place == "device" else "cpu")

    def identity(self) -> dict[str, Mapping[str, Any]]:
        """What the stages add to the run's identity, by slot (hashes of weights and photos)."""
        return {slot.name: facts for slot in self.slots if (facts := slot.stage.identity())}

    def canvas(self, size: Size) -> Size:
        """The size a picture has at the end, from the size it has at the start."""
        for slot in self.slots:
            if isinstance(slot.stage, Geometry):
                size = slot.stage.canvas(size)
        return size

    def check(
        self, *, passes: Sequence[str], space: Space, ungated: bool, categories: Sequence[Category] = ()
    ) -> Space:
        """Holds the slots against the input and each other, before any weights load.

        Args:
            passes: Passes that every sample of the input brings.
            space: Colour space of the input pictures.
            ungated: The user's word that pictures may be repainted without a gate.
            categories: Of the dataset.

        Returns:
            The space of the pictures that will be written.

        Raises:
            ConfigError: Naming the slot, what it found and the way out.
        """
        last_gate = max((i for i, slot in enumerate(self.slots) if isinstance(slot.stage, Gate)), default=-1)
        repaints = [slot.name for slot in self.slots if isinstance(slot.stage, Appearance)]
        if repaints and last_gate < 0 and not ungated:
            raise ConfigError(
                f"slot {repaints[0]} repaints pictures but no gate judges them; "
                "add '- /gate: integrity' after it in the recipe's defaults (or +gate=integrity), or say ungated=true"
            )
        hdr = space == "linear"
        for index, slot in enumerate(self.slots):
            _check_slot(slot, passes, after_gate=index > last_gate, ungated=ungated)
            try:
                slot.stage.expect(categories, passes)
            except ConfigError as error:
                raise ConfigError(f"slot {slot.name}: {error}") from error
            stage = slot.stage
            if isinstance(stage, Appearance):
                hdr = _check_space(slot.name, stage, hdr)
        return "linear" if hdr else "srgb"


def _check_slot(slot: Slot, passes: Sequence[str], *, after_gate: bool, ungated: bool) -> None:
    stage = slot.stage
    missing = [name for name in stage.needs if name not in passes]
    if missing:
        raise ConfigError(
            f"slot {slot.name} ({type(stage).__name__}) needs the passes {', '.join(missing)}; the input brings "
            f"{', '.join(passes) or 'none'}. Configure them in the reader, or drop the slot with ~{slot.name}"
        )
    if isinstance(stage, Geometry) and (stage.scope == "object" or stage.place == "device"):
        raise ConfigError(f"slot {slot.name}: a Geometry moves whole pictures; scope sample or group, place host")
    if isinstance(stage, Appearance) and stage.generative and after_gate and not ungated:
        raise ConfigError(
            f"slot {slot.name} ({type(stage).__name__}) invents content after the last gate, so nothing would "
            "check it against the labels; a slot added on the command line lands at the end: put it before the gate, "
            "in the recipe, or add a gate behind it (+gate@last=integrity), or say ungated=true"
        )
    if not isinstance(stage, Appearance | Geometry | Gate):
        raise ConfigError(f"slot {slot.name} holds a {type(stage).__name__}, expected an Appearance, Geometry or Gate")


def _check_space(slot: str, stage: Appearance, hdr: bool) -> bool:
    """Whether the picture is scene-linear (HDR) after the stage; sRGB <-> linear of SDR pictures is exact."""
    if hdr and stage.takes == "srgb":
        raise ConfigError(
            f"slot {slot} ({type(stage).__name__}) takes sRGB in [0, 1] but the pictures are scene-linear (HDR) there; "
            "put a tone mapping stage before it, such as /augment@tone: tonemap"
        )
    return hdr and stage.gives == "linear"
