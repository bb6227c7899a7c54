"""Datasets as people leave them: nothing is read twice, put into another split, or given to another object unsaid."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthaug.errors import InputError, Rejected
from synthaug.formats import pictures
from synthaug.formats.coco.reader import CocoReader
from synthaug.formats.containers import split_of
from synthaug.formats.habits import Survey, find_classes, instances
from synthaug.formats.voc import VocReader
from tests.formats.sets import json_file, picture_file
from tests.formats.test_coco_companion import POINTS, POSED, row
from tests.formats.test_coco_companion import put as put_coco
from tests.formats.test_lists import put, splits
from tests.formats.test_voc import an
from tests.formats.test_voc import put as put_voc

LISTS = "train: train.txt\nval: val.txt"


@pytest.mark.parametrize("text", ["images/a.png\n".encode("utf-16"), "images/\xe9.png".encode("latin-1")])
def test_a_list_that_is_no_utf8_is_refused_by_name(tmp_path: Path, text: bytes) -> None:
    reader = put(tmp_path, "train: train.txt", "a")
    (tmp_path / "train.txt").write_bytes(text)
    with pytest.raises(InputError, match=r"train\.txt: not UTF-8"):
        reader.ids()
    put_voc(tmp_path / "voc", "a", an("cat", 1, 1, 9, 9))
    (tmp_path / "voc/ImageSets/Main").mkdir(parents=True)
    (tmp_path / "voc/ImageSets/Main/train.txt").write_bytes(text)
    with pytest.raises(InputError, match=r"train\.txt: not UTF-8"):
        VocReader(root=str(tmp_path / "voc")).ids()


def test_a_list_beside_its_images_is_no_label(tmp_path: Path) -> None:
    yaml = "train: data/mine.txt\ntest: data/test.txt"
    reader = put(tmp_path, yaml, "a", "b", images="data", **{"data/mine": "a.png\n", "data/test": "b.png\n"})
    assert splits(reader) == {"a": "train", "b": "test"}


@pytest.mark.parametrize("inner", ["images", "myimages"])
def test_an_image_in_a_folder_below_another_one_is_read_once(tmp_path: Path, inner: str) -> None:
    put(tmp_path, LISTS, "z", images="data")
    reader = put(tmp_path, LISTS, "1", images=f"data/{inner}", train="data/z.png", val=f"data/{inner}/1.png")
    if inner != "images":
        (tmp_path / "data/mylabels/1.txt").rename(tmp_path / "data/myimages/1.txt")
    assert sorted(splits(reader).values()) == ["train", "val"]
    assert all(len(reader.read(name).labels.instances) == 1 for name in reader.ids())


def test_a_folder_of_labels_under_a_key_is_no_split_and_pictures_in_no_named_folder_are_told(tmp_path: Path) -> None:
    put(tmp_path, "", "b", images="images/val")
    put(tmp_path, "", "c", "d", images="images/extra")
    reader = put(tmp_path, "train: images/train\nval: images/val\nlabel_dir: labels", "a", images="images/train")
    assert splits(reader) == {"train/a": "train", "val/b": "val"}
    assert reader.notes()["images in no folder of data.yaml"] == 2


def test_a_folder_of_a_split_inside_that_of_another_one_is_read_once(tmp_path: Path) -> None:
    put(tmp_path, "", "b", images="images/val")
    assert splits(put(tmp_path, "train: images\nval: images/val", "a")) == {"train/a": "train", "val/b": "val"}


def test_lists_go_by_other_suffixes_and_other_keys_name_no_split(tmp_path: Path) -> None:
    reader = put(tmp_path, "train: train.TXT\nval: val.lst\nimg_dir: images", "a", "b", "c")
    (tmp_path / "train.TXT").write_text("images/a.png")
    (tmp_path / "val.lst").write_text("images/b.png")
    assert splits(reader) == {"a": "train", "b": "val"}
    assert reader.notes()["images on no list"] == 1


def voc(root: Path, *stems: str, **lists: str) -> VocReader:
    for stem in stems:
        put_voc(root, stem, an("cat", 1, 1, 9, 9))
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for name, text in lists.items():
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text(text)
    return VocReader(root=str(root))


def test_names_on_voc_lists_may_hold_spaces(tmp_path: Path) -> None:
    made = splits(voc(tmp_path, "my cat", "my dog", "my", train="my cat\nmy\n", val="my dog\n"))
    assert made == {"my": "train", "my~20cat": "train", "my~20dog": "val"}
    assert splits(voc(tmp_path / "2", "my cat", "my", train="my cat -1\nmy  1\n")) == {"my": "train"}


def test_voc_lists_are_found_under_every_spelling_of_a_split(tmp_path: Path) -> None:
    reader = voc(tmp_path, "a", "b", "c", Train="a\n", validation="b\n", TrainVal="a\nb\nc\n")
    assert splits(reader) == {"a": "train", "b": "val", "c": "train"}
    assert VocReader(root=str(tmp_path), split="val").ids() == ("b",)


def test_a_listed_name_of_two_images_is_refused(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        picture_file(tmp_path / "JPEGImages" / folder / "1.png", (40, 60))
        put_voc(tmp_path, f"{folder}/1", an("cat", 1, 1, 9, 9), image=False)
    with pytest.raises(InputError, match="1: 2 images"):
        voc(tmp_path, train="1\n").ids()


def test_a_bitmap_of_black_and_white_in_8_bits_is_not_taken_for_one_bit() -> None:
    pixels = (np.arange(32 * 40).reshape(32, 40) % 2).astype(np.uint8)
    for palette, shown in ((b"\0\0\0\0\xff\xff\xff\0", None), (b"\0\0\0\0\xff\0\0\0", (0, 0, 255))):
        head = struct.pack("<IiiHHIIiiII", 40, 40, -32, 1, 8, 0, 0, 0, 0, 2, 0)
        data = b"BM" + struct.pack("<IHHI", 0, 0, 0, 62) + head + palette + pixels.tobytes()
        if shown is None:
            with pytest.raises(Rejected, match="save it as PNG"):
                pictures.decode(data)
        else:
            assert (pictures.decode(data).picture.pixels == pixels[:, :, None] * np.array(shown)).all()


def test_keypoints_of_one_class_in_another_order_are_refused(tmp_path: Path) -> None:
    put_coco(tmp_path, row(10, keypoints=POINTS))
    put_coco(
        tmp_path,
        row(10, keypoints=POINTS),
        classes=[POSED[0] | {"keypoints": ["nose", "right_eye", "left_eye"]}],
        word="val2017",
    )
    with pytest.raises(InputError, match="right_eye"):
        CocoReader(root=str(tmp_path)).ids()
    assert CocoReader(root=str(tmp_path), split="val").categories()[0].keypoints[1] == "right_eye"


@pytest.mark.parametrize("name", ["other box", "other file"])
def test_keypoint_files_that_were_numbered_apart_are_refused(tmp_path: Path, name: str) -> None:
    put_coco(tmp_path, row(10, keypoints=POINTS) | ({"bbox": [20, 20, 4, 4]} if name == "other box" else {}))
    if name == "other file":
        posed: dict[str, Any] = {"categories": POSED, "annotations": [row(10, keypoints=POINTS)]}
        posed["images"] = [{"id": 1, "file_name": "b.png"}]
        json_file(tmp_path / "annotations" / "person_keypoints_train2017.json", posed)
    with pytest.raises(InputError, match=r"annotation 10 of image 1") as refused:
        CocoReader(root=str(tmp_path)).ids()
    assert "dangling=ignore" not in str(refused.value)


def test_two_categories_of_one_name_share_its_keypoints(tmp_path: Path) -> None:
    picture_file(tmp_path / "images" / "a.png")
    classes: list[dict[str, Any]] = [{"id": 1, "name": "person"}, POSED[0] | {"id": 2}]
    rows = [row(1), row(2, 2, keypoints=POINTS)]
    content = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": rows, "categories": classes}
    json_file(tmp_path / "annotations" / "instances_train.json", content)
    reader = CocoReader(root=str(tmp_path))
    assert [len(i.keypoints) for i in reader.read(reader.ids()[0]).labels.instances] == [0, 3]
    classes.append({"id": None, "name": "x"})
    json_file(tmp_path / "annotations" / "instances_train.json", content)
    with pytest.raises(InputError, match="has no name, or an id"):
        CocoReader(root=str(tmp_path)).ids()


def test_class_numbers_with_gaps_are_numbers_and_gaps_are_no_class() -> None:
    found = {"bbox": [[1, 1, 9, 9]] * 2, "category": [0.0, 1.0]}
    survey = Survey()
    survey.look(found, {}, ("cat", "dog"))
    made = find_classes(survey, (), ("cat", "dog"), {}, "refuse", "here")
    assert [i.class_id for i in instances(found, (32, 40), made, {}, None, False)] == [1, 2]
    with pytest.raises(Rejected, match="no class"):
        instances(found | {"category": [0.0, float("nan")]}, (32, 40), made, {}, None, False)


@pytest.mark.parametrize(
    ("path", "split"), [("pets_val.tar", "val"), ("a-test.parquet", "test"), ("pets.tar", "train")]
)
def test_a_split_at_the_end_of_a_file_name(path: str, split: str) -> None:
    assert split_of(path) == split
