"""Whole image-to-image diffusion on a GPU: rows B2 to B5, B7, B8, B11 and B12. Second of two commands.

    python benchmarks/gpu_end_to_end.py            about eight minutes on one H200
    python benchmarks/gpu_end_to_end.py --tiny     the same rows on a CPU, within a minute or two

Pipelines of SD-Turbo's and SDXL's full size with random weights are written to the temporary folder (TMPDIR: 12 GB)
and opened as any model is. Measured in the same run: the loop that people write (one picture at a time, with PNG and
without), diffusers' own pipeline in its best batch, and StreamDiffusion's recipe made again in plain torch (its
README says 93.9 frames/s at one step on an RTX 4090). Every way is compared with diffusers' pictures from the same
noise before it is timed. `engine` is `synthaug run` from JPEG files to verified shards.

bfloat16 throughout, the KL autoencoder too (SDXL's published one needs an fp16-safe version for that). Prompts: one,
cached by us and encoded at every call by the others.

Needs torch (2.11 or newer), numpy, diffusers, transformers, safetensors, opencv, pillow, and for the engine
hydra-core, omegaconf, antlr4-python3-runtime and isal; no network, no weights.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import measure  # noqa: F401,I001 - it sets the thread counts, so it comes first
import torch

from benchmarks import gpu_bench, gpu_engine, gpu_loops, gpu_models
from benchmarks.gpu_bench import Bench
from benchmarks.gpu_loops import Asked
from synthaug.models.deep_cache import StepCache
from synthaug.models.hints import Hint
from synthaug.models.pipelines import Extras, Img2ImgModel, Request, open_img2img
from synthaug.models.speed import Speed, prepare, prepare_net

PROMPT = "a b c"
SAME = 2e-2
AIMS = {"B2": 95, "B3": 240, "B3 control": 185, "B4 kl": 9, "B4 tiny": 12, "B5": 2.4, "B5 guided": 1.25}
"""Pictures per second on one H200."""
OVER_NAIVE = {"B2": 10, "B3": 25, "B4": 4}


class Scene:
    """One family: its folder on disk, pictures on the device, and models opened from the folder."""

    def __init__(self, bench: Bench, root: Path, kind: str, batch: int) -> None:
        self.bench, self.kind, self.batch = bench, kind, batch
        self.side = gpu_models.SIDES[kind, bench.tiny]
        self.folder = gpu_models.write_pipeline(root / kind, kind, bench.tiny, bench.device, bench.dtype)
        generator = torch.Generator().manual_seed(0)
        coarse = (torch.rand((batch, 3, 4, 4), generator=generator) for _ in range(4))
        # Large shapes: the latents of white noise are all alike, and a wrong picture would pass for the right one.
        self.images = [
            torch.nn.functional.interpolate(values, (self.side, self.side), mode="bilinear").to(bench.device)
            for values in coarse
        ]
        self.taesd = root / f"{kind}-tiny"
        gpu_models.made(lambda: gpu_models.taesd(bench.tiny), bench.device, bench.dtype, 3).save_pretrained(self.taesd)

    def opened(self, speed: Speed | None = None) -> Img2ImgModel:
        """A model of its own; `None` leaves it as diffusers loads it."""
        dtype = str(self.bench.dtype).removeprefix("torch.")
        model = open_img2img(self.folder, device=self.bench.device, dtype=dtype)
        if speed is not None:
            prepare(model._pipe, speed, device=self.bench.device)  # pyright: ignore[reportPrivateUsage]
        return model

    def control(self, speed: Speed | None = None) -> Any:
        """A ControlNet of the family, the same each time."""
        net = gpu_models.made(
            lambda: gpu_models.controlnet(self.kind, self.bench.tiny), self.bench.device, self.bench.dtype, 4
        )
        if speed is not None:
            prepare_net(net, speed, device=self.bench.device)
        return net

    def seeds(self, turn: int) -> list[int]:
        """Of the noise of one batch; the same for every contender."""
        first = 1000 * (turn % len(self.images))
        return list(range(first, first + self.batch))

    def ours(self, model: Img2ImgModel, asked: Asked, turn: int) -> torch.Tensor:
        """One batch through our loop."""
        images = self.images[turn % len(self.images)]
        requests = [Request(PROMPT, "", asked.strength, seed) for seed in self.seeds(turn)]
        extras = None
        if asked.control is not None:
            weights = torch.ones(len(images), 1, self.side // 8, self.side // 8, device=images.device)
            extras = Extras(hints=[Hint(asked.control, images, weights)])
        return model(images, requests, steps=asked.steps, guidance=asked.guidance, extras=extras).images

    def theirs(self, pipe: Any, asked: Asked, turn: int) -> torch.Tensor:
        """The same batch through diffusers."""
        images = self.images[turn % len(self.images)]
        return gpu_loops.in_a_batch(pipe, images, asked, self.seeds(turn))

    def rates(self, ways: Mapping[str, Callable[[int], torch.Tensor]], check: str = "") -> dict[str, Any]:
        """Pictures per second of each way; all must give the pictures of the way `check` names."""
        errors: dict[str, float] = {}
        if check:
            wanted = ways[check](0).clone()
            errors = {name: gpu_bench.apart(way(0), wanted) for name, way in ways.items()}
            sound = bool(torch.isfinite(wanted).all()) and gpu_bench.apart(ways[check](1), wanted) > 5 * SAME
            self.bench.same_work(errors, SAME, sound)
        times = self.bench.timed(ways, warm_ups=2, rounds=3)
        return {
            name: {**times[name], "per_s": round(1000 * self.batch / times[name]["ms"], 3)}
            | ({"relative_error": errors[name]} if check else {})
            for name in ways
        }


def best(bench: Bench, **more: Any) -> Speed:
    """What is switched on for speed; compiling takes minutes on a small machine, so not at tiny size."""
    return Speed(channels_last=True, **more) if bench.tiny else Speed(channels_last=True, compile="regional", **more)


def main() -> None:
    bench = gpu_bench.opened("gpu_end_to_end", __doc__, seconds=430)
    with tempfile.TemporaryDirectory() as where:
        bench.row("ceilings", bench.measure_ceilings)
        small_scene(bench, Path(where))
        large_scene(bench, Path(where))
        bench.row("B12", lambda: over_naive(bench))
    print(f"{bench.name}: {len(bench.rows)} rows")


def small_scene(bench: Bench, root: Path) -> None:
    """SD-Turbo at 512 pixels."""
    scene = Scene(bench, root, "sd_turbo", 2 if bench.tiny else 32)
    files = gpu_engine.write_pictures(root / "pictures", 8 if bench.tiny else 2048, scene.side)
    turbo = Asked(PROMPT, 4, 0.5)
    bench.row("naive sd_turbo", lambda: naive(scene, files, turbo, root / "png"))
    bench.row("B2", lambda: plain_rows(scene, turbo))
    bench.row("B3", lambda: tiny_rows(scene, turbo))
    bench.row("B11", lambda: cold_start(scene, turbo))
    bench.row("B7 B8", lambda: engine_row(scene, turbo, root))


def large_scene(bench: Bench, root: Path) -> None:
    """SDXL at 1024 pixels."""
    scene = Scene(bench, root, "sdxl", 2 if bench.tiny else 8)
    files = gpu_engine.write_pictures(root / "large", 2 if bench.tiny else 8, scene.side)
    few = Asked(PROMPT, 8, 0.5, control=scene.control())
    bench.row("naive sdxl", lambda: naive(scene, files, few, root / "png_large"))
    bench.row("B4", lambda: large_rows(scene, few))
    bench.row("B5", lambda: long_rows(scene))


def naive(scene: Scene, files: list[Path], asked: Asked, out: Path) -> Mapping[str, Any]:
    """The loop that people write, with PNG and without."""
    out.mkdir()
    pipe = scene.opened()._pipe  # pyright: ignore[reportPrivateUsage]
    pipe = gpu_loops.controlled(pipe, asked.control) if asked.control is not None else pipe
    some = files[: 2 if scene.bench.tiny else 24 if scene.kind == "sd_turbo" else 6]
    gpu_loops.one_by_one(pipe, some[:2], asked, None)
    times = {name: gpu_loops.one_by_one(pipe, some, asked, folder) for name, folder in (("png", out), ("bare", None))}
    return {f"{name}_per_s": round(1 / value, 3) for name, value in times.items()} | {"pictures": len(some)}


def plain_rows(scene: Scene, asked: Asked) -> Mapping[str, Any]:
    """SD-Turbo, two steps, KL autoencoder: one thing at a time."""
    base = scene.opened()
    ways: dict[str, Callable[[int], torch.Tensor]] = {
        "diffusers_batched": partial(scene.theirs, base._pipe, asked),  # pyright: ignore[reportPrivateUsage]
        "ours_eager": partial(scene.ours, scene.opened(Speed()), asked),
        "ours_channels_last": partial(scene.ours, scene.opened(Speed(channels_last=True)), asked),
        "ours_best": partial(scene.ours, scene.opened(best(scene.bench)), asked),
    }
    return {"aim": AIMS["B2"], "batch": scene.batch, "ways": scene.rates(ways, "diffusers_batched")}


def tiny_rows(scene: Scene, asked: Asked) -> Mapping[str, Any]:
    """The same with the tiny autoencoder, with a ControlNet too, and as a stream of frames."""
    bench, vae = scene.bench, str(scene.taesd)
    base, model = scene.opened(Speed(vae=vae)), scene.opened(best(bench, vae=vae))
    held = Asked(PROMPT, asked.steps, asked.strength, control=scene.control())
    fast = Asked(PROMPT, asked.steps, asked.strength, control=scene.control(best(bench)))
    plain = scene.rates(
        {"ours_eager": partial(scene.ours, base, asked), "ours_best": partial(scene.ours, model, asked)}, "ours_eager"
    )
    controlled = scene.rates(
        {"ours_eager": partial(scene.ours, base, held), "ours_best": partial(scene.ours, model, fast)}, "ours_eager"
    )
    pipe = scene.opened(Speed(vae=vae, channels_last=True, graphs=bench.cuda))._pipe  # pyright: ignore[reportPrivateUsage]
    with torch.inference_mode():
        words = pipe.encode_prompt(PROMPT, pipe.device, 1, False)[0]
        stream = gpu_loops.Stream(pipe.unet, pipe.vae, words, pipe.scheduler, (499, 249))
        frames = [image[:1] for image in scene.images]
        times = bench.timed({"stream": lambda i: stream(frames[i % len(frames)])})
    return {
        "aim": {"plain": AIMS["B3"], "control": AIMS["B3 control"]},
        "plain": plain,
        "control": controlled,
        "stream_like_per_s": round(1000 / times["stream"]["ms"], 2),
    }


def cold_start(scene: Scene, asked: Asked) -> Mapping[str, Any]:
    """From a folder to the first batch: compiled for the first time in this process, and with the cache on disk."""
    found: dict[str, Any] = {"aim_s": {"cold": 15, "warm": 5}}
    torch._dynamo.reset()
    for name, speed in (("eager", Speed()), ("compiled, cache on disk", best(scene.bench))):
        begun = time.perf_counter()
        model = scene.opened(speed)
        loaded = time.perf_counter()
        scene.ours(model, asked, 0)
        scene.bench.sync()
        found[name] = {"load_s": round(loaded - begun, 2), "first_batch_s": round(time.perf_counter() - loaded, 2)}
    ways = scene.bench.rows.get("B2", {}).get("ways", {})
    found["compiled, cold"] = {"first_batch_s": round(ways.get("ours_best", {}).get("first_ms", 0) / 1000, 2)}
    return found


def engine_row(scene: Scene, asked: Asked, root: Path) -> Mapping[str, Any]:
    """`synthaug run` from JPEG files to verified shards, over the rate of the same options on the device alone."""
    bench = scene.bench
    speed = {"channels_last": "true", "compile": "" if bench.tiny else "regional"}
    wired = gpu_engine.words_of(speed)
    small = ("engine.workers=1", "engine.encoders=1") if bench.tiny else ("engine.workers=10", "engine.encoders=6")
    overrides = [
        f"read.root={root / 'pictures'}", f"refine.model={scene.folder}", "refine.prompt=a b c",
        f"refine.steps={asked.steps}", f"refine.strength={asked.strength}", "refine.guidance=1.0",
        f"refine.dtype={str(bench.dtype).removeprefix('torch.')}", f"engine.micro_batch={scene.batch}",
        f"engine.prefetch={4 * scene.batch}", f"engine.shard_size={4 * scene.batch}", *small, *wired,
    ]  # fmt: skip
    found = gpu_engine.run(bench, root / "pictures", root / "out", overrides, scene.batch)
    ways = bench.rows.get("B2", {}).get("ways", {})
    alone = ways.get("ours_best" if wired else "ours_eager", {}).get("per_s")
    share = round(found["per_s"] / alone, 4) if alone else None
    return {**found, "device_only_per_s": alone, "share_of_device_only": share, "aim": {"share": 0.95, "busy": 0.95}}


def large_rows(scene: Scene, asked: Asked) -> Mapping[str, Any]:
    """SDXL, four steps and a ControlNet, both autoencoders."""
    bench = scene.bench
    base = gpu_loops.controlled(scene.opened()._pipe, asked.control)  # pyright: ignore[reportPrivateUsage]
    fast = Asked(PROMPT, asked.steps, asked.strength, control=scene.control(best(bench)))
    model = scene.opened(best(bench))
    kl = scene.rates(
        {"diffusers_batched": partial(scene.theirs, base, asked), "ours_best": partial(scene.ours, model, fast)},
        "diffusers_batched",
    )
    del base
    small = scene.opened(best(bench, vae=str(scene.taesd)))
    tiny = scene.rates({"ours_best": partial(scene.ours, small, fast)})
    return {"aim": {"kl": AIMS["B4 kl"], "tiny": AIMS["B4 tiny"]}, "batch": scene.batch, "kl": kl, "tiny": tiny}


def long_rows(scene: Scene) -> Mapping[str, Any]:
    """SDXL, twenty steps and a ControlNet, with guidance and without; and what a step cache gains and costs."""
    bench = scene.bench
    steps = 10 if bench.tiny else 20
    control = scene.control(best(bench))
    bare, guided = (Asked(PROMPT, steps, 1.0, g, control) for g in (1.0, 5.0))
    model = scene.opened(best(bench))
    slow = Asked(PROMPT, steps, 1.0, 5.0, scene.control())
    theirs = gpu_loops.controlled(scene.opened()._pipe, slow.control)  # pyright: ignore[reportPrivateUsage]
    bench.same_work({"ours_best": gpu_bench.apart(scene.ours(model, guided, 0), scene.theirs(theirs, slow, 0))}, SAME)
    del theirs
    bench.tidy()
    plain = scene.rates({"ours_best": partial(scene.ours, model, bare)})
    with_guidance = scene.rates({"ours_best": partial(scene.ours, model, guided)})
    wanted = scene.ours(model, bare, 0)
    del model
    cached = scene.opened(best(bench, cache=StepCache(2)))
    error = gpu_bench.apart(scene.ours(cached, bare, 0), wanted)
    saved = scene.rates({"ours_cached": partial(scene.ours, cached, bare)})
    return {
        "aim": {"plain": AIMS["B5"], "guided": AIMS["B5 guided"]}, "steps": steps, "plain": plain,
        "guided": with_guidance, "cached": {**saved, "every": 2, "relative_error": error},
    }  # fmt: skip


def over_naive(bench: Bench) -> Mapping[str, Any]:
    """Ours over the naive loop with PNG; ours without its encoder, which runs beside the device (row B7)."""
    rows = bench.rows
    found: dict[str, Any] = {"aim": OVER_NAIVE}
    for name, path in (("B2", ("ways",)), ("B3", ("plain",)), ("B4", ("kl",))):
        values: Any = rows.get(name, {})
        for key in (*path, "ours_best", "per_s"):
            values = values.get(key, {})
        plain = rows.get("naive sdxl" if name == "B4" else "naive sd_turbo", {}).get("png_per_s")
        found[name] = round(values / plain, 2) if values and plain else None
    return found


if __name__ == "__main__":
    main()
