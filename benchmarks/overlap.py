"""Wall time of a whole run over the time of its slowest stage: a device that is waited for.

    python benchmarks/overlap.py [--samples 480] [--size 512] [--seconds 0.5] [--rounds 3]

Planning, reading, drawing, judging, augmenting, encoding, verifying, flushing and publishing have to hide behind
the device; filling the line at the start, draining it at the end, plan and finalise are counted. The clock starts
when the modules are imported. Same work: pictures and labels equal those of the run that does one thing after the
other. A wait takes no core from the others, as a GPU takes none.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks import measure, stand_ins  # noqa: E402
from synthaug.engine import local  # noqa: E402
from synthaug.engine.configure import compose  # noqa: E402
from tests.crash.job import golden_digest  # noqa: E402

MUST, AIM = 1.15, 1.05
RECIPE = str(HERE / "overlap.yaml")
PLUGINS = ["tests.fakes", "benchmarks.stand_ins"]


def run(out: Path, arguments: argparse.Namespace, *more: str) -> dict[str, float]:
    """One run: wall seconds, seconds that the device was waited for, CPU seconds of this process."""
    size = [f"read.width={arguments.size}", f"read.height={arguments.size}", f"read.count={arguments.samples}"]
    fixed = [f"write.root={out}", f"device.seconds={arguments.seconds}", "engine.progress=none", *size]
    merged = {word.partition("=")[0]: word for word in (*fixed, *more)}
    config = compose(RECIPE, list(merged.values()), plugins=PLUGINS)
    stand_ins.WAITED.clear()
    begun, cpu = time.monotonic(), time.process_time()
    status = local.run(config)
    wall = time.monotonic() - begun
    if status:
        raise RuntimeError(f"the run ended with status {status}")
    waited = sum(stand_ins.WAITED)
    return {"wall": round(wall, 3), "device": round(waited, 3), "main_cpu": round(time.process_time() - cpu, 2)}


def content(root: Path) -> str:
    """One digest over all that the dataset holds."""
    return golden_digest(root / "images") + golden_digest(root / "annotations")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=480)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    rounds: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        serial = Path(folder) / "serial"
        alone = run(serial, arguments, "device.seconds=0", "engine.workers=0", "engine.encoders=0")
        for number in range(arguments.rounds):
            out = Path(folder) / f"r{number}"
            load = os.getloadavg()[0]
            rounds.append(run(out, arguments) | {"load_before": round(load, 2)})
            print(rounds[-1], flush=True)
            if content(out) != content(serial):
                raise SystemExit("the overlapped run wrote another dataset: its time does not count")
    ratios = [round(r["wall"] / r["device"], 3) for r in rounds]
    claims = {"wall_over_slowest_stage": {"must": MUST, "aim": AIM, "reached": statistics.median(ratios)}}
    details = {"ratios": ratios, "rounds": rounds, "everything_else_one_after_the_other": alone, **vars(arguments)}
    measure.publish("overlap", claims, details | {"cpus": os.cpu_count()}, ["numpy", "torch", "opencv-python-headless"])


if __name__ == "__main__":
    main()
