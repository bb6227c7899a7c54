from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as peer

from synthaug import rle
from synthaug.errors import InputError
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


# Reading


def test_categories_are_numbered_by_their_ids_and_source_ids_are_kept(tmp_path: Path) -> None:
    reader = two(tmp_path, label(5, 1, 7), label(6, 1, 3, iscrowd=1, score=0.5, attributes={"wet": True}))
    assert [c.name for c in reader.categories()] == ["dog", "cat"]
    made = reader.read("a")
    first, second = made.labels.instances
    assert (first.class_id, second.class_id) == (2, 1)
    assert first.box == (5.0, 6.0, 15.0, 14.0)
    assert first.attributes == {"coco_id": 5, "coco_category_id": 7}
    assert second.attributes == {"coco_id": 6, "coco_category_id": 3, "wet": True}
    assert (first.ignore, second.ignore) == (False, True)
    assert reader.describe("a").classes == (1, 2)
    assert reader.describe("b").classes == ()
    assert reader.notes()["images without labels"] == 1
    assert reader.files() == ("annotations/instances_train.json",)


def test_three_spellings_of_one_mask_are_one_mask(tmp_path: Path) -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:20, 5:25] = True
    packed = peer.encode(np.asfortranarray(mask.astype(np.uint8)))
    flat = mask.T.reshape(-1)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    spellings: list[Any] = [
        {"size": [40, 60], "counts": packed["counts"].decode()},
        {"size": [40, 60], "counts": runs},
        [[5, 10, 25, 10, 25, 20, 5, 20]],
    ]
    reader = two(tmp_path, *(label(k, 1, segmentation=s, bbox=[5, 10, 20, 10]) for k, s in enumerate(spellings, 1)))
    for instance in reader.read("a").labels.instances:
        assert instance.mask is not None
        np.testing.assert_array_equal(rle.decode(instance.mask), mask)
        assert instance.box == (5.0, 10.0, 25.0, 20.0)


def test_the_box_is_the_masks_and_an_amodal_one_is_kept_aside(tmp_path: Path) -> None:
    square = [[5, 10, 25, 10, 25, 20, 5, 20]]
    made = two(tmp_path, label(1, 1, segmentation=square, bbox=[0, 0, 50, 30])).read("a")
    assert made.labels.instances[0].box == (5.0, 10.0, 25.0, 20.0)
    assert made.labels.instances[0].attributes["coco_bbox"] == [0, 0, 50, 30]


def test_keypoints_come_with_names_skeleton_and_partners(tmp_path: Path) -> None:
    person = {"id": 1, "name": "person", "keypoints": ["nose", "left_eye", "right_eye"], "skeleton": [[1, 2], [1, 3]]}
    points = [10, 12, 2, 11.5, 12, 1, 99, 99, 0]
    root = put(tmp_path, [image(1, "a.png")], [label(1, 1, 1, keypoints=points, num_keypoints=2)], categories=[person])
    reader = CocoReader(root=root)
    assert reader.categories()[0].skeleton == ((0, 1), (0, 2))
    assert reader.categories()[0].mirror == (0, 2, 1)
    assert reader.read("a").labels.instances[0].keypoints == ((10.0, 12.0, 2), (11.5, 12.0, 1), (0.0, 0.0, 0))
    shifted = CocoReader(root=root, half_pixel=True).read("a").labels.instances[0].keypoints
    assert shifted == ((10.5, 12.5, 2), (12.0, 12.5, 1), (0.0, 0.0, 0))


def test_names_file_fixes_the_classes_and_their_order(tmp_path: Path) -> None:
    reader = two(tmp_path, label(1, 1), names="names.txt")
    (tmp_path / "names.txt").write_text("cat\ndog\nbird\n")
    assert [c.name for c in reader.categories()] == ["cat", "dog", "bird"]
    assert reader.read("a").labels.instances[0].class_id == 1


def test_one_file_per_split_and_a_chosen_split(tmp_path: Path) -> None:
    for word, name in (("train2017", "a"), ("val2017", "b")):
        picture_file(tmp_path / word / f"{name}.jpg")
        content = {"images": [image(1, f"{name}.jpg")], "annotations": [label(1, 1)], "categories": CATS}
        json_file(tmp_path / "annotations" / f"instances_{word}.json", content)
        json_file(tmp_path / "annotations" / f"captions_{word}.json", {})
    reader = CocoReader(root=str(tmp_path))
    assert [(name, reader.read(name).split) for name in reader.ids()] == [
        ("train2017/a", "train"),
        ("val2017/b", "val"),
    ]
    assert CocoReader(root=str(tmp_path), split="val").ids() == ("val2017/b",)


def test_classes_merge_by_name(tmp_path: Path) -> None:
    reader = two(tmp_path, label(1, 1, 3), label(2, 1, 7), classes={"cat": "animal", "dog": "animal"})
    assert [c.name for c in reader.categories()] == ["animal"]
    assert [i.class_id for i in reader.read("a").labels.instances] == [1, 1]


def test_join_by_suffix_where_the_folder_is_complete(tmp_path: Path) -> None:
    for name in ("town1_001.png", "town1_002.png", "town2_002.png", "town2_003.png"):
        picture_file(tmp_path / "images" / name)
    rows = [image(1, "001.png"), image(2, "002.png"), image(3, "003.png")]
    content = {"images": rows, "annotations": [label(k, k) for k in (1, 2, 3)], "categories": CATS}
    json_file(tmp_path / "annotations" / "train.json", content)
    with pytest.raises(InputError, match="3 image rows without a file"):
        CocoReader(root=str(tmp_path)).ids()
    with pytest.raises(
        InputError, match=r"1 image rows that fit several files[\s\S]*002\.png \(id 2\): images/town1_002"
    ):
        CocoReader(root=str(tmp_path), join="suffix").ids()
    reader = CocoReader(root=str(tmp_path), join="suffix", dangling="ignore")
    assert reader.ids() == ("town1_001", "town2_003")
    assert reader.notes()["image rows that fit several files"] == 1


def test_the_broken_carla_file_is_refused_with_counts_in_every_way_of_joining(data_root: Path) -> None:
    root = str(data_root / "carla")
    with pytest.raises(InputError) as caught:
        CocoReader(root=root).ids()
    told = str(caught.value)
    assert "319 image ids that occur more than once:\n  - id '_semantic' (_semantic)" in told
    assert "304 image rows without a file:" in told
    assert "2062 annotations whose image is not there:" in told
    # 224 rows belong to images that are not in the folder, so a suffix that fits one file proves nothing: joined all
    # the same, 16 of 74 images had the boxes of another town.
    for dangling in ("refuse", "ignore"):
        with pytest.raises(InputError, match="224 image rows without a file"):
            CocoReader(root=root, join="suffix", dangling=dangling).ids()


def test_real_dice_photos_have_all_boxes(data_root: Path) -> None:
    reader = CocoReader(root=str(data_root / "dice"))
    source = json.loads((data_root / "dice" / "instances.json").read_text())
    assert len(reader.ids()) == 200
    names = {row["id"]: row["file_name"].removesuffix(".jpg") for row in source["images"]}
    first = reader.ids()[0]
    boxes = [a["bbox"] for a in source["annotations"] if names[a["image_id"]] == first]
    made = reader.read(first)
    expected = [(x, y, x + w, y + h) for x, y, w, h in boxes]
    np.testing.assert_allclose([i.box for i in made.labels.instances], expected)
    assert made.image.source.startswith(b"\xff\xd8")
