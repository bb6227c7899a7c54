"""Deferred re-texturing held against the truth: the same scene rendered again with the new textures.

    python benchmarks/retexture.py [--side 256] [--scenes 3] [--samples 16] [--paths 1024] [--big 512]
                                   [--seed 4] [--strip OUT.png]

Scenes are those of `read: dice` and `read: tabletop`, two views each. Source pictures are what the readers give:
`samples` paths per pixel, denoised, sRGB in 8 bits. `Retexture` changes them; the truth is `rerender.retextured` of the
same scene and view with the placements that the stage notes, `paths` per pixel, not denoised, exposed as the source is.

- `*_db`: PSNR over the pixels of changed instances of all frames, sRGB in 8 bits. `worst_db` is the lowest of one
  frame, `interior_db` leaves out pixels within 2 of another object, `noise_db` is the truth's own error, from two
  halves of its paths: the ceiling of the others.
- `shading_*_db`: light on diffuse bodies, against radiance over albedo of the truth with old surfaces, in pixels that
  show one body only (albedo averaged over them). What the stage has found is what it shows with a grey tile on one
  object at a time, over the albedo of the tile, without the light that the tile itself sends on (`bounce`). Linear,
  peak at the 99th percentile of the truth. The noise of the truth is left out: errors against its two halves are
  multiplied, not squared. Without the pass `albedo` light is known up to a factor per object and channel, and compared
  so.
- `views`: mean |colour difference| of a surface point in two views exposed alike, in 8-bit levels; `beyond` is deferred
  less truth. `paired` is the mean of |deferred difference - true difference|, which no luck can lower: noise of the
  truth raises both it and `truth`.
- `identical`: hashes of all geometric passes and instances before and after the stage, and of render and re-render; and
  the items of a live pipeline with and without the stage, whose `albedo` must be gone.
- `speedup`: a re-render of `big` by `big` pixels at 64 paths per pixel (scene loaded, not denoised) over the stage, by
  each variant of Mitsuba that runs here. By CPU seconds, which other load moves less; `wall_speedup` beside it.

The strip shows source, deferred, truth, and their difference times 4 around grey.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import measure

import cv2  # isort: skip
import numpy as np  # isort: skip

from benchmarks.judge import (  # isort: skip
    GREY, SETTINGS, Frame, Judge, borders, draws, grey, judged, library, linear_of, painted, staged,
)  # fmt: skip
from synthaug import loader  # isort: skip
from synthaug.refine.correspond import by_depth  # isort: skip
from synthaug.render import film, mitsuba_backend, variants  # isort: skip
from synthaug.report.sheet import sheet  # isort: skip
from synthaug.texture.retexture import Retexture  # isort: skip

RECIPE = """defaults:
  - /config
  - /read: tabletop
  - /texture: retexture
  - /write: coco
  - _self_
