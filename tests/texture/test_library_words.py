"""`synthaug texture ...` as it is typed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from synthaug.cli import main
from synthaug.formats import png
from synthaug.texture.library import Library
from tests.texture.pictures import noise, save


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "in" / "oak.png", noise(1))
    save(tmp_path / "in" / "oak_roughness.png", noise(1)[:, :, 0])
    save(tmp_path / "in" / "steel_2.png", noise(2, (64, 32)))
    save(tmp_path / "in" / "lonely_normal.png", noise(3))
    (tmp_path / "in" / "LICENSE.txt").write_text("do what you like")
    return tmp_path


def run(*words: object) -> int:
    return main(["texture", *map(str, words)])


def test_import_list_show(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library = folder / "lib"
    assert run("import", folder / "in", f"into={library}", "licence=CC0-1.0", "size=0.5", "tags=test,small") == 0
    told = capsys.readouterr().out
    assert "2 textures\n  added 2\n  files refused 1 (name 1), no pictures 1\n" in told
    assert "  - lonely_normal.png: name: a normal map without an albedo" in told
    assert {(e.material, e.metres, tuple(e.maps)) for e in Library.open(library).entries} == {
        ("wood", 0.5, ("albedo", "roughness")), ("metal", 0.5, ("albedo",)),
    }  # fmt: skip
    assert run("list", library, "material=wood", "tags=small") == 0
    told = capsys.readouterr().out
    assert "CC0-1.0  oak" in told
    assert "albedo+roughness" in told
    assert "1 of 2 textures" in told
    assert run("list", library, "colour=000000", "limit=1") == 0
    assert run("show", library, f"out={folder / 'sheet.png'}", "side=64", "columns=2") == 0
    sheet = png.decode((folder / "sheet.png").read_bytes())
    assert sheet.shape[1] == 2 * 64 + 6
    # Sorted by material, so the wood is on the right, enlarged by whole pixels.
    assert (sheet[:64:2, 70::2][:, :32] == noise(1)).all()
    assert sorted(p.name for p in folder.iterdir()) == ["in", "lib", "sheet.png"]


def test_the_same_import_again_changes_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("import", folder / "in", f"into={folder / 'lib'}", "licence=CC0-1.0")
    assert run(*words) == 0
    assert run(*words) == 0
    assert "  there 2\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["import"], "needs a folder first"),
        (["import", "IN"], "needs into=..."),
        (["import", "IN", "into=LIB"], "needs licence=...: every texture enters with its licence. LICENSE.txt lies"),
        (["import", "IN", "into=LIB", "licence=none"], "Say which"),
        (["import", "IN", "into=LIB", "licence=MIT", "size=0"], "width of the texture in metres"),
        (["import", "IN", "into=LIB", "licence=MIT", "near=perhaps"], "expected skip or keep"),
        (["import", "IN", "into=LIB", "licence=MIT", "tileable=so"], "expected yes or no"),
        (["import", "IN", "into=LIB", "licence=MIT", "largest=1.5"], "expected a whole number"),
        (["import", "IN", "into=LIB", "licnece=MIT"], "does not know 'licnece'. Did you mean 'licence'"),
        (["import", "IN", "into=LIB", "licence=MIT", "licence=MIT"], "given twice"),
        (["import", "IN/none", "into=LIB", "licence=MIT"], "expected a folder"),
        (["import", "IN", "into=IN", "licence=MIT"], "holds files and is no texture library"),
        (["list", "IN"], "no texture library; make one"),
        (["show", "IN"], "needs out="),
        (["show", "IN", "out=a.jpg"], "expected the name of a .png file"),
        (["synthesize", "method=magic"], "Known: model, noise, patches, prompt"),
        (["synthesize", "method=noise", "into=LIB"], "needs exemplar="),
        (["synthesize", "into=LIB", "exemplar=IN/oak.png"], "needs licence="),
        (["synthesize", "into=LIB", "exemplar=IN/oak.png", "licence=MIT", "crop=1,2,3"], "LEFT,TOP,WIDTH,HEIGHT"),
        (["synthesize", "into=LIB", "exemplar=IN/oak.png", "licence=MIT", "crop=0,0,99,9"], "a part of 32x32"),
        (["synthesize", "into=LIB", "exemplar=IN/LICENSE.txt", "licence=MIT"], "no picture that is read here"),
    ],
)
def test_mistakes_are_told(folder: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    places = {"IN": folder / "in", "LIB": folder / "lib"}
    assert run(*(re.sub(r"\b(IN|LIB)\b", lambda found: str(places[found[1]]), word) for word in words)) == 2
    assert said in capsys.readouterr().err
    assert not (folder / "lib").exists()


def test_a_folder_without_a_usable_texture_is_refused_with_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "in" / "a_mask.png", noise(1))
    assert run("import", tmp_path / "in", f"into={tmp_path / 'lib'}", "licence=MIT") == 2
    assert "a_mask.png: a mask" in capsys.readouterr().err
    (tmp_path / "in" / "b.png").write_bytes(b"torn")
    assert run("import", tmp_path / "in", f"into={tmp_path / 'lib'}", "licence=MIT") == 2
    said = capsys.readouterr()
    assert "b.png: decode" in said.out
    assert "none of its textures could be taken" in said.err


@pytest.mark.parametrize("method", ["noise", "patches"])
def test_a_texture_is_made_from_an_exemplar(folder: Path, method: str, capsys: pytest.CaptureFixture[str]) -> None:
    save(folder / "photo.png", noise(9, (64, 96), 3))
    words = (
        "synthesize", f"method={method}", f"exemplar={folder / 'photo.png'}", f"into={folder / 'lib'}", "size=128",
        "seed=5", "licence=CC0-1.0", "material=stone", "crop=8,0,64,64", "metres=2", "maps=yes",
    )  # fmt: skip
    assert run(*words) == 0
    assert run(*words) == 0
    assert "photo_" + method + "_5 there" in capsys.readouterr().out
    library = Library.open(folder / "lib")
    (entry,) = library.entries
    assert (entry.method, entry.seed, entry.material, entry.metres) == (method, 5, "stone", 2.0)
    assert entry.parameters["crop"] == "8,0,64,64"
    assert entry.tileable
    assert library.read(entry).shape == (128, 128, 3)
    assert library.read(entry).dtype == np.uint8
    assert set(entry.maps) == {"albedo", "height", "normal", "roughness", "occlusion"}
    vectors = library.read(entry, "normal") / 65535 * 2 - 1
    assert np.abs(np.linalg.norm(vectors, axis=2) - 1).max() < 1e-4


@pytest.mark.slow
def test_the_shared_textures_make_a_library(data_root: Path, tmp_path: Path) -> None:
    library = tmp_path / "lib"
    for name in ("miniworld", "materialx", "house", "hospital", "warehouse", "bookstore"):
        assert run("import", data_root / "textures" / name, f"into={library}", "licence=see SOURCES.md") == 0
    assert len(Library.open(library)) >= 100
