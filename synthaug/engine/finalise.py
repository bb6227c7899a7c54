"""What needs the whole plan: the dataset's own files, its contact sheet, its last manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from synthaug.contracts import Appearance, DatasetInfo, Fragment, Writer
from synthaug.engine import manifest
from synthaug.engine.pipeline import Pipeline
from synthaug.engine.plan import Plan, Shard
from synthaug.engine.publish import Output
from synthaug.errors import SynthaugError
from synthaug.formats import png
from synthaug.report import sheet


def sheet_ids(plan: Plan, count: int = 8) -> frozenset[str]:
    """Samples for the contact sheet, spread evenly over the plan, not picked by how they look."""
    ids = [entry.id for entry in plan.entries if not entry.problem]
    n = min(count, len(ids))
    return frozenset(ids[i * len(ids) // n] for i in range(n))


def finalise(
    output: Output, plan: Plan, writer: Writer, dataset: DatasetInfo, notes: Mapping[str, int] | None = None
) -> manifest.Totals:
    """What needs the whole dataset, published last. Pure in the published shards, so it may run twice.

    Args:
        notes: What the reader says of the input as a whole.
    """
    writer.open(dataset)
    manifests = [_finished(output, shard) for shard in plan.shards]
    fragments = (
        Fragment(rows=tuple(manifest.from_lines(output.read(manifest.rows_name(s.name)) or b""))) for s in plan.shards
    )
    counts = manifest.totals(manifests)
    lost = [{**row, "kind": kind} for m in manifests for kind in ("rejected", "failed") for row in m[kind]]
    shards = {s.name: output.sha256_of(manifest.shard_name(s.name)) for s in plan.shards}
    with output.begin("finalise") as staging:
        for file in writer.finalise(fragments):
            staging.write(file.name, file.data)
        staging.write(manifest.REJECTED, manifest.to_lines(lost))
        if panels := [
            data for e in plan.entries if e.id in sheet_ids(plan) and (data := output.read(manifest.panel_name(e.id)))
        ]:
            staging.write(manifest.SHEET, png.encode(sheet.sheet([png.decode(data) for data in panels])))
        staging.commit(
            manifest.COMPLETE,
            lambda files: manifest.sealed_bytes(
                {
                    "format": manifest.FORMAT,
                    "plan": plan.digest,
                    "reader": writer.reader(),
                    "totals": counts.to_json(),
                    "notes": dict(notes or {}),
                    "annotations": manifest.most_frequent(manifest.added(m["annotations"] for m in manifests)),
                    "shards": shards,
                    "files": [{"name": f.name, "size": f.size, "sha256": f.sha256} for f in files],
                }
            ),
        )
    return counts


def _finished(output: Output, shard: Shard) -> dict[str, Any]:
    found = manifest.read_shard(output, shard.name)
    if found is None:
        raise SynthaugError(f"shard {shard.name} vanished from {output.root}; run the same command again")
    return found


def dataset_info(plan: Plan, pipeline: Pipeline, categories: Any, card: Mapping[str, Any]) -> DatasetInfo:
    """What the writer may know before the first sample."""
    repainted = any(isinstance(slot.stage, Appearance) for slot in pipeline.slots)
    passes = tuple(p for p in plan.passes if not (repainted and p == "albedo"))
    splits = tuple(sorted({entry.split for entry in plan.entries}))
    return DatasetInfo(categories, splits, passes, card)
