"""Is a detector that learnt from refined renders better on photos, and can refined renders still be read?

    python benchmarks/usefulness.py --work DIR [--renders 1000] [--held-out 200] [--steps 1600] [--seeds 3] [--jobs 2]

Arms: our own renders of dice, `look`, refined, `look` then refined: the same renders, stages at defaults, `look` fitted
on photos that the refiner has seen too. For each arm and seed a small detector (`synthaug.metrics.downstream`) is
trained from nothing on `--renders` pictures; classes 1 to 6 are the face that points up. Then:

- held-out pictures of its own arm: AP50 of at least 0.8 from every detector, otherwise no figure on photos is shown;
- real photos, their longer side as long as the renders': average precision of the six classes, and of dice whatever
  they show; all photos, and those that the refiner's card names as held out;
- the reverse: detectors that learnt from plain renders, on held-out renders plain and refined: at most 2 points lost.

Average precision as pycocotools computes it (`tests/metrics` holds ours against it). Intervals hold 90% over photos, of
the seeds' mean; arms are compared on the same draws of photos. DIR keeps renders, refined pictures and detectors, and
what is there is not made again. Without real data (SYNTHAUG_DATA) or with `--photos 0`: no `look`, no photos.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks import measure, stages  # noqa: E402
from benchmarks.precision import CLASSES, FIGURES, Judged, relative_sides, rounded, table  # noqa: E402

import cv2  # noqa: E402  # isort: skip
import numpy as np  # noqa: E402  # isort: skip
import torch  # noqa: E402  # isort: skip
from safetensors.torch import load_file, save_file  # noqa: E402  # isort: skip
from synthaug.formats.folder.reader import FolderReader  # noqa: E402  # isort: skip
from synthaug.metrics.average_precision import Boxes  # noqa: E402  # isort: skip
from synthaug.metrics.detector import Detector  # noqa: E402  # isort: skip
from synthaug.metrics.downstream import Example, fit  # noqa: E402  # isort: skip
from synthaug.models.refiner import read_facts  # noqa: E402  # isort: skip
from synthaug.refine import statistics  # noqa: E402  # isort: skip
from synthaug.refine.look import Look  # noqa: E402  # isort: skip
from synthaug.refine.restore import SHIPPED, Restore  # noqa: E402  # isort: skip

SEED = 20
"""Of the scenes; those of the other benchmarks are others."""
ARMS = {"render": None, "look": "render", "refined": "render", "look + refined": "look"}
"""And what each is made from: by `look` itself, by the refiner otherwise."""
REFINED = ("refined", "look + refined")
LEAST, MOST_LOST = 0.8, 2.0


class Plan(NamedTuple):
    """What every process knows."""

    work: Path
    names: list[str]
    held_out: int
    steps: int
    side: int
    data: Path | None
    photos: int

    def file(self, arm: str, name: str) -> Path:
        if arm == "render":
            return self.work / "renders" / "images" / f"{name}.png"
        return self.work / "arms" / arm.replace(" + ", "-") / f"{name.replace('/', '_')}.png"

    def detector(self, arm: str, seed: int) -> Path:
        return self.work / "detectors" / f"{arm.replace(' + ', '-')}-{seed}.safetensors"

    def examples(self, arm: str, *, held_out: bool) -> list[Example]:
        known = json.loads((self.work / "truth.json").read_text("utf-8"))
        names = self.names[: self.held_out] if held_out else self.names[self.held_out :]
        return [Example(stages.load(self.file(arm, name)), boxes(known[name])) for name in names]


def boxes(rows: Sequence[Sequence[float]]) -> Boxes:
    """From rows of x0, y0, x1, y1, class."""
    table = np.asarray(rows, np.float32).reshape(-1, 5)
    return Boxes(table[:, :4], table[:, 4].astype(np.int64))


def rendered(work: Path, arguments: argparse.Namespace) -> list[str]:
    """Renders what is not there yet and writes down the truth; ids in order."""
    root, count = work / "renders", arguments.renders + arguments.held_out
    if not (root / "manifest.json").is_file():
        size = (f"read.scenes={count}", f"read.width={arguments.side}", f"read.height={arguments.side}")
        words = ("run", "dice", "~refine", *size, f"read.seed={SEED}", "write=folder", f"write.root={root}")
        where = {**os.environ, "PYTHONPATH": str(HERE.parent)}
        subprocess.run([sys.executable, "-m", "synthaug.cli", *words], check=True, env=where)
    reader = FolderReader(root=str(root))
    names = list(reader.ids())[:count]
    if len(names) < count:
        raise SystemExit(f"{root} holds {len(names)} renders, {count} are needed: remove it. Nothing was measured")
    truth = work / "truth.json"
    if not truth.is_file() or not set(names) <= set(json.loads(truth.read_text("utf-8"))):
        rows = {n: [[*map(float, i.box), i.class_id] for i in reader.read(n).labels.instances] for n in names}
        truth.write_text(json.dumps(rows), "utf-8")
    return names


def photos(data: Path, side: int, most: int) -> tuple[list[str], list[Example]]:
    """Real ones with their boxes, the longer side `side` by area means."""
    told = json.loads((data / "dice" / "instances.json").read_text("utf-8"))
    names, examples = list[str](), list[Example]()
    for image in told["images"][:most]:
        scale = side / max(image["width"], image["height"])
        own = [(*a["bbox"], a["category_id"]) for a in told["annotations"] if a["image_id"] == image["id"]]
        rows = [[x * scale, y * scale, (x + w) * scale, (y + h) * scale, c] for x, y, w, h, c in own]
        names.append(f"images/{image['file_name']}")
        examples.append(Example(stages.load(data / "dice" / names[-1], side), boxes(rows)))
    return names, examples


def settle(plan: Plan, arguments: argparse.Namespace) -> dict[str, Any]:
    """Fits `look`; refuses a folder that holds the work of other settings, because none of it could be told apart."""
    settings: dict[str, Any] = {"refiner": read_facts(SHIPPED).weights, "scenes_seed": SEED}
    settings |= {name: getattr(arguments, name) for name in ("renders", "held_out", "steps", "side")}
    if plan.data:
        apart = set(stages.held_out())
        with tempfile.TemporaryDirectory() as folder:
            for file in sorted((plan.data / "dice" / "images").iterdir()):
                if f"images/{file.name}" not in apart:
                    shutil.copy(file, folder)
            fitted = statistics.fit(folder)
        (plan.work / "look.statistics").write_bytes(fitted.to_bytes())
        settings["look"] = fitted.digest
    path = plan.work / "settings.json"
    if path.is_file() and (known := json.loads(path.read_text("utf-8"))) != settings:
        raise SystemExit(f"{plan.work} holds other work: {known}; now {settings}. Take another folder, or remove it")
    path.write_text(json.dumps(settings), "utf-8")
    return settings


def paint(plan: Plan, arm: str, names: Sequence[str]) -> float:
    """Makes an arm's pictures that are not there yet; CPU seconds per picture."""
    one_thread()
    left = [name for name in names if not plan.file(arm, name).is_file()]
    stage = Look(statistics=str(plan.work / "look.statistics")) if arm == "look" else Restore()
    slot, source = ("look" if arm == "look" else "refine"), str(ARMS[arm])
    if left:
        stage.load("cpu")
        plan.file(arm, left[0]).parent.mkdir(parents=True, exist_ok=True)
    spent = 0.0
    for name in left:
        (picture,), seconds = stages.through(stage, [stages.load(plan.file(source, name))], slot, [name])
        unfinished = plan.file(arm, name).with_suffix(".tmp.png")
        if not cv2.imwrite(str(unfinished), picture[:, :, ::-1]):
            raise OSError(f"{unfinished} cannot be written")
        unfinished.replace(plan.file(arm, name))
        spent += seconds
    return spent / max(len(left), 1)


