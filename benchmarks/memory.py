"""Resident memory of a run, its reading processes included, from sample 200 to sample 2,000.

    python benchmarks/memory.py [--samples 2100] [--recipe convert]

512x512 pictures with 20 instances and depth from a folder, through gate, warp and tone curve, to COCO, with the
engine's defaults. After every encoded sample the resident set of the main process and of its children is read from
/proc. One reading says little (up to 40 pictures are on their way at any time), so the figure at a sample is the
median of the readings of the 100 samples around it. All medians are reported, and the highest reading.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks import measure, sources  # noqa: E402
from synthaug.engine import local, run  # noqa: E402
from synthaug.engine.configure import compose  # noqa: E402

MUST, AIM = 0.05, 0.02
FIRST, LAST = 200, 2000
DISTINCT = 150
PASSES = '{instance:{path:"instance/{stem}.png"},depth:{path:"depth/{stem}.png",unit:0.001}}'


def make_source(folder: Path, count: int) -> None:
    """As many samples as wanted from a few distinct ones: further names for the same files."""
    sources.make(folder, DISTINCT)
    for number in range(DISTINCT, count):
        for name in ("images", "instance", "depth"):
            os.link(folder / name / f"{number % DISTINCT:05d}.png", folder / name / f"{number:05d}.png")


def resident() -> tuple[int, int]:
    """Kilobytes of this process, and of its children together."""
    listed = Path("/proc/self/task").glob("*/children")
    children = {pid for path in listed for pid in path.read_text().split()}
    return _resident("self"), sum(_resident(pid) for pid in children)


def _resident(pid: str) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):  # a child that has just ended
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


class Watch:
    """Reads the resident set after every encoded sample."""

    def __init__(self) -> None:
        self.readings: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    def install(self) -> None:
        """Wraps the engine's encoding of one sample."""
        encode = run.ShardRun._encode_one  # pyright: ignore[reportPrivateUsage]

        def watched(shard: run.ShardRun, work: Any) -> Any:
            done = encode(shard, work)
            with self._lock:
                self.readings.append(resident())
            return done

        run.ShardRun._encode_one = watched  # type: ignore[method-assign]

    def around(self, sample: int, which: slice = slice(None)) -> float:
        """Median of the readings of 100 samples around one, megabytes; the main process, the children, or both."""
        part = self.readings[max(sample - 50, 0) : sample + 50]
        return round(statistics.median(sum(reading[which]) for reading in part) / 1024, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=LAST + 100)
    parser.add_argument("--recipe", default=str(HERE / "memory.yaml"))
    arguments = parser.parse_args()
    watch = Watch()
    watch.install()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        make_source(source, arguments.samples)
        fixed = [f"read.root={source}", f"read.passes={PASSES}", f"write.root={folder}/out", "engine.progress=none"]
        if local.run(compose(arguments.recipe, fixed)):
            raise SystemExit("the run is not complete")
    last = min(LAST, arguments.samples - 50)
    points = [FIRST, *range(400, last, 200), last]
    found = {
        str(at): {"all": watch.around(at), "main": watch.around(at, slice(1)), "readers": watch.around(at, slice(1, 2))}
        for at in points
    }
    growth = found[str(last)]["all"] / found[str(FIRST)]["all"] - 1
    highest = max(map(sum, watch.readings)) / 1024
    print(json.dumps(found))
    claims = {"resident_memory_from_sample_200_to_2000": {"must": MUST, "aim": AIM, "reached": round(growth, 4)}}
    details = {"megabytes": found, "highest": round(highest, 1), "samples": len(watch.readings), "cpus": os.cpu_count()}
    measure.publish(
        "memory",
        claims,
        details | {"recipe": Path(arguments.recipe).name},
        ["numpy", "pillow", "opencv-python-headless"],
    )


if __name__ == "__main__":
    main()
