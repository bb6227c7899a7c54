"""What the tests of publication share: a seam that fails on demand, and a shard published in one call."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from synthaug.engine.publish import FileEntry, FileSystem, Output

MANIFEST = ".synthaug/shards/000000.json"
A, B = b"a" * 3000, b"b" * 10


class Failing(FileSystem):
    """Raises the errno `number` where `when` says so of (call, path), `times` times; notes all calls."""

    def __init__(self, number: int, when: Callable[[str, str], bool], times: int = 1) -> None:
        self.number, self.when, self.times = number, when, times
        self.seen: list[tuple[str, str]] = []

    def step(self, call: str, path: str) -> None:
        self.seen.append((call, path))
        if self.times and self.when(call, path):
            self.times -= 1
            raise OSError(self.number, os.strerror(self.number), path)


def fresh(root: Path, files: FileSystem | None = None) -> Output:
    """An output that is ready to be written."""
    output = Output(root, files)
    output.preflight()
    return output


def manifest(entries: list[FileEntry]) -> bytes:
    """The smallest manifest that vouches for files."""
    return json.dumps({"files": [entry._asdict() for entry in entries]}).encode()


def commit(output: Output, files: dict[str, bytes], name: str = MANIFEST) -> None:
    """One shard, staged and published."""
    with output.begin("000000") as staging:
        for path, data in files.items():
            staging.write(path, data)
        staging.commit(name, manifest)


def temporary(output: Output) -> list[str]:
    """What lies in the temporary area."""
    return sorted(os.listdir(output.root / ".synthaug" / "tmp"))
