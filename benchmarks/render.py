"""Seconds for one dice picture of 256x256 at 16 samples per pixel, label passes and denoising included.

    python benchmarks/render.py [SCENES]

Default settings apart from the variant; every variant that runs here, in turn, scene by scene. `new_scene` makes,
loads and renders a scene that was not seen before; `next_view` renders another camera on the loaded scene. All
cores are Mitsuba's to use, so wall time depends on them and on whatever else runs: CPU time is given too. The
first scene warms up and does not count.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks import measure  # noqa: E402
from synthaug.render import variants  # noqa: E402
from synthaug.render.reader import DiceReader  # noqa: E402
from synthaug.render.scene_reader import PASSES  # noqa: E402

TARGET_S = 2.0


def timed(reader: DiceReader, sample_id: str) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds, and how many dice came back."""
    wall, cpu = time.perf_counter(), time.process_time()
    labels = reader.read(sample_id).labels
    spent = time.perf_counter() - wall, time.process_time() - cpu
    labels.check()
    if set(labels.passes) != set(PASSES) or not labels.instances:
        raise SystemExit(f"{sample_id} came back without its passes or instances")
    return *spent, float(len(labels.instances))


def main(scenes: int) -> None:
    names = [name for name in variants.KNOWN if name == variants.SCALAR or not variants.trial(name)]
    names = [name for name in names if name != variants.AUTO]
    readers = {name: DiceReader(scenes=scenes + 1, views=2, variant=name) for name in names}
    rows: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for index in range(scenes + 1):
        for name, reader in readers.items():
            for view, case in enumerate(("new_scene", "next_view")):
                row = timed(reader, f"scene-{index:06d}/view-{view}")
                if index:
                    rows.setdefault((name, case), []).append(row)
    seconds = {
        f"{name} {case}": {
            "wall_s": round(statistics.median(row[0] for row in values), 2),
            "cpu_s": round(statistics.median(row[1] for row in values), 2),
            "wall_s_range": [round(min(row[0] for row in values), 2), round(max(row[0] for row in values), 2)],
            "dice": statistics.median(row[2] for row in values),
        }
        for (name, case), values in rows.items()
    }
    claims = {"about_s": TARGET_S, "scalar_wall_s": seconds[f"{variants.SCALAR} new_scene"]["wall_s"]}
    details = {
        "seconds": seconds,
        "cores": os.cpu_count(),
        "load_average": [round(v, 1) for v in os.getloadavg()],
        "scenes": scenes,
    }
    measure.publish("render", claims, details, ("mitsuba", "drjit", "pyoidn", "numpy"))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 12)
