from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as peer
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from synthaug.errors import ConfigError, InputError, Rejected
from synthaug.formats.coco.reader import CocoReader
from synthaug.formats.coco.writer import CocoWriter
from synthaug.formats.shapes import join, mask_iou, outlines
from synthaug.formats.yolo.reader import YoloReader
from tests.formats.sets import CATEGORIES, boxes_only, equal_labels, json_file, picture_file, sample, write

CATS = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]


def image(number: int | str, name: str, size: tuple[int, int] = (40, 60)) -> dict[str, Any]:
    return {"id": number, "file_name": name, "height": size[0], "width": size[1]}


def label(number: int, image_id: int | str, category: int = 7, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image_id, "category_id": category, "bbox": [5, 6, 10, 8], **more}


SAMPLES = [sample(f"s/{k}~20x", seed=k, split="train" if k % 3 else "val") for k in range(6)]


def peer_of(path: Path) -> COCO:
    return COCO(str(path))


@pytest.mark.parametrize("masks", ["rle", "polygons"])
def test_round_trip_gives_back_every_fact(tmp_path: Path, masks: Any) -> None:
    write(CocoWriter(masks=masks), SAMPLES, tmp_path)
    reader = CocoReader(root=str(tmp_path))
    assert sorted(reader.ids()) == sorted(s.id for s in SAMPLES)
    assert reader.categories() == CATEGORIES
    for made in SAMPLES:
        again = reader.read(made.id)
        np.testing.assert_array_equal(again.image.pixels, made.image.pixels)
        equal_labels(again.labels, made.labels)
        assert (again.split, again.group, again.view, again.frame) == (made.split, made.group, made.view, made.frame)
        assert again.labels.attributes == made.labels.attributes
        described = reader.describe(made.id)
        assert set(described.passes) == set(again.labels.passes)
        assert (described.size, described.group, described.frame) == (made.labels.size, made.group, made.frame)


def test_without_the_sidecars_every_mask_is_still_exact(tmp_path: Path) -> None:
    write(CocoWriter(passes=()), SAMPLES[:2], tmp_path)
    assert not (tmp_path / "depth").exists()
    reader = CocoReader(root=str(tmp_path))
    for made in SAMPLES[:2]:
        again = reader.read(made.id).labels
        assert again.passes == {}
        for a, b in zip(again.instances, made.labels.instances, strict=True):
            np.testing.assert_array_equal(again.mask(a), made.labels.mask(b))
            assert a.box == b.box


@pytest.mark.parametrize(("masks", "kind"), [("rle", "segm"), ("polygons", "segm"), ("rle", "bbox")])
def test_a_written_set_evaluates_to_ap_1_against_itself(tmp_path: Path, masks: Any, kind: str) -> None:
    write(CocoWriter(masks=masks), [sample(f"i{k}", seed=k) for k in range(4)], tmp_path)
    truth = peer_of(tmp_path / "annotations" / "instances_train.json")
    found = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
        | ({"segmentation": truth.annToRLE(a)} if kind == "segm" else {})
        for a in truth.dataset["annotations"]
        if not a["iscrowd"]
    ]
    for row in found:
        counts = row.get("segmentation", {}).get("counts")
        if isinstance(counts, bytes):
            row["segmentation"]["counts"] = counts.decode()
    judge = COCOeval(truth, truth.loadRes(found), kind)
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    assert judge.stats[0] == pytest.approx(1.0)


def test_what_stands_in_the_file_is_what_importers_ask_for(tmp_path: Path) -> None:
    names = write(CocoWriter(), SAMPLES, tmp_path, version="1.2", licences=["MIT"])
    document = json.loads((tmp_path / "annotations" / "instances_train.json").read_text())
    assert [row["id"] for row in document["images"]] == [1, 2, 3, 4]
    assert [row["id"] for row in document["annotations"]] == list(range(1, 17))
    assert [row["id"] for row in document["categories"]] == [1, 2, 3]
    assert document["categories"][1]["skeleton"] == [[1, 2], [1, 3]]
    assert document["info"]["version"] == "1.2"
    assert document["licenses"][0]["name"] == "MIT"
    assert "date" not in json.dumps(document["info"])
    assert not any("ignore" in row for row in document["annotations"])
    assert len(names) == len(set(names))
    by_name = {s.id: s for s in SAMPLES}
    for row in document["annotations"]:
        shown = document["images"][row["image_id"] - 1]
        made = by_name[shown["synthaug"]["id"]].labels
        instance = next(i for i in made.instances if i.id == row["synthaug"]["id"])
        mask = made.mask(instance)
        assert mask is not None
        # Independent of our own code: the peer's decoder and plain numpy.
        np.testing.assert_array_equal(peer.decode(row["segmentation"]), mask)
        ys, xs = np.nonzero(mask)
        x, y, w, h = row["bbox"]
        assert (x, y, x + w, y + h) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert row["area"] == mask.sum()
        assert row["iscrowd"] == int(instance.ignore)
        assert row["category_id"] == instance.class_id
        if instance.class_id == 2:
            assert row["num_keypoints"] == sum(v > 0 for v in row["keypoints"][2::3]) == 2
            assert row["keypoints"][3:6] == [0, 0, 0]


