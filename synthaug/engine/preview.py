"""Four samples through the whole pipeline, a contact sheet, and what the run would cost."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from synthaug.contracts import DatasetInfo
from synthaug.engine import live, plan, roots
from synthaug.engine.appearance import Work
from synthaug.engine.job import Job, open_job, refuse_absent_device
from synthaug.engine.plan import Entry, Plan
from synthaug.engine.progress import clock
from synthaug.engine.publish import PRIVATE, Output
from synthaug.engine.workers import read_one
from synthaug.errors import InputError, printable
from synthaug.formats import png
from synthaug.report import sheet
from synthaug.sample import Sample

if TYPE_CHECKING:
    from synthaug.engine.bracket import Settings
    from synthaug.engine.configure import RunConfig

SHEET = f"{PRIVATE}/preview.png"
_COUNT = 4


def preview(config: RunConfig) -> int:
    """Prints verdicts and estimates, writes the contact sheet. Returns 0.

    The sheet goes into the private folder of the output root, which a run there takes over; where no
    `write.root` is given, into a fresh folder of the system's temporary area. The estimate of time is for one
    process without overlap: an upper bound once weights are loaded.
    """
    given = str(config.write.get("root") or "").strip()
    # Made in the end, when there is something to put there; only its name is needed until then.
    config = replace(config, write={**config.write, "root": given or tempfile.gettempdir()})
    if given:
        roots.refuse_overlap(config)
    job = open_job(config)
    refuse_absent_device(job)
    made = job.plan(known=None)
    _tell_unreadable(made)
    dataset = job.dataset(made)
    job.pipeline.load(job.device)
    settings = live.settings_of(job, hdr=made.space == "linear")
    entries = [e for e in made.entries if not e.problem]
    picked = [entries[i * len(entries) // _COUNT] for i in range(min(_COUNT, len(entries)))]
    start = time.monotonic()
    shown = [done for i, entry in enumerate(picked) if (done := _one(job, dataset, settings, i, entry))]
    seconds = (time.monotonic() - start) / len(picked)
    if not shown:
        raise InputError(f"none of {len(picked)} previewed samples came through; the reasons are above")
    print(f"contact sheet: {_publish(given, [panel for panel, _ in shown])}")
    total, each = len(entries), sum(size for _, size in shown) / len(shown)
    print(f"{total} samples: about {clock(seconds * total)} in one process, {each * total / 1e6:,.1f} MB")
    return 0


def _tell_unreadable(made: Plan) -> None:
    """Samples that the run would count as rejected without looking at their pixels."""
    bad = [(e, e.problem) for e in made.entries if e.problem]
    if bad:
        reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(Counter(p[0] for _, p in bad).items()))
        entry, problem = bad[0]
        print(
            f"skipped as unreadable: {len(bad)} of {len(made)} samples ({reasons}), the first "
            f"{printable(f'{entry.id}: {problem[1]}')}"
        )


def _one(
    job: Job, dataset: DatasetInfo, settings: Settings, index: int, entry: Entry
) -> tuple[sheet.Pixels, int] | None:
    """Its panel for the sheet and its size in bytes; or None, and why is printed."""
    read = read_one(job.reader, entry.source, {})
    if not isinstance(read, Sample):
        print(f"{entry.id}: rejected by the reader: {read}")
        return None
    result = live.process(job, [Work(index, entry, 0, plan.planned(read, entry))], settings)[0]
    if result.problem is not None:
        print(f"{entry.id}: {result.problem}")
        return None
    writer = job.make_writer()
    writer.open(dataset)
    encoded = writer.encode(result.sample)
    size = sum(len(f.data) for f in encoded.files) + sum(map(len, encoded.members.values()))
    print(f"{entry.id}: {size:,} bytes")
    return sheet.panel(result.sample), size


def _publish(root: str, panels: Sequence[sheet.Pixels]) -> Path:
    """Where the contact sheet was written."""
    output = Output(Path(root or tempfile.mkdtemp(prefix="synthaug-preview-")))
    output.preflight()
    name = SHEET if root else Path(SHEET).name
    output.publish_file(name, png.encode(sheet.sheet(panels)))
    return output.root / name