"""
SMALLEST_CHANNEL = 1e-3


def db(errors: Any, peak: float = 255.0) -> float:
    """PSNR of squared errors."""
    return round(float(10 * np.log10(peak**2 / max(float(np.mean(errors)), 1e-9))), 2)


def compared(frames: list[Frame], stage: Retexture, rows: list[Any]) -> dict[str, Any]:
    """PSNR figures of a setting; fills the rows of the strip."""
    errors, inner, noise, single = list[Any](), list[Any](), list[Any](), list[float]()
    for frame in frames:
        sample, truth = frame.sample(frame.view), frame.truth(frame.view)
        deferred, _ = painted(stage, sample)
        square = np.square(deferred.astype(np.float64) - truth)
        here = frame.changed(sample.labels)
        inside = here & ~borders(sample.labels.passes["instance"])
        errors.append(square[here])
        inner.append(square[inside])
        noise.append(frame.noise()[here])
        single.append(db(square[here]))
        difference = np.clip(128 + 4 * (deferred.astype(np.int16) - truth), 0, 255).astype(np.uint8)
        rows += [sample.image.pixels, deferred, truth, difference]
    return {
        "db": db(np.concatenate(errors)),
        "worst_db": min(single),
        "frames_db": single,
        "interior_db": db(np.concatenate(inner)),
        "noise_db": db(np.concatenate(noise)),
        "identical": all(frame.identical for frame in frames),
    }


def between(first: Frame, second: Frame, stage: Retexture) -> dict[str, float]:
    """Colour differences of surface points in two views, 8-bit levels."""
    plain = {"exposure": 0.0, "cast": (1.0, 1.0, 1.0), "vignette": 0.0}
    views = [replace(frame.view, **plain) for frame in (first, second)]
    samples = [frame.sample(view) for frame, view in zip((first, second), views, strict=True)]
    places = by_depth(samples[0].labels, samples[1].labels).places - np.float32(0.5)
    seen = first.changed(samples[0].labels) & np.isfinite(places).all(axis=-1)
    maps = np.where(seen[..., None], places, np.float32(0))

    def gap(one: Any, two: Any) -> Any:
        carried = cv2.remap(two.astype(np.float32), maps[..., 0], maps[..., 1], cv2.INTER_LINEAR)
        return (carried - one)[seen]

    deferred = gap(*(painted(stage, sample)[0] for sample in samples))
    truth = gap(*(frame.truth(view) for frame, view in zip((first, second), views, strict=True)))
    gaps = {"deferred": deferred, "truth": truth, "paired": deferred - truth}
    found = {name: round(float(np.abs(value).mean()), 3) for name, value in gaps.items()}
    return {**found, "beyond": round(found["deferred"] - found["truth"], 3)}


def shading(frame: Frame, judge: Judge, folder: Path) -> tuple[list[Any], list[Any], list[Any]]:
    """Squared errors of the light with and without `albedo`, and the true light, [N, 3] of each object."""
    view = replace(frame.view, vignette=0.0)
    sample = frame.sample(view)
    halves = judge.truth(frame.scene, view)
    fine = mitsuba_backend.render(frame.scene, view, samples=1, denoise=False, variant=judge.variant, coverage=8)
    assert fine.coverage is not None
    exposed = [film.expose(half, view, frame.gain) / np.maximum(fine.albedo, SMALLEST_CHANNEL) for half in halves]
    # A grey tile sends light on as the old surface did not: the truth is the light under the old one.
    stage = Retexture(library=str(folder), shoulder=0.8, bounce=False)
    stage.load("cpu")
    told, guessed, lights = list[Any](), list[Any](), list[Any]()
    bodies = {f"{frame.scene.id}/{body.name}": body for body in frame.scene.bodies}
    for instance in sample.labels.instances:
        ids = sample.labels.passes["instance"]
        here = (ids == instance.id) & (fine.coverage == 1) & (fine.albedo.min(axis=-1) > SMALLEST_CHANNEL)
        if bodies[instance.object_id].material.roughness is not None or not here.any():
            continue
        first, second = (half[here].astype(np.float64) for half in exposed)
        light = (first + second) / 2
        only = {instance.object_id: draws(stage, sample.labels.of((instance,)))[instance.object_id]}
        found = []
        for wanted in (stage.wants, tuple(name for name in stage.wants if name != "albedo")):
            done = stage.paint(linear_of(sample), [sample.labels.copy(wanted)], [only])
            found.append(done.images[0].transpose(1, 2, 0)[here].astype(np.float64) / GREY)
        factor = (found[1] * light).sum(axis=0) / np.maximum(np.square(found[1]).sum(axis=0), 1e-9)
        told.append((found[0] - first) * (found[0] - second))
        guessed.append((found[1] * factor - first) * (found[1] * factor - second))
        lights.append(light)
    return told, guessed, lights


def timed(call: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median CPU and wall seconds."""
    cpu, wall = list[float](), list[float]()
    for _ in range(rounds):
        begun = time.process_time(), time.perf_counter()
        call()
        cpu.append(time.process_time() - begun[0])
        wall.append(time.perf_counter() - begun[1])
    return statistics.median(cpu), statistics.median(wall)


def speeds(name: str, side: int, folder: Path) -> dict[str, Any]:
    """Seconds of the stage and of re-renders, one frame."""
    judge = Judge(side, 1, 1, variants.resolve(variants.AUTO), name)
    stage = staged(name, folder)
    frame = judged(judge, stage, judge.reader(1).scene(0), judge.reader(1).view(0, 0))
    sample = frame.sample(frame.view)
    drawn, image, copies = draws(stage, sample.labels), linear_of(sample), sample.labels.copy(stage.wants)
    cpu, wall = timed(lambda: stage.paint(image, [copies], [drawn]), 9)
    found: dict[str, Any] = {"cpu_s": round(cpu, 4), "wall_s": round(wall, 4)}
    found["repainted"] = round(float(frame.changed(sample.labels).mean()), 3)
    for variant in sorted({variants.SCALAR, judge.variant}):
        paths: dict[str, Any] = {"denoise": False, "variant": variant}
        mitsuba_backend.render(frame.new, frame.view, samples=1, **paths)
        theirs = timed(functools.partial(mitsuba_backend.render, frame.new, frame.view, samples=64, **paths), 1)
        found[variant] = {
            "cpu_s": round(theirs[0], 2),
            "wall_s": round(theirs[1], 2),
            "speedup": round(theirs[0] / cpu),
            "wall_speedup": round(theirs[1] / wall),
        }
    return found