def test_carla_from_yolo_equals_what_independent_code_parses(data_root: Path, tmp_path: Path) -> None:
    root = data_root / "carla"
    reader = YoloReader(root=str(root), labels="labels_yolo_format")
    chosen = reader.ids()[::13]
    write(CocoWriter(), [reader.read(name) for name in chosen], tmp_path)
    truth = peer_of(tmp_path / "annotations" / "instances_train.json")
    names = (root / "labels.txt").read_text().split()
    seen = 0
    for row in truth.dataset["images"]:
        stem = row["file_name"].removesuffix(".png")
        expected = [line.split() for line in (root / "labels_yolo_format" / f"{stem}.txt").read_text().splitlines()]
        found = truth.loadAnns(truth.getAnnIds(imgIds=row["id"]))
        assert [truth.cats[a["category_id"]]["name"] for a in found] == [names[int(words[0])] for words in expected]
        for annotation, (_, cx, cy, w, h) in zip(found, expected, strict=True):
            x0, y0 = (float(cx) - float(w) / 2) * 640, (float(cy) - float(h) / 2) * 380
            x1, y1 = x0 + float(w) * 640, y0 + float(h) * 380
            ours = annotation["bbox"]
            corners = (ours[0], ours[1], ours[0] + ours[2], ours[1] + ours[3])
            np.testing.assert_allclose(corners, (max(x0, 0), max(y0, 0), min(x1, 640), min(y1, 380)), atol=1e-6)
            seen += 1
    assert {row["file_name"].removesuffix(".png") for row in truth.dataset["images"]} == set(chosen)
    assert seen > 20


def test_boxes_without_masks_are_written_as_boxes(tmp_path: Path) -> None:
    made = boxes_only(SAMPLES[1])
    write(CocoWriter(), [made], tmp_path)
    again = CocoReader(root=str(tmp_path)).read(made.id)
    assert again.labels.instances == made.labels.instances


def test_polygons_are_exact_holes_and_parts_included(tmp_path: Path) -> None:
    write(CocoWriter(masks="polygons"), SAMPLES[1:2], tmp_path)
    document = json.loads((tmp_path / "annotations" / "instances_train.json").read_text())
    assert [row["synthaug"]["polygon_iou"] for row in document["annotations"]] == [1.0] * 4
    assert [len(row["segmentation"]) for row in document["annotations"]] == [1, 2, 1, 1]


def test_outlines_rasterise_back_under_the_peers_rule() -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        mask = rng.random(tuple(rng.integers(3, 30, 2))) < rng.uniform(0.1, 0.9)
        if not mask.any():
            continue
        rings = outlines(mask)
        for polygons in (rings, [join(rings)]):
            shapes = peer.frPyObjects([ring.reshape(-1).astype(float).tolist() for ring in polygons], *mask.shape)
            assert mask_iou(peer.decode(peer.merge(shapes)).astype(bool), mask) == 1.0


def test_polygons_below_the_floor_reject_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthaug.formats.coco.writer.outlines", lambda mask: [np.array([[5, 4], [25, 4], [5, 20]])])
    with pytest.raises(Rejected, match="min_iou"):
        write(CocoWriter(masks="polygons"), SAMPLES[:1], tmp_path)


def test_an_untouched_jpeg_keeps_its_bytes_and_a_jpeg_is_checked(tmp_path: Path) -> None:
    picture_file(tmp_path / "in" / "images" / "a.jpg")
    json_file(
        tmp_path / "in" / "instances.json",
        {"images": [image(1, "a.jpg")], "annotations": [label(1, 1)], "categories": CATS},
    )
    made = CocoReader(root=str(tmp_path / "in")).read("a")
    write(CocoWriter(), [made], tmp_path / "out")
    assert (tmp_path / "out/images/a.jpg").read_bytes() == (tmp_path / "in/images/a.jpg").read_bytes()
    noise = SAMPLES[0]
    with pytest.raises(Rejected, match="dB") as caught:
        write(CocoWriter(image="jpeg", quality=10), [noise], tmp_path / "low")
    assert caught.value.reason == "encode"
    assert any(name.endswith(".jpg") for name in write(CocoWriter(image="jpeg"), [noise], tmp_path / "high"))


def test_stale_passes_are_left_out(tmp_path: Path) -> None:
    from dataclasses import replace

    names = write(CocoWriter(), [replace(SAMPLES[0], stale=frozenset({"normals"}))], tmp_path)
    assert not any(name.startswith("normals/") for name in names)
    assert any(name.startswith("depth/") for name in names)


def test_the_same_rows_give_the_same_bytes_however_they_were_sharded(tmp_path: Path) -> None:
    ordered = SAMPLES[::2] + SAMPLES[1::2]
    write(CocoWriter(), SAMPLES, tmp_path / "a", shards=2)
    write(CocoWriter(), ordered, tmp_path / "b", shards=1)
    name = "annotations/instances_train.json"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(
    "settings", [{"min_iou": 1.5}, {"quality": 0}, {"masks": "x"}, {"passes": ("deep",)}, {"min_psnr": -1.0}]
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        CocoWriter(**settings)


def test_constructors_open_nothing() -> None:
    CocoReader(root="/nowhere/at/all")
    with pytest.raises(InputError):
        CocoReader(root="/nowhere/at/all").ids()
    with pytest.raises(ConfigError, match="alpha"):
        CocoReader(root="x", alpha="blend")  # type: ignore[arg-type]
