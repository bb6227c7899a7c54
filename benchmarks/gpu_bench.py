"""How the GPU benchmarks measure: ceilings of the day first, same work first, then alternating rounds by the clock.

Everything runs on a CPU as well, at tiny sizes, where the figures say nothing but that the script is whole.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import statistics
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks import measure

Call = Callable[[int], object]
PACKAGES = ("torch", "diffusers", "transformers", "numpy", "triton", "nvidia-cudnn-cu13", "safetensors")


class Bench:
    """One command: its device, the time it may take, and what it has found so far.

    Args:
        name: Of the result file, written anew after every row, so that nothing is lost at a time limit.
        device: As torch names it.
        tiny: Small shapes and few rounds, and an error ends the script.
        seconds: After which no further row is begun.
    """

    def __init__(self, name: str, device: str, *, tiny: bool, seconds: float) -> None:
        self.name, self.device, self.tiny = name, device, tiny
        self.cuda = device.startswith("cuda")
        self.dtype = torch.bfloat16 if self.cuda else torch.float32
        self.rows: dict[str, Any] = {}
        self.ceilings: dict[str, float] = {}
        self._until = time.monotonic() + seconds
        self._begun = time.monotonic()
        if not self.cuda:
            torch.set_num_threads(1)
        self._clocks = clocks()
        self._noted: dict[str, Any] = {}

    def row(self, name: str, work: Callable[[], Mapping[str, Any]]) -> None:
        """One row of the table; what fails on a GPU is noted, and the next row goes on."""
        if time.monotonic() > self._until:
            self.rows[name] = {"left_out": "no time left"}
        else:
            self._measured(name, work)
        print(name, json.dumps(self.rows[name], sort_keys=True), flush=True)
        self.publish()

    def _measured(self, name: str, work: Callable[[], Mapping[str, Any]]) -> None:
        begun = time.monotonic()
        self.tidy()
        self._noted = {}
        try:
            found = dict(work()) | self._noted
        except Exception as error:
            if self.tiny:
                raise
            traceback.print_exc()
            found = self._noted | {"error": f"{type(error).__name__}: {error}"[:500]}
        if self.cuda:
            found["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        self.rows[name] = {**found, "row_seconds": round(time.monotonic() - begun, 1)}

    def same_work(self, errors: Mapping[str, float], limit: float, sound: bool = True) -> None:
        """Whether all ways give the same; on a GPU a row that does not is marked as such, and timed all the same.

        Args:
            errors: Relative, by way.
            limit: The largest that passes.
            sound: Whether the comparison can tell results apart at all, and everything is finite.
        """
        passed = sound and all(error < limit for error in errors.values())  # NaN does not pass
        assert passed or not self.tiny, (errors, sound)
        self._noted["same_work"] = passed

    def tidy(self) -> None:
        """Hands back what earlier rows held."""
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def sync(self) -> None:
        """Waits for the device."""
        if self.cuda:
            torch.cuda.synchronize()

    def timed(self, calls: Mapping[str, Call], *, warm_ups: int = 3, rounds: int = 5) -> dict[str, dict[str, float]]:
        """Milliseconds per call, A B A B: `ms`, the median of the rounds, `spread_ms` their range, `first_ms`.

        Args:
            calls: Each is given a running number, to rotate among its inputs.
            warm_ups: Calls that do not count; the first one compiles, and its time is `first_ms`.
            rounds: Of at least half a second each on a GPU.
        """
        rounds, length = (2, 0.0) if self.tiny else (rounds, 0.5)
        found: dict[str, dict[str, float]] = {}
        repeats: dict[str, int] = {}
        for name, call in calls.items():
            first = self._once(call, 1)
            later = [self._once(call, 1) for _ in range(1 if self.tiny else warm_ups)]
            found[name] = {"first_ms": round(first, 3)}
            repeats[name] = max(1, min(200, int(1000 * length / max(later[-1], 1e-3))))
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                times[name].append(self._once(call, repeats[name]))
        for name, values in times.items():
            spread = max(values) - min(values)
            found[name] |= {"ms": round(statistics.median(values), 4), "spread_ms": round(spread, 4)}
        return found

    def _once(self, call: Call, repeats: int) -> float:
        """Milliseconds per call, by device events where there is a device."""
        self.sync()
        if not self.cuda:
            begun = time.perf_counter()
            for i in range(repeats):
                call(i)
            return 1000 * (time.perf_counter() - begun) / repeats
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for i in range(repeats):
            call(i)
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / repeats

    def measure_ceilings(self) -> Mapping[str, Any]:
        """A square product and a copy, both too large for any cache; random numbers, for zeros run faster."""
        side, count = (8192, 1 << 30) if self.cuda and not self.tiny else (256, 1 << 18)
        a, b = (torch.randn(side, side, device=self.device, dtype=self.dtype) for _ in range(2))
        source = torch.randn(count, device=self.device)
        target = torch.empty_like(source)
        times = self.timed({"product": lambda i: a @ b, "copy": lambda i: target.copy_(source)})
        self.ceilings = {
            "tflops": round(2 * side**3 / times["product"]["ms"] / 1e9, 2),
            "gb_per_s": round(2 * 4 * count / times["copy"]["ms"] / 1e6, 1),
        }
        return {**self.ceilings, "side": side, "copied_bytes": 4 * count, "times": times}

    def share(self, flops: float, ms: float) -> dict[str, float]:
        """Achieved rate, alone and as a share of today's ceiling."""
        rate = flops / ms / 1e9
        return {"tflops": round(rate, 3), "share": round(rate / self.ceilings["tflops"], 4)}

    def publish(self) -> None:
        """Writes `results/<name>.json`; at tiny size only where SYNTHAUG_RESULTS says where."""
        if self.tiny and "SYNTHAUG_RESULTS" not in os.environ:
            return
        record = {
            "benchmark": self.name,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "device": torch.cuda.get_device_name() if self.cuda else measure.processor(),
            "tiny": self.tiny,
            "dtype": str(self.dtype).removeprefix("torch."),
            "cuda": torch.version.cuda,
            "clocks": {"before": self._clocks, "after": clocks()},
            "packages": {package: measure.version(package) for package in PACKAGES},
            "ceilings": self.ceilings,
            "rows": self.rows,
            "seconds": round(time.monotonic() - self._begun, 1),
        }
        measure.RESULTS.mkdir(parents=True, exist_ok=True)
        path = Path(measure.RESULTS) / f"{self.name}.json"
        path.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def opened(name: str, doc: str | None, seconds: float) -> Bench:
    """The command line that both scripts share."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="small networks, on the CPU")
    parser.add_argument("--device", default="", help="cuda:0, or cpu with --tiny")
    parser.add_argument("--seconds", type=float, default=seconds, help="after which no further row is begun")
    arguments = parser.parse_args()
    device = arguments.device or ("cpu" if arguments.tiny else "cuda:0")
    import diffusers.utils.logging as diffusers_log

    diffusers_log.set_verbosity_error()
    if not arguments.tiny and not torch.cuda.is_available():
        parser.error("no CUDA device here; --tiny runs everything on the CPU")
    return Bench(name, device, tiny=arguments.tiny, seconds=arguments.seconds)


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Relative error in the Frobenius norm; NaN where anything is not finite."""
    first, second = one.float(), other.float()
    return round(float((first - second).norm() / second.norm().clamp_min(1e-12)), 6)


def clocks() -> list[dict[str, int]]:
    """Clocks in MHz, power in W and temperature of each GPU, as found; nothing is set."""
    try:
        import pynvml as nvml  # type: ignore[import-not-found]

        nvml.nvmlInit()
    except Exception:  # no such library, or no such driver: both mean that nothing can be told
        return []
    found: list[dict[str, int]] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        gpu = nvml.nvmlDeviceGetHandleByIndex(index)
        found.append(
            {
                "sm": nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM),
                "memory": nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM),
                "watts": nvml.nvmlDeviceGetPowerUsage(gpu) // 1000,
                "celsius": nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
            }
        )
    return found
