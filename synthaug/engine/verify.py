"""What is there of a dataset: how far a run is, and whether every byte is the one that was written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synthaug.engine import manifest
from synthaug.engine.plan import FORMAT
from synthaug.engine.publish import PRIVATE, Output
from synthaug.errors import ConfigError, InputError, printable

COMPLETE, DAMAGED, INTERRUPTED = 0, 2, 75


def stored_plan(output: Output) -> dict[str, Any] | None:
    """The plan that a dataset was begun with; None where there is none.

    Raises:
        InputError: It is damaged. No shard is touched.
        ConfigError: It was written by another version.
    """
    data = output.read(manifest.PLAN)
    if data is None:
        return None
    stored = manifest.intact(data)
    if stored is None:
        raise InputError(
            f"{output.root / manifest.PLAN} is damaged; no shard was touched. Restore it from a backup, or use "
            "another write.root"
        )
    if stored.get("format") != FORMAT:
        raise ConfigError(f"{manifest.PLAN} has format {stored.get('format')}, this version of synthaug reads {FORMAT}")
    return stored


def status(path: str) -> int:
    """Prints what is there of a dataset; 0 complete, 75 incomplete."""
    output, stored = _existing(path)
    planned = [shard["name"] for shard in stored["shards"]]
    found = [m for name in planned if (m := manifest.read_shard(output, name)) is not None]
    total = sum(len(shard["entries"]) for shard in stored["shards"])
    counts = manifest.totals(found).to_json()
    complete = output.read(manifest.COMPLETE) is not None
    print(f"{output.root}: {'complete' if complete else 'incomplete'}, {len(found)} of {len(planned)} shards")
    print(f"  of {total} samples: {counted(counts)}, still to do {total - counts['planned']}")
    return COMPLETE if complete else INTERRUPTED


def verify(path: str) -> int:
    """Hashes every published file again; 0 whole and complete, 75 whole so far, 2 damaged (files listed)."""
    output, stored = _existing(path)
    bad: list[str] = []
    vouched: set[str] = {manifest.COMPLETE}
    done = 0
    for shard in stored["shards"]:
        found = manifest.read_shard(output, shard["name"])
        if found is not None:
            done += 1
            vouched.update(file["name"] for file in found["files"])
            bad += manifest.damaged(output, found)
        elif output.read(manifest.shard_name(shard["name"])) is not None:
            bad.append(manifest.shard_name(shard["name"]))
    final = output.read(manifest.COMPLETE)
    if final is not None:
        bad += _verify_final(output, final, vouched)
    for name in bad:
        print(f"damaged: {name}")
    complete = final is not None and done == len(stored["shards"])
    if complete:
        _report_strangers(output, vouched)
    state = "damaged" if bad else "whole and complete" if complete else "whole so far, incomplete"
    print(f"{output.root}: {state}; {len(vouched)} files in {done} of {len(stored['shards'])} shards hashed")
    if bad:
        print("  the same run command again redoes exactly the damaged shards")
        return DAMAGED
    return COMPLETE if complete else INTERRUPTED


def _verify_final(output: Output, data: bytes, vouched: set[str]) -> list[str]:
    final = manifest.intact(data)
    if final is None:
        return [manifest.COMPLETE]
    vouched.update(file["name"] for file in final["files"])
    bad = manifest.damaged(output, final)
    for name, digest in final["shards"].items():
        if output.sha256_of(manifest.shard_name(name)) != digest:
            bad.append(manifest.shard_name(name))
    return bad


def _report_strangers(output: Output, vouched: set[str]) -> None:
    """Files that no manifest knows: someone else's, or of a commit that was killed and then turned out otherwise."""
    for path in sorted(output.root.rglob("*")):
        name = path.relative_to(output.root).as_posix()
        if path.is_file() and not name.startswith(f"{PRIVATE}/") and name not in vouched:
            print(f"not part of the dataset: {printable(name)}")


def _existing(path: str) -> tuple[Output, dict[str, Any]]:
    root = Path(path)
    if not (root / manifest.PLAN).is_file():
        raise ConfigError(f"{path} holds no synthaug run (no {manifest.PLAN}); give the folder that was write.root")
    output = Output(root)
    stored = stored_plan(output)
    assert stored is not None
    return output, stored


def counted(counts: Mapping[str, Any]) -> str:
    """The ledger law in words."""

    def reasons(of: Mapping[str, int]) -> str:
        listed = ", ".join(f"{reason} {n}" for reason, n in of.items())
        return f"{sum(of.values())}" + (f" ({listed})" if listed else "")

    return (
        f"planned {counts['planned']} = written {counts['written']} + rejected {reasons(counts['rejected'])} "
        f"+ failed {reasons(counts['failed'])}"
    )
