"""Publication: the only module of the package that opens files for writing.

A file is written under a temporary name, flushed to the disk, read back and compared, and only then renamed;
the folders are flushed before the manifest that vouches for the files appears in the same way. So a manifest
that can be read and whose hashes agree means that the shard is there, whatever was killed or unplugged.

All calls that change the disk go through `FileSystem`, which tests record or make fail.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import stat
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import cast

from synthaug.engine import failpoints
from synthaug.engine.staging import (
    PRIVATE,
    TEMPORARY,
    FileEntry,
    Nondeterministic,
    Staging,
    checked,
    digest,
    regular,
    seal,
    sealed,
)
from synthaug.errors import ConfigError, Interrupted, SecurityError, printable

__all__ = ["PRIVATE", "TEMPORARY", "FileEntry", "FileSystem", "Nondeterministic", "Output", "Staging", "seal", "sealed"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_RESERVE = 1 << 20


class FileSystem:
    """The seam: every call that changes the disk. Subclasses in tests override `step` or single calls."""

    def step(self, call: str, path: str) -> None:
        """Runs before each call with its name and path (the target of a rename)."""
        failpoints.file_call()

    def mkdir(self, path: str) -> None:
        self.step("mkdir", path)
        os.mkdir(path)

    def create(self, path: str) -> int:
        """A descriptor for a new file; refuses one that exists, follows no link, respects the umask."""
        self.step("create", path)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)

    def write(self, file: int, data: memoryview, path: str) -> int:
        self.step("write", path)
        return os.write(file, data)

    def write_all(self, file: int, data: bytes, path: str) -> None:
        """Writes everything, however often the system takes a part or is interrupted."""
        rest = memoryview(data)
        while rest:
            with contextlib.suppress(InterruptedError):
                rest = rest[self.write(file, rest, path) :]

    def fsync(self, file: int, path: str) -> None:
        self.step("fsync", path)
        os.fsync(file)

    def close(self, file: int, path: str) -> None:
        try:
            self.step("close", path)
        finally:
            os.close(file)

    def rename(self, source: str, target: str) -> None:
        self.step("rename", target)
        os.rename(source, target)

    def fsync_dir(self, path: str) -> None:
        self.step("fsync_dir", path)
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def unlink(self, path: str) -> None:
        self.step("unlink", path)
        os.unlink(path)

    def rmdir(self, path: str) -> None:
        self.step("rmdir", path)
        os.rmdir(path)

    def lock(self, path: str, *, wait: bool, folder: bool = False) -> int | None:
        """A descriptor that holds the exclusive lock on a folder or a file (made if missing); None if taken."""
        self.step("lock", path)
        kind = os.O_RDONLY | os.O_DIRECTORY if folder else os.O_RDWR | os.O_CREAT
        file = os.open(path, kind | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException as error:
            os.close(file)
            if isinstance(error, BlockingIOError):
                return None
            raise
        return file


class Output:
    """One output root. Threads may share it; several processes may each have one over the same root.

    Args:
        root: Where the dataset goes. Links in the root itself are followed once, here; below it never.
        files: The seam, for tests.
    """

    def __init__(self, root: Path, files: FileSystem | None = None) -> None:
        self.root = Path(os.path.realpath(root))
        self.files = files or FileSystem()
        self._numbers = itertools.count()
        self._durable: set[str] = set()

    def preflight(self, needed_bytes: int | None = None) -> None:
        """Makes the root and proves that it can be written, before anything expensive starts.

        Args:
            needed_bytes: Estimate of what the run will write; None where there is none.

        Raises:
            ConfigError: Parent missing, no folder, not writable, someone else's, not empty and not ours, full.
        """
        root = self.root
        try:
            if not root.parent.is_dir():
                raise ConfigError(f"output {root}: the folder {root.parent} does not exist; create it first")
            with contextlib.suppress(FileExistsError):
                self.files.mkdir(str(root))
            self._check_root(needed_bytes)
            with contextlib.suppress(PermissionError):  # a parent that may be passed through but not listed
                self.files.fsync_dir(str(root.parent))
            with self.begin("probe") as probe:
                probe.write("probe", bytes(4096))
        except (OSError, Interrupted) as error:
            raise ConfigError(f"output {root} cannot be written: {error}") from error

    def _check_root(self, needed_bytes: int | None) -> None:
        root, status = self.root, os.stat(self.root)
        if not stat.S_ISDIR(status.st_mode):
            raise ConfigError(f"output {root} is a file, expected a folder")
        if status.st_uid != os.geteuid():
            raise ConfigError(
                f"output {root} belongs to user {status.st_uid}, this run is user {os.geteuid()}; "
                "choose a folder that does not exist yet, or run as its owner"
            )
        others = sorted(set(os.listdir(root)) - {PRIVATE, "lost+found"})
        if others and not (root / PRIVATE).is_dir():
            raise ConfigError(
                f"output {root} holds {len(others)} entries that are not synthaug's, such as "
                f"{printable(others[0])}; choose an empty folder, so that nothing of yours is overwritten"
            )
        disk = os.statvfs(root)
        free, wanted = disk.f_bavail * disk.f_frsize, max(needed_bytes or 0, _RESERVE)
        if free < wanted or (disk.f_files and not disk.f_favail):
            raise ConfigError(
                f"output {root}: {free:,} bytes and {disk.f_favail:,} files free, {wanted:,} bytes needed"
            )

    def begin(self, shard: str) -> Staging:
        """A private place where the files of one shard gather."""
        with self.explained():
            self.make_folders([TEMPORARY])
            while True:
                path = f"{self.root}/{TEMPORARY}/{shard}-{os.getpid()}-{next(self._numbers)}"
                with contextlib.suppress(FileExistsError):
                    self.files.mkdir(path)
                    break
            return Staging(self, path, cast("int", self.files.lock(path, wait=True, folder=True)))

    def publish_file(self, name: str, data: bytes) -> None:
        """Puts one file in place, whole and durable, over what was there. Costs 1 fsync and 1 per folder."""
        with self.begin("file") as staging:
            staging.publish_one(name, data)

    def sweep(self) -> None:
        """Removes what dead runs left in the temporary area, and nothing else. Call it with the run's lock.

        Flushes the private folders as well: a manifest that a killed run had renamed, but whose folder it
        had not flushed, is believed from here on and so must be durable.
        """
        with self.explained():
            self.make_folders([TEMPORARY])
            with os.scandir(f"{self.root}/{TEMPORARY}") as entries:
                left = sorted(entries, key=lambda entry: entry.name)
            for entry in left:
                if not entry.is_dir(follow_symlinks=False):
                    self.files.unlink(entry.path)
                elif (held := self.files.lock(entry.path, wait=False, folder=True)) is not None:
                    self.clear(entry.path)
                    os.close(held)
            with os.scandir(f"{self.root}/{PRIVATE}") as entries:
                folders = sorted(e.path for e in entries if e.is_dir(follow_symlinks=False) and e.name != "tmp")
            for folder in (*folders, f"{self.root}/{PRIVATE}", str(self.root)):
                self.files.fsync_dir(folder)

    def read(self, name: str) -> bytes | None:
        """The bytes of a published file, None where there is no such regular file."""
        with regular(f"{self.root}/{checked(name)}") as file:
            return file.read() if file else None

    def sha256_of(self, name: str) -> str | None:
        """SHA-256 of a published file in hexadecimal, streamed; None where there is no such regular file."""
        return digest(f"{self.root}/{checked(name)}")

    def remove(self, name: str) -> None:
        """Removes a published file durably; does nothing where there is none."""
        path = f"{self.root}/{checked(name)}"
        with self.explained():
            self.make_folders([os.path.dirname(name)])
            with contextlib.suppress(FileNotFoundError):
                self.files.unlink(path)
            self.files.fsync_dir(os.path.dirname(path))

    def make_folders(self, names: Iterable[str]) -> None:
        """Makes folders below the root durably; refuses links on the way. Flushes each parent once a process."""
        unsure: dict[str, str] = {}
        for name in names:
            path = str(self.root)
            for part in filter(None, name.split("/")):
                parent, path = path, f"{path}/{part}"
                self._make_folder(path)
                if path not in self._durable:
                    unsure[path] = parent
        for parent in sorted(set(unsure.values())):
            self.files.fsync_dir(parent)
        self._durable.update(unsure)

    def _make_folder(self, path: str) -> None:
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                self.files.mkdir(path)
            status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            raise SecurityError(f"{path} is a link or a file, expected a folder; nothing is written through it")

    def clear(self, path: str) -> None:
        """Removes one temporary folder; it is flat by construction, anything deeper is not ours."""
        for name in sorted(os.listdir(path)):
            self.files.unlink(f"{path}/{name}")
        self.files.rmdir(path)

    @contextlib.contextmanager
    def explained(self) -> Generator[None, None, None]:
        """Turns what the system reports into what the user can act on."""
        try:
            yield
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise SecurityError(f"{error.filename} is a link, and nothing is written through links") from error
            what = "is full" if error.errno in _FULL else "failed"
            way = "free some space" if error.errno in _FULL else "look into that"
            raise Interrupted(
                f"output {self.root}: the disk {what} ({error}). Everything published so far is whole; "
                f"{way} and run the same command again"
            ) from error
