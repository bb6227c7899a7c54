"""What a model folder is by its bytes: hashes by name, held against its lock, and one digest of what computes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from synthaug.errors import InputError, first_of, printable
from synthaug.models.plain import read_json

LOCK = "synthaug.lock.json"
_SHOWN = frozenset({".md", ".png", ".jpg", ".jpeg", ".webp", ".gif", ""})


def hashes_of(root: Path, files: Sequence[str]) -> dict[str, str]:
    """SHA-256 by name; held against the lock where there is one."""
    hashes = {name: sha256_of(root / name) for name in files if name != LOCK}
    if LOCK in files:
        _check_lock(cast(Any, read_json(root / LOCK, LOCK)), hashes)
    return hashes


def _check_lock(lock: Any, hashes: Mapping[str, str]) -> None:
    """Compares a folder with its lock: `{"files": {relative name: SHA-256}}`."""
    locked = lock.get("files") if isinstance(lock, dict) else None
    if not isinstance(locked, dict):
        raise InputError(f'{LOCK}: expected {{"files": {{name: sha256}}}}')
    locked = cast("dict[str, Any]", locked)
    for name, expected in sorted(locked.items()):
        if name not in hashes:
            raise InputError(f"{printable(name)} is in {LOCK} but not in the model folder; fetch the model again")
        if hashes[name] != expected:
            raise InputError(
                f"{printable(name)} was truncated or altered: SHA-256 is {hashes[name]}, {LOCK} says"
                f" {printable(str(expected))}; fetch the model again"
            )
    extra = sorted(set(hashes) - set(locked))
    if extra:
        raise InputError(f"files that {LOCK} does not know:{first_of(extra)}\nRemove them or fetch the model again")


def digest_of(hashes: Mapping[str, str]) -> str:
    """One hash for the folder; papers and pictures that no loader reads are left out."""
    whole = hashlib.sha256()
    for name, digest in sorted(hashes.items()):
        if Path(name).suffix.lower() not in _SHOWN:
            whole.update(f"{len(name)}:{name}={digest}\n".encode())
    return whole.hexdigest()


def joined(*digests: str) -> str:
    """One digest of several, in their order."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """In hexadecimal; read once per process and stamp (size, times, inode)."""
    stat = path.stat()
    return _hashed(str(path), (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino))


@lru_cache(maxsize=4096)
def _hashed(path: str, stamp: tuple[int, ...]) -> str:
    """SHA-256 of a file; the stamp is part of the key, so that a touched file is read again."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
