from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthaug.errors import InputError, Rejected, SecurityError
from synthaug.formats.coco.reader import CocoReader
from tests.formats.sets import json_file, picture_file

CATS = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]


def image(number: int | str, name: str, size: tuple[int, int] = (40, 60)) -> dict[str, Any]:
    return {"id": number, "file_name": name, "height": size[0], "width": size[1]}


def label(number: int, image_id: int | str, category: int = 7, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image_id, "category_id": category, "bbox": [5, 6, 10, 8], **more}


def put(root: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]], **more: Any) -> str:
    """A COCO set with 60x40 pictures for the rows that name a plain file."""
    for row in images:
        name = row.get("file_name")
        if isinstance(name, str) and "/" not in name and not (root / "images" / name).exists():
            picture_file(root / "images" / name)
    content = {"images": images, "annotations": annotations, "categories": CATS} | more
    json_file(root / "annotations" / "instances_train.json", content)
    return str(root)


def two(root: Path, *annotations: dict[str, Any], **settings: Any) -> CocoReader:
    return CocoReader(root=put(root, [image(1, "a.png"), image(2, "b.png")], list(annotations)), **settings)


def test_e1_unknown_category_is_refused_mapped_or_ignored(tmp_path: Path) -> None:
    rows = (label(1, 1), label(2, 1, 99), label(3, 2, 99))
    with pytest.raises(InputError, match=r"2 labels of 1 classes[\s\S]*99: 2 labels"):
        two(tmp_path, *rows).ids()
    mapped = CocoReader(root=str(tmp_path), classes={99: "cow"})
    assert [c.name for c in mapped.categories()] == ["dog", "cat", "cow"]
    assert [i.class_id for i in mapped.read("a").labels.instances] == [2, 3]
    ignored = CocoReader(root=str(tmp_path), unknown="ignore")
    assert ignored.ids() == ("a", "b")
    assert ignored.notes()["labels of unknown categories"] == 2
    assert len(ignored.read("a").labels.instances) == 1
    assert ignored.describe("b").classes == ()


def test_e2_duplicate_ids_and_names_are_refused_with_the_first_twenty(tmp_path: Path) -> None:
    images = [image(1, "a.png"), image(1, "b.png"), image(2, "c.png"), image(3, "c.png")]
    annotations = [label(k, 2) for k in range(1, 31) for _ in range(2)]
    with pytest.raises(InputError) as caught:
        CocoReader(root=put(tmp_path, images, annotations)).ids()
    told = str(caught.value)
    assert "2 image ids that occur more than once:\n  - id 1 (a.png)\n  - id 1 (b.png)" in told
    assert "2 file names that occur more than once:\n  - c.png (id 2)\n  - c.png (id 3)" in told
    assert "60 annotation ids" in told
    assert told.count("(image 2)") == 20
    assert "... and 40 more" in told
    with pytest.raises(InputError, match="occur more than once"):
        CocoReader(root=str(tmp_path), dangling="ignore").ids()


def test_e2_two_suffixes_of_one_stem_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1 samples are there more than once[\s\S]*images/a\.jpg, images/a\.png"):
        CocoReader(root=put(tmp_path, [image(1, "a.jpg"), image(2, "a.png")], [])).ids()


def test_e3_dangling_rows_are_refused_counted_and_left_out_on_request(tmp_path: Path) -> None:
    root = put(tmp_path, [image(1, "a.png"), image(2, "b.png")], [label(1, 1), label(2, 2), label(3, 77)])
    (tmp_path / "images" / "b.png").unlink()
    with pytest.raises(InputError) as caught:
        CocoReader(root=root).ids()
    told = str(caught.value)
    assert "1 image rows without a file:\n  - b.png (id 2)" in told
    assert "2 annotations whose image is not there:\n  - annotation 2 of image 2\n  - annotation 3 of image 77" in told
    reader = CocoReader(root=root, dangling="ignore")
    assert reader.ids() == ("a",)
    assert reader.notes()["annotations whose image is not there"] == 2


