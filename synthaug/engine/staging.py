"""One shard on its way into the output: written aside, verified, then put in place as a whole.

Everything here goes through the seam of `publish`, which alone opens files for writing.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import stat
import threading
from collections.abc import Callable, Generator, Mapping
from io import FileIO
from typing import TYPE_CHECKING, NamedTuple, cast

from synthaug.engine import failpoints
from synthaug.errors import Interrupted, SecurityError, SynthaugError, first_of, printable

if TYPE_CHECKING:
    from synthaug.engine.publish import Output

PRIVATE = ".synthaug"
TEMPORARY = ".synthaug/tmp"
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO}


class Nondeterministic(SynthaugError):
    """The same shard came out with other bytes than those already published."""


class FileEntry(NamedTuple):
    """One file that a manifest vouches for: name below the root, bytes, SHA-256 in hexadecimal."""

    name: str
    size: int
    sha256: str


class Staging:
    """Files of one shard on their way. A context manager: leaving it removes what was not published."""

    def __init__(self, output: Output, folder: str, held: int) -> None:
        self._output, self._folder = output, folder
        self._held: int | None = held
        self._files = output.files
        self._numbers = itertools.count()
        self._staged: dict[FileEntry, str] = {}
        self._names: set[str] = set()
        self._adding = threading.Lock()

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Encoders may still write while an error unwinds: that error is the one to report, the sweep does the rest.
        with contextlib.suppress(OSError, Interrupted) if kind else contextlib.nullcontext():
            self.abandon()

    def write(self, name: str, data: bytes) -> FileEntry:
        """Writes a file under a temporary name and flushes it. Threads may call it beside each other.

        A disk error discards the attempt, and the bytes go once more to a new file; a failed flush is never
        repeated, because the kernel has by then forgotten what it could not write.

        Args:
            name: Final name below the root, with `/`.

        Raises:
            SecurityError: The name leaves the root, or the private folders would be overwritten.
            Interrupted: The disk is full or broken.
        """
        entry = FileEntry(checked(name), len(data), hashlib.sha256(data).hexdigest())
        with self._adding:
            if name in self._names:
                raise SynthaugError(f"{printable(name)} is written twice in one shard, expected distinct names")
            self._names.add(name)
        with self._output.explained():
            path = self._temporary()
            try:
                self._fill(path, data)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                path = self._temporary()
                self._fill(path, data)
        with self._adding:
            self._staged[entry] = path
        return entry

    def _temporary(self) -> str:
        return f"{self._folder}/{next(self._numbers):06d}"

    def _fill(self, path: str, data: bytes) -> None:
        file = self._files.create(path)
        try:
            self._files.write_all(file, data, path)
            self._files.fsync(file, path)
        except BaseException:
            with contextlib.suppress(OSError):  # the first error is the one to report
                self._files.close(file, path)
            raise
        with contextlib.suppress(InterruptedError):  # on Linux the descriptor is closed all the same
            self._files.close(file, path)

    def commit(self, manifest_name: str, manifest: Callable[[list[FileEntry]], bytes]) -> None:
        """Puts the shard in place: every file, every folder, then the manifest that vouches for them.

        Idempotent: where a manifest stands already, the first publication wins, and files are only put back
        where they are missing or damaged. Files without a manifest are leftovers of a killed commit and are
        replaced. To publish other bytes on purpose, `Output.remove` the manifest first.

        Args:
            manifest: Makes the manifest's bytes (a JSON object with `files`) from the entries, sorted by name.
                Where they carry a `seal`, a standing manifest without an intact one counts as damaged.

        Raises:
            Nondeterministic: A valid manifest vouches for other bytes.
            Interrupted: The disk is full or broken, or gave back other bytes than were written.
        """
        failpoints.stop_at("publish.stop")
        output = self._output
        with output.explained():
            self._verify()
            data = manifest(sorted(self._staged))
            lock = cast("int", self._files.lock(f"{output.root}/{TEMPORARY}", wait=True, folder=True))
            try:
                standing = output.read(manifest_name) or b""
                claims = _claims(standing) if sealed(standing) or not sealed(data) else None
                if claims is None:
                    self._move()
                    self.publish_one(manifest_name, data)
                else:
                    self._compare(manifest_name, standing == data, claims)
                    self._move(only_damaged=True)
            finally:
                os.close(lock)
        self.abandon()

    def publish_one(self, name: str, data: bytes) -> None:
        """Writes, verifies and puts in place one file, over what was there."""
        self.write(name, data)
        self.publish()

    def publish(self) -> None:
        """Verifies and puts in place what was written, over what was there; file by file, vouched for by nothing."""
        with self._output.explained():
            self._verify()
            self._move()

    def abandon(self) -> None:
        """Removes what was not published; harmless when called twice, or after the area was swept."""
        held, self._held = self._held, None
        if held is None:
            return
        try:
            with self._output.explained(), contextlib.suppress(FileNotFoundError):
                self._output.clear(self._folder)
        finally:
            os.close(held)

    def _verify(self) -> None:
        for entry, path in self._staged.items():
            found = digest(path)
            if found != entry.sha256:
                raise Interrupted(
                    f"{printable(entry.name)}: the disk gave back bytes with SHA-256 {found}, {entry.sha256} was "
                    "written; check the disk and run the same command again"
                )

    def _compare(self, manifest_name: str, same: bool, claims: Mapping[str, str]) -> None:
        if same:
            return
        ours = {entry.name: entry.sha256 for entry in self._staged}
        names = sorted(n for n in ours.keys() | claims.keys() if ours.get(n) != claims.get(n))
        raise Nondeterministic(
            f"{manifest_name} is published already and vouches for other bytes than this attempt made; nothing was "
            "changed. Something random or environmental leaks into the stages. Differing: "
            + (first_of(names, 5) if names else "only the ledger, not the files")
        )

    def _move(self, *, only_damaged: bool = False) -> None:
        root, touched = self._output.root, set[str]()
        entries = sorted(self._staged)
        self._output.make_folders(dict.fromkeys(os.path.dirname(entry.name) for entry in entries))
        for entry in entries:
            final = f"{root}/{entry.name}"
            if only_damaged and digest(final) == entry.sha256:
                continue
            self._files.rename(self._staged.pop(entry), final)
            touched.add(os.path.dirname(final))
        for folder in sorted(touched):
            self._files.fsync_dir(folder)


def _claims(data: bytes) -> dict[str, str] | None:
    """SHA-256 by file name of a manifest that can be read, else None: a torn one vouches for nothing."""
    try:
        return {entry["name"]: entry["sha256"] for entry in json.loads(data)["files"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def seal(data: bytes) -> bytes:
    """A JSON object with one more field at its end: the SHA-256 of all that stands before it.

    Nothing else vouches for a manifest, and a flipped bit in an id or a count leaves it good JSON.
    """
    stem = data.rstrip().removesuffix(b"}").rstrip()
    return stem + _end(stem)


def sealed(data: bytes) -> bool:
    """Whether the bytes end in an intact seal."""
    stem = data[: -len(_end(b""))]
    return data == stem + _end(stem)


def _end(stem: bytes) -> bytes:
    return f',\n "seal": "{hashlib.sha256(stem).hexdigest()}"\n}}\n'.encode()


def checked(name: str) -> str:
    """The name, if it stays below the root and out of the run's private working area.

    Raises:
        SecurityError: Absolute, `..`, empty components, NUL, over 255 bytes in one component, or private.
    """
    parts = name.split("/")
    try:
        plain = all(p not in ("", ".", "..") and "\0" not in p and len(p.encode()) <= 255 for p in parts)
    except UnicodeEncodeError:
        plain = False
    if not plain or name == PRIVATE or parts[:2] in ([PRIVATE, "tmp"], [PRIVATE, "lock"]):
        raise SecurityError(
            f"output name {printable(name[:300])!r}: expected a relative path of plain components, each at most "
            f"255 bytes, outside {TEMPORARY}"
        )
    return name


def digest(path: str) -> str | None:
    """SHA-256 of a regular file in hexadecimal, None where there is none. Follows no link, waits for no pipe."""
    with regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if file else None


@contextlib.contextmanager
def regular(path: str) -> Generator[FileIO | None, None, None]:
    """A regular file open for reading, None where there is none."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        yield None
        return
    with FileIO(file) as opened:
        yield opened if stat.S_ISREG(os.fstat(file).st_mode) else None
