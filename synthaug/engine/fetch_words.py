"""What `synthaug fetch` is asked for: its words, and the manifests in `conf/models` behind short names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from synthaug.engine.targets import find_conf
from synthaug.engine.vet import read_yaml
from synthaug.errors import ConfigError, nearest, printable

_HOST = "https://huggingface.co"
_WORDS = ("revision", "into", "host", "files")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]|\.(?!\.)){0,95}"
_REPOSITORY = re.compile(f"{_PART}/{_PART}")


class Wish(NamedTuple):
    """What a command line asks for, checked.

    Attributes:
        repository: `owner/name`.
        commit: 40 hexadecimal digits.
        into: The folder to be, links in it resolved.
        host: Address of the hub.
        files: Patterns of file names; empty for what a diffusers folder needs.
        notes: What the manifest says about the model: licence, size, memory.
    """

    repository: str
    commit: str
    into: Path
    host: str
    files: tuple[str, ...]
    notes: Mapping[str, str]


def understand(model: str, words: Sequence[str]) -> Wish:
    """Checks the words of a command line; see `fetch.fetch`. Reads the manifest, opens no connection."""
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in _WORDS:
            raise ConfigError(f"fetch does not know '{printable(key)}'.{nearest(key, _WORDS)}")
        if key in given:
            raise ConfigError(f"{key} is given twice; give it once")
        given[key] = value
    manifest = _manifest(model)
    repository = str(manifest["repository"])
    if not _REPOSITORY.fullmatch(repository):
        raise ConfigError(f"'{printable(repository)}' is no repository; expected OWNER/NAME")
    commit = given.get("revision") or str(manifest.get("revision", "???"))
    host = given.get("host") or _HOST
    if not _COMMIT.fullmatch(commit):
        what = "which commit is not said" if commit == "???" else f"revision={printable(commit)} is no commit"
        raise ConfigError(
            f"{what}; branches and tags can be moved to other files. Give revision= and the 40 hexadecimal digits"
            f" that the repository's history shows, for example at {_HOST}/{repository}/commits/main"
        )
    if not given.get("into"):
        raise ConfigError("fetch needs into=DIR, a folder that does not exist yet")
    into = Path(os.path.realpath(Path(given["into"]).expanduser()))
    files = tuple(given["files"].split(",")) if given.get("files") else tuple(map(str, manifest.get("files") or ()))
    notes = {key: str(manifest[key]) for key in ("licence", "size", "memory") if key in manifest}
    return Wish(repository, commit, into, host, files, notes)


def _manifest(model: str) -> Mapping[str, Any]:
    if "/" in model:
        return {"repository": model}
    known = {path.stem: path for path in (find_conf() / "models").glob("*.yaml")}
    if model not in known:
        raise ConfigError(f"no model is called '{printable(model)}'.{nearest(model, known)} Or give OWNER/NAME")
    return read_yaml(known[model])[0]