BAD_BOXES = [
    ([5, 6, 0, 8], "empty"),
    ([5, 6, -10, 8], "swapped"),
    ([5, 6, 100, 8], "leaves"),
    ([-20, 6, 30, 8], "leaves"),
    (["5", 6, 10, 8], "bbox"),
    ([5, 6, 10], "bbox"),
    (None, "bbox"),
    ([5, 6, True, 8], "bbox"),
    ([5, 6, 10**400, 8], "bbox"),
    ({}, "bbox"),
]


@pytest.mark.parametrize(("bbox", "word"), BAD_BOXES)
def test_e4_a_bad_box_rejects_its_sample_alone(tmp_path: Path, bbox: Any, word: str) -> None:
    reader = two(tmp_path, label(1, 1) | {"bbox": bbox}, label(2, 2))
    assert reader.ids() == ("a", "b")
    with pytest.raises(Rejected, match=word) as caught:
        reader.read("a")
    assert caught.value.reason == "label"
    assert len(reader.read("b").labels.instances) == 1


def test_e4_clip_on_request(tmp_path: Path) -> None:
    made = two(tmp_path, label(1, 1) | {"bbox": [50, 30, 100, 100]}, clip=True).read("a")
    assert made.labels.instances[0].box == (50.0, 30.0, 60.0, 40.0)


def test_e4_nan_is_refused_by_the_json_reader(tmp_path: Path) -> None:
    root = put(tmp_path, [image(1, "a.png")], [label(1, 1) | {"bbox": [float("nan"), 1, 2, 3]}])
    with pytest.raises(InputError, match="NaN"):
        CocoReader(root=root).ids()


BAD_MASKS: list[Any] = [
    [[1, 1, 5, 5]],
    [[1, 1, 5, 5, 9]],
    [[1, 1, 5, 5, "x", 9]],
    [[1, 1, 1e8, 1e8, 3, 9]],
    [[1, 1, 10**400, 5, 3, 9]],
    [1, 1, 5, 5, 3, 9],
    "polygon",
    {"size": [40, 60], "counts": "garbage~"},
    {"size": [40, 60], "counts": [1, 2, 3]},
    {"size": [40, 60], "counts": [-1, 2401]},
    {"size": [0, 0], "counts": ""},
    {"size": [60, 40], "counts": [0, 2400]},
    {"size": [40, 60], "counts": [2400]},
    {"size": [10**9, 10**9], "counts": [10**18]},
    {"counts": [2400]},
]


@pytest.mark.parametrize("segmentation", BAD_MASKS)
def test_e5_e6_a_bad_mask_rejects_its_sample_alone(tmp_path: Path, segmentation: Any) -> None:
    reader = two(tmp_path, label(1, 1, segmentation=segmentation), label(2, 2))
    assert reader.ids() == ("a", "b")
    with pytest.raises(Rejected) as caught:
        reader.read("a")
    assert caught.value.reason == "label"
    assert len(reader.read("b").labels.instances) == 1


@pytest.mark.parametrize("size", [(41, 60), (40, 59), (60, 40), (80, 120)])
def test_d13_a_size_that_is_not_the_pictures_is_rejected(tmp_path: Path, size: tuple[int, int]) -> None:
    reader = CocoReader(root=put(tmp_path, [image(1, "a.png", size)], [label(1, 1)]))
    with pytest.raises(Rejected) as caught:
        reader.read("a")
    assert caught.value.reason == "size"


@pytest.mark.parametrize(
    "name", ["../a.png", "/etc/a.png", "x\\a.png", "C:/a.png", "~/a.png", "http://h/a.png", "pipe:cat", "a\0.png"]
)
def test_f1_a_file_name_that_leaves_the_root_is_refused(tmp_path: Path, name: str) -> None:
    root = put(tmp_path, [image(1, "a.png")], [])
    content = {"images": [image(1, "a.png"), image(2, name)], "annotations": [], "categories": CATS}
    json_file(tmp_path / "annotations" / "instances_train.json", content)
    with pytest.raises(SecurityError):
        CocoReader(root=root).ids()


