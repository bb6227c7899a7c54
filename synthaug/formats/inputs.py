"""The only way to open an input file: below one root, by relative path, through no link.

A path is walked component by component from an open handle of the root (`openat` with `O_NOFOLLOW`),
and what was opened is checked, not its name: swapping a folder for a link between check and use
changes nothing. Nothing is written, locked or created near the inputs. POSIX only.

A hard link cannot be told from a file; making one needs rights on its target, so none is crossed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
import weakref
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NoReturn

from synthaug.errors import InputError, Rejected, SecurityError, first_of, printable
from synthaug.formats.paths import check_path as check_path
from synthaug.formats.paths import fault_of
from synthaug.formats.paths import natural_key as natural_key

DEFAULT_LIMIT = 256 * 2**20
"""Bytes of one file."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Non-blocking: a FIFO put in the place of a checked file must not hold the reader up.
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(slots=True)
class _Walk:
    """What a listing looks for, and what it has found; suffixes in lower case, None for every file."""

    suffixes: frozenset[str] | None
    recursive: bool
    found: list[str] = field(default_factory=list[str])
    links: list[str] = field(default_factory=list[str])

    def wants(self, name: str) -> bool:
        """Whether a file is looked for."""
        return self.suffixes is None or PurePosixPath(name).suffix.lower() in self.suffixes


class InputRoot:
    """Read-only access to the files below one folder. Thread-safe; reopens itself in another process.

    Args:
        root: The folder. It may itself be a link; what lies below is held to `allow_links`.
        allow_links: Follow links below the root, wherever they lead. Only for data that you laid out.
    """

    def __init__(self, root: str | Path, *, allow_links: bool = False) -> None:
        self.root = Path(os.path.abspath(root))
        self.allow_links = allow_links
        self._no_follow = 0 if allow_links else os.O_NOFOLLOW
        self._lock = threading.Lock()
        self._handle: int | None = None
        self._digests: dict[str, str] = {}

    def __reduce__(self) -> tuple[object, ...]:
        return (_reopen, (str(self.root), self.allow_links))

    def __repr__(self) -> str:
        return f"InputRoot({str(self.root)!r})"

    def read(self, relpath: str, limit: int = DEFAULT_LIMIT) -> bytes:
        """A whole file. Its SHA-256 is kept for `take_digests`.

        Raises:
            SecurityError: The path breaks the rule, or a component is a link.
            Rejected: Under `missing` (no such file), `input` (no regular file, unreadable) or `budget`
                (more than `limit` bytes).
        """
        with self._open(relpath) as (handle, facts):
            if facts.st_size > limit:
                raise Rejected("budget", f"{printable(relpath)} has {facts.st_size} bytes, the limit is {limit}")
            data = _read_all(handle, facts.st_size, limit, relpath)
        digest = hashlib.sha256(data).hexdigest()
        with self._lock:
            self._digests["/".join(check_path(relpath))] = digest
        return data

    def head(self, relpath: str, n: int = 65536) -> bytes:
        """The first `n` bytes, or fewer where the file is shorter; errors as `read`."""
        with self._open(relpath) as (handle, _):
            return _read_some(handle, n)

    def sha256(self, relpath: str) -> str:
        """SHA-256 of a file in hexadecimal, streamed; errors as `read`."""
        digest = hashlib.sha256()
        with self._open(relpath) as (handle, _):
            while block := os.read(handle, 1 << 20):
                digest.update(block)
        return digest.hexdigest()

    def stamp(self, relpath: str) -> tuple[int, ...]:
        """Size, inode, modification and change time (ns): cheap evidence that a file is untouched."""
        with self._open(relpath) as (_, facts):
            return facts.st_size, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns

    def size(self, relpath: str) -> int:
        """Length in bytes; errors as `read`."""
        with self._open(relpath) as (_, facts):
            return facts.st_size

    def exists(self, relpath: str) -> bool:
        """Whether a regular file is there. Raises `SecurityError` for a bad path or a link."""
        try:
            with self._open(relpath):
                return True
        except Rejected:
            return False

    def is_folder(self, relpath: str) -> bool:
        """Whether a folder is there; the empty path is the root. Raises as `exists`."""
        try:
            with self._folder(check_path(relpath) if relpath else ()):
                return True
        except (Rejected, InputError):
            return False

    def resolve(self, relpath: str) -> Path:
        """The absolute path of a file that was just opened safely, for libraries that open by name.

        What is there a moment later is not promised; prefer `read`. Errors as `read`.
        """
        with self._open(relpath):
            return self.root.joinpath(*check_path(relpath))

    def listing(self, folder: str = "", suffixes: Sequence[str] | None = None, recursive: bool = True) -> list[str]:
        """Paths of the files below `folder`, relative to the root, in natural order. Opens none of them.

        Args:
            folder: Relative; empty for the root.
            suffixes: Such as `(".png", ".jpg")`, compared in lower case; all files by default.
            recursive: Descend into folders.

        Raises:
            InputError: No such folder, or names that `check_path` refuses (the first 20).
            SecurityError: Folders or such files are links, and links are not followed (the first three).
        """
        parts = check_path(folder) if folder else ()
        walk = _Walk(None if suffixes is None else frozenset(s.lower() for s in suffixes), recursive)
        with self._folder(parts) as handle:
            self._walk(handle, "/".join(parts), walk, ())
        if walk.links:
            links = sorted(walk.links, key=natural_key)
            raise SecurityError(
                f"{len(links)} of the names below {self.root} that would be read are links, and links are not followed "
                f"below an input root; copy what they name, or point read.root at it:{first_of(links, 3)}"
            )
        bad = [path for path in walk.found if fault_of(path)]
        if bad:
            raise InputError(f"{len(bad)} files have names that no path may have; rename them:{first_of(bad)}")
        return sorted(walk.found, key=natural_key)

    def take_digests(self) -> dict[str, str]:
        """SHA-256 (hex) by relative path of every file read whole since the last call."""
        with self._lock:
            taken, self._digests = self._digests, {}
        return taken

    def _root(self) -> int:
        with self._lock:
            if self._handle is None:
                try:
                    self._handle = os.open(self.root, _FOLDER)
                except OSError as error:
                    raise InputError(f"input root {self.root}: {error.strerror}; expected a folder") from error
                weakref.finalize(self, os.close, self._handle)
            return self._handle

    @contextmanager
    def _folder(self, parts: Sequence[str]) -> Generator[int]:
        """A handle on the folder `parts`, every step of it opened from the step before."""
        handle = os.dup(self._root())
        try:
            for i, part in enumerate(parts):
                try:
                    below = os.open(part, _FOLDER | self._no_follow, dir_fd=handle)
                except OSError as error:
                    self._refuse(error, handle, part, "/".join(parts[: i + 1]))
                os.close(handle)
                handle = below
            yield handle
        finally:
            os.close(handle)

    @contextmanager
    def _open(self, relpath: str) -> Generator[tuple[int, os.stat_result]]:
        """A handle on a regular file, and what `fstat` says of that handle."""
        *parents, name = check_path(relpath)
        with self._folder(parents) as folder:
            try:
                # Looking first spares devices and FIFOs the open; the handle is what counts below.
                facts = os.stat(name, dir_fd=folder, follow_symlinks=self.allow_links)
                _check_regular(facts, relpath)
                handle = os.open(name, _FILE | self._no_follow, dir_fd=folder)
            except OSError as error:
                self._refuse(error, folder, name, relpath)
        try:
            facts = os.fstat(handle)
            _check_regular(facts, relpath)
            yield handle, facts
        finally:
            os.close(handle)

    def _refuse(self, error: OSError, folder: int, name: str, relpath: str) -> NoReturn:
        """Turns a failed step into the error that says why."""
        path = printable(relpath)
        if not self.allow_links and _is_link(folder, name):
            raise _link(path) from error
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise Rejected("missing", f"there is no {path} below {self.root}") from error
        raise Rejected("input", f"{path} cannot be opened: {error.strerror}") from error

    def _walk(self, folder: int, prefix: str, walk: _Walk, above: tuple[tuple[int, int], ...]) -> None:
        here = os.fstat(folder)
        if (here.st_dev, here.st_ino) in above:
            raise InputError(f"folder {printable(prefix)} is linked below itself")
        above = (*above, (here.st_dev, here.st_ino))
        folders: list[str] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                path = f"{prefix}/{entry.name}" if prefix else entry.name
                is_folder = entry.is_dir(follow_symlinks=True)
                if not (walk.recursive if is_folder else walk.wants(entry.name)):
                    continue
                if not self.allow_links and entry.is_symlink():
                    walk.links.append(path)
                elif is_folder:
                    folders.append(entry.name)
                else:
                    walk.found.append(path)
        for name in folders:
            path = f"{prefix}/{name}" if prefix else name
            try:
                below = os.open(name, _FOLDER | self._no_follow, dir_fd=folder)
            except OSError as error:
                self._refuse(error, folder, name, path)
            try:
                self._walk(below, path, walk, above)
            finally:
                os.close(below)


