"""What a gate must stand behind, and what may come after the last one."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthaug.augment.photometric import GaussianNoise
from synthaug.engine.pipeline import Pipeline, Slot
from synthaug.errors import ConfigError
from synthaug.gate.integrity import Integrity
from synthaug.refine.look import Look
from tests.engine import runs
from tests.fakes import FakeModel

GATE, MODEL = Slot("gate", Integrity()), Slot("model", FakeModel())
NATIVE = (Slot("tone", GaussianNoise()), Slot("look", Look(photos="unused")))


def check(*slots: Slot, ungated: bool = False) -> None:
    Pipeline(slots).check(passes=("instance", "semantic", "depth"), space="srgb", ungated=ungated)


@pytest.mark.parametrize("slot", NATIVE)
def test_what_only_changes_values_may_follow_the_last_gate(slot: Slot) -> None:
    check(MODEL, GATE, slot)
    check(slot, GATE)
    with pytest.raises(ConfigError, match="no gate judges them"):
        check(slot)
    check(slot, ungated=True)


def test_what_invents_content_is_judged_or_refused() -> None:
    check(MODEL, GATE)
    check(GATE, MODEL, Slot("last", Integrity()))
    with pytest.raises(ConfigError, match=r"invents content after the last gate.*ungated=true"):
        check(GATE, MODEL)
    check(GATE, MODEL, ungated=True)


def test_a_slot_added_on_the_command_line_lands_after_the_gate(tmp_path: Path) -> None:
    added = runs.config(tmp_path / "out", "+augment@tone=gamma")
    assert list(added.stages)[-1] == "tone"
    with pytest.raises(ConfigError, match=r"slot painter .* invents content after the last gate"):
        runs.run(tmp_path / "out", "+painter={_target_: tests.fakes.FakeModel}")
