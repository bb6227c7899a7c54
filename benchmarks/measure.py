"""How the codec benchmarks measure: same work first, then CPU time in alternating rounds, on one thread.

A round runs every candidate in turn, a few calls each, so that what disturbs the machine disturbs all of
them, and so that the caches that one candidate leaves behind weigh little on the next. A round's figure is
CPU time (`time.process_time`) per call; the result is the median over rounds, its spread the range of the
middle half.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

RESULTS = Path(os.environ.get("SYNTHAUG_RESULTS") or Path(__file__).resolve().parent / "results")


def alternate(
    candidates: Mapping[str, Callable[[], object]], rounds: int = 40, calls: int = 5
) -> dict[str, dict[str, float]]:
    """CPU milliseconds per call: `median_ms` and `spread_ms`, by candidate.

    Args:
        candidates: What to run.
        rounds: That count, after two to warm up.
        calls: Of one candidate, in a row, per round.
    """
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(-2, rounds):
        for name, call in candidates.items():
            begin = time.process_time()
            for _ in range(calls):
                call()
            spent = time.process_time() - begin
            if turn >= 0:
                times[name].append(1000 * spent / calls)
    return {name: _summary(values) for name, values in times.items()}


def ratio(times: Mapping[str, Mapping[str, float]], ours: str, theirs: str) -> float:
    """How many times faster `ours` is than `theirs`."""
    return round(times[theirs]["median_ms"] / times[ours]["median_ms"], 2)


def publish(name: str, claims: Mapping[str, Any], details: Mapping[str, Any], packages: Iterable[str]) -> None:
    """Writes `results/<name>.json` with date, processor and versions, and prints the claims."""
    record = {
        "benchmark": name,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": processor(),
        "python": platform.python_version(),
        "packages": {package: version(package) for package in sorted(packages)},
        "claims": claims,
        "details": details,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print(json.dumps(claims, indent=2, sort_keys=True))


def processor() -> str:
    """The processor's name, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def version(package: str) -> str | None:
    """The installed version; None where the package is absent."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _summary(values: list[float]) -> dict[str, float]:
    low, _, high = statistics.quantiles(values, n=4)
    return {"median_ms": round(statistics.median(values), 4), "spread_ms": round(high - low, 4)}