def _reopen(root: str, allow_links: bool) -> InputRoot:
    return InputRoot(root, allow_links=allow_links)


def _link(path: str) -> SecurityError:
    return SecurityError(f"{path} is a link, and links are not followed below an input root; copy what it names")


def _is_link(folder: int, name: str) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _check_regular(facts: os.stat_result, relpath: str) -> None:
    if stat.S_ISLNK(facts.st_mode):
        raise _link(printable(relpath))
    if not stat.S_ISREG(facts.st_mode):
        kind = next((word for word, test in _KINDS if test(facts.st_mode)), "special file")
        raise Rejected("input", f"{printable(relpath)} is a {kind}, expected a regular file")


_KINDS = (
    ("folder", stat.S_ISDIR),
    ("FIFO", stat.S_ISFIFO),
    ("socket", stat.S_ISSOCK),
    ("device", stat.S_ISCHR),
    ("device", stat.S_ISBLK),
)


def _read_some(handle: int, n: int) -> bytes:
    parts: list[bytes] = []
    while n > 0 and (part := os.read(handle, n)):
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


def _read_all(handle: int, size: int, limit: int, relpath: str) -> bytes:
    """One byte more than expected is asked for, so that a file that grows meanwhile is noticed."""
    data = _read_some(handle, size + 1)
    if len(data) != size or len(data) > limit:
        raise Rejected("input", f"{printable(relpath)} changed while it was read")
    return data