def learn(plan: Plan, arm: str, seed: int) -> None:
    """Trains a detector that is not there yet."""
    one_thread()
    path = plan.detector(arm, seed)
    if path.is_file():
        return
    begun = time.process_time()
    network = fit(plan.examples(arm, held_out=False), len(CLASSES), steps=plan.steps, seed=seed)
    facts = {"cpu_s": str(round(time.process_time() - begun, 1))}
    path.parent.mkdir(exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, unfinished, facts)
    unfinished.replace(path)
    print(f"{arm}, seed {seed}: {facts['cpu_s']} CPU s", flush=True)


def examine(plan: Plan, arm: str, seed: int) -> dict[str, list[Boxes]]:
    """What the detector finds in held-out pictures, by arm (all arms for plain renders), and in photos."""
    one_thread()
    network = Detector(len(CLASSES))
    network.load_state_dict(load_file(plan.detector(arm, seed)))
    sets = {a: plan.examples(a, held_out=True) for a in (arms_of(plan) if arm == "render" else (arm, "render"))}
    if plan.data:
        sets["photos"] = photos(plan.data, plan.side, plan.photos)[1]
    return {name: network.detect([e.picture for e in examples]) for name, examples in sets.items()}


def one_thread() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def arms_of(plan: Plan) -> list[str]:
    return [arm for arm in ARMS if plan.data or "look" not in arm]


def held_out_table(plan: Plan, found: dict[str, list[dict[str, list[Boxes]]]]) -> dict[str, Any]:
    """Each detector on held-out pictures of its own arm, and on the plain ones."""
    truth = [e.truth for e in plan.examples("render", held_out=True)]
    rows: dict[str, Any] = {}
    for arm, seeds in found.items():
        for name in dict.fromkeys((arm, "render")):
            each = np.array([Judged(truth, one[name]).figures() for one in seeds])
            rows.setdefault(arm, {})[f"on {name}"] = {f: rounded(each[:, i]) for i, f in enumerate(FIGURES)}
    return rows


