"""`synthaug.lock.json`: the SHA-256 of every file of a model folder; `models.snapshot` holds folders against it."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from synthaug.engine.publish import PRIVATE, TEMPORARY, Output
from synthaug.errors import ConfigError, InputError, printable
from synthaug.models import snapshot
from synthaug.models.hashes import LOCK
from synthaug.models.plain import read_json


def lock(folder: str) -> int:
    """Locks a folder of the user's own as it is, once it holds nothing but plain data; hashes every file.

    Returns:
        Exit status 0, also where a lock stands already and every file matches it.

    Raises:
        ConfigError: No such folder, no safetensors in it, or not writable.
        InputError: A lock stands there and the files differ from it; or a file is damaged.
        SecurityError: Something in the folder could run code.
    """
    root = Path(os.path.realpath(Path(folder).expanduser()))
    if not root.is_dir():
        raise ConfigError(f"{printable(folder)}: no such folder; expected a folder with a model")
    if (root / PRIVATE).is_dir():
        tidy(Output(root))  # of an attempt that was killed
    standing = read(root)
    try:
        hashes = snapshot.contents(root)
    except InputError as error:
        if standing is None:
            raise
        raise InputError(
            f"{error}\nThe lock of {root} is not replaced. Where you changed the files yourself, remove"
            f" {LOCK} and lock the folder again"
        ) from error
    if not any(name.endswith(".safetensors") for name in hashes):
        raise ConfigError(f"{root}: no safetensors in it, so there is no model to lock")
    if "model_index.json" in hashes:
        snapshot.inspect_folder(root)
    if standing is None:
        if not os.access(root, os.W_OK):
            raise ConfigError(f"{root} cannot be written by this user; its lock belongs into it")
        output = Output(root)
        output.publish_file(LOCK, pack(hashes, {}))
        tidy(output)
    print(f"{root}: {len(hashes)} files {'match their lock' if standing else 'locked'}", file=sys.stderr)
    return 0


def read(root: Path) -> Mapping[str, Any] | None:
    """The lock in a folder as it is, None where there is none."""
    path = root / LOCK
    if not path.is_file():
        return None
    found = read_json(path, LOCK)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def pack(hashes: Mapping[str, str], about: Mapping[str, str]) -> bytes:
    """A lock's bytes: where the files come from, and the SHA-256 of each by name."""
    return (json.dumps({**about, "files": dict(sorted(hashes.items()))}, indent=1) + "\n").encode()


def tidy(output: Output) -> None:
    """Leaves nothing of ours but what was published; a private folder that holds more than temporaries stays."""
    output.sweep()
    for name in (TEMPORARY, PRIVATE):
        with contextlib.suppress(OSError):
            output.files.rmdir(f"{output.root}/{name}")
