"""A model folder is checked before anything in it is loaded: by content, against our own tables.

Rules: only data files; safetensors by content, not by name; no Python and no field that asks for Python;
known classes only; and where `synthaug.lock.json` stands in the folder, every byte as it was locked.
Flags such as `trust_remote_code=False` have been bypassed more than once; what is not there cannot run.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from synthaug.errors import ConfigError, InputError, SecurityError, first_of, nearest, printable
from synthaug.models.plain import check_fields, check_safetensors, read_json
from synthaug.models.table import COMPONENTS, OPTIONS, PIPELINES, Family

LOCK = "synthaug.lock.json"
_DATA = frozenset(
    {".json", ".safetensors", ".txt", ".model", ".md", ".jinja", ".png", ".jpg", ".jpeg", ".webp", ".gif"}
)
_NAMES = frozenset({"license", "notice", ".gitattributes", ".gitignore"})
_SHOWN = frozenset({".md", ".png", ".jpg", ".jpeg", ".webp", ".gif", ""})
_NEVER_READ = frozenset({".cache", ".git"})
VOCABULARY = frozenset({"vocab.json", "tokenizer.json", "added_tokens.json"})
_COMPONENT = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A model folder that passed every check.

    Attributes:
        path: The folder.
        pipeline: Class named by `model_index.json`.
        family: Its row in our table.
        components: Component name to class, absent components left out.
        digest: SHA-256 over names and contents of every file that takes part in computing.
    """

    path: Path
    pipeline: str
    family: Family
    components: Mapping[str, str] = field(default_factory=dict[str, str])
    digest: str = ""


def inspect(path: str | Path) -> Snapshot:
    """Checks a diffusers pipeline folder without loading it.

    Hashes every file once per process and stamp (size, times, inode); the first call reads all weights.

    Raises:
        ConfigError: No pipeline there, or a family that has no `strength`.
        InputError: A file is missing, truncated or differs from the lock.
        SecurityError: Something in it could run code, or a class is not in our table.
    """
    root = Path(path)
    if not root.is_dir():
        raise ConfigError(f"model={printable(str(path))}: no such folder; expected a diffusers pipeline folder")
    files = _files(root)
    if "model_index.json" not in files:
        raise ConfigError(
            f"model={printable(str(path))}: no model_index.json in it; expected a diffusers pipeline folder"
        )
    check_contents(root, files)
    pipeline, family, components = read_index(root)
    for component in components:
        if not any(name.startswith(f"{component}/") for name in files):
            raise InputError(
                f"model_index.json names the component '{component}', but {component}/ is missing or empty"
            )
    return Snapshot(root, pipeline, family, components, _digest(_hashes(root, files)))


