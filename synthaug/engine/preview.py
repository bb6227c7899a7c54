"""Four samples through the whole pipeline, a contact sheet, and what the run would cost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from synthaug.engine import live, plan
from synthaug.engine.appearance import Work
from synthaug.engine.job import open_job
from synthaug.engine.progress import clock
from synthaug.engine.publish import PRIVATE, Output
from synthaug.engine.workers import read_one
from synthaug.errors import InputError
from synthaug.formats import png
from synthaug.report import sheet
from synthaug.sample import Sample

if TYPE_CHECKING:
    from synthaug.engine.configure import RunConfig

SHEET = f"{PRIVATE}/preview.png"
_COUNT = 4


def preview(config: RunConfig) -> int:
    """Prints verdicts and estimates, writes the contact sheet below the output root. Returns 0.

    The estimate of time is for one process without overlap: an upper bound once weights are loaded.
    """
    job = open_job(config)
    made = job.plan(known=None)
    dataset = job.dataset(made)
    job.pipeline.load(job.device)
    settings = live.settings_of(job, hdr=made.space == "linear")
    entries = [e for e in made.entries if not e.problem]
    picked = [entries[i * len(entries) // _COUNT] for i in range(min(_COUNT, len(entries)))]
    panels: list[sheet.Pixels] = []
    sizes: list[int] = []
    start = time.monotonic()
    for index, entry in enumerate(picked):
        read = read_one(job.reader, entry.source, {})
        if not isinstance(read, Sample):
            print(f"{entry.id}: rejected by the reader: {read}")
            continue
        result = live.process(job, [Work(index, entry, 0, plan.planned(read, entry))], settings)[0]
        if result.problem is not None:
            print(f"{entry.id}: {result.problem}")
            continue
        writer = job.make_writer()
        writer.open(dataset)
        encoded = writer.encode(result.sample)
        sizes.append(sum(len(f.data) for f in encoded.files) + sum(map(len, encoded.members.values())))
        panels.append(sheet.panel(result.sample))
        print(f"{entry.id}: {sizes[-1]:,} bytes")
    seconds = (time.monotonic() - start) / len(picked)
    if not panels:
        raise InputError(f"none of {len(picked)} previewed samples came through; the reasons are above")
    output = Output(job.root)
    output.preflight()
    output.publish_file(SHEET, png.encode(sheet.sheet(panels)))
    total, each = len(made), sum(sizes) / len(sizes)
    print(f"contact sheet: {output.root / SHEET}")
    print(f"{total} samples: about {clock(seconds * total)} in one process, {each * total / 1e6:,.1f} MB")
    return 0
