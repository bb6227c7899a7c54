"""No picture of a dataset is lost without a word: kinds that are not read, folders that are no usual split."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthaug.errors import InputError, Rejected
from synthaug.formats.coco.reader import CocoReader
from synthaug.formats.folder.reader import FolderReader
from synthaug.formats.naming import UNREAD_SUFFIXES
from synthaug.formats.yolo.reader import YoloReader
from tests.formats.sets import json_file, picture_file

BOX = "0 0.5 0.5 0.5 0.5"


def labelled(root: Path, image: str, label: str) -> None:
    picture_file(root / image)
    (root / label).parent.mkdir(parents=True, exist_ok=True)
    (root / label).write_text(BOX)
    (root / "classes.txt").write_text("cat")


def test_bitmaps_are_read_as_other_pictures_are(tmp_path: Path) -> None:
    labelled(tmp_path, "images/a.bmp", "labels/a.txt")
    reader = YoloReader(root=str(tmp_path))
    assert len(reader.read("a").labels.instances) == 1
    assert reader.describe("a").size == (40, 60)


@pytest.mark.parametrize("suffix", UNREAD_SUFFIXES)
def test_pictures_of_other_kinds_are_planned_and_rejected(tmp_path: Path, suffix: str) -> None:
    labelled(tmp_path, "images/a.png", "labels/a.txt")
    (tmp_path / "images" / f"b{suffix}").write_bytes(b"GIF89a" + bytes(60))
    (tmp_path / "labels" / "b.txt").write_text(BOX)
    (tmp_path / "images" / f"a{suffix}").write_bytes(b"the source of a.png")
    reader = YoloReader(root=str(tmp_path))
    assert reader.ids() == ("a", "b")
    with pytest.raises(Rejected, match=r"images/b\.\w+: pictures of this kind") as caught:
        reader.describe("b")
    assert caught.value.reason == "format"
    assert reader.describe("a").files == ("images/a.png", "labels/a.txt")
    assert reader.notes()["pictures of kinds that are not read beside one that is"] == 1
    plain = FolderReader(root=str(tmp_path), unlabelled=True)
    assert plain.ids() == ("a", "b")
    assert plain.notes()["pictures of kinds that are not read beside one that is"] == 1


def test_a_coco_row_of_another_kind_is_rejected_and_no_missing_file(tmp_path: Path) -> None:
    picture_file(tmp_path / "images" / "a.png")
    (tmp_path / "images" / "b.gif").write_bytes(b"GIF89a" + bytes(60))
    rows = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.gif", "width": 60, "height": 40}]
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}
    content = {"images": rows, "annotations": [box], "categories": [{"id": 1, "name": "cat"}]}
    json_file(tmp_path / "annotations" / "instances_train.json", content)
    reader = CocoReader(root=str(tmp_path))
    assert reader.ids() == ("a", "b")
    with pytest.raises(Rejected) as caught:
        reader.describe("b")
    assert caught.value.reason == "format"


@pytest.mark.parametrize("layout", ["{}/images/{}.png {}/labels/{}.txt", "images/{}/{}.png labels/{}/{}.txt",
                                    "{}/{}.png {}/{}.txt"])  # fmt: skip
def test_folders_with_other_names_are_splits_of_their_own(tmp_path: Path, layout: str) -> None:
    for word in ("train", "valid", "test", "night", "my set"):
        image, label = (path.format(word, word) for path in layout.split(" "))
        labelled(tmp_path, image, label)
    reader = YoloReader(root=str(tmp_path))
    found = {name: reader.describe(name).split for name in reader.ids()}
    assert found == {
        "train/train": "train", "valid/valid": "val", "test/test": "test", "night/night": "night",
        "my~20set/my~20set": "my~20set",
    }  # fmt: skip
    assert all(len(reader.read(name).labels.instances) == 1 for name in found)
    assert YoloReader(root=str(tmp_path), split="night").ids() == ("night/night",)


def test_one_folder_called_train_among_others_may_be_anything(tmp_path: Path) -> None:
    for word in ("bus", "train"):
        labelled(tmp_path, f"images/{word}/1.png", f"labels/{word}/1.txt")
    reader = YoloReader(root=str(tmp_path))
    assert {name: reader.describe(name).split for name in reader.ids()} == {"bus/1": "train", "train/1": "train"}


def test_pictures_between_the_folders_of_splits_are_refused_by_name(tmp_path: Path) -> None:
    for word in ("train", "val"):
        labelled(tmp_path, f"images/{word}/{word}.png", f"labels/{word}/{word}.txt")
    labelled(tmp_path, "images/between.png", "labels/between.txt")
    with pytest.raises(InputError, match=r"1 images lie beside the folders train, val[\s\S]*images/between\.png"):
        YoloReader(root=str(tmp_path)).ids()
    assert YoloReader(root=str(tmp_path), images="images/{split}").ids() == ("train/train", "val/val")


def test_pictures_in_the_root_without_a_label_are_no_part_of_split_folders(tmp_path: Path) -> None:
    for word in ("train", "val"):
        labelled(tmp_path, f"{word}/{word}.png", f"{word}/{word}.txt")
    picture_file(tmp_path / "preview.png")
    assert YoloReader(root=str(tmp_path)).ids() == ("train/train", "val/val")