def test_f3_f5_odd_names_are_kept_apart_and_found_again(tmp_path: Path) -> None:
    names = [
        "a b.png",
        "e\u0301.png",
        "\u00e9.png",
        "x.y.z.png",
        "100%.png",
        "{stem}.png",
        "[ab]*?.png",
        "-rf.png",
        "con.png",
    ]
    rows = [image(k, name) for k, name in enumerate(names, 1)]
    reader = CocoReader(root=put(tmp_path, rows, [label(k, k) for k in range(1, len(rows) + 1)]))
    ids = reader.ids()
    assert len(set(ids)) == len(names)
    assert all("." not in name and name.isascii() for name in ids)
    assert all(len(reader.read(name).labels.instances) == 1 for name in ids)


def test_b14_equal_pictures_under_two_names_are_two_samples(tmp_path: Path) -> None:
    reader = two(tmp_path, label(1, 1), label(2, 2))
    a, b = reader.read("a"), reader.read("b")
    np.testing.assert_array_equal(a.image.pixels, b.image.pixels)
    assert reader.ids() == ("a", "b")


def test_e10_rows_meet_images_by_id_and_name_and_never_by_position(tmp_path: Path) -> None:
    rows = [image(k, f"{k}.png") for k in range(1, 7)]
    labels = [label(k, k) | {"bbox": [k, k, 10, 8]} for k in range(1, 7)]
    reader = CocoReader(root=put(tmp_path, rows[::-1], labels[3:] + labels[:3]))
    assert {name: reader.read(name).labels.instances[0].box[0] for name in reader.ids()} == {
        str(k): float(k) for k in range(1, 7)
    }


EYES = ["nose", "left_eye", "right_eye"]
BAD_CATEGORIES = [
    ({"keypoints": "nose"}, "keypoints is 'nose', expected a list"),
    ({"keypoints": ["nose", 3]}, "a name is text"),
    ({"keypoints": ["nose", "nose"]}, "nose occur more than once"),
    ({"keypoints": EYES, "skeleton": [[1, 4]]}, r"skeleton joins \[\[0, 3\]\]; expected pairs of places 0..2"),
    ({"keypoints": EYES, "skeleton": [[0, 1]]}, r"joins \[\[-1, 0\]\]"),
    ({"keypoints": EYES, "skeleton": [[1.0, 2]]}, "skeleton joins"),
    ({"keypoints": EYES, "skeleton": [[1, 2, 3]]}, "skeleton"),
    ({"keypoints": EYES, "skeleton": [["nose", "left_eye"]]}, "skeleton"),
    ({"skeleton": [[1, 2]]}, "skeleton joins"),
    ({"keypoints": EYES, "synthaug": {"mirror": [0, 2]}}, "the partner of each of 3 keypoints"),
    ({"keypoints": EYES, "synthaug": {"mirror": [1, 2, 0]}}, "the partner of the partner is the keypoint itself"),
    ({"keypoints": EYES, "synthaug": {"mirror": [0, 1, 3]}}, "mirror"),
    ({"keypoints": EYES, "synthaug": {"mirror": [0, "2", 1]}}, "mirror"),
    ({"keypoints": EYES, "synthaug": {"mirror": [False, 2, 1]}}, "mirror"),
    ({"keypoints": EYES, "synthaug": {"mirror": 7}}, "mirror is '7', expected a list"),
    ({"keypoints": EYES, "synthaug": [1]}, "category 'person'"),
]


@pytest.mark.parametrize(("facts", "word"), BAD_CATEGORIES)
def test_facts_of_a_category_are_checked_before_anything_is_read(tmp_path: Path, facts: Any, word: str) -> None:
    categories = [{"id": 7, "name": "person", **facts}]
    root = put(tmp_path, [image(1, "a.png")], [label(1, 1)], categories=categories)
    with pytest.raises(InputError, match=word) as caught:
        CocoReader(root=root).ids()
    assert "person" in str(caught.value)
    assert "Correct the file" in str(caught.value)


def test_absent_facts_of_a_category_may_be_null(tmp_path: Path) -> None:
    categories = [{"id": 7, "name": "person", "keypoints": None, "skeleton": None, "synthaug": None}]
    root = put(tmp_path, [image(1, "a.png")], [label(1, 1)], categories=categories)
    assert CocoReader(root=root).categories()[0].keypoints == ()


