"""The loop: ledger law, repair waves, labels out of reach, one digest whatever the circumstances."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from synthaug.engine import verify
from synthaug.errors import ConfigError, SynthaugError
from synthaug.formats import png
from tests.engine import runs

DEVICE = ("model._target_=tests.fakes.FakeDeviceModel", "+model.leak=false", "+model.poison='-'")


def test_ledger_balances_with_rejections_repairs_and_broken_input(tmp_path: Path) -> None:
    out = tmp_path / "out"
    status = runs.run(out, "read.count=40", "read.broken=[fake/00003,fake/00017]")
    counts = runs.totals(out)
    assert status == 0
    assert counts["rejected"]["decode"] == 2
    assert counts["rejected"]["stubborn"] > 0
    assert counts["planned"] == 40 == counts["written"] + sum(counts["rejected"].values())
    lost = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert {row["id"] for row in lost} >= {"fake/00003", "fake/00017"}
    assert all(row["slot"] in ("read", "gate") and row["message"] for row in lost)
    assert len(list((out / "images/fake").iterdir())) == counts["written"]


def test_repairs_restart_from_the_reference_with_the_next_attempt(tmp_path: Path) -> None:
    out = tmp_path / "out"
    runs.run(out, "read.count=40", "gate.stubborn=0")
    rows = runs.trail(out)
    attempts = {id_: row["steps"][0]["attempt"] for id_, row in rows.items()}
    assert len(rows) == 40
    assert set(attempts.values()) >= {0, 1}
    for row in rows.values():
        slots = [step["slot"] for step in row["steps"]]
        assert slots == ["model", "gate", "gain"], "a repair leaves no trace of the attempts before it"
        assert row["steps"][0]["draw"]["strength"] == pytest.approx(0.03 * 0.5 ** attempts[row["id"]])


def test_attempts_bound_the_repairs(tmp_path: Path) -> None:
    runs.run(tmp_path / "one", "read.count=40", "attempts=1", "gate.stubborn=0", "max_reject_ratio=1")
    runs.run(tmp_path / "three", "read.count=40", "attempts=3", "gate.stubborn=0")
    assert runs.totals(tmp_path / "one")["rejected"]["flaky"] > 0
    assert runs.totals(tmp_path / "three")["rejected"] == {}


def test_over_the_reject_budget_is_status_3(tmp_path: Path) -> None:
    assert runs.run(tmp_path / "out", "read.broken=[fake/00001]", "max_reject_ratio=0.01", "gate.share=0") == 3


def test_hostile_appearance_changes_no_label_byte(tmp_path: Path) -> None:
    runs.run(tmp_path / "plain", "gate.share=0")
    runs.run(
        tmp_path / "hostile", "gate.share=0", "model._target_=tests.fakes.Hostile", "~model.strength", "~model.seconds"
    )
    plain, hostile = (json.loads((tmp_path / name / "labels.json").read_text()) for name in ("plain", "hostile"))
    assert plain == hostile
    pictures = [png.decode((tmp_path / name / "images/fake/00000.png").read_bytes()) for name in ("plain", "hostile")]
    assert not np.array_equal(*pictures)


def test_groups_are_never_split_by_shards_or_splits(tmp_path: Path) -> None:
    out = tmp_path / "out"
    runs.run(out, "read.count=24", "read.frames=3", "split={train: 0.5, val: 0.5}", "gate.share=0")
    splits: dict[str, set[str]] = {}
    shards: dict[str, set[str]] = {}
    for path in sorted(out.glob(".synthaug/shards/*.trail.jsonl")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            splits.setdefault(row["group"], set()).add(row["split"])
            shards.setdefault(row["group"], set()).add(path.name)
    assert all(len(names) == 1 for names in splits.values())
    assert all(len(names) == 1 for names in shards.values())
    assert {name for names in splits.values() for name in names} == {"train", "val"}


def test_variants_have_ids_and_draws_of_their_own(tmp_path: Path) -> None:
    out = tmp_path / "out"
    runs.run(out, "read.count=3", "variants=2", "gate.share=0")
    rows = runs.trail(out)
    assert sorted(rows) == [f"fake/{i:05d}{v}" for i in range(3) for v in ("", "~v1")]
    assert rows["fake/00000"]["steps"][0]["draw"] != rows["fake/00000~v1"]["steps"][0]["draw"]


@pytest.mark.parametrize(
    "change",
    [
        ("engine.prefetch=1", "engine.encoders=1"),
        ("engine.prefetch=64", "engine.encoders=4", "read.jitter=0.01"),
    ],
)
def test_one_digest_whatever_the_concurrency(tmp_path: Path, change: tuple[str, ...]) -> None:
    common = ("read.count=13", "read.sizes=2", "read.broken=[fake/00004]")
    runs.run(tmp_path / "plain", *common)
    runs.run(tmp_path / "other", *common, *change)
    assert runs.digest(tmp_path / "plain") == runs.digest(tmp_path / "other")


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_one_digest_whatever_the_workers(tmp_path: Path, workers: int) -> None:
    runs.run(tmp_path / "plain", "read.count=9")
    runs.run(tmp_path / "other", "read.count=9", "read.jitter=0.02", workers=workers)
    assert runs.digest(tmp_path / "plain") == runs.digest(tmp_path / "other")


def test_device_batches_keep_their_shape_and_forget_their_mates(tmp_path: Path) -> None:
    """The tail of one run is the middle of another: the same bytes for the samples they share."""
    runs.run(tmp_path / "nine", *DEVICE, "read.count=9", "engine.micro_batch=4", "gate.share=0")
    runs.run(tmp_path / "eleven", *DEVICE, "read.count=11", "engine.micro_batch=4", "gate.share=0")
    for i in range(9):
        name = f"images/fake/{i:05d}.png"
        assert (tmp_path / "nine" / name).read_bytes() == (tmp_path / "eleven" / name).read_bytes()


def test_a_batch_that_leaks_into_the_draw_turns_determinism_red(tmp_path: Path) -> None:
    leak = (DEVICE[0], "+model.leak=true", DEVICE[2], "engine.micro_batch=4", "gate.share=0")
    runs.run(tmp_path / "nine", *leak, "read.count=9")
    runs.run(tmp_path / "eleven", *leak, "read.count=11")
    name = "images/fake/00008.png"
    assert (tmp_path / "nine" / name).read_bytes() != (tmp_path / "eleven" / name).read_bytes()


def test_c3_a_picture_that_is_not_finite_is_rejected_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    runs.run(out, DEVICE[0], DEVICE[1], "+model.poison=disc-5", "gate.share=0")
    assert runs.totals(out)["rejected"] == {"nonfinite": 1}
    lost = json.loads((out / "rejected.jsonl").read_text())
    assert lost["id"] == "fake/00005"
    assert lost["slot"] == "model"


def test_a_generative_stage_after_the_last_gate_is_refused(tmp_path: Path) -> None:
    late = "+late={_target_: tests.fakes.FakeModel, strength: 0.1, seconds: 0.0}"
    with pytest.raises(ConfigError, match=r"slot late .* after the last gate"):
        runs.run(tmp_path / "out", late)


def test_repainting_without_a_gate_is_refused_unless_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no gate judges"):
        runs.run(tmp_path / "out", "~gate")
    assert runs.run(tmp_path / "out2", "~gate", "ungated=true") == 0


def test_status_and_verify_tell_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    runs.run(out, "gate.share=0")
    assert verify.status(str(out)) == 0
    assert "complete, 3 of 3 shards" in capsys.readouterr().out
    assert verify.verify(str(out)) == 0
    with pytest.raises(ConfigError, match="holds no synthaug run"):
        verify.status(str(tmp_path))


def test_one_digest_from_several_processes_over_one_plan(tmp_path: Path) -> None:
    common = ("read.count=14", "read.broken=[fake/00004]")
    runs.run(tmp_path / "one", *common)
    assert runs.run(tmp_path / "two", *common, "engine.devices=2") == 0
    assert runs.digest(tmp_path / "one") == runs.digest(tmp_path / "two")


def test_a_device_process_that_keeps_dying_stops_the_run_and_names_the_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading in the device process itself, a sample that crashes takes the process with it."""
    monkeypatch.setenv("SYNTHAUG_FAILPOINTS", "worker.segv@fake/00009")
    with pytest.raises(SynthaugError, match=r"3 processes died over shard 000002 .*exit code -11"):
        runs.run(tmp_path / "out", "engine.devices=2", "gate.share=0")
    monkeypatch.delenv("SYNTHAUG_FAILPOINTS")
    assert runs.run(tmp_path / "out", "engine.devices=2", "gate.share=0") == 0
