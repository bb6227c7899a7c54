"""What every crash driver works on: a command line, an output root, and the digest of a run left in peace."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
COMPLETE = (0, 3)
"""Statuses of a run that reached its end: all well, or over the reject budget."""


def golden_digest(root: Path) -> str:
    """SHA-256 over (relative name, bytes) of a finished dataset, sorted by name.

    Leaves out what is no part of the result: `.synthaug/tmp`, `.synthaug/lock` and `.synthaug/*.log`.
    """
    whole = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_symlink() or not p.is_dir()):
        name = path.relative_to(root).as_posix()
        if _passing(name):
            continue
        data = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        for part in (name.encode("utf-8", "surrogateescape"), data):
            whole.update(len(part).to_bytes(8, "little"))
            whole.update(part)
    return whole.hexdigest()


def _passing(name: str) -> bool:
    log = name.startswith(".synthaug/") and name.count("/") == 1 and name.endswith(".log")
    return log or name.startswith(".synthaug/tmp/") or name == ".synthaug/lock"


def contents(root: Path) -> dict[str, bytes]:
    """Every file below a root by relative name, for messages about what differs."""
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@dataclass(frozen=True)
class Job:
    """A command that writes a dataset, and can be run again to finish it.

    Attributes:
        command: Words of the command; `{root}` in them stands for the output root.
        environment: Added to this process's environment.
        directory: Where it runs.
        timeout: Seconds after which one run counts as hanging.
    """

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path = PROJECT
    timeout: float = 120.0

    def words(self, root: Path) -> list[str]:
        """The command for one output root."""
        return [word.replace("{root}", str(root)) for word in self.command]

    def surroundings(self, failpoints: str = "") -> dict[str, str]:
        """Environment of a run; hashes of strings and byte code files are pinned so that calls can be counted."""
        fixed = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "SYNTHAUG_FAILPOINTS": failpoints}
        return {**os.environ, **fixed, **self.environment}

    def run(self, root: Path, *, failpoints: str = "", prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Runs to the end, or to whatever the failpoints or the prefix (a tracer) do to it."""
        return subprocess.run(
            [*prefix, *self.words(root)],
            env=self.surroundings(failpoints),
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=self.timeout,
            check=False,
        )

    def golden(self, root: Path) -> str:
        """Runs in peace into a fresh root and gives the digest all other runs must reach."""
        done = self.run(root)
        if done.returncode not in COMPLETE:
            raise AssertionError(f"the undisturbed run ended with {done.returncode}:\n{done.stderr}")
        return golden_digest(root)

    def finish(self, root: Path, golden: str) -> str:
        """Runs again in peace; says what is wrong with the result, or nothing."""
        done = self.run(root)
        if done.returncode not in COMPLETE:
            return f"resume ended with status {done.returncode}: {done.stderr.strip()[-400:]}"
        if golden_digest(root) != golden:
            return f"resume gave another dataset: {sorted(contents(root))}"
        return litter(root)


def partial(root: Path, golden_root: Path) -> list[str]:
    """Files under a final name whose bytes are not those of the undisturbed run: torn, or made of other draws."""
    if not root.exists():
        return []
    wanted = contents(golden_root)
    return [
        f"{name} is partial or wrong"
        for name, data in contents(root).items()
        if not _passing(name) and data != wanted.get(name)
    ]


def litter(root: Path) -> str:
    """What a finished run left in its temporary area, or nothing."""
    left = sorted(p.name for p in (root / ".synthaug" / "tmp").glob("*"))
    return f"left behind in tmp: {left}" if left else ""


@dataclass
class Report:
    """What a driver did."""

    points: int = 0
    bad: list[str] = field(default_factory=list)

    def note(self, where: str, problem: str) -> None:
        """Counts one point, and keeps it if something was wrong."""
        self.points += 1
        if problem:
            self.bad.append(f"{where}: {problem}")


TINY = Job((sys.executable, "-S", "-m", "tests.crash.tiny_run", "{root}"))
"""The smallest client of publication, with no site packages: 40 ms a run."""