def live(folder: Path, where: Path) -> bool:
    """Whether a pipeline with the stage gives the same items as without, apart from image and albedo."""
    recipe = where / "textures.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    common = ["read.scenes=1", "read.views=1", "read.width=64", "read.height=64", "read.samples_per_pixel=1"]
    common += ["read.denoise=false", "ungated=true", f"write.root={where / 'out'}"]
    items = [
        loader.SampleDataset(loader.pipeline(str(recipe), [*common, word]))[0]
        for word in (f"texture.library={folder}", "~texture")
    ]
    new, old = ({key: value for key, value in item.items() if key != "image"} for item in items)
    gone = "albedo" in old and "albedo" not in new
    old.pop("albedo", None)
    same = old.keys() == new.keys() and all(_bytes(old[key]) == _bytes(new[key]) for key in old)
    return gone and same and _bytes(items[0]["image"]) != _bytes(items[1]["image"])


def _bytes(value: Any) -> bytes:
    return np.asarray(value).tobytes() if hasattr(value, "__array__") else repr(value).encode()


def setting(name: str, given: argparse.Namespace, variant: str, folders: tuple[Path, Path]) -> tuple[Any, list[Any]]:
    """All figures of one scene, and the rows of its strip."""
    judge = Judge(given.side, given.samples, given.paths, variant, name, given.seed)
    stage, reader, rows = staged(name, folders[0]), judge.reader(given.scenes), list[Any]()
    frames, pairs = list[Frame](), list[dict[str, float]]()
    told, guessed, lights = list[Any](), list[Any](), list[Any]()
    for index in range(given.scenes):
        first = judged(judge, stage, reader.scene(index), reader.view(index, 0))
        second = judged(judge, stage, reader.scene(index), reader.view(index, 1), first.gain)
        frames += [first, second]
        pairs.append(between(first, second, stage))
        if name == "tabletop":
            for mine, found in zip((told, guessed, lights), shading(first, judge, folders[1]), strict=True):
                mine += found
    figures = compared(frames, stage, rows)
    figures["views"] = {key: round(statistics.mean(pair[key] for pair in pairs), 3) for key in pairs[0]}
    if lights:
        peak = float(np.quantile(np.concatenate(lights), 0.99))
        figures["shading_db"] = db(np.concatenate(told), peak)
        figures["shading_guessed_db"] = db(np.concatenate(guessed), peak)
    figures["time"] = speeds(name, given.big, folders[0])
    return figures, rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("side", 256), ("scenes", 3), ("samples", 16), ("paths", 1024), ("big", 512), ("seed", 4)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--strip", type=Path)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    variant = variants.resolve(variants.AUTO)
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        folders = library(where / "tiles"), grey(where / "grey")
        details, rows = dict[str, Any](), list[Any]()
        for name in SETTINGS:
            details[name], found = setting(name, given, variant, folders)
            rows += found
        identical = all(details[name]["identical"] for name in SETTINGS) and live(folders[0], where)
    if given.strip:
        cv2.imwrite(str(given.strip), sheet(rows, 4)[..., ::-1])
    claims: dict[str, Any] = {"identical": identical, "variant": variant}
    for name, figures in details.items():
        claims[f"{name}_db"], claims[f"{name}_worst_db"] = figures["db"], figures["worst_db"]
        claims[f"{name}_views_beyond"] = figures["views"]["beyond"]
        claims[f"{name}_views_paired"] = figures["views"]["paired"]
        for each in sorted({variants.SCALAR, variant}):
            claims[f"{name}_speedup_{each}"] = figures["time"][each]["speedup"]
    claims["shading_db"] = details["tabletop"]["shading_db"]
    claims["shading_guessed_db"] = details["tabletop"]["shading_guessed_db"]
    sizes = {name: getattr(given, name) for name in ("side", "scenes", "samples", "paths", "big", "seed")}
    machine = {"cores": os.cpu_count(), "load_average": [round(v, 1) for v in os.getloadavg()]}
    packages = ("mitsuba", "drjit", "pyoidn", "numpy", "opencv-python-headless")
    measure.publish("retexture", claims, {"sizes": sizes, "machine": machine, **details}, packages)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
