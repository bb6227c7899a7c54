"""The house rules, as checks: import direction, heavy imports, who opens files, sizes, empty packages."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import synthaug

PACKAGE = Path(synthaug.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
GROUND = (
    "errors",
    "seeds",
    "camera",
    "transfer",
    "outline",
    "cocostring",
    "rle",
    "labels",
    "sample",
    "warp",
    "exchange",
    "contracts",
)
ROOMS = ("models", "metrics", "formats", "render", "texture", "refine", "effects", "augment", "gate")
FRONT = ("report", "engine", "items", "loader", "testing", "train", "cli", "__main__", "__init__")
ORDER = (*GROUND, *ROOMS, *FRONT)
NEIGHBOURS = ("render", "texture", "refine", "effects", "augment", "gate")
"""Rooms that do not import each other; `texture` may call `render`."""
HEAVY = {
    "torch": (
        "models/",
        "metrics/",
        "warp/device.py",
        "refine/img2img.py",
        "texture/noise_blend.py",
        "texture/quilting.py",
        "texture/prompted.py",
        "texture/trained.py",
        "augment/",
        "engine/",
        "items.py",
        "loader.py",
        "testing.py",
        "train/",
    ),
    "diffusers": ("models/",),
    "transformers": ("models/",),
    "peft": ("models/",),
    "albumentations": ("augment/bridge",),
    "kornia": ("augment/bridge",),
    "mitsuba": ("render/",),
    "datasets": ("formats/huggingface",),
    "pyarrow": ("formats/huggingface", "texture/library_index.py"),
    "hydra": ("engine/",),
    "omegaconf": ("engine/",),
    "cv2": (
        "warp/",
        "formats/",
        "refine/",
        "augment/",
        "gate/",
        "report/",
        "engine/appearance.py",
        "render/",
        "train/",
        "metrics/",
        "texture/",
    ),
    "PIL": ("formats/", "report/", "render/"),
}
LIGHT = ("cv2", "PIL", "omegaconf")
"""Heavy enough to be listed, light enough to be imported at the top of their files."""
TORCH_AT_TOP = (
    "models/", "items.py", "loader.py", "augment/photometric_torch.py", "train/checkpoint.py", "train/refiner_work.py",
    "train/fitting.py", "train/works.py", "train/machine.py", "train/lora_work.py", "train/texture_work.py",
    "train/measure.py", "metrics/features.py", "metrics/detector.py", "metrics/downstream.py",
)  # fmt: skip


PUBLISHING = ("engine/publish.py", "engine/staging.py", "engine/sweep.py")
"""`sweep` makes empty folders in the system's temporary area, to hear from launchers in other processes."""


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Dotted module names, and whether they are imported when the file is."""
    inside = {
        id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f)
    }
    typing_only = {
        id(n)
        for i in ast.walk(tree)
        if isinstance(i, ast.If) and "TYPE_CHECKING" in ast.dump(i.test)
        for n in ast.walk(i)
    }
    for node in ast.walk(tree):
        at_top = id(node) not in inside and id(node) not in typing_only
        if isinstance(node, ast.Import):
            yield from ((alias.name, at_top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, at_top
            if node.module == "synthaug":
                yield from ((f"synthaug.{alias.name}", at_top) for alias in node.names)


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text("utf-8")) for path in FILES}


def test_every_room_has_its_place_in_the_order() -> None:
    assert {room_of(path) for path in FILES} <= set(ORDER)


def test_imports_point_one_way(trees: dict[Path, ast.Module]) -> None:
    wrong = []
    for path, tree in trees.items():
        room = room_of(path)
        for module, _ in imports(tree):
            parts = module.split(".")
            if parts[0] != "synthaug" or len(parts) < 2 or parts[1] in (room, "__version__"):
                continue
            sideways = room in NEIGHBOURS and parts[1] in NEIGHBOURS and (room, parts[1]) != ("texture", "render")
            if ORDER.index(parts[1]) > ORDER.index(room) or sideways:
                wrong.append(f"{name_of(path)} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_heavy_libraries_stay_in_their_files_and_off_the_top(trees: dict[Path, ast.Module]) -> None:
    wrong = []
    for path, tree in trees.items():
        for module, at_top in imports(tree):
            library = module.split(".")[0]
            if library not in HEAVY:
                continue
            if not name_of(path).startswith(HEAVY[library]):
                wrong.append(f"{name_of(path)} imports {library}")
            allowed = library in LIGHT or (library == "torch" and name_of(path).startswith(TORCH_AT_TOP))
            if at_top and not allowed:
                wrong.append(f"{name_of(path)} imports {library} at the top")
    assert not wrong, "\n".join(wrong)


def test_only_publication_opens_files_for_writing(trees: dict[Path, ast.Module]) -> None:
    wrong = [
        f"{name_of(path)}:{node.lineno}"
        for path, tree in trees.items()
        if name_of(path) not in PUBLISHING
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _writes(node)
    ]
    assert not wrong, "\n".join(wrong)


def _writes(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in (
        "write_text",
        "write_bytes",
        "imwrite",
        "mkdir",
        "makedirs",
        "mkstemp",
        "symlink_to",
        "save_pretrained",
    ):
        return True
    texts = [
        a.value
        for a in (*call.args[1:], *(k.value for k in call.keywords if k.arg == "mode"))
        if isinstance(a, ast.Constant)
    ]
    is_open = name in ("open", "fdopen") and not (
        isinstance(call.func, ast.Attribute) and _is(call.func.value, "Image")
    )
    return is_open and any(isinstance(t, str) and set(t) & set("wax+") and len(t) < 4 for t in texts)


def _is(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def test_sizes(trees: dict[Path, ast.Module]) -> None:
    wrong = [f"{name_of(p)}: {n} lines" for p in FILES if (n := len(p.read_text("utf-8").splitlines())) > 300]
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                length = node.end_lineno - node.lineno + 1
                if length > 60:
                    wrong.append(f"{name_of(path)}: {node.name} has {length} lines")
    assert not wrong, "\n".join(wrong)


def test_packages_are_empty_and_no_error_is_swallowed(trees: dict[Path, ast.Module]) -> None:
    for path, tree in trees.items():
        if path.name == "__init__.py" and path.parent != PACKAGE:
            assert not path.read_text("utf-8").strip(), f"{name_of(path)} is not empty"
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                assert not (len(node.body) == 1 and isinstance(node.body[0], ast.Pass)), (
                    f"{name_of(path)}:{node.lineno}"
                )


def test_everything_public_is_documented(trees: dict[Path, ast.Module]) -> None:
    bare = [name_of(path) for path, tree in trees.items() if tree.body and not ast.get_docstring(tree)]
    for path, tree in trees.items():
        for node in tree.body:
            named = isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
            if named and not ast.get_docstring(node):  # type: ignore[arg-type]
                bare.append(f"{name_of(path)}: {node.name}")  # type: ignore[attr-defined]
    assert not bare, "\n".join(bare)


@pytest.mark.security
def test_no_pickle_on_disk_no_eval_no_remote_code(trees: dict[Path, ast.Module]) -> None:
    refused = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}
    wrong = []
    for path, tree in trees.items():
        wrong += [f"{name_of(path)} imports {m}" for m, _ in imports(tree) if m.split(".")[0] in refused]
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                plain = isinstance(node.func, ast.Name)
                if (plain and name in ("eval", "exec")) or (
                    name == "load" and isinstance(node.func, ast.Attribute) and _is(node.func.value, "torch")
                ):
                    wrong.append(f"{name_of(path)}:{node.lineno} calls {name}")
                wrong += [
                    f"{name_of(path)}:{node.lineno} allow_pickle"
                    for k in node.keywords
                    if k.arg == "allow_pickle" and not (isinstance(k.value, ast.Constant) and k.value.value is False)
                ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", ["synthaug", "synthaug.cli", "synthaug.contracts", "synthaug.engine.run"])
def test_importing_costs_nothing(module: str) -> None:
    heavy = (
        "torch",
        "diffusers",
        "transformers",
        "datasets",
        "albumentations",
        "kornia",
        "hydra",
        "mitsuba",
        "pyarrow",
    )
    code = f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert done.stdout.strip() == "[]"
