"""Small complete runs of the engine with the stand-ins of `tests.fakes`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from synthaug.engine import local
from synthaug.engine.configure import RunConfig, compose

RECIPE = str(Path(__file__).parents[1] / "fake.yaml")
PLUGIN = "tests.fakes"


def config(out: Path | str, *overrides: str, workers: int = 0) -> RunConfig:
    """The fake recipe with overrides; reads in this process unless told otherwise."""
    fixed = [f"write.root={out}", f"engine.workers={workers}", "engine.progress=none"]
    return compose(RECIPE, merged(*fixed, *overrides), plugins=[PLUGIN])


def merged(*overrides: str) -> list[str]:
    """The last word on every key; a command line that says two is refused."""
    return list({override.partition("=")[0].lstrip("+~"): override for override in overrides}.values())


def run(out: Path | str, *overrides: str, workers: int = 0) -> int:
    """Runs the fake recipe in this process; its exit status."""
    return local.run(config(out, *overrides, workers=workers))


def digest(out: Path) -> str:
    """The golden digest: every name and every byte below the root, but for what is operational."""
    whole = hashlib.sha256()
    for path in sorted(p for p in out.rglob("*") if p.is_file()):
        name = path.relative_to(out).as_posix()
        if name in (".synthaug/lock", ".synthaug/stamps.json") or name.startswith(".synthaug/tmp/"):
            continue
        whole.update(f"{len(name)}:{name}:{path.stat().st_size}:".encode())
        whole.update(path.read_bytes())
    return whole.hexdigest()


def shard(out: Path, number: int) -> dict[str, Any]:
    """One shard's manifest."""
    return json.loads((out / f".synthaug/shards/{number:06d}.json").read_text())


def totals(out: Path) -> dict[str, Any]:
    """The totals of a finished dataset."""
    return json.loads((out / "manifest.json").read_text())["totals"]


def trail(out: Path) -> dict[str, dict[str, Any]]:
    """Trail rows by sample id."""
    rows = {}
    for path in sorted(out.glob(".synthaug/shards/*.trail.jsonl")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            rows[row["id"]] = row
    return rows
