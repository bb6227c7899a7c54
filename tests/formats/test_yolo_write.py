from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from synthaug.contracts import DatasetInfo
from synthaug.errors import ConfigError, Rejected
from synthaug.formats.coco.writer import CocoWriter
from synthaug.formats.yolo import rows
from synthaug.formats.yolo.reader import YoloReader
from synthaug.formats.yolo.writer import YoloWriter
from synthaug.labels import Instance
from tests.formats.sets import CATEGORIES, boxes_only, sample, write

SAMPLES = [sample(f"s/{k}", seed=k, split="train" if k % 3 else "val") for k in range(6)]


def test_detect_round_trip_keeps_boxes_classes_and_splits(tmp_path: Path) -> None:
    write(YoloWriter(ignored="keep"), SAMPLES, tmp_path)
    reader = YoloReader(root=str(tmp_path))
    assert [c.name for c in reader.categories()] == [c.name for c in CATEGORIES]
    assert sorted(reader.ids()) == ["train/s/1", "train/s/2", "train/s/4", "train/s/5", "val/s/0", "val/s/3"]
    for made in SAMPLES:
        again = reader.read(f"{made.split}/{made.id}")
        assert again.split == made.split
        np.testing.assert_array_equal(again.image.pixels, made.image.pixels)
        for a, b in zip(again.labels.instances, made.labels.instances, strict=True):
            assert a.class_id == b.class_id
            np.testing.assert_allclose(a.box, b.box, atol=1e-5)


def test_segment_round_trip_is_exact_with_holes_and_parts(tmp_path: Path) -> None:
    write(YoloWriter(task="segment", ignored="keep", min_iou=1.0), SAMPLES, tmp_path)
    reader = YoloReader(root=str(tmp_path), task="segment")
    for made in SAMPLES:
        again = reader.read(f"{made.split}/{made.id}").labels
        for a, b in zip(again.instances, made.labels.instances, strict=True):
            np.testing.assert_array_equal(again.mask(a), made.labels.mask(b))
            assert a.box == b.box


def test_pose_round_trip(tmp_path: Path) -> None:
    made = boxes_only(SAMPLES[1])
    people = tuple(replace(i, class_id=1) for i in made.labels.instances if i.class_id == 2)
    made = replace(made, labels=replace(made.labels, categories=CATEGORIES[1:2], instances=people))
    write(YoloWriter(task="pose"), [made], tmp_path)
    reader = YoloReader(root=str(tmp_path))
    assert reader.categories()[0].mirror == (0, 2, 1)
    assert reader.categories()[0].keypoints == CATEGORIES[1].keypoints
    points = reader.read("train/s/1").labels.instances[0].keypoints
    np.testing.assert_allclose(points, people[0].keypoints, atol=1e-5)


def test_pose_refuses_classes_that_differ(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kpt_shape"):
        YoloWriter(task="pose").open(DatasetInfo(CATEGORIES, ("train",), (), {}))


def test_data_yaml_and_files_are_what_the_importer_asks_for(tmp_path: Path) -> None:
    empty = boxes_only(SAMPLES[2])
    empty = replace(empty, id="none", labels=replace(empty.labels, instances=()))
    names = write(YoloWriter(), [*SAMPLES, empty], tmp_path)
    told = yaml.safe_load((tmp_path / "data.yaml").read_text())
    assert told == {"train": "images/train", "val": "images/val", "names": {0: "box", 1: "person", 2: "tür Ω"}}
    assert (tmp_path / "labels/train/none.txt").read_bytes() == b""
    for name in names:
        if name.startswith("images/"):
            label = "/labels/".join(f"/{name}".rsplit("/images/", 1)).rpartition(".")[0] + ".txt"
            assert label.lstrip("/") in names
    for path in tmp_path.rglob("*.txt"):
        for line in path.read_text().splitlines():
            index, *numbers = line.split()
            assert 0 <= int(index) < 3
            assert len(numbers) == 4
            assert all(0 <= float(v) <= 1 for v in numbers)


def test_ignored_instances_are_dropped_and_counted(tmp_path: Path) -> None:
    writer = YoloWriter()
    writer.open(DatasetInfo(CATEGORIES, ("train",), (), {}))
    encoded = writer.encode(SAMPLES[1])
    assert encoded.left_out["ignored instances"] == 1
    assert encoded.row["labels"] == 3


def test_without_a_val_split_val_names_nothing_unless_asked_for(tmp_path: Path) -> None:
    write(YoloWriter(), [SAMPLES[1]], tmp_path / "a")
    text = (tmp_path / "a" / "data.yaml").read_text()
    assert yaml.safe_load(text)["train"] == "images/train"
    assert "val" not in yaml.safe_load(text)
    assert "# There is no val split, and ultralytics wants one." in text
    assert YoloReader(root=str(tmp_path / "a")).ids() == ("train/s/1",)
    write(YoloWriter(val_is_train=True), [SAMPLES[1]], tmp_path / "b")
    text = (tmp_path / "b" / "data.yaml").read_text()
    assert yaml.safe_load(text)["val"] == "images/train"
    assert "scores validate nothing" in text
    assert YoloReader(root=str(tmp_path / "b")).ids() == ("train/s/1",)


def test_splits_of_other_names_are_written_and_read(tmp_path: Path) -> None:
    write(YoloWriter(), [SAMPLES[1], replace(SAMPLES[2], split="night")], tmp_path)
    reader = YoloReader(root=str(tmp_path))
    assert {name: reader.read(name).split for name in reader.ids()} == {"train/s/1": "train", "night/s/2": "night"}
    write(YoloWriter(), [replace(SAMPLES[2], split="night")], tmp_path / "alone")
    alone = YoloReader(root=str(tmp_path / "alone"))
    assert [alone.read(name).split for name in alone.ids()] == ["night"]


def test_an_id_with_a_folder_called_images_keeps_its_label(tmp_path: Path) -> None:
    names = write(YoloWriter(), [replace(SAMPLES[1], id="images/7")], tmp_path)
    assert "images/train/images~/7.png" in names
    assert "labels/train/images~/7.txt" in names


def test_segment_without_a_mask_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="no mask"):
        write(YoloWriter(task="segment"), [boxes_only(SAMPLES[1])], tmp_path)


