"""CPU seconds of `synthaug --help`, and proof that it imports nothing heavy.

    python benchmarks/startup.py [ROUNDS]

Each round runs a fresh interpreter, alternating with a bare one for scale. CPU time is user plus system of
the child, so a busy machine disturbs it less than the wall. The result goes to results/startup.json.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
MUST, AIM = 0.15, 0.05
HEAVY = (
    "numpy",
    "cv2",
    "PIL",
    "yaml",
    "omegaconf",
    "hydra",
    "pyarrow",
    "torch",
    "transformers",
    "diffusers",
    "datasets",
)
HELP = [sys.executable, "-c", "import sys; from synthaug.cli import main; sys.exit(main(['--help']))"]
BARE = [sys.executable, "-c", ""]
IMPORTED = """
import sys
from synthaug.cli import main
try:
    main(["--help"])
except SystemExit:
    print(*sorted({name.split(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def cpu_seconds(command: list[str]) -> float:
    """User plus system seconds of one child process."""
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, env=environment())
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{command} ended with status {child.returncode}")
    return usage.ru_utime + usage.ru_stime


def environment() -> dict[str, str]:
    """Ours, with the package importable from the checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def modules() -> list[str]:
    """Top-level names in `sys.modules` after `--help`; the text is checked to be the full one."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED], env=environment(), capture_output=True, text=True, check=True
    )
    for word in ("run", "preview", "status", "verify", "exit status"):
        if word.lower() not in done.stdout.lower():
            raise RuntimeError(f"--help does not say '{word}': not the same work")
    return done.stderr.split()


def main(rounds: int = 21) -> None:
    loaded = modules()
    heavy = sorted(set(HEAVY) & set(loaded))
    cpu_seconds(HELP)
    helped: list[float] = []
    bare: list[float] = []
    for _ in range(max(rounds, 10)):
        helped.append(cpu_seconds(HELP))
        bare.append(cpu_seconds(BARE))
    result = {
        "claim": "synthaug --help, CPU seconds",
        "must": MUST,
        "aim": AIM,
        "median": round(statistics.median(helped), 4),
        "fastest": round(min(helped), 4),
        "slowest": round(max(helped), 4),
        "bare_interpreter_median": round(statistics.median(bare), 4),
        "rounds": len(helped),
        "heavy_modules": heavy,
        "modules": len(loaded),
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"python": platform.python_version(), "cpus": os.cpu_count(), "system": platform.system()},
    }
    results = Path(os.environ.get("SYNTHAUG_RESULTS") or HERE / "results")
    results.mkdir(exist_ok=True)
    (results / "startup.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    if heavy or result["median"] > MUST:
        raise SystemExit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 21)
