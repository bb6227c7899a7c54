"""One draw for a sample, or one for a group: of every native stage, and through the engine."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from synthaug.contracts import Stage
from synthaug.engine import local
from synthaug.engine.appearance import Work, drawn
from synthaug.engine.build import build
from synthaug.engine.configure import compose
from synthaug.engine.pipeline import Slot
from synthaug.engine.plan import Entry
from synthaug.errors import ConfigError
from synthaug.testing import make_sample
from tests.engine import runs

RECIPE = str(Path(__file__).with_name("sequences.yaml"))
PLUGINS = ("tests.fakes", "tests.augment.sequences")
NODES = {p.stem: yaml.safe_load(p.read_text()) for p in (Path(__file__).parents[2] / "conf/augment").glob("*.yaml")}
GIVEN: Mapping[str, Mapping[str, Any]] = {
    **{key: {"height": 32, "width": 32} for key in ("crop", "letterbox", "random_resized_crop", "resize")},
    "tonemap": {"exposure": [-1.0, 1.0]},
    "albumentations_appearance": {"transform": "RandomGamma"},
    "albumentations_geometry": {"transform": "Affine"},
    "kornia_appearance": {"transform": "ColorJiggle"},
    "kornia_geometry": {"transform": "RandomAffine", "params": {"degrees": 10.0}},
}
NOTHING_DRAWN = ("resize", "letterbox")


def run(out: Path, *overrides: str) -> dict[str, dict[str, Any]]:
    """Trail rows by id of a run over the sequences."""
    words = [f"write.root={out}", "engine.workers=0", "engine.progress=none", *overrides]
    assert local.run(compose(RECIPE, words, plugins=PLUGINS)) == 0
    return runs.trail(out)


def draws(rows: Mapping[str, Any], slot: str) -> dict[str, set[str]]:
    """Distinct draws of a slot by group."""
    found: dict[str, set[str]] = {}
    for row in rows.values():
        own = (s["draw"] for s in row["steps"] if s["slot"] == slot and s["stage"] != "Warp")
        found.setdefault(row["group"], set()).update(map(json.dumps, own))
    return found


def written(out: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in json.loads((out / "labels.json").read_text())}


@pytest.mark.parametrize("name", sorted(NODES))
def test_every_stage_can_be_told(name: str) -> None:
    """Frames of a group share the draw, groups and variants do not; without a word each sample has its own."""

    def draw(scope: str | None, source: str, group: str, variant: int = 0, attempt: int = 0) -> Any:
        node = {**NODES[name], **GIVEN.get(name, {})} | ({"scope": scope} if scope else {})
        stage = build(node, "slot")
        assert isinstance(stage, Stage)
        entry = Entry(source, source, variant, (64, 96), group, "train")
        return drawn(Slot("slot", stage), Work(0, entry, attempt, sample), sample.labels, 3)  # type: ignore[arg-type]

    sample = make_sample(1)
    shared = [draw("group", f"f{i}", "a") for i in range(4)]
    assert all(d == shared[0] for d in shared)
    if name in NOTHING_DRAWN:
        assert NODES[name]["scope"] == "group", "all frames move alike, so flow survives without a word"
        return
    assert NODES[name]["scope"] == "sample"
    others = [draw("group", "f0", f"g{i}") for i in range(12)]
    assert any(d != shared[0] for d in others)
    assert any(draw("group", "f0", f"g{i}", variant=1) != others[i] for i in range(12))
    alone = [draw(None, f"f{i}", "a") for i in range(12)]
    assert any(d != alone[0] for d in alone)


def test_a_scope_of_another_name_is_refused() -> None:
    for name in sorted(NODES):
        module, _, cls = NODES[name]["_target_"].rpartition(".")
        stage = getattr(importlib.import_module(module), cls)
        with pytest.raises(ConfigError, match=r"scope is 'object', expected one of sample, group"):
            stage(**GIVEN.get(name, {}), scope="object")
        assert "scope" in inspect.signature(stage).parameters


def test_frames_of_a_group_share_the_motion_and_the_look(tmp_path: Path) -> None:
    rows = run(tmp_path / "out", "move.scope=group", "tone.scope=group")
    for slot in ("move", "tone"):
        found = draws(rows, slot)
        assert len(found) == 3
        assert all(len(own) == 1 for own in found.values()), f"{slot}: one draw to a group"
        assert len(set.union(*found.values())) == 3, f"{slot}: groups differ"


def test_samples_draw_alone_unless_told(tmp_path: Path) -> None:
    rows = run(tmp_path / "out")
    for slot in ("move", "tone"):
        assert len(set.union(*draws(rows, slot).values())) == 9


def test_flow_survives_a_motion_that_the_group_shares(tmp_path: Path) -> None:
    run(tmp_path / "group", "move.scope=group")
    run(tmp_path / "sample")
    kept, lost = written(tmp_path / "group"), written(tmp_path / "sample")
    assert all("flow" in row["passes"] for row in kept.values())
    assert not any("flow" in row["passes"] for row in lost.values())
    assert all({"instance", "depth"} <= set(row["passes"]) for row in lost.values())
    by_group: dict[str, set[str]] = {}
    for row in kept.values():
        by_group.setdefault(row["group"], set()).add(row["passes"]["flow"])
    assert all(len(found) == 1 for found in by_group.values()), "the same flow through the same motion"
    assert len(set.union(*by_group.values())) == 3
    counted = json.loads((tmp_path / "sample/manifest.json").read_text())["annotations"]
    assert counted["passes_dropped"]["flow"] == {"next_frame_unknown": 9}
    counted = json.loads((tmp_path / "group/manifest.json").read_text())["annotations"]
    assert "flow" not in counted["passes_dropped"]


def test_one_motion_of_its_own_in_a_row_costs_the_flow(tmp_path: Path) -> None:
    extra = "+turn={_target_: synthaug.augment.geometric.Rotate90, turns: [2], scope: sample}"
    run(tmp_path / "out", "move.scope=group", "~tone", extra)
    assert not any("flow" in row["passes"] for row in written(tmp_path / "out").values())


def test_a_repaired_frame_moves_with_its_group(tmp_path: Path) -> None:
    """Otherwise the flow of the frame before it would point beside what it shows."""
    flaky = (
        "ungated=false",
        "+gate={_target_: tests.fakes.FlakyGate, share: 1.0, stubborn: 0.0}",
        "move.scope=group",
        "tone.scope=group",
        "engine.micro_batch=1",
        "read.count=18",
        "attempts=3",
    )
    rows = run(tmp_path / "out", *flaky)
    attempts = {s["attempt"] for row in rows.values() for s in row["steps"] if s["slot"] == "move"}
    assert len(attempts) > 1, "the case is there: frames of different attempts"
    assert all(len(own) == 1 for own in draws(rows, "move").values())
    assert any(len(own) > 1 for own in draws(rows, "tone").values()), "a repair may look different"
