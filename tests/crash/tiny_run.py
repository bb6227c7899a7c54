"""The smallest honest client of publication: a plan, three shards, one rejected sample, a finalise.

Run as `python -S -m tests.crash.tiny_run OUT [--trust] [--bytes N]`. `--trust` believes a manifest because
it exists, without hashing the files: with it the flushes alone must carry the promise (see `power_loss`).
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from synthaug.engine.lock import RunLock
from synthaug.engine.publish import FileEntry, FileSystem, Output, seal, sealed
from synthaug.errors import SynthaugError

SHARDS = 3
REJECTED = "s1/b"


def plan_bytes() -> bytes:
    """The plan, two samples a shard."""
    rows = [{"name": f"{s:06d}", "entries": [{"id": f"s{s}/{x}"} for x in "ab"]} for s in range(SHARDS)]
    digest = hashlib.sha256(_json(rows)).hexdigest()
    return _json({"format": 1, "digest": digest, "shards": rows})


def picture(sample_id: str, size: int = 5000) -> bytes:
    """Bytes that are a function of the id, not all zero, over one page long."""
    return hashlib.shake_256(sample_id.encode()).digest(size)


def run(
    root: Path,
    *,
    files: FileSystem | None = None,
    trust: bool = False,
    size: int = 5000,
    promise: Callable[[str], None] = lambda name: None,
) -> None:
    """A whole run, or the rest of one; `promise` hears of each manifest that is there to stay."""
    output = Output(root, files)
    output.preflight()
    with RunLock(root, files):
        output.sweep()
        plan = _plan(output)
        promise(".synthaug/plan.json")
        for shard in plan["shards"]:
            name = f".synthaug/shards/{shard['name']}.json"
            if not _done(output, name, trust):
                _shard(output, shard, plan["digest"], size)
            promise(name)
        if not _done(output, "manifest.json", trust):
            _finalise(output, plan)
        promise("manifest.json")


def _plan(output: Output) -> dict[str, Any]:
    wanted, found = plan_bytes(), output.read(".synthaug/plan.json")
    if found is None:
        output.publish_file(".synthaug/plan.json", wanted)
    elif found != wanted:
        raise SynthaugError("the stored plan is another one, or damaged")
    return json.loads(wanted)


def _done(output: Output, name: str, trust: bool) -> bool:
    data = output.read(name)
    if data is None or trust:
        return data is not None
    if not sealed(data):
        return False
    return all(output.sha256_of(file["name"]) == file["sha256"] for file in json.loads(data)["files"])


def _shard(output: Output, shard: dict[str, Any], plan: str, size: int) -> None:
    ids = [entry["id"] for entry in shard["entries"]]
    written = [i for i in ids if i != REJECTED]

    def manifest(files: list[FileEntry]) -> bytes:
        return _manifest(
            {
                "format": 1,
                "shard": shard["name"],
                "plan": plan,
                "planned": ids,
                "written": written,
                "rejected": [{"id": i, "reason": "decode", "message": "planted"} for i in ids if i == REJECTED],
                "failed": [],
                "files": [file._asdict() for file in files],
            }
        )

    with output.begin(shard["name"]) as staging:
        for sample_id in written:
            staging.write(f"images/{sample_id}.png", picture(sample_id, size))
        staging.write(f"labels/{shard['name']}.json", _json(written))
        staging.commit(f".synthaug/shards/{shard['name']}.json", manifest)


def _finalise(output: Output, plan: dict[str, Any]) -> None:
    paths = {s["name"]: f".synthaug/shards/{s['name']}.json" for s in plan["shards"]}
    found = {name: json.loads(output.read(path) or b"") for name, path in paths.items()}
    counts = {
        "planned": sum(len(m["planned"]) for m in found.values()),
        "written": sum(len(m["written"]) for m in found.values()),
        "rejected": {"decode": sum(len(m["rejected"]) for m in found.values())},
        "failed": {},
    }

    def manifest(files: list[FileEntry]) -> bytes:
        shards = {name: output.sha256_of(path) for name, path in paths.items()}
        entries = [file._asdict() for file in files]
        return _manifest({"format": 1, "plan": plan["digest"], "totals": counts, "shards": shards, "files": entries})

    with output.begin("finalise") as staging:
        staging.write("annotations.json", _json([i for m in found.values() for i in m["written"]]))
        staging.commit("manifest.json", manifest)


def _manifest(value: Any) -> bytes:
    return seal(_json(value))


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def main(arguments: list[str]) -> int:
    """A run with the statuses of the command line."""
    size = int(arguments[arguments.index("--bytes") + 1]) if "--bytes" in arguments else 5000
    try:
        run(Path(arguments[0]), trust="--trust" in arguments, size=size)
    except SynthaugError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
