"""Checks a dataset against its own books, as a stranger would: shares no code with what wrote them.

`python tests/crash/ledger.py OUT` prints what is wrong and ends with 1, or prints the totals.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any


def check(root: Path, *, complete: bool = True) -> list[str]:
    """Problems of a dataset, in words; none means that the books balance and every byte is as promised.

    Args:
        complete: False for a run that may still be resumed: shards may be missing, but none may be wrong.
    """
    try:
        plan = json.loads((root / ".synthaug" / "plan.json").read_text())
    except FileNotFoundError:
        return ["no plan"] if complete else []
    problems: list[str] = []
    names: Counter[str] = Counter()
    written: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for shard in plan["shards"]:
        path = root / ".synthaug" / "shards" / f"{shard['name']}.json"
        if not path.is_file():
            if complete:
                problems.append(f"shard {shard['name']}: no manifest")
            continue
        try:
            manifest = json.loads(path.read_bytes())
        except ValueError:
            problems.append(f"shard {shard['name']}: manifest is torn")
            continue
        problems += [f"shard {shard['name']}: {text}" for text in _shard(root, shard, manifest, plan)]
        names.update(f["name"] for f in manifest["files"])
        written.update(manifest["written"])
        totals.update({"planned": len(manifest["planned"]), "written": len(manifest["written"])})
        totals.update(f"{kind}.{row['reason']}" for kind in ("rejected", "failed") for row in manifest[kind])
        problems += [f"shard {shard['name']}: {text}" for text in _seal(path.read_bytes())]
    problems += [f"file {n} belongs to {c} shards" for n, c in names.items() if c > 1]
    problems += [f"sample {n} was written {c} times" for n, c in written.items() if c > 1]
    top = root / "manifest.json"
    if top.is_file():
        problems += [f"manifest.json: {text}" for text in _seal(top.read_bytes())]
        problems += _whole(root, json.loads(top.read_bytes()), plan, totals, set(names))
    elif complete:
        problems.append("no manifest.json")
    return problems


def _seal(data: bytes) -> list[str]:
    """A manifest may end in a field that hashes what stands before it."""
    stem, mark, tail = data.rpartition(b',\n "seal": "')
    if not mark or tail == hashlib.sha256(stem).hexdigest().encode() + b'"\n}\n':
        return []
    return ["its seal is broken"]


def _shard(root: Path, planned: dict[str, Any], manifest: dict[str, Any], plan: dict[str, Any]) -> list[str]:
    problems: list[str] = []
    if manifest["shard"] != planned["name"]:
        problems.append(f"calls itself {manifest['shard']}")
    if manifest["plan"] != plan["digest"]:
        problems.append("belongs to another plan")
    ids = [entry["id"] for entry in planned["entries"]]
    if manifest["planned"] != ids:
        problems.append("planned other samples than the plan")
    lost = [row["id"] for kind in ("rejected", "failed") for row in manifest[kind]]
    if sorted(manifest["written"] + lost) != sorted(ids):
        problems.append(f"planned {len(ids)} != written {len(manifest['written'])} + lost {len(lost)}, or other ids")
    if any(not row["reason"] for kind in ("rejected", "failed") for row in manifest[kind]):
        problems.append("a loss without a reason")
    return problems + _files(root, manifest["files"])


def _files(root: Path, files: list[dict[str, Any]]) -> list[str]:
    problems: list[str] = []
    for file in files:
        path = root / file["name"]
        data = path.read_bytes() if path.is_file() else None
        if data is None:
            problems.append(f"{file['name']} is missing")
        elif len(data) != file["size"] or hashlib.sha256(data).hexdigest() != file["sha256"]:
            problems.append(f"{file['name']} has other bytes than promised")
    return problems


def _whole(
    root: Path, top: dict[str, Any], plan: dict[str, Any], totals: Counter[str], shard_files: set[str]
) -> list[str]:
    problems = _files(root, top["files"])
    if top["plan"] != plan["digest"]:
        problems.append("manifest.json belongs to another plan")
    flat = Counter({"planned": top["totals"]["planned"], "written": top["totals"]["written"]})
    for kind in ("rejected", "failed"):
        flat.update({f"{kind}.{reason}": count for reason, count in top["totals"][kind].items()})
    if flat != totals:
        problems.append(f"manifest.json counts {dict(flat)}, its shards {dict(totals)}")
    for name, sha256 in top["shards"].items():
        path = root / ".synthaug" / "shards" / f"{name}.json"
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
            problems.append(f"manifest.json vouches for another manifest of shard {name}")
    if sorted(top["shards"]) != sorted(s["name"] for s in plan["shards"]):
        problems.append("manifest.json vouches for other shards than planned")
    known = shard_files | {f["name"] for f in top["files"]} | {"manifest.json"}
    present = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
    problems += [f"{name} belongs to nobody" for name in sorted(present - known) if not name.startswith(".synthaug/")]
    return problems


if __name__ == "__main__":
    found = check(Path(sys.argv[1]))
    print("\n".join(found) if found else (Path(sys.argv[1]) / "manifest.json").read_text())
    sys.exit(bool(found))
