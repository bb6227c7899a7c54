"""Names survive a chain of conversions: escaped once, and never again."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug.errors import InputError
from synthaug.formats import naming
from synthaug.formats.coco.reader import CocoReader
from synthaug.formats.coco.writer import CocoWriter
from synthaug.formats.folder.reader import FolderReader
from synthaug.formats.folder.writer import FolderWriter
from synthaug.formats.naming import Pair, Part
from synthaug.formats.paths import source_id
from synthaug.formats.voc import VocReader
from synthaug.formats.webdataset.reader import WebdatasetReader
from synthaug.formats.webdataset.writer import WebdatasetWriter
from synthaug.formats.yolo.reader import YoloReader
from synthaug.formats.yolo.writer import YoloWriter
from synthaug.sample import escape_id
from tests.formats.sets import picture_file, write
from tests.formats.test_folder import array_file, colour_mask, semantic

ODD = [
    "a b",
    "x.y.z",
    "100%",
    "~root",
    "a~20b",
    "-rf",
    "con",
    "näme",
    "📷",
    "__meta__",
    "ä" * 90,
    "q~v1",
    "images",
    "~",
]
odd = st.text(
    st.one_of(
        st.sampled_from("~ .%-_/aZ09äé\u0301📷"), st.characters(exclude_characters="/\0", exclude_categories=["Cs"])
    ),
    min_size=1,
)
paths = st.lists(odd.map(lambda text: text.replace("/", "~")), min_size=1, max_size=3).map("/".join)
ours = st.text(string.ascii_letters + "~0123456789ABCDEFhv-_", min_size=1, max_size=180)


@given(paths, st.integers(0, 12))
def test_an_id_of_ours_is_its_own_id(path: str, variant: int) -> None:
    made = escape_id(path, variant)
    assert source_id(made) == made


@given(paths | ours)
def test_every_id_is_one_that_may_be_stored_and_stays_itself(path: str) -> None:
    made = source_id(path)
    assert source_id(made) == made
    assert set(made) <= set(string.ascii_letters + string.digits + "_-~/")
    assert made in (escape_id(path), path) or "images~" in path or "/" in path


@given(st.lists(odd.filter(lambda t: "~" not in t and "/" not in t), unique=True, max_size=8))
def test_names_without_our_mark_keep_distinct_ids(names: list[str]) -> None:
    assert [source_id(name) for name in names] == [escape_id(name) for name in names]
    assert len({source_id(name) for name in names}) == len(names)


@pytest.mark.parametrize("name", ["~2f", "~2", "a~", "~41", "~2F", "a~v0", "~v1", "~FF~", "~h" + "0" * 32, "~7Ex~zz"])
def test_what_only_looks_like_an_id_of_ours_is_escaped(name: str) -> None:
    assert source_id(name) == escape_id(name) != name


def test_names_that_share_an_id_are_escaped_once_more() -> None:
    part = Part("train", "", "images", "images")
    pairs = [
        Pair(naming.sample_id("", stem), f"images/{stem}.png", None, part, "train")
        for stem in ("a b", "a~20b", "c~20d")
    ]
    assert list(naming.by_id(pairs)) == ["a~20b", "a~7E20b", "c~20d"]
    clash = [*pairs, Pair(naming.sample_id("", "a~7E20b"), "images/a~7E20b.png", None, part, "train")]
    with pytest.raises(InputError, match=r"1 images have the id of another one[\s\S]*a~7E20b\.png"):
        naming.by_id(clash)


def test_odd_names_do_not_grow_from_folder_to_coco_to_folder_to_voc(tmp_path: Path) -> None:
    for name in ODD:
        picture_file(tmp_path / "in" / "images" / f"{name}.png")
        array_file(tmp_path / "in" / "masks" / f"{name}.png", colour_mask())
    first = FolderReader(root=str(tmp_path / "in"), passes=semantic(), instances="components")
    ids = set(first.ids())
    assert len(ids) == len(ODD)
    write(CocoWriter(), [first.read(name) for name in first.ids()], tmp_path / "coco")
    coco = CocoReader(root=str(tmp_path / "coco"))
    assert set(coco.ids()) == ids
    write(FolderWriter(), [coco.read(name) for name in coco.ids()], tmp_path / "folder")
    assert set(FolderReader(root=str(tmp_path / "folder")).ids()) == ids
    # The same files read as if another tool had made them.
    for name in ids:
        path = tmp_path / "voc" / f"{name}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("<annotation/>")
    (tmp_path / "voc").rename(tmp_path / "folder" / "Annotations")
    assert set(VocReader(root=str(tmp_path / "folder"), labels="Annotations").ids()) == ids
    declared = FolderReader(root=str(tmp_path / "folder"), passes={"semantic": {"path": "semantic/{stem}.png"}})
    assert set(declared.ids()) == ids


def test_yolo_to_yolo_and_tars_without_their_list_keep_the_names(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ODD:
        picture_file(tmp_path / "in" / "images" / "train" / f"{name}.png")
        text = tmp_path / "in" / "labels" / "train" / f"{name}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "in" / "classes.txt").write_text("cat\n")
    reader = YoloReader(root=str(tmp_path / "in"))
    ids = set(reader.ids())
    for step in ("a", "b", "c"):
        write(YoloWriter(), [reader.read(name) for name in reader.ids()], tmp_path / step)
        reader = YoloReader(root=str(tmp_path / step))
        assert set(reader.ids()) == ids, step
    write(WebdatasetWriter(), [reader.read(name) for name in reader.ids()], tmp_path / "tar")
    (tmp_path / "tar" / "dataset.json").unlink()
    assert set(WebdatasetReader(root=str(tmp_path / "tar")).ids()) == ids
