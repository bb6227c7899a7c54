"""`synthaug run convert` of 1,000 samples against the loop over Pillow and pycocotools that a user would write.

    python benchmarks/convert.py [--samples 1000] [--rounds 3] [--folder DIR]

512x512 pictures with 20 instances and 16-bit depth, from a plain folder to COCO: pictures, RLE, boxes, areas, and
depth beside them. Ours is the whole command with its defaults: input hashes, two reader processes, the integrity
gate, files decoded again, flushed, read back and hashed. CPU time is user plus system of the whole process tree,
without interpreter and imports, which are measured on their own and reported.

Three sources, because what a reader meets decides what a picture costs: OpenCV's PNG, which comes through
untouched; the same as RGBA, as many renderers write it, which has to be encoded anew; and Pillow's RGB PNG, whose
rows have adaptive filters. The claim is the worst of them. Checked first: boxes, areas and RLE strings are
equal, and every picture and depth map decodes to the same array.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks import measure, sources  # noqa: E402

MUST, AIM = 4.0, 6.0
PASSES = '{instance:{path:"instance/{stem}.png"},depth:{path:"depth/{stem}.png",unit:0.001}}'
PLAIN = [sys.executable, str(HERE / "plain_loop.py")]
OURS = [sys.executable, "-c", "import sys; from synthaug.cli import main; sys.exit(main(sys.argv[1:]))"]
MAIN_IMPORTS = (
    "import synthaug.cli, synthaug.engine.local, hydra, synthaug.formats.folder.reader, "
    "synthaug.formats.coco.writer, synthaug.gate.integrity; from synthaug.engine.recipes import *"
)
WORKER_IMPORTS = "import synthaug.engine.workers, synthaug.engine.build, synthaug.formats.folder.reader"
PLAIN_IMPORTS = "import json, numpy, pycocotools.mask; from PIL import Image; Image.preinit()"


def cpu_seconds(command: list[str]) -> float:
    """User plus system seconds of a command and of every process that it waited for."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    child = subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {child.returncode}")
    return usage.ru_utime + usage.ru_stime


def ours(source: Path, target: Path) -> list[str]:
    """The command line."""
    fixed = ["read=folder", f"read.root={source}", f"read.passes={PASSES}", f"write.root={target}"]
    return [*OURS, "run", "convert", *fixed, "write.passes=[depth]", "write.depth=png16", "engine.progress=none"]


def check_same_work(mine: Path, theirs: Path) -> int:
    """The same dataset, or an AssertionError; the number of annotations."""
    a = json.loads((mine / "annotations" / "instances_train.json").read_text())
    b = json.loads((theirs / "annotations.json").read_text())
    names = {image["id"]: Path(image["file_name"]).stem for image in b["images"]}
    assert [Path(image["file_name"]).stem for image in a["images"]] == list(names.values())
    assert len(a["annotations"]) == len(b["annotations"]) > 0
    for one, other in zip(a["annotations"], b["annotations"], strict=True):
        for key in ("image_id", "category_id", "bbox", "area", "segmentation", "iscrowd"):
            assert one[key] == other[key], (key, one[key], other[key])
    for image in a["images"]:
        name = names[image["id"]]
        for path in (f"images/{image['file_name']}", image["synthaug"]["passes"]["depth"]):
            found = cv2.imread(str(mine / path), cv2.IMREAD_UNCHANGED)
            wanted = cv2.imread(str(theirs / path.partition("/")[0] / f"{name}.png"), cv2.IMREAD_UNCHANGED)
            assert found is not None
            assert found.dtype == wanted.dtype
            assert np.array_equal(found, wanted), path
    return len(a["annotations"])


def compare(source: Path, work: Path, rounds: int) -> dict[str, Any]:
    """Alternating rounds over one source, after the check."""
    times: dict[str, list[float]] = {"synthaug": [], "plain": []}
    annotations = 0
    for turn in range(rounds):
        mine, theirs = work / "ours", work / "plain"
        times["synthaug"].append(cpu_seconds(ours(source, mine)))
        times["plain"].append(cpu_seconds([*PLAIN, str(source), str(theirs)]))
        if turn == 0:
            annotations = check_same_work(mine, theirs)
            sizes = {folder.name: megabytes(folder / "images") for folder in (mine, theirs)}
        shutil.rmtree(mine)
        shutil.rmtree(theirs)
    return {"rounds": times, "annotations": annotations, "megabytes_of_pictures": sizes}


def megabytes(folder: Path) -> float:
    """Size of the files in a folder."""
    return round(sum(path.stat().st_size for path in folder.iterdir()) / 1e6, 1)


def startup(rounds: int) -> dict[str, float]:
    """CPU seconds of interpreter and imports: of the command with its two readers, and of the loop."""
    by_name = {
        name: statistics.median(cpu_seconds([sys.executable, "-c", code]) for _ in range(rounds))
        for name, code in (("main", MAIN_IMPORTS), ("worker", WORKER_IMPORTS), ("plain", PLAIN_IMPORTS))
    }
    return {"synthaug": by_name["main"] + 2 * by_name["worker"], "plain": by_name["plain"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where sources are made, and kept")
    arguments = parser.parse_args()
    idle = startup(7)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as work:
        for kind in sources.KINDS:
            source = (arguments.folder or Path(work)) / f"{kind}-{arguments.samples}"
            pictures = sources.make(source, arguments.samples, kind) if not source.exists() else sources.ORIGIN
            found[kind] = compare(source, Path(work), arguments.rounds)
            found[kind]["source"] = pictures
            net = {name: [t - idle[name] for t in times] for name, times in found[kind]["rounds"].items()}
            median = {name: statistics.median(times) for name, times in net.items()}
            found[kind]["ms_per_sample"] = {n: round(1000 * t / arguments.samples, 2) for n, t in median.items()}
            found[kind]["ratio"] = round(median["plain"] / median["synthaug"], 2)
            whole = {name: statistics.median(times) for name, times in found[kind]["rounds"].items()}
            found[kind]["ratio_with_startup"] = round(whole["plain"] / whole["synthaug"], 2)
            print(kind, json.dumps(found[kind], indent=1), flush=True)
    reached = min(entry["ratio"] for entry in found.values())
    claims = {"convert_1000_samples_cpu": {"must": MUST, "aim": AIM, "reached": reached}}
    for kind, entry in found.items():
        claims[f"convert_1000_samples_cpu, {kind}"] = {"must": MUST, "aim": AIM, "reached": entry["ratio"]}
    details = {"samples": arguments.samples, "startup_cpu_seconds": idle, "sources": found, "cpus": os.cpu_count()}
    measure.publish("convert", claims, details, ["numpy", "pillow", "isal", "pycocotools", "opencv-python-headless"])


if __name__ == "__main__":
    main()