@pytest.mark.parametrize("points", [[1, 2, 3], [1, 2, 1.5], [1, 2, -1], [1, 2, None], [1, 2], "nose", {"x": 1}])
def test_keypoints_with_other_states_reject_their_sample_alone(tmp_path: Path, points: Any) -> None:
    categories = [{"id": 7, "name": "person", "keypoints": ["nose"]}]
    images = [image(1, "a.png"), image(2, "b.png")]
    reader = CocoReader(root=put(tmp_path, images, [label(1, 1, keypoints=points), label(2, 2)], categories=categories))
    with pytest.raises(Rejected) as caught:
        reader.read("a")
    assert caught.value.reason == "label"
    assert len(reader.read("b").labels.instances) == 1


K = [[50, 0, 30], [0, 50, 20], [0, 0, 1]]
POSE = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]]
FLAT = [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]]
BAD_CAMERAS = [
    ({"intrinsics": [[0, 0, 30], [0, 50, 20], [0, 0, 1]]}, "fx and fy not 0"),
    ({"intrinsics": [[50, 0, 30], [50, 0, 20], [0, 0, 1]]}, "fx and fy not 0"),
    ({"intrinsics": [[50, 0, 30], [0, 50, 20], [0, 0, 0]]}, "expected"),
    ({"intrinsics": [[50, 0, 1e999], [0, 50, 20], [0, 0, 1]]}, ""),
    ({"intrinsics": [[50, 0], [0, 50]]}, "3x3"),
    ({"intrinsics": K, "extrinsics": FLAT}, "extrinsics"),
    ({"intrinsics": K, "extrinsics": [*POSE[:3], [0, 0, 1, 1]]}, "last row"),
    ({"intrinsics": K, "distortion": [0.1] * 9}, "at most 8"),
    ({}, "intrinsics"),
    (None, "camera"),
]


@pytest.mark.parametrize(("camera", "word"), BAD_CAMERAS)
def test_a_camera_that_is_none_rejects_its_sample(tmp_path: Path, camera: Any, word: str) -> None:
    rows = [image(1, "a.png") | {"synthaug": {"camera": camera}}, image(2, "b.png")]
    rows[1]["synthaug"] = {"camera": {"intrinsics": K, "extrinsics": POSE, "distortion": [0.1]}}
    root = put(tmp_path, rows, [label(1, 1), label(2, 2)])
    if "1e999" in repr(camera) or "inf" in repr(camera):
        path = tmp_path / "annotations" / "instances_train.json"
        path.write_text(path.read_text().replace("Infinity", "1e999"))
        with pytest.raises((InputError, Rejected)):
            CocoReader(root=root).read("a")
        return
    reader = CocoReader(root=root)
    with pytest.raises(Rejected, match=word) as caught:
        reader.read("a")
    assert caught.value.reason == "label"
    assert reader.read("b").labels.camera is not None


OWN = {"id": 4}
BAD_INSTANCES = [{"pose": FLAT}, {"pose": POSE[:3]}, {"visibility": 1.5}, {"visibility": -0.1}, {"extent": [1, -1, 1]}]


@pytest.mark.parametrize("facts", BAD_INSTANCES)
def test_facts_of_an_instance_are_checked(tmp_path: Path, facts: dict[str, Any]) -> None:
    reader = two(tmp_path, label(1, 1, synthaug=OWN | facts), label(2, 2, synthaug=OWN | {"pose": POSE}))
    with pytest.raises(Rejected, match=next(iter(facts))):
        reader.read("a")
    assert reader.read("b").labels.instances[0].pose is not None


def test_annotations_for_no_image_are_refused_unless_asked_for(tmp_path: Path) -> None:
    root = put(tmp_path, [image(1, "a.png"), image(2, "b.png")], [])
    with pytest.raises(InputError, match=r"labels for 0 of 2 images[\s\S]*read\.labels[\s\S]*read\.unlabelled=true"):
        CocoReader(root=root).ids()
    bare = CocoReader(root=root, unlabelled=True)
    assert bare.ids() == ("a", "b")
    assert bare.notes()["images without labels"] == bare.notes()["images"] == 2
