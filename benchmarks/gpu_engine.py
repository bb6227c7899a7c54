"""A whole run of the engine on the device, watched from inside: samples per second, and how busy the device was."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks import sources
from benchmarks.gpu_bench import Bench
from synthaug.engine import local
from synthaug.engine.configure import compose
from synthaug.engine.progress import Progress

RECIPE = Path(__file__).resolve().parent / "gpu_run.yaml"


def write_pictures(folder: Path, count: int, side: int) -> list[Path]:
    """JPEG pictures, all different, with PNG id masks; as a renderer or a camera leaves them."""
    for name in ("images", "instance"):
        (folder / name).mkdir(parents=True)
    (folder / "names.txt").write_text("thing\n")

    def one(number: int) -> Path:
        rng = np.random.default_rng(number)
        path = folder / "images" / f"{number:05d}.jpg"
        pixels = cv2.cvtColor(sources.picture(rng, number, side), cv2.COLOR_RGB2BGR)
        assert cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])
        ids = sources.id_map(rng, side)
        assert cv2.imwrite(str(folder / "instance" / f"{number:05d}.png"), ids.astype(np.uint16))
        return path

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return list(threads.map(one, range(count)))


def words_of(speed: Mapping[str, Any]) -> list[str]:
    """Overrides for the options of speed."""
    return [f"+refine.speed.{name}={value}" for name, value in speed.items() if value]


def run(bench: Bench, folder: Path, out: Path, overrides: Sequence[str], batch: int) -> dict[str, Any]:
    """`synthaug run` in this process, to its end: rate from the first finished micro-batch on, and the device's share.

    What comes before the first batch (hashing, loading, compiling) is told apart, as `before_s`.
    """
    seen: list[float] = []

    class Watched(Progress):
        """Notes when each sample was written."""

        def settled(self, kind: str, number: int) -> None:
            super().settled(kind, number)
            seen.extend([time.monotonic()] * number)

    begun = time.monotonic()
    original, local.Progress = local.Progress, Watched  # type: ignore[misc]
    try:
        with Busy(bench) as busy:
            words = [f"write.root={out}", "engine.progress=none", f"engine.device={bench.device}", *overrides]
            status = local.run(compose(str(RECIPE), words))
    finally:
        local.Progress = original  # type: ignore[misc]
    assert status == local.COMPLETE, f"exit status {status}"
    seen.sort()
    rest = seen[batch:]
    assert rest, "too few samples for a rate"
    spent = rest[-1] - seen[batch - 1]
    return {
        "samples": len(seen),
        "per_s": round(len(rest) / max(spent, 1e-6), 2),
        "before_s": round(seen[0] - begun, 2),
        "after_s": round(time.monotonic() - seen[-1], 2),
        "busy_share": busy.share(seen[batch - 1], rest[-1]),
        "overrides": [word for word in overrides if not word.startswith(("read.root", "refine.model"))],
    }


class Busy:
    """Asks the driver ten times a second for the share of time in which a kernel ran (NVML, `utilization.gpu`)."""

    def __init__(self, bench: Bench) -> None:
        self._seen: list[tuple[float, int]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True) if bench.cuda else None

    def __enter__(self) -> Busy:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, *ignored: object) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()

    def share(self, begin: float, end: float) -> float | None:
        """The mean between two moments, in [0, 1]; None where nobody could be asked."""
        values = [value for moment, value in self._seen if begin <= moment <= end]
        return round(statistics.fmean(values) / 100, 4) if values else None

    def _watch(self) -> None:
        try:
            import pynvml as nvml  # type: ignore[import-not-found]

            nvml.nvmlInit()
            gpu = nvml.nvmlDeviceGetHandleByIndex(0)
        except Exception as error:
            print(f"busy share: no NVML ({error})", flush=True)
            return
        while not self._end.wait(0.1):
            self._seen.append((time.monotonic(), nvml.nvmlDeviceGetUtilizationRates(gpu).gpu))