def test_a_box_that_would_read_back_wrong_is_rejected() -> None:
    writer = YoloWriter()
    data = rows.line_text(0, rows.box_values((1.0, 2.0, 30.0, 31.0), (40, 60))).encode()
    with pytest.raises(Rejected, match="read back"):
        writer._verify(data, [Instance(1, 1, (1.0, 2.0, 30.0, 30.9))], (40, 60))


@given(
    st.tuples(st.integers(10, 4000), st.integers(10, 4000)),
    st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
def test_box_text_and_back_stays_within_a_thousandth_of_a_pixel(size: tuple[int, int], shares: list[float]) -> None:
    height, width = size
    (x0, x1), (y0, y1) = sorted(v * width for v in shares[:2]), sorted(v * height for v in shares[2:])
    if x1 - x0 < 0.01 or y1 - y0 < 0.01:
        return
    line = rows.parse(rows.line_text(3, rows.box_values((x0, y0, x1, y1), size)).encode(), "t")[0]
    assert line.index == 3
    np.testing.assert_allclose(rows.box_of(line, size, clip=False), (x0, y0, x1, y1), atol=1e-3)


@pytest.mark.parametrize("settings", [{"task": "boxes"}, {"ignored": "flag"}, {"min_iou": -0.1}])
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        YoloWriter(**settings)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"task": "detect"}, {"ignored instances": 1, "masks": 3, "keypoints": 2}),
        ({"task": "detect", "ignored": "keep"}, {"ignored instances": 0, "masks": 4, "keypoints": 2}),
        ({"task": "segment", "ignored": "keep"}, {"ignored instances": 0, "masks": 0, "keypoints": 2}),
    ],
)
def test_what_a_task_does_not_hold_is_counted(settings: Any, expected: dict[str, int]) -> None:
    writer = YoloWriter(**settings)
    writer.open(DatasetInfo(CATEGORIES, ("train",), (), {}))
    left = writer.encode(SAMPLES[1]).left_out
    others = {"keypoints off the canvas": 0, "object poses": 1, "cameras": 1, "label passes": 5}
    assert left == expected | others
    assert YoloWriter(passes=["semantic"]).passes_left_out(SAMPLES[1]) == 4


def test_keypoints_off_the_canvas_are_counted() -> None:
    made = boxes_only(SAMPLES[1])
    person = next(i for i in made.labels.instances if i.class_id == 2)
    person = replace(person, class_id=1, keypoints=((-3.0, 5.0, 2), (0.0, 0.0, 0), (4.0, 4.0, 2)))
    made = replace(made, labels=replace(made.labels, categories=CATEGORIES[1:2], instances=(person,)))
    for writer in (YoloWriter(task="pose"), CocoWriter()):
        writer.open(DatasetInfo(CATEGORIES[1:2], ("train",), (), {}))
        assert writer.encode(made).left_out["keypoints off the canvas"] == 1
