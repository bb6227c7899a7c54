"""Keypoints that lie in a file of their own beside the instances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from synthaug.errors import InputError
from synthaug.formats.coco.reader import CocoReader
from tests.formats.sets import json_file, picture_file

CLASSES = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
POSED = [{"id": 1, "name": "person", "keypoints": ["nose", "left_eye", "right_eye"], "skeleton": [[1, 2]]}]
POINTS = [3, 3, 2, 0, 0, 0, 5, 4, 1]


def row(number: int, category: int = 1, image: int = 1, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "bbox": [1, 1, 9, 9]} | more


def put(root: Path, *posed: dict[str, Any], classes: list[dict[str, Any]] = POSED, word: str = "train2017") -> None:
    picture_file(root / word / "a.png")
    images = [{"id": 1, "file_name": "a.png"}]
    plain = {"images": images, "annotations": [row(10), row(11, 18)], "categories": [dict(c) for c in CLASSES]}
    json_file(root / "annotations" / f"instances_{word}.json", plain)
    points = {"images": images, "annotations": list(posed), "categories": classes}
    json_file(root / "annotations" / f"person_keypoints_{word}.json", points)


def test_keypoints_join_the_annotations_of_their_ids(tmp_path: Path) -> None:
    put(tmp_path, row(10, keypoints=POINTS, num_keypoints=2))
    json_file(tmp_path / "annotations" / "captions_train2017.json", {"images": [], "annotations": []})
    reader = CocoReader(root=str(tmp_path))
    person, dog = reader.read("train2017/a").labels.instances
    assert person.keypoints == ((3.0, 3.0, 2), (0.0, 0.0, 0), (5.0, 4.0, 1))
    assert (dog.class_id, dog.keypoints) == (2, ())
    assert [c.keypoints for c in reader.categories()] == [("nose", "left_eye", "right_eye"), ()]
    assert reader.categories()[0].mirror == (0, 2, 1)
    assert set(reader.files()) == {f"annotations/{k}_train2017.json" for k in ("instances", "person_keypoints")}
    assert reader.notes()["annotation files that are not read (captions_train2017.json)"] == 1
    alone = CocoReader(root=str(tmp_path), labels="annotations/instances_train2017.json")
    assert alone.read("train2017/a").labels.instances[0].keypoints == ()
    assert alone.files() == ("annotations/instances_train2017.json",)


def test_a_second_split_without_instances_of_the_class_changes_nothing(tmp_path: Path) -> None:
    put(tmp_path, row(10, keypoints=POINTS))
    put(tmp_path, word="val2017")
    (tmp_path / "annotations" / "person_keypoints_train2017.json").rename(tmp_path / "keep.json")
    reader = CocoReader(root=str(tmp_path))
    assert reader.categories()[0].keypoints == ("nose", "left_eye", "right_eye")
    only = CocoReader(root=str(tmp_path), split="val")
    assert only.ids() == ("val2017/a",)
    assert not any("not read" in note for note in only.notes())


@pytest.mark.parametrize(
    "posed", [[row(99, keypoints=POINTS)], [row(11, keypoints=POINTS)], [row(10, image=2, keypoints=POINTS)],
              [row(10, keypoints=POINTS)] * 2],
)  # fmt: skip
def test_keypoints_that_belong_to_no_annotation_are_refused_by_name(tmp_path: Path, posed: list[Any]) -> None:
    put(tmp_path, *posed)
    with pytest.raises(InputError, match=r"person_keypoints_train2017[\s\S]*read\.labels=annotations/instances_train"):
        CocoReader(root=str(tmp_path)).ids()
    lenient = CocoReader(root=str(tmp_path), dangling="ignore")
    if posed[0]["id"] == 99:
        assert lenient.notes()["keypoint rows without an annotation of their id"] == 1
    else:
        with pytest.raises(InputError, match="do not belong together"):
            lenient.ids()


def test_categories_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    put(tmp_path, classes=[{"id": 1, "name": "robot", "keypoints": ["nose"]}])
    with pytest.raises(InputError, match="'robot'"):
        CocoReader(root=str(tmp_path)).ids()