def inspect_part(path: str | Path, classes: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Checks a folder of one network, such as a ControlNet, without loading it.

    Args:
        classes: That its `config.json` may name.

    Returns:
        Its configuration, and the SHA-256 of what computes.

    Raises:
        ConfigError: No such folder, or no `config.json`.
        InputError, SecurityError: As `inspect`.
    """
    root, shown = Path(path), printable(str(path))
    files = _files(root) if root.is_dir() else []
    if "config.json" not in files or not any(name.endswith(".safetensors") for name in files):
        raise ConfigError(f"{shown}: expected a folder with config.json and safetensors weights")
    check_contents(root, files)
    config = cast("dict[str, Any]", read_json(root / "config.json", "config.json"))
    kind = str(config.get("_class_name")) if isinstance(cast(Any, config), dict) else ""
    if kind not in classes:
        raise SecurityError(f"{shown}/config.json asks for class '{printable(kind)}'; expected {', '.join(classes)}")
    return config, _digest(_hashes(root, files))


def contents(path: str | Path) -> dict[str, str]:
    """SHA-256 by relative name of a folder that holds plain data alone, whatever kind of model it is.

    Raises:
        InputError, SecurityError: As `inspect`; also where the folder differs from its lock.
    """
    root = Path(path)
    files = _files(root)
    check_contents(root, files)
    return _hashes(root, files)


def check_contents(root: Path, files: Sequence[str]) -> None:
    """Checks JSON and safetensors among the named files by what is in them; others are left alone."""
    for name in files:
        if name.endswith(".safetensors"):
            check_safetensors(root / name, name)
        elif name.endswith(".json") and Path(name).name not in VOCABULARY:
            check_fields(read_json(root / name, name), name)


def _hashes(root: Path, files: Sequence[str]) -> dict[str, str]:
    """SHA-256 by name; held against the lock where there is one."""
    hashes = {name: sha256_of(root / name) for name in files if name != LOCK}
    if LOCK in files:
        _check_lock(cast(Any, read_json(root / LOCK, LOCK)), hashes)
    return hashes


def weights_digest(path: str | Path) -> str:
    """The identity of a model folder, for a run's fingerprint: `inspect(path).digest`."""
    return inspect(path).digest


def _files(root: Path) -> list[str]:
    """Relative names of all files, sorted; refuses what is no plain data."""
    names: list[str] = []
    bad: list[str] = []
    for folder, subfolders, found in os.walk(root):
        here = Path(folder)
        if here == root:
            subfolders[:] = [name for name in subfolders if name not in _NEVER_READ]
        bad += [f"{(here / n).relative_to(root)} (a link)" for n in subfolders if (here / n).is_symlink()]
        for name in found:
            item = here / name
            relative = item.relative_to(root).as_posix()
            if item.is_symlink():
                bad.append(f"{relative} (a link)")
            elif not item.is_file():
                bad.append(f"{relative} (not a plain file)")
            elif item.suffix.lower() not in _DATA and name.lower() not in _NAMES:
                bad.append(relative)
            names.append(relative)
    if bad:
        raise SecurityError(
            "the model folder holds files that are not plain data:" + first_of(sorted(bad)) + "\nOnly JSON, safetensors"
            " and tokenizer text are loaded, never code or pickles. Fetch the snapshot with these files left out and"
            " links resolved (for example `hf download --local-dir ... --include '*.json' '*.txt' '*.safetensors'`)."
        )
    return sorted(names)


def read_index(root: Path) -> tuple[str, Family, dict[str, str]]:
    """Pipeline class, family and components by the words of `model_index.json`."""
    index = cast("dict[str, Any]", read_json(root / "model_index.json", "model_index.json"))
    pipeline = str(index.get("_class_name"))
    family = PIPELINES.get(pipeline)
    if family is None:
        raise SecurityError(
            f"model_index.json asks for the pipeline class '{printable(pipeline)}', which is not in our"
            f" table.{nearest(pipeline, PIPELINES)}"
        )
    if not family.img2img:
        raise ConfigError(
            f"{pipeline} is {family.name}: it has no `strength`, so nothing holds it to the labelled"
            " picture; use an image-to-image family"
        )
    components: dict[str, str] = {}
    for name, value in index.items():
        if name.startswith("_"):
            continue
        if name in OPTIONS and type(value) in (OPTIONS[name], type(None)):
            continue
        if not isinstance(value, list) or len(cast("list[Any]", value)) != 2 or not _COMPONENT.fullmatch(name):
            raise SecurityError(f"model_index.json: '{printable(name)}' is neither a component nor a known option")
        library, cls = cast("list[Any]", value)
        if library is None and cls is None:
            continue
        if not isinstance(cls, str) or COMPONENTS.get(cls) != library:
            raise SecurityError(
                f"model_index.json: component '{name}' asks for class '{printable(str(cls))}' of"
                f" '{printable(str(library))}', which is not in our table.{nearest(str(cls), COMPONENTS)}"
            )
        components[name] = cls
    return pipeline, family, components


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


def _digest(hashes: Mapping[str, str]) -> str:
    """One hash for the folder; papers and pictures that no loader reads are left out."""
    whole = hashlib.sha256()
    for name, digest in sorted(hashes.items()):
        if Path(name).suffix.lower() not in _SHOWN:
            whole.update(f"{len(name)}:{name}={digest}\n".encode())
    return whole.hexdigest()


def sha256_of(path: Path) -> str:
    """In hexadecimal; read once per process and stamp (size, times, inode)."""
    stat = path.stat()
    return _hashed(str(path), (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino))


@lru_cache(maxsize=4096)
def _hashed(path: str, stamp: tuple[int, ...]) -> str:
    """SHA-256 of a file; the stamp is part of the key, so that a touched file is read again."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