def reverse(plan: Plan, seeds: list[dict[str, list[Boxes]]], rounds: int) -> dict[str, Any]:
    """Detectors that learnt from plain renders: figures on held-out pictures of every arm, and points gained."""
    truth = [e.truth for e in plan.examples("render", held_out=True)]
    judged = {arm: [Judged(truth, one[arm]) for one in seeds] for arm in arms_of(plan)}
    return table(judged, range(len(truth)), rounds, "render", 100.0)


def on_photos(plan: Plan, data: Path, found: dict[str, list[dict[str, list[Boxes]]]], rounds: int) -> dict[str, Any]:
    names, examples = photos(data, plan.side, plan.photos)
    truth = [e.truth for e in examples]
    judged = {arm: [Judged(truth, one["photos"]) for one in seeds] for arm, seeds in found.items()}
    apart = set(stages.held_out())
    chosen = {"all": list(range(len(names))), "held out of the refiner": [i for i, n in enumerate(names) if n in apart]}
    return {
        **{name: table(judged, rows, rounds, "render", 100.0) for name, rows in chosen.items() if rows},
        "AP50_by_class": {arm: rounded(np.mean([j.by_class() for j in seeds], 0)) for arm, seeds in judged.items()},
        "found_side_over_annotated": {arm: relative_sides(truth, seeds[0]["photos"]) for arm, seeds in found.items()},
        "count": {name: len(rows) for name, rows in chosen.items()},
        "longest_side": plan.side,
    }


def claims_of(held: dict[str, Any], back: dict[str, Any], real: dict[str, Any] | None) -> dict[str, Any]:
    lost = {
        arm: {f: 0.0 - back[arm][f]["over render"]["value"] for f in ("AP50", "AP")} for arm in back if arm in REFINED
    }
    claims: dict[str, Any] = {
        "held_out_AP50": {"must": LEAST, "reached": {arm: min(row[f"on {arm}"]["AP50"]) for arm, row in held.items()}},
        "points_lost_when_refined": {"at_most": MOST_LOST, "reached": lost},
    }
    if real:
        claims["photos"] = {arm: {f: row[f]["mean"] for f in FIGURES} for arm, row in real["all"].items()}
    return claims


def work_through(plan: Plan, arguments: argparse.Namespace) -> dict[str, list[dict[str, list[Boxes]]]]:
    """Paints, trains and looks, `jobs` processes at a time; what each detector found, by arm and seed."""
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        for arm in arms_of(plan):
            if arm != "render":
                shares = [pool.submit(paint, plan, arm, plan.names[k :: arguments.jobs]) for k in range(arguments.jobs)]
                print(f"{arm}: {max(share.result() for share in shares):.2f} CPU s a picture", flush=True)
            for done in [pool.submit(learn, plan, arm, seed) for seed in range(arguments.seeds)]:
                done.result()
        asked = {
            arm: [pool.submit(examine, plan, arm, seed) for seed in range(arguments.seeds)] for arm in arms_of(plan)
        }
        return {arm: [one.result() for one in seeds] for arm, seeds in asked.items()}


def measured(work: Path, arguments: argparse.Namespace) -> None:
    data = Path(os.environ.get("SYNTHAUG_DATA") or HERE.parents[1] / "shared" / "data").resolve()
    real = data if arguments.photos and (data / "dice" / "instances.json").is_file() else None
    names = rendered(work, arguments)
    plan = Plan(work, names, arguments.held_out, arguments.steps, arguments.side, real, arguments.photos)
    settings = settle(plan, arguments)
    found = work_through(plan, arguments)
    held = held_out_table(plan, found)
    back = reverse(plan, found["render"], arguments.rounds)
    good = min(min(row[f"on {arm}"]["AP50"]) for arm, row in held.items()) >= LEAST
    shown = on_photos(plan, real, found, arguments.rounds) if real and good else None
    details = {"held_out": held, "reverse": back, "photos": shown, "settings": settings, "seeds": arguments.seeds}
    details["objects"] = sum(len(e.truth.classes) for e in plan.examples("render", held_out=False))
    packages = ("numpy", "torch", "opencv-python-headless", "diffusers", "mitsuba")
    measure.publish("usefulness", claims_of(held, back, shown), details, packages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"renders": 1000, "held-out": 200, "side": 320, "steps": 1600, "seeds": 3, "jobs": 2, "rounds": 100}
    for name, size in (sizes | {"photos": 200}).items():
        parser.add_argument(f"--{name}", type=int, default=size)
    parser.add_argument("--work", help="folder that keeps what was made; without it nothing is kept")
    arguments = parser.parse_args()
    one_thread()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(arguments.work or folder).resolve()
        work.mkdir(parents=True, exist_ok=True)
        measured(work, arguments)


if __name__ == "__main__":
    main()
