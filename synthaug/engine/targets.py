"""The classes that a configuration may build: those of the package's own configurations, and of plug-ins."""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import synthaug
from synthaug.engine import sources
from synthaug.errors import ConfigError

_TARGET = re.compile(r"^\s*(?:-\s+)?_target_:\s*['\"]?([\w.]+)", re.MULTILINE)


def find_conf(name: str = "conf") -> Path:
    """The folder `conf` or `pipelines`: inside the package (a wheel), else beside it (a checkout).

    Raises:
        ConfigError: Neither is there: a broken installation.
    """
    package = Path(synthaug.__file__).resolve().parent
    for folder in (package / name, package.parent / name):
        if any(folder.glob("*.yaml")):
            return folder
    raise ConfigError(f"no folder '{name}' inside {package} or beside it; install synthaug again")


@functools.cache
def own() -> frozenset[str]:
    """Exact names of the classes that the package's own configurations build. Imports none of them."""
    files = [*find_conf().rglob("*.yaml"), *find_conf("pipelines").rglob("*.yaml")]
    return frozenset(name for file in files for name in _TARGET.findall(file.read_text("utf-8")))


def of(modules: Iterable[str]) -> frozenset[str]:
    """Exact names of the classes that plug-in modules define. Imports the modules: the user named them."""
    names: set[str] = set()
    for name in modules:
        module = load(name)
        for attribute, value in vars(module).items():
            if isinstance(value, type) and _defined_in(value, module):
                names.add(f"{name}.{attribute}")
    return frozenset(names)


def _defined_in(value: type, module: ModuleType) -> bool:
    return value.__module__ == module.__name__ or value.__module__.startswith(module.__name__ + ".")


def load(name: str) -> ModuleType:
    """Imports a plug-in by its dotted name; the working directory is searched last."""
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name):
        raise ConfigError(f"--plugin '{name}' is no module name; expected something like my_stages or pkg.stages")
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"--plugin '{name}' cannot be imported: {error}. Install it, or run where it lies") from error
    except Exception as error:
        raise ConfigError(f"--plugin '{name}' fails when it is imported: {type(error).__name__}: {error}") from error


def source_hash(name: str) -> str:
    """SHA-256 of a plug-in's source: its whole top package, and the modules beside it that it imports."""
    file = load(name).__file__
    if file is None:
        raise ConfigError(f"--plugin '{name}' is a folder without __init__.py; name a module in it")
    digest = hashlib.sha256()
    for label, path in sources.closure(name, Path(file)):
        for part in (label.encode("utf-8", "surrogateescape"), path.read_bytes()):
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
    return digest.hexdigest()
