"""Recipes on their way into Hydra: found, vetted, and handed over as the data that was vetted."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from synthaug.engine import vet
from synthaug.engine.targets import find_conf
from synthaug.errors import ConfigError, SecurityError, nearest

MAX_FILES = 256
_USER_RECIPE = "user_recipe"


@dataclass(frozen=True, slots=True)
class Staged:
    """One vetted file: where Hydra finds it, and what it holds."""

    group: str
    name: str
    package: str
    data: dict[str, Any]


@functools.cache
def packaged() -> tuple[str, ...]:
    """Names of the recipes in `pipelines/`."""
    return tuple(sorted(path.stem for path in find_conf("pipelines").glob("*.yaml")))


def name_of(pipeline: str) -> str:
    """What a run is called: the recipe's name, without folder and suffix."""
    return Path(pipeline).stem if _is_path(pipeline) else pipeline


def _is_path(pipeline: str) -> bool:
    return pipeline.endswith((".yaml", ".yml")) or os.sep in pipeline


def collect(pipeline: str, config_dir: str | None) -> tuple[str, list[Staged]]:
    """All files that a run may need beside `conf/`, read once and vetted.

    Args:
        pipeline: Name of a recipe, or path to a YAML of the user's own.
        config_dir: A folder of the user's own groups and recipes.

    Returns:
        The name under which Hydra composes, and the files.

    Raises:
        ConfigError: There is no such recipe, or a file is over a limit.
        SecurityError: A file wants more than a configuration may.
    """
    staged = [_stage(path, "", path.stem) for path in sorted(find_conf("pipelines").glob("*.yaml"))]
    staged += _user_files(Path(config_dir)) if config_dir else []
    if _is_path(pipeline):
        path = Path(pipeline)
        if path.suffix == ".yml":
            raise ConfigError(f"{pipeline}: name it {path.stem}.yaml; composition knows one suffix")
        return _USER_RECIPE, [*staged, _stage(path, "", _USER_RECIPE)]
    names = [file.name for file in staged if not file.group]
    if pipeline not in names:
        raise ConfigError(
            f"no recipe '{pipeline}' in pipelines/.{nearest(pipeline, names)} A recipe of your own is a path: mine.yaml"
        )
    return pipeline, staged


def _stage(path: Path, group: str, name: str) -> Staged:
    data, text = vet.read_yaml(path)
    entries = data.get("defaults")
    if isinstance(entries, list) and "_self_" not in entries:
        # What a file says itself wins over what it is composed from, whether or not it says so.
        data["defaults"] = [*cast("list[Any]", entries), "_self_"]
    return Staged(group, name, vet.package_header(text), data)


def _user_files(folder: Path) -> list[Staged]:
    if not folder.is_dir():
        raise ConfigError(f"--config-dir {folder}: no such folder")
    root = folder.resolve()
    files: list[Staged] = []
    for here, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(here) / name
            if path.suffix == ".yml":
                raise ConfigError(f"{path}: name it {path.stem}.yaml; composition knows one suffix")
            if path.suffix != ".yaml" or name.startswith("."):
                continue
            if not path.resolve().is_relative_to(root):
                raise SecurityError(f"{path}: a link that leaves {root}")
            group = path.parent.relative_to(root).as_posix().removeprefix(".")
            files.append(_user_file(path, group))
            if len(files) > MAX_FILES:
                raise ConfigError(f"--config-dir {folder}: over {MAX_FILES} files; keep configurations apart from data")
    return files


def _user_file(path: Path, group: str) -> Staged:
    if group.split("/")[0] == "hydra":
        raise SecurityError(f"{path}: configures Hydra itself; give hydra settings on the command line")
    taken = find_conf() / group / path.name
    if taken.exists() or (not group and path.stem in packaged()):
        raise ConfigError(f"{path}: '{group or 'recipe'}/{path.stem}' is a name of the package; take another")
    return _stage(path, group, path.stem)


def _copied(group: dict[str, Any]) -> dict[str, Any]:
    """The store's tree of groups, copied; the nodes in it are shared."""
    return {key: _copied(cast("dict[str, Any]", v)) if isinstance(v, dict) else v for key, v in group.items()}


@contextlib.contextmanager
def staged(pipeline: str, config_dir: str | None) -> Generator[str]:
    """Makes the vetted files known to Hydra for a while, and gives the name to compose.

    Hydra gets data, not paths: a file that changes after the check changes nothing.
    """
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    # Both register nodes in the store for good, so they come before the copy below.
    importlib.import_module("hydra.conf")
    Plugins.instance()
    name, files = collect(pipeline, config_dir)
    store = ConfigStore.instance()
    before: dict[str, Any] = store.repo
    store.repo = _copied(before)
    try:
        for file in files:
            store.store(
                group=file.group or None, name=file.name, package=file.package or None, node=file.data, provider="user"
            )
        yield name
    finally:
        store.repo = before
