"""Lists of images: data.yaml's text files and VOC's ImageSets say what belongs to which split."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthaug.errors import InputError
from synthaug.formats.voc import VocReader
from synthaug.formats.yolo.reader import YoloReader
from tests.formats.sets import picture_file
from tests.formats.test_voc import an
from tests.formats.test_voc import put as put_voc

BOX = "0 0.5 0.5 0.5 0.5"


def put(root: Path, yaml: str, *stems: str, images: str = "images", **texts: str) -> YoloReader:
    """Pictures with a box each, a data.yaml, and text files by name."""
    for stem in stems:
        picture_file(root / images / f"{stem}.png")
        label = root / images.replace("images", "labels") / f"{stem}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(BOX)
    (root / "data.yaml").write_text(f"{yaml}\nnames: [cat]\n")
    for name, text in texts.items():
        (root / f"{name}.txt").write_text(text)
    return YoloReader(root=str(root))


def splits(reader: YoloReader | VocReader) -> dict[str, str]:
    return {name: reader.describe(name).split for name in reader.ids()}


@pytest.mark.parametrize("start", ["images/", "./images/", "{root}/images/"])
def test_lists_of_a_data_yaml_make_the_splits_and_leave_the_others_out(tmp_path: Path, start: str) -> None:
    at = start.format(root=tmp_path)
    lists = {"train": f"{at}a.png\n{at}b.png\n\n", "val": f"{at}c.png\n"}
    reader = put(tmp_path, "path: .\ntrain: train.txt\nval: val.txt", "a", "b", "c", "d", **lists)
    assert splits(reader) == {"a": "train", "b": "train", "c": "val"}
    assert all(len(reader.read(name).labels.instances) == 1 for name in reader.ids())
    assert reader.read("c").split == "val"
    assert reader.notes()["images on no list"] == 1
    assert reader.files() == ("data.yaml", "train.txt", "val.txt")
    only = YoloReader(root=str(tmp_path), split="val")
    assert (only.ids(), only.notes()["images on no list"]) == (("c",), 1)
    assert set(YoloReader(root=str(tmp_path), images="images").ids()) == {"a", "b", "c", "d"}


def test_lists_lie_beside_their_images_in_folders_of_their_own(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        put(tmp_path, "", f"{split}1", images=f"{split}/images")
        (tmp_path / split / "list.txt").write_text(f"./images/{split}1.png\n")
    reader = put(tmp_path, "train: train/list.txt\nval: [valid/list.txt]")
    assert splits(reader) == {"train/train1": "train", "valid/valid1": "val"}
    assert all(len(reader.read(name).labels.instances) == 1 for name in reader.ids())


def test_a_list_beside_a_folder_and_an_image_on_two_lists(tmp_path: Path) -> None:
    reader = put(tmp_path, "train: images\nval: val.txt", "a", "b", val="images/b.png\n")
    assert splits(reader) == {"a": "train", "b": "train"}
    assert reader.notes()["images on more than one list"] == 1


def test_lists_that_lead_nowhere_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"val: val\.txt"):
        put(tmp_path, "train: train.txt\nval: val.txt", "a", train="images/a.png").ids()
    with pytest.raises(InputError, match=r"list 2 images, 1 of them are there[\s\S]*images/ghost\.png"):
        put(tmp_path, "train: train.txt", "a", train="images/a.png\nimages/ghost.png").ids()
    lenient = YoloReader(root=str(tmp_path), dangling="ignore")
    assert (lenient.ids(), lenient.notes()["names on a list without an image"]) == (("a",), 1)
    for line in ("/elsewhere/images/a.png", "../../a.png", "https://host/a.png"):
        with pytest.raises(InputError, match=r"train\.txt: 1 lines name no file below"):
            put(tmp_path, "train: train.txt", "a", train=line).ids()


def test_pictures_called_like_lists_keep_their_labels(tmp_path: Path) -> None:
    names = ("train", "val", "names", "labels", "classes", "bus")
    reader = put(tmp_path, "train: images", *names)
    assert reader.notes()["images without labels"] == 0
    assert all(len(reader.read(name).labels.instances) == 1 for name in names)


def voc(root: Path, **lists: str) -> None:
    for stem in "abcd":
        put_voc(root, stem, an("cat", 1, 1, 9, 9))
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for name, text in lists.items():
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text(text)


def test_voc_lists_are_followed_without_being_asked_for(tmp_path: Path) -> None:
    voc(tmp_path, train="a\n", val="b\n", trainval="a\nb\n", test="c\n", cat_train="a  1\nb -1\nc  0\n")
    reader = VocReader(root=str(tmp_path))
    assert splits(reader) == {"a": "train", "b": "val", "c": "test"}
    assert reader.read("b").split == "val"
    told = reader.notes()
    assert (told["images on no list"], told.get("images on more than one list")) == (1, None)
    assert "ImageSets/Main/val.txt" in reader.files()
    assert VocReader(root=str(tmp_path), split="cat_train").ids() == ("a", "c")
    assert VocReader(root=str(tmp_path), split="trainval").ids() == ("a", "b")
    assert set(splits(VocReader(root=str(tmp_path), images="JPEGImages")).values()) == {"train"}


def test_voc_trainval_alone_is_train_and_a_name_without_an_image_is_refused(tmp_path: Path) -> None:
    voc(tmp_path, trainval="a\nb\n", test="c\nghost\n")
    with pytest.raises(InputError, match=r"test\.txt: ghost"):
        VocReader(root=str(tmp_path)).ids()
    assert splits(VocReader(root=str(tmp_path), dangling="ignore")) == {"a": "train", "b": "train", "c": "test"}
