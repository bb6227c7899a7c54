"""Does the shipped refiner bring renders closer to photos, and does it leave shapes alone?

    python benchmarks/refiner.py [--renders 40] [--frames 24] [--rounds 100]

Realism, on dice: our own renders against the photos that the refiner's model card names as held out. Arms: the
renders, `look`, refined, `look` then refined; beside them as many other photos (real against real, of the same tables
and days) and, as a control, the renders with white noise of sigma 3. Same renders for every arm, stages at defaults.
Distances are on features of the encoder of taef2, scaled by the spread of the held-out photos: `swd_N` on local
features at layer N, `kernel` on features pooled over 4x4 tiles. Intervals hold 90%: photos and renders are drawn anew
together for all arms, so `closer` compares arms pair by pair.

Fidelity: outlines on dice by true ids; on CARLA frames, how far textured tiles move (beside the same frames with
white noise of sigma 6, and moved by half a pixel) and the grain of flat regions beside that of photos.

Real data is needed, in the folder that SYNTHAUG_DATA names; without it this says so and stops.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks import measure, stages  # noqa: E402

import cv2  # noqa: E402  # isort: skip
import numpy as np  # noqa: E402  # isort: skip
import torch  # noqa: E402  # isort: skip
from numpy.typing import NDArray  # noqa: E402  # isort: skip
from synthaug.metrics import fidelity, realism  # noqa: E402  # isort: skip
from synthaug.metrics.features import LEVELS, Features, Taef2  # noqa: E402  # isort: skip
from synthaug.refine.look import Look  # noqa: E402  # isort: skip
from synthaug.refine.restore import Restore  # noqa: E402  # isort: skip
from synthaug.render.reader import DiceReader  # noqa: E402  # isort: skip

Picture = NDArray[np.uint8]
SIDE, DIRECTIONS, PLACES = 256, 64, 100
FIGURES = (*(f"swd_{level}" for level in LEVELS), "kernel")
REAL = "photos, others"


class Arm:
    """A set of pictures as features, ready to be scored in any composition against the held-out photos."""

    def __init__(self, seen: Sequence[Features], scale: Callable[[str | int, Any], Any]) -> None:
        draw = np.random.default_rng(0)
        self.lines: dict[int, NDArray[np.float32]] = {}
        for level in LEVELS:
            local = [f.local[level] for f in seen]
            some = np.stack([one[draw.choice(len(one), min(PLACES, len(one)), replace=False)] for one in local])
            along = realism.directions(some.shape[-1], DIRECTIONS)
            self.lines[level] = realism.projected(scale(level, some), along)
        self.pooled = scale("pooled", np.stack([f.pooled for f in seen]))
        self.within = realism.kernel_table(self.pooled, self.pooled)
        self.between = self.within

    def score(self, photos: Arm, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> list[float]:
        """In the order of `FIGURES`; `rows` name photos, `columns` pictures of this arm."""
        pairs = [(photos.lines[level][:, rows], self.lines[level][:, columns]) for level in LEVELS]
        sliced = [realism.quantile_distance(a.reshape(DIRECTIONS, -1), b.reshape(DIRECTIONS, -1)) for a, b in pairs]
        return [*sliced, realism.table_distance(photos.within, self.within, self.between, rows, columns)]


def scaled_by(photos: Sequence[Features]) -> Callable[[str | int, Any], Any]:
    """Features less the mean, over the spread, of the photos."""
    rows: dict[str | int, Any] = {level: np.concatenate([f.local[level] for f in photos]) for level in LEVELS}
    rows["pooled"] = np.concatenate([f.pooled for f in photos])
    facts = {key: (values.mean(0), values.std(0) + 1e-3) for key, values in rows.items()}
    return lambda key, values: (values - facts[key][0]) / facts[key][1]


def data_folder() -> Path:
    folder = Path(os.environ.get("SYNTHAUG_DATA") or HERE.parents[1] / "shared" / "data").resolve()
    for needed in ("dice/images", "grocery/images", "carla/images", "models/taef2/taef2_encoder.safetensors"):
        if not (folder / needed).exists():
            raise SystemExit(f"no real data ({needed}): set SYNTHAUG_DATA to its folder. Nothing was measured")
    return folder


def noisy(pictures: Sequence[Picture], sigma: float) -> list[Picture]:
    rng = np.random.default_rng(0)
    return [np.clip(np.rint(p + rng.normal(0, sigma, p.shape)), 0, 255).astype(np.uint8) for p in pictures]


def half_a_pixel(picture: Picture) -> Picture:
    """Moved across by the phase of its spectrum: no filter softens it."""
    turn = np.exp(-1j * np.pi * np.fft.rfftfreq(picture.shape[1]))[None, :, None]
    moved = np.fft.irfft(np.fft.rfft(picture, axis=1) * turn, picture.shape[1], axis=1)
    return np.clip(np.rint(moved), 0, 255).astype(np.uint8)


def compare(arms: dict[str, Arm], photos: Arm, rounds: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Distances by arm, and by how much refining brought renders closer."""
    names = list(arms)

    def score(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> list[list[float]]:
        return [arms[n].score(photos, rows, columns % len(arms[n].within)) for n in names]

    size = len(arms["render"].within)
    everyone = np.arange(len(photos.within))
    points = {n: arms[n].score(photos, everyone, np.arange(len(arms[n].within))) for n in names}
    replicas = realism.bootstrap(score, (len(photos.within), size), rounds)

    def row(value: float, around: NDArray[np.float64]) -> dict[str, Any]:
        return {"value": round(value, 4), "90%": [round(end, 4) for end in realism.interval(value, around)]}

    table = {
        name: {figure: row(points[name][f], replicas[:, n, f]) for f, figure in enumerate(FIGURES)}
        for n, name in enumerate(names)
    }
    closer: dict[str, Any] = {}
    for before, after in (("render", "refined"), ("look", "look + refined"), ("render", "look"), ("render", "noise")):
        b, a = names.index(before), names.index(after)
        closer[f"{before} -> {after}"] = {
            figure: row(points[before][f] - points[after][f], replicas[:, b, f] - replicas[:, a, f])
            for f, figure in enumerate(FIGURES)
        }
    return table, closer


def outlines(ids: Sequence[NDArray[Any]], renders: Sequence[Picture], done: Sequence[Picture]) -> dict[str, float]:
    """Shares over all outline pixels of all pictures."""
    found = [fidelity.boundary_recall(i, r, d) for i, r, d in zip(ids, renders, done, strict=True)]
    some = [f for f in found if f is not None]
    weights = np.array([f.pixels for f in some], float)
    seen = weights * [f.reference for f in some]
    mean = {name: np.average([getattr(f, name) for f in some], weights=weights) for name in ("picture", "chance")}
    kept = np.average(np.nan_to_num([f.kept for f in some]), weights=seen)
    mean |= {
        "reference": seen.sum() / weights.sum(),
        "kept": kept,
        "relative": mean["picture"] * weights.sum() / seen.sum(),
    }
    return {name: round(float(value), 4) for name, value in mean.items()}


def shifts(before: Sequence[Picture], after: Sequence[Picture]) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for peak in ("sinc", "centroid"):
        moved = [fidelity.tile_shifts(b, a, peak=peak) for b, a in zip(before, after, strict=True)]
        every = np.concatenate(moved)
        facts = {"median": np.median(every), "p99": np.percentile(every, 99), "max": every.max()}
        rows[peak] = {name: round(float(v), 3) for name, v in facts.items()} | {"tiles": len(every)}
    return rows


def grain(pictures: Sequence[Picture]) -> dict[str, Any]:
    """Levels in flat tiles: over all tiles, and the median over pictures that have four or more."""
    levels = [fidelity.flat_grain(p) for p in pictures]
    every = np.concatenate(levels)
    medians = [np.median(one) for one in levels if len(one) >= 4]
    quartiles = np.percentile(every, [25, 50, 75]).round(3).tolist() if len(every) else []
    return {"quartiles": quartiles, "by_picture": round(float(np.median(medians)), 3) if medians else None}


def evenly(length: int, count: int) -> list[int]:
    """At most `count` places in a row of `length`."""
    return np.linspace(0, length - 1, min(count, length)).round().astype(int).tolist()


def drift(before: Sequence[Picture], after: Sequence[Picture]) -> float:
    """Largest change of any picture's mean colour, levels."""
    pairs = zip(before, after, strict=True)
    return round(max(float(np.abs((a - b.astype(float)).mean((0, 1))).max()) for b, a in pairs), 2)


def on_dice(data: Path, arguments: argparse.Namespace, refiner: Restore, apart: list[str]) -> dict[str, Any]:
    rest = sorted(f for f in (data / "dice" / "images").iterdir() if f"images/{f.name}" not in set(apart))
    reader = DiceReader(scenes=arguments.renders, width=SIDE, height=SIDE)
    samples = [reader.read(name) for name in reader.ids()]
    renders: list[Picture] = [np.asarray(s.image.pixels) for s in samples]
    with tempfile.TemporaryDirectory() as folder:
        for file in rest:
            shutil.copy(file, folder)
        look = Look(photos=folder)
        look.load("cpu")
        looked, _ = stages.through(look, renders, "look")
    refined, seconds = stages.through(refiner, renders, "refine")
    both, _ = stages.through(refiner, looked, "refine")
    sets = {"render": renders, "look": looked, "refined": refined, "look + refined": both, "noise": noisy(renders, 3)}
    sets[REAL] = [stages.load(rest[i], SIDE) for i in evenly(len(rest), len(renders))]
    photos = [stages.load(data / "dice" / name, SIDE) for name in apart]
    network = Taef2(data / "models" / "taef2" / "taef2_encoder.safetensors")
    seen = [network(p) for p in photos]
    real = Arm(seen, scale := scaled_by(seen))
    arms = {name: Arm([network(p) for p in pictures], scale) for name, pictures in sets.items()}
    for arm in arms.values():
        arm.between = realism.kernel_table(real.pooled, arm.pooled)
    table, closer = compare(arms, real, arguments.rounds)
    ids = [s.labels.passes["instance"] for s in samples]
    changed = {name: p for name, p in sets.items() if name not in ("render", REAL)}
    return {
        "distance": table,
        "closer": closer,
        "outlines": {name: outlines(ids, renders, p) for name, p in changed.items()},
        "colour_drift": {"refined": drift(renders, refined), "look + refined": drift(looked, both)},
        "grain": {name: grain(p) for name, p in (*sets.items(), ("photos, held out", photos))},
        "cpu_s_per_picture": seconds,
        "network": {"name": "taef2 encoder", "sha256": network.digest},
        "renders": reader.identity(),
        "photos": {"held_out": len(photos), "others": len(sets[REAL]), "longest_side": SIDE},
    }


def on_carla(data: Path, arguments: argparse.Namespace, refiner: Restore) -> dict[str, Any]:
    files = sorted((data / "carla" / "images").iterdir())
    files = [files[i] for i in evenly(len(files), arguments.frames + 2)[1:-1]]
    frames = [stages.load(file) for file in files]
    refined, seconds = stages.through(refiner, frames, "refine")
    shop = [stages.load(file) for file in sorted((data / "grocery" / "images").iterdir())[::12]]
    return {
        "frames": [file.name for file in files],
        "shifts": {
            "refined": shifts(frames, refined),
            "noise of sigma 6": shifts(frames, noisy(frames, 6)),
            "half a pixel": shifts(frames, [half_a_pixel(f) for f in frames]),
        },
        "grain": {"frames": grain(frames), "refined": grain(refined), "grocery photos": grain(shop)},
        "colour_drift": drift(frames, refined),
        "cpu_s_per_frame": seconds,
    }


def claims_of(dice: dict[str, Any], carla: dict[str, Any]) -> dict[str, Any]:
    moved = carla["shifts"]["refined"]["sinc"]
    photos = {"dice": dice["grain"]["photos, held out"], "grocery": carla["grain"]["grocery photos"]}
    ratios = {
        name: {p: round((carla["grain"][name]["by_picture"] or 0) / g["by_picture"], 3) for p, g in photos.items()}
        for name in ("frames", "refined")
    }
    pairs = ("render -> refined", "look -> look + refined")
    return {
        "closer_to_photos": {p: {f: row["value"] > 0 for f, row in dice["closer"][p].items()} for p in pairs},
        "shift_px": {"must": [0.15, 0.5], "reached": [moved["median"], moved["p99"]]},
        "flat_grain_over_photos": {"must": [0.8, 1.2], "reached": ratios},
        "outlines_kept": {name: dice["outlines"][name]["kept"] for name in ("refined", "look + refined")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, size in (("renders", 40), ("frames", 24), ("rounds", 100)):
        parser.add_argument(f"--{name}", type=int, default=size)
    arguments = parser.parse_args()
    data, apart = data_folder(), stages.held_out()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    refiner = Restore()
    refiner.load("cpu")
    dice, carla = on_dice(data, arguments, refiner, apart), on_carla(data, arguments, refiner)
    details = {"dice": dice, "carla": carla, "refiner": refiner.identity(), **vars(arguments)}
    packages = ("numpy", "torch", "opencv-python-headless", "diffusers", "mitsuba")
    measure.publish("refiner", claims_of(dice, carla), details, packages)


if __name__ == "__main__":
    main()
