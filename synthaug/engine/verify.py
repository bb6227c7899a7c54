"""What is there of a dataset: how far a run is, and whether every byte is the one that was written."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from synthaug.engine import manifest
from synthaug.engine.lock import holder
from synthaug.engine.plan import FORMAT
from synthaug.engine.publish import PRIVATE, Output
from synthaug.errors import ConfigError, InputError, printable
from synthaug.formats import strays

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
    """Prints what is there of a dataset; 0 complete, 75 incomplete, at work or not."""
    working = holder(Path(path))
    if working and not (Path(path) / manifest.PLAN).is_file():
        print(f"{path}: a run is planning there ({working})")
        return INTERRUPTED
    output, stored = _existing(path)
    planned = [shard["name"] for shard in stored["shards"]]
    read = (manifest.read_shard(output, name) for name in planned)
    found = [m for m in read if m is not None and m["plan"] == stored["digest"]]
    total = sum(len(shard["entries"]) for shard in stored["shards"])
    counts = manifest.totals(found).to_json()
    final = manifest.intact(output.read(manifest.COMPLETE) or b"")
    complete = final is not None and final["plan"] == stored["digest"] and len(found) == len(planned)
    state = "complete" if complete else f"running ({working})" if working else "incomplete"
    print(f"{output.root}: {state}, {len(found)} of {len(planned)} shards")
    print(f"  of {total} samples: {counted(counts)}, still to do {total - counts['planned']}")
    if not complete and not working:
        print("  the same run command again goes on")
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
    for name in _beyond(output, vouched) if complete else []:
        print(f"not part of the dataset: {printable(name)}")
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


def strangers(output: Output, shards: Sequence[str]) -> list[str]:
    """Files that no manifest knows: someone else's, or of a commit that was killed and then turned out otherwise.

    Args:
        shards: Names of all planned shards.
    """
    found = (manifest.read_shard(output, name) for name in shards)
    manifests = [m for m in (*found, manifest.intact(output.read(manifest.COMPLETE) or b"")) if m is not None]
    return _beyond(output, {manifest.COMPLETE, *(file["name"] for m in manifests for file in m["files"])})


def _beyond(output: Output, vouched: Collection[str]) -> list[str]:
    others: list[str] = []
    for here, folders, files in os.walk(output.root):
        folder = Path(here).relative_to(output.root)
        if folder == Path():
            folders[:] = [name for name in folders if name not in (PRIVATE, "lost+found")]
        others += [name for file in files if (name := (folder / file).as_posix()) not in vouched]
    return sorted(others)


def remarks(complete: Mapping[str, Any]) -> list[str]:
    """What the reader noticed and the writer left out, in words, from the manifest of a finished dataset."""
    notes = {name: count for name, count in complete.get("notes", {}).items() if name != "images"}
    rows = [f"read: {', '.join(f'{count:,} {printable(name)}' for name, count in notes.items())}"] if notes else []
    annotations: Mapping[str, Any] = complete.get("annotations", {})
    off_table = annotations.get(strays.KEY, {})
    met = {name: facts for name, facts in off_table.items() if facts["count"]}
    # Summed once more, because a manifest has its keys in order of the alphabet and not of their counts.
    rows += [f"read: {line}" for line in strays.lines(strays.total([met]))]
    left = ", ".join(f"{count:,} {printable(name)}" for name, count in annotations.get(manifest.LEFT_OUT, {}).items())
    return rows + ([f"write: {left} left out, which the format or its settings do not hold"] if left else [])


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
