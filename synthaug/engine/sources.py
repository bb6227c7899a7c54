"""Which source files a plug-in consists of, and which libraries a module leans on, read from `import` lines.

Nothing is imported to find out: names are followed to files, lazy imports inside functions included. What the
interpreter or a package index brought is not followed; it counts by its version.
"""

from __future__ import annotations

import ast
import functools
import importlib.machinery
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OWN = "synthaug"
_INSTALLED = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True, slots=True)
class Imported:
    """One `import`: `level` dots, then a dotted name; `names` may be modules in it or things that it defines."""

    level: int
    name: str
    names: tuple[str, ...] = ()


def closure(module: str, file: Path) -> list[tuple[str, Path]]:
    """Source files of a plug-in, sorted, each with its name below the folder that its top package or module lies in.

    All of its top package, and what its modules import from beside it: a helper module is code as much as
    the plug-in itself.

    Args:
        module: Dotted name.
        file: Where it was found.
    """
    file = file.resolve()
    top = _folder_of(module, file)
    package = top / module.partition(".")[0]
    found = set(package.rglob("*.py")) if (package / "__init__.py").is_file() else {file}
    queue, seen = [file], {file}
    while queue:
        path = queue.pop()
        for imported in imports_of(path):
            fresh = set(_files(imported, path)) - seen
            seen |= fresh
            queue += fresh
    return sorted((_name(path, top), path) for path in found | seen)


def _folder_of(module: str, file: Path) -> Path:
    """The folder that a search for the top package or module ended in."""
    package = file.name == "__init__.py"
    return file.parents[module.count(".") + package]


def _name(path: Path, top: Path) -> str:
    """Told apart by what is imported, not by where this machine keeps it."""
    return path.relative_to(top).as_posix() if path.is_relative_to(top) else path.name


@functools.cache
def libraries(file: Path) -> frozenset[str]:
    """Import names of the libraries that a module and the modules of ours or beside it that it imports lean on."""
    queue, seen, found = [file], {file}, set[str]()
    while queue:
        path = queue.pop()
        for imported in _imports_of(path):
            top = imported.name.partition(".")[0]
            foreign = not imported.level and top != OWN and top not in sys.stdlib_module_names
            files = list(_files(imported, path, own=True))
            if foreign and not files:
                found.add(top)
            fresh = [other for other in files if other not in seen]
            seen.update(fresh)
            queue += fresh
    return frozenset(found)


def imports_of(path: Path) -> tuple[Imported, ...]:
    """Every import of a file, those inside functions too; what only type checkers see is left out."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return ()  # the import itself will say so
    found: list[Imported] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found += [Imported(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(Imported(node.level, node.module or "", tuple(alias.name for alias in node.names)))
        elif not (isinstance(node, ast.If) and _for_checkers(node.test)):
            waiting += ast.iter_child_nodes(node)
        else:
            waiting += node.orelse
    return tuple(found)


_imports_of = functools.cache(imports_of)
"""For code that does not change under us."""


def _for_checkers(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING"


def _files(imported: Imported, importer: Path, *, own: bool = False) -> Iterator[Path]:
    """Files that an import leads to: the packages on the way, the module, and modules named in it."""
    parts = imported.name.split(".") if imported.name else []
    if imported.level:
        folder: Path | None = importer.parents[imported.level - 1]
    else:
        folder = _home(parts[0], own=own)
    if folder is None:
        return
    for part in parts:
        single = folder / f"{part}.py"
        folder = folder / part
        if (folder / "__init__.py").is_file():
            yield folder / "__init__.py"
        elif single.is_file():
            yield single
            return
    for name in imported.names:
        if (folder / f"{name}.py").is_file():
            yield folder / f"{name}.py"
        elif (folder / name / "__init__.py").is_file():
            yield folder / name / "__init__.py"


def _home(top: str, *, own: bool) -> Path | None:
    """The folder in which a top package or module lies; None for what is installed, built in or ours."""
    if top in sys.stdlib_module_names or (top == OWN and not own):
        return None
    try:
        spec = importlib.machinery.PathFinder.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.origin and spec.origin.endswith(".py"):
        path = Path(spec.origin).resolve()
        home = path.parents[1] if path.name == "__init__.py" else path.parent
    elif spec.origin is None and spec.submodule_search_locations:
        home = Path(next(iter(spec.submodule_search_locations))).resolve().parent
    else:
        return None
    return None if _INSTALLED & set(home.parts) and top != OWN else home
