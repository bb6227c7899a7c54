"""`synthaug fetch`: one pinned commit of a model repository becomes a folder that is locked and can be loaded.

All of it grows in `INTO.partial` and appears as `INTO` in one rename, with its lock inside: a folder under the
final name is whole. What was there when a fetch was killed is used by the next one, and hashed all the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from synthaug.engine import model_lock, staging
from synthaug.engine.fetch_words import Wish, understand
from synthaug.engine.hub import Cut, Hub, Remote
from synthaug.engine.model_files import choose
from synthaug.engine.publish import PRIVATE, TEMPORARY, Output
from synthaug.errors import ConfigError, InputError, Interrupted, Refusal, printable
from synthaug.models import snapshot
from synthaug.models.hashes import LOCK
from synthaug.models.plain import check_fields, check_safetensors, read_json

PAUSES = (1.0, 4.0, 15.0, 30.0)
"""Seconds between attempts at one file."""
_PROGRESS = 16 << 20
"""Bytes after which a broken attempt does not count."""
_CHUNK = 1 << 20
_TELL_EVERY = 10.0
T = TypeVar("T")


def fetch(model: str, words: Sequence[str]) -> int:
    """Brings the files of one commit into a new folder; the same command goes on after a kill.

    Args:
        model: A name in `conf/models`, or `owner/name`.
        words: `revision=COMMIT into=DIR [host=URL] [files=PATTERN,PATTERN]`.

    Returns:
        Exit status 0.

    Raises:
        Refusal: Words, repository, answer or folder are not what they must be.
        Interrupted: The network or the disk gave up; what has arrived is kept.
    """
    wish = understand(model, words)
    lock = model_lock.read(wish.into)
    if lock and (lock.get("repository"), lock.get("commit")) == (wish.repository, wish.commit):
        snapshot.contents(wish.into)
        _Fetch(wish, Hub(wish.host)).clear()
        _tell(f"{wish.into} holds {wish.repository}@{wish.commit} already, and every file matches its lock")
        return 0
    if os.path.lexists(wish.into) and (not wish.into.is_dir() or any(wish.into.iterdir())):
        raise ConfigError(f"into={wish.into} exists and is not this commit; name a folder that does not exist yet")
    _Fetch(wish, Hub(wish.host, os.environ.get("HF_TOKEN", ""))).run()
    return 0


class _Fetch:
    """One fetch over `INTO.partial`: `model/` grows there beside `fetch.json`, which says what it is part of."""

    def __init__(self, wish: Wish, hub: Hub) -> None:
        self._wish, self._hub = wish, hub
        self._output = Output(wish.into.with_name(wish.into.name + ".partial"))
        self._files = self._output.files
        self._root = self._output.root
        self._told = time.monotonic()
        self._due = self._have = 0

    def run(self) -> None:
        wish = self._wish
        files, left = choose(self._listing(), wish.files)
        self._due = sum(file.size for file in files)
        self._announce(files, left)
        self._have = sum(min(file.size, _size(self._root / "model" / file.name)) for file in files)
        self._output.preflight(self._due - self._have)
        with self._output.explained():
            held = self._files.lock(f"{self._root}/{PRIVATE}/lock", wait=False)
        if held is None:
            raise Refusal(f"another fetch is filling {self._root}; wait for it or name another folder")
        try:
            self._output.sweep()
            self._begin(files)
            self._have = 0
            for file in files:
                self._bring(file)
            self._finish(files)
        finally:
            os.close(held)
        self.clear()
        _tell(f"{wish.into}: {len(files)} files, {_amount(self._due)}, locked in {LOCK}")

    def clear(self) -> None:
        """Removes what a finished fetch leaves beside its folder; does nothing elsewhere."""
        if not self._root.is_dir() or set(os.listdir(self._root)) - {"fetch.json", PRIVATE}:
            return
        with self._output.explained():
            self._output.sweep()
            with contextlib.suppress(FileNotFoundError):
                self._files.unlink(f"{self._root}/{PRIVATE}/lock")
            for name in (TEMPORARY, PRIVATE):
                self._files.rmdir(f"{self._root}/{name}")
            with contextlib.suppress(FileNotFoundError):
                self._files.unlink(f"{self._root}/fetch.json")
            self._files.rmdir(str(self._root))

    def _listing(self) -> list[Remote]:
        return self._patiently(lambda: self._hub.listing(self._wish.repository, self._wish.commit))

    def _announce(self, files: Sequence[Remote], left: Sequence[str]) -> None:
        wish = self._wish
        _tell(f"{wish.repository}@{wish.commit} from {self._hub.origin}")
        for key, value in wish.notes.items():
            _tell(f"  {key}: {value}")
        if left:
            _tell(f"  left out: {len(left)} files, such as {printable(left[0])}")
        _tell(f"  {len(files)} files, {_amount(self._due)}, into {wish.into}")

    def _begin(self, files: Sequence[Remote]) -> None:
        """Makes sure that what lies here is part of the same files."""
        task = {"repository": self._wish.repository, "commit": self._wish.commit, "files": [list(f) for f in files]}
        data = json.dumps(task, indent=1).encode()
        standing = self._output.read("fetch.json")
        if standing is not None and standing != data:
            raise ConfigError(
                f"{self._root} holds part of another fetch (other commit, other files); remove it or name"
                " another folder"
            )
        self._output.publish_file("fetch.json", data)

    def _bring(self, file: Remote) -> None:
        """One file, whole and checked, whatever was there of it."""
        name, path = file.name, f"{self._root}/model/{file.name}"
        with self._output.explained():
            self._output.make_folders([os.path.dirname(f"model/{name}")])
            handle = self._files.lock(path, wait=True)
            assert handle is not None
            try:
                found = self._fill(handle, file, path)
            finally:
                os.close(handle)
            if found:
                self._files.unlink(path)
                raise InputError(
                    f"{printable(name)} is not what the listing promises: {found}. The host or the way to it is broken"
                )
            self._files.fsync_dir(os.path.dirname(path))
        if name.endswith(".safetensors"):
            check_safetensors(Path(path), name)
        elif name == "model_index.json":
            snapshot.read_index(self._root / "model")
        elif name.endswith(".json") and os.path.basename(name) not in snapshot.VOCABULARY:
            check_fields(read_json(Path(path), name), name)
        self._have += file.size

    def _fill(self, handle: int, file: Remote, path: str) -> str:
        """Fills a file and flushes it; what is wrong with it in the end, empty if nothing is."""
        old = os.fstat(handle).st_size
        if old > file.size:
            os.ftruncate(handle, 0)
        self._patiently(lambda: self._stream(handle, file, path), lambda: os.fstat(handle).st_size)
        self._files.fsync(handle, path)
        wrong = _wrong(file, path)
        if wrong and old:  # bytes of an earlier attempt: once more without them
            os.ftruncate(handle, 0)
            self._patiently(lambda: self._stream(handle, file, path), lambda: os.fstat(handle).st_size)
            self._files.fsync(handle, path)
            wrong = _wrong(file, path)
        return wrong

    def _stream(self, handle: int, file: Remote, path: str) -> None:
        at = os.fstat(handle).st_size
        if at == file.size:
            return
        with self._hub.open(self._wish.repository, self._wish.commit, file.name, at) as body:
            if body.start != at:
                os.ftruncate(handle, 0)
            at = os.lseek(handle, body.start, os.SEEK_SET)
            while data := body.read(_CHUNK):
                at += len(data)
                if at > file.size:
                    raise InputError(
                        f"{printable(file.name)}: the host sends more than the {file.size} bytes it listed"
                    )
                self._files.write_all(handle, data, path)
                self._progress(file.name, at)
        if at < file.size:
            raise Cut(f"{printable(file.name)}: the line ended after {at:,} of {file.size:,} bytes")

    def _patiently(self, attempt: Callable[[], T], have: Callable[[], int] = lambda: 0) -> T:
        """Repeats an attempt that was cut, with pauses; one that got far does not count."""
        failures = 0
        while True:
            before = have()
            try:
                return attempt()
            except Cut as error:
                failures = 0 if have() - before >= _PROGRESS else failures + 1
                if failures > len(PAUSES):
                    raise Interrupted(
                        f"{error}. Given up after {failures} attempts; the same command goes on"
                    ) from None
                time.sleep(PAUSES[max(failures - 1, 0)])

    def _finish(self, files: Sequence[Remote]) -> None:
        """Checks the folder as a run would, locks it, and gives it its name."""
        wish, model = self._wish, self._root / "model"
        hashes = snapshot.contents(model)
        if hashes.keys() != {file.name for file in files}:
            raise InputError(f"{model} holds other files than were fetched; remove {self._root} and fetch again")
        about = {"repository": wish.repository, "commit": wish.commit, "host": self._hub.origin}
        self._output.publish_file(f"model/{LOCK}", model_lock.pack(hashes, about))
        with self._output.explained():
            self._files.rename(str(model), str(wish.into))
            self._files.fsync_dir(str(self._root))
            self._files.fsync_dir(str(wish.into.parent))

    def _progress(self, name: str, at: int) -> None:
        if time.monotonic() - self._told >= _TELL_EVERY:
            self._told = time.monotonic()
            share = (self._have + at) / max(self._due, 1)
            _tell(f"  {share:.0%} of {_amount(self._due)}: {printable(name)}")


def _wrong(file: Remote, path: str) -> str:
    """How a file differs from its listing; empty where it does not."""
    if file.sha256:
        found = staging.digest(path)
        return "" if found == file.sha256 else f"SHA-256 is {found}, expected {file.sha256}"
    with open(path, "rb") as opened:
        blob = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
        while data := opened.read(_CHUNK):
            blob.update(data)
    return "" if blob.hexdigest() == file.blob else f"git's hash is {blob.hexdigest()}, expected {file.blob}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _amount(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 10**7 else f"{count / 1e6:.3f} MB"


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
