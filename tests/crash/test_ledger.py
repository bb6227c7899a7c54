"""The stand-alone checker finds what is wrong, and nothing where nothing is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.crash import ledger, tiny_run


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    root = tmp_path / "out"
    tiny_run.run(root)
    return root


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_bytes())
    change(value)
    path.write_text(json.dumps(value))


def test_a_finished_run_balances(finished: Path) -> None:
    assert ledger.check(finished) == []
    assert ledger.check(finished, complete=False) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m["written"].pop(), "planned 2 != written 1"),
        (lambda m: m["written"].append("s0/a"), "or other ids"),
        (lambda m: m.update(plan="another"), "another plan"),
        (lambda m: m["planned"].reverse(), "planned other samples"),
        (lambda m: m.update(shard="000009"), "calls itself"),
        (lambda m: m["files"].append(m["files"][0]), "belongs to 2 shards"),
        (lambda m: m["files"].pop(), "belongs to nobody"),
        (lambda m: m["files"][0].update(sha256="0" * 64), "other bytes"),
        (lambda m: m.update(failed=[{"id": m["written"].pop(), "reason": "", "message": ""}]), "without a reason"),
    ],
)
def test_a_false_manifest_is_seen(finished: Path, change: Callable[[dict[str, Any]], object], said: str) -> None:
    _edit(finished / ".synthaug" / "shards" / "000000.json", change)
    problems = ledger.check(finished)
    assert any(said in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("images/s0/a.png", "images/s0/a.png is missing"),
        (".synthaug/shards/000001.json", "shard 000001: no manifest"),
        ("manifest.json", "no manifest.json"),
        ("annotations.json", "annotations.json is missing"),
        (".synthaug/plan.json", "no plan"),
    ],
)
def test_a_missing_file_is_seen(finished: Path, name: str, said: str) -> None:
    (finished / name).unlink()
    assert any(said in problem for problem in ledger.check(finished))


def test_false_totals_and_a_stray_file_are_seen(finished: Path) -> None:
    _edit(finished / "manifest.json", lambda top: top["totals"].update(written=4))
    (finished / "images" / "stray.png").write_bytes(b"x")
    problems = ledger.check(finished)
    assert any("counts" in problem for problem in problems)
    assert "images/stray.png belongs to nobody" in problems


def test_a_torn_manifest_is_seen_even_before_the_end(finished: Path) -> None:
    path = finished / ".synthaug" / "shards" / "000002.json"
    path.write_bytes(path.read_bytes()[:-1])
    assert "shard 000002: its seal is broken" in ledger.check(finished, complete=False)
    path.write_bytes(path.read_bytes()[:-9])
    assert "shard 000002: manifest is torn" in ledger.check(finished, complete=False)


def test_a_flipped_bit_that_leaves_good_json_is_seen(finished: Path) -> None:
    path = finished / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"format": 1', b'"format": 3'))
    assert "manifest.json: its seal is broken" in ledger.check(finished)
