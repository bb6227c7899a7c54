"""What a plug-in consists of: editing any part of it is another plug-in."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from synthaug.engine import sources, targets


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    return tmp_path


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def changes(folder: Path, module: str, edited: str) -> bool:
    """Whether editing a file changes the plug-in."""
    before = targets.source_hash(module)
    path = folder / edited
    text = path.read_text()
    path.write_text(text + "\n# edited\n")
    after = targets.source_hash(module)
    path.write_text(text)
    assert targets.source_hash(module) == before
    return after != before


def test_helper_modules_beside_a_plugin_belong_to_it(here: Path) -> None:
    write(
        here,
        {
            "so_plugin.py": "import numpy\nimport so_one\n\ndef late():\n    from so_two.inner import thing\n",
            "so_one.py": "from so_three import x\n",
            "so_two/__init__.py": "",
            "so_two/inner.py": "thing = 1\n",
            "so_two/other.py": "",
            "so_three.py": "x = 1\n",
            "so_stranger.py": "",
        },
    )
    for name in ("so_plugin.py", "so_one.py", "so_two/__init__.py", "so_two/inner.py", "so_three.py"):
        assert changes(here, "so_plugin", name), name
    for name in ("so_stranger.py", "so_two/other.py"):
        assert not changes(here, "so_plugin", name), name


def test_the_whole_top_package_belongs_to_a_plugin_in_it(here: Path) -> None:
    write(
        here,
        {
            "so_pack/__init__.py": "",
            "so_pack/deep/__init__.py": "",
            "so_pack/deep/stages.py": "from ..tools import helper\nimport so_beside\n",
            "so_pack/tools.py": "helper = 1\n",
            "so_pack/by_name.py": "",
            "so_beside.py": "",
        },
    )
    for name in ("deep/stages.py", "tools.py", "by_name.py", "__init__.py"):
        assert changes(here, "so_pack.deep.stages", f"so_pack/{name}"), name
    assert changes(here, "so_pack.deep.stages", "so_beside.py")


def test_the_place_of_a_plugin_does_not_count(here: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    files = {"so_moved.py": "import so_moved_helper\n", "so_moved_helper.py": "x = 1\n"}
    write(here, files)
    other = tmp_path_factory.mktemp("elsewhere")
    write(other, files)
    names = [name for name, _ in sources.closure("so_moved", here / "so_moved.py")]
    assert names == ["so_moved.py", "so_moved_helper.py"]
    first = targets.source_hash("so_moved")
    sys.path.insert(0, str(other))
    del sys.modules["so_moved"]
    assert targets.source_hash("so_moved") == first


def test_what_is_installed_counts_by_version_not_by_source(here: Path) -> None:
    write(here, {"so_light.py": "import json\nimport numpy as np\nfrom synthaug.contracts import Appearance\n"})
    assert [name for name, _ in sources.closure("so_light", here / "so_light.py")] == ["so_light.py"]


def test_libraries_that_a_room_leans_on() -> None:
    package = Path(sources.__file__).parents[1]
    found = sources.libraries(package / "formats" / "huggingface" / "writer.py")
    assert {"numpy", "cv2", "PIL", "isal", "pyarrow"} <= found
    assert not {"torch", "json", "synthaug", "hydra"} & found
    assert "pyarrow" not in sources.libraries(package / "formats" / "yolo" / "reader.py")


def test_imports_for_type_checkers_are_none(tmp_path: Path) -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a\nelse:\n    import b\n"
    (tmp_path / "x.py").write_text(source)
    assert {found.name for found in sources.imports_of(tmp_path / "x.py")} == {"typing", "b"}
