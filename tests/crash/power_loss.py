"""What a disk may hold after the power failed, enumerated from a log of the seam, and resumed from.

The model is harsher than any real file system. A folder remembers its entries for certain only after it was
flushed; of the changes since, any subset may have survived, and a rename is two of them (the new name in one
folder, the old name gone from the other). A file that was not flushed is whole, empty, cut in half, or zeros.
A file whose flush failed once is never certain again, however often it is flushed,
as on Linux.

Where the subsets would be too many, all of them are bounded to: none, all, each alone, all but each, and
every prefix. Folders below `.synthaug/tmp` are in doubt as a whole, since nothing in them is ever believed.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.job import Report, golden_digest, litter
from tests.crash.recorder import Op

TMP = ".synthaug/tmp"
_ALL_SUBSETS = 6
_Target = int | str
"""What an entry of a folder points to: a file by number, or a folder by path."""


@dataclass
class _Folder:
    """Entries that are certain, and changes since: (name, target or None for removed), oldest first."""

    certain: dict[str, _Target] = field(default_factory=dict)
    pending: list[tuple[str, _Target | None]] = field(default_factory=list)

    def now(self) -> dict[str, _Target]:
        return _applied(self.certain, self.pending)


class Disk:
    """Replays a log and knows what is certain."""

    def __init__(self) -> None:
        self.folders: dict[str, _Folder] = {".": _Folder()}
        self.data: dict[int, bytes] = {}
        self.certain: set[int] = set()
        self.promised: list[str] = []
        self.doubted: set[int] = set()
        self._inodes = itertools.count()

    def _entry(self, path: str) -> tuple[_Folder, str]:
        return self.folders[os.path.dirname(path) or "."], os.path.basename(path)

    def _file(self, path: str) -> int:
        folder, name = self._entry(path)
        inode = folder.now()[name]
        assert isinstance(inode, int)
        return inode

    def apply(self, op: Op) -> None:
        """Takes in one call."""
        if op.call == "fsync_dir":
            folder = self.folders[op.path]
            if not op.lost:
                folder.certain, folder.pending = folder.now(), []
        elif op.call == "fsync":
            inode = self._file(op.path)
            if op.lost:
                self.doubted.add(inode)
            elif inode not in self.doubted:
                self.certain.add(inode)
        elif op.call == "promise":
            self.promised.append(op.path)
        elif op.call == "write":
            inode = self._file(op.path)
            self.data[inode] += op.data
            self.certain.discard(inode)
        else:
            self._rearrange(op)

    def _rearrange(self, op: Op) -> None:
        folder, name = self._entry(op.path)
        if op.call == "create":
            self.data[inode := next(self._inodes)] = b""
            folder.pending.append((name, inode))
        elif op.call == "mkdir":
            self.folders.setdefault(op.path, _Folder())
            folder.pending.append((name, op.path))
        elif op.call == "rename":
            target, new = self._entry(op.other)
            target.pending.append((new, self._file(op.path)))
            folder.pending.append((name, None))
        else:
            folder.pending.append((name, None))

    def states(self) -> Iterator[dict[str, bytes | None]]:
        """Everything the disk may hold now: bytes by file path, None for a folder. May repeat itself."""
        final = sorted(path for path in self.folders if not _temporary(path))
        doubts = [(path, change) for path in final for change in self.folders[path].pending]
        temporary = [(path, c) for path in self.folders if _temporary(path) for c in self.folders[path].pending]
        for kept in _subsets(doubts):
            for extra in ([], temporary) if temporary else ([],):
                yield from self._filled(self._tree([*kept, *extra]))

    def _tree(self, kept: Sequence[tuple[str, tuple[str, _Target | None]]]) -> dict[str, _Target]:
        tree: dict[str, _Target] = {}
        waiting = ["."]
        while waiting:
            path = waiting.pop()
            folder = self.folders[path]
            entries = _applied(folder.certain, [change for where, change in kept if where == path])
            for name, target in entries.items():
                below = name if path == "." else f"{path}/{name}"
                tree[below] = target
                if isinstance(target, str):
                    waiting.append(target)
        return tree

    def _filled(self, tree: Mapping[str, _Target]) -> Iterator[dict[str, bytes | None]]:
        whole = {path: None if isinstance(target, str) else self.data[target] for path, target in tree.items()}
        unsure = [p for p, t in tree.items() if isinstance(t, int) and t not in self.certain and not _temporary(p)]
        yield whole
        for damage in (_nothing, _half, _zeros):
            yield {p: damage(d) if d is not None and p in unsure else d for p, d in whole.items()}
            if len(unsure) > 1:
                for one in unsure:
                    yield {**whole, one: damage(whole[one] or b"")}


def _applied(entries: Mapping[str, _Target], changes: Sequence[tuple[str, _Target | None]]) -> dict[str, _Target]:
    now = dict(entries)
    for name, target in changes:
        if target is None:
            now.pop(name, None)
        else:
            now[name] = target
    return now


def _subsets(
    changes: Sequence[tuple[str, tuple[str, _Target | None]]],
) -> Iterator[list[tuple[str, tuple[str, _Target | None]]]]:
    n = len(changes)
    if n <= _ALL_SUBSETS:
        masks = set(range(1 << n))
    else:
        ones = (1 << n) - 1
        masks = {
            0,
            ones,
            *(1 << i for i in range(n)),
            *(ones ^ (1 << i) for i in range(n)),
            *((1 << i) - 1 for i in range(n)),
        }
    for mask in sorted(masks):
        yield [change for i, change in enumerate(changes) if mask >> i & 1]


def _temporary(path: str) -> bool:
    return path == TMP or path.startswith(f"{TMP}/")


def _nothing(_: bytes) -> bytes:
    return b""


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _zeros(data: bytes) -> bytes:
    return bytes(len(data))


def distinct_states(
    log: Sequence[Op], seen: set[tuple[int, bytes]] | None = None
) -> Iterator[tuple[int, dict[str, bytes | None], list[str]]]:
    """(length of the prefix, state, promises made) for every distinct state after every prefix of the log.

    Args:
        seen: Shared between calls, leaves out what an earlier log has shown.
    """
    disk, seen = Disk(), set[tuple[int, bytes]]() if seen is None else seen
    for length in range(len(log) + 1):
        if length:
            disk.apply(log[length - 1])
        for state in disk.states():
            key = len(disk.promised), _key(state)
            if key not in seen:
                seen.add(key)
                yield length, state, list(disk.promised)


def broken(state: Mapping[str, bytes | None], promised: Sequence[str]) -> str:
    """The first promise that a state does not keep, or nothing."""
    for path in promised:
        data = state.get(path)
        if not data:
            return f"{path} was promised and is gone"
        try:
            files = json.loads(data).get("files", [])
        except ValueError:
            return f"{path} was promised and is torn"
        for file in files:
            if hashlib.sha256(state.get(file["name"]) or b"").hexdigest() != file["sha256"]:
                return f"{path} was promised and {file['name']} is gone or damaged"
    return ""


def _key(state: Mapping[str, bytes | None]) -> bytes:
    whole = hashlib.sha256()
    for path in sorted(state):
        data = state[path]
        whole.update(f"{path}\0{-1 if data is None else len(data)}\0".encode())
        whole.update(hashlib.sha256(data or b"").digest())
    return whole.digest()


def materialise(state: Mapping[str, bytes | None], root: Path) -> None:
    """Writes a state into a fresh folder."""
    root.mkdir()
    for path in sorted(state):
        data = state[path]
        if data is None:
            (root / path).mkdir(exist_ok=True)
        else:
            (root / path).write_bytes(data)


def survive(
    log: Sequence[Op],
    folder: Path,
    golden: str,
    resume: Callable[[Path], None],
    *,
    stop_at_first: bool = False,
    every: int = 1,
    seen: set[tuple[int, bytes]] | None = None,
) -> Report:
    """Materialises every distinct state, resumes from it, and compares with the undisturbed run.

    Args:
        resume: Finishes the run in a root; raises where it cannot.
        stop_at_first: For mutation checks: one wrong state is enough.
        every: Takes only each n-th state, for quick runs.
        seen: As in `distinct_states`.
    """
    report = Report()
    for number, (length, state, promised) in enumerate(distinct_states(log, seen)):
        problem = broken(state, promised)
        if not problem and number % every:
            continue
        last = log[length - 1] if length else Op("start", "")
        problem = problem or _resumed(state, folder / f"p{number:06d}", golden, resume)
        report.note(f"power lost after call {length} ({last.call} {last.path})", problem)
        if report.bad and stop_at_first:
            break
    return report


def _resumed(state: Mapping[str, bytes | None], root: Path, golden: str, resume: Callable[[Path], None]) -> str:
    materialise(state, root)
    try:
        resume(root)
    except Exception as error:
        return f"resume failed: {type(error).__name__}: {error}"
    else:
        return litter(root) if golden_digest(root) == golden else "resume gave another dataset"
    finally:
        _remove(root)


def _remove(root: Path) -> None:
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    root.rmdir()
