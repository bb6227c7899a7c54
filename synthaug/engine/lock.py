"""One run at a time over an output root.

The lock is `flock` on `OUT/.synthaug/lock`: the kernel lets go of it when its holder dies, however it dies, which
no lock file made with O_EXCL does. The file's content only says who holds it. On file systems without `flock`
(some network mounts) acquiring fails instead of pretending.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import Any, cast

from synthaug.engine.publish import PRIVATE, FileSystem, Output
from synthaug.errors import Refusal, printable

_PATIENCE = 1.0


class RunLock:
    """Held from before the sweep until the end of the run; a context manager.

    Args:
        root: The output root; it must exist.
        files: The seam, for tests.
    """

    def __init__(self, root: Path, files: FileSystem | None = None) -> None:
        self._output = Output(root, files)
        self._path = f"{self._output.root}/{PRIVATE}/lock"
        self._held: int | None = None

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Takes the lock, also from a run that was killed.

        Raises:
            Refusal: Another run is alive over this root; the message names host, process and start. Takes at
                most a second.
        """
        with self._output.explained():
            self._output.make_folders([PRIVATE])
            deadline = time.monotonic() + _PATIENCE
            while (held := self._attempt()) is None:
                owner = _owner(self._path)
                if _plausible(owner) or time.monotonic() > deadline:
                    raise Refusal(_busy(self._output.root, owner))
                time.sleep(0.02)
            self._held = held
            try:
                self._sign(held)
            except BaseException:
                self._forget()
                raise
        # A forked worker must not keep the lock of a parent that is gone.
        os.register_at_fork(after_in_child=self._forget)

    def release(self) -> None:
        """Lets go. The file stays, empty: removing it would let two runs hold locks on two files."""
        if self._held is not None:
            with contextlib.suppress(OSError):  # an owner's name left in the file harms nobody
                os.ftruncate(self._held, 0)
            self._forget()

    def _attempt(self) -> int | None:
        held = self._output.files.lock(self._path, wait=False)
        if held is None:
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held), os.stat(self._path, follow_symlinks=False)):
                return held
        os.close(held)  # somebody removed or replaced the file meanwhile: what we hold locks nobody out
        return None

    def _sign(self, held: int) -> None:
        owner = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "start": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
        os.ftruncate(held, 0)
        self._output.files.write_all(held, json.dumps(owner).encode(), self._path)

    def _forget(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            os.close(held)


def holder(root: Path) -> str:
    """Who runs over an output root now, in words; empty where nobody does. Changes nothing."""
    path = f"{root}/{PRIVATE}/lock"
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _who(_owner(path))
    finally:
        os.close(file)
    return ""


def _owner(path: str) -> dict[str, Any]:
    """Who signed the lock, {} where nobody has yet."""
    try:
        found = json.loads(Path(path).read_bytes()[:4096])
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _plausible(owner: dict[str, Any]) -> bool:
    """Whether the signature can be of the run that holds the lock now, and not of one that died before."""
    pid = owner.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    if owner.get("host") != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _busy(root: Path, owner: dict[str, Any]) -> str:
    return (
        f"output {root} is in use by another run ({_who(owner)}); wait for it or stop it, or choose another write.root"
    )


def _who(owner: dict[str, Any]) -> str:
    told = [f"{field} {printable(str(owner[field]))}" for field in ("host", "pid", "start") if field in owner]
    return ", ".join(told) or "which has not signed"
