"""What stands in labels and in no table reaches the trail, exactly, and adds up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug.errors import ConfigError, Rejected
from synthaug.formats import strays
from synthaug.formats.coco.reader import CocoReader
from synthaug.formats.folder.reader import FolderReader
from synthaug.formats.folder.writer import FolderWriter
from synthaug.formats.strays import SHOWN, Strays
from synthaug.formats.voc import VocReader
from synthaug.formats.webdataset import tar
from synthaug.formats.webdataset.reader import WebdatasetReader
from synthaug.formats.yolo.reader import YoloReader
from tests.formats.sets import json_file, picture_file, sample, write
from tests.formats.test_folder import array_file, colour_mask, one, semantic

XML = "<annotation>{}</annotation>"
OBJECT = "<object><name>{}</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"


def counted(values: dict[str, int], near: int = 0) -> dict[str, Any]:
    shown = strays.steps("Any", {"x": Strays(values, near)})
    return dict(strays.counts(shown)["x"])


tallies = st.dictionaries(st.text("abc0123456789", min_size=1, max_size=3), st.integers(1, 1000), max_size=40)


@given(st.lists(tallies, min_size=1, max_size=8))
def test_totals_are_exact_and_adding_up_in_parts_changes_no_sum(every: list[dict[str, int]]) -> None:
    rows = [{"x": counted(values)} for values in every]
    whole = strays.total(rows)["x"]
    parts = strays.total([strays.total(rows[:3]), strays.total(rows[3:])])["x"]
    for found in (whole, parts):
        assert found["count"] == sum(sum(values.values()) for values in every)
        assert found["count"] == sum(found["values"].values()) + found["other"]
        assert found["samples"] == sum(bool(values) for values in every)
        assert found["read"] == len(every)
        assert len(found["values"]) <= SHOWN
    truth = {word: sum(values.get(word, 0) for values in every) for values in every for word in values}
    assert all(count <= truth[word] for word, count in whole["values"].items())
    if all(len(values) <= SHOWN for values in every):
        assert all(count == truth[word] for word, count in whole["values"].items())


def test_lines_for_a_console() -> None:
    found = {"semantic": counted({"#ff0000": 7, "#00ff00": 9}), "labels": counted({"lynx\n": 2})}
    assert strays.lines(strays.total([found, found])) == [
        "4 labels of unknown classes in 2 of 2 samples: lynx\\n 4",
        "32 pixels of 'semantic' off its table in 2 of 2 samples: #00ff00 18, #ff0000 14",
    ]


@pytest.mark.parametrize(("rule", "stray"), [("ignore", 3), ("background", 3)])
def test_every_pixel_off_the_table_is_counted_beyond_the_shown_colours(tmp_path: Path, rule: str, stray: int) -> None:
    mask = colour_mask()
    mask[39, :60] = np.stack([np.arange(60) + 10, np.full(60, 99), np.full(60, 7)], axis=1)
    mask[38, :stray] = (10, 99, 7)
    step = one(tmp_path, mask, passes=semantic(unknown=rule)).read("a").trail[0]
    assert (step.slot, step.stage, step.attempt, step.draw) == ("read", "FolderReader", 0, {})
    found = step.facts["off_table"]["semantic"]
    assert (found["read"], found["samples"], found["count"], found["near"]) == (1, 1, 63, 0)
    assert next(iter(found["values"].items())) == ("#0a6307", 4)
    assert (len(found["values"]), found["other"]) == (SHOWN, 60 - SHOWN)


def test_ids_off_the_table_are_counted_and_ignored_ones_are_not(tmp_path: Path) -> None:
    raw = np.zeros((40, 60), np.uint8)
    raw[0], raw[1, :5], raw[2, :2] = 255, 77, 13
    array_file(tmp_path / "ids" / "a.png", raw)
    rule = {"path": "ids/{stem}.png", "classes": {0: "background", 1: "cat"}, "ignore": [255], "unknown": "ignore"}
    made = one(tmp_path, passes={"semantic": rule}).read("a")
    assert strays.counts(made.trail)["semantic"]["values"] == {"77": 5, "13": 2}
    assert int(made.labels.passes["ignore"].sum()) == 67


def test_a_mask_that_is_mostly_unknown_is_rejected_as_such(tmp_path: Path) -> None:
    mask = np.full((40, 60, 3), 90, np.uint8)
    mask[:20] = (255, 0, 0)
    assert (
        strays.counts(one(tmp_path, mask, passes=semantic(unknown="ignore")).read("a").trail)["semantic"]["count"]
        == 1200
    )
    mask[19, 0] = 90
    with pytest.raises(Rejected, match=r"1201 pixels[\s\S]*#5a5a5a[\s\S]*50%[\s\S]*max_unknown=0.5") as caught:
        one(tmp_path, mask, passes=semantic(unknown="ignore")).read("a")
    assert caught.value.reason == "unknown_classes"
    assert one(tmp_path, mask, passes=semantic(unknown="background", max_unknown=1)).read("a").id == "a"
    with pytest.raises(ConfigError, match="max_unknown"):
        one(tmp_path, passes=semantic(max_unknown=1.5))


def test_a_table_that_rejects_counts_nothing(tmp_path: Path) -> None:
    assert one(tmp_path).read("a").trail == ()


def test_what_an_earlier_run_met_is_kept_and_not_met_again(tmp_path: Path) -> None:
    mask = colour_mask()
    mask[0, :2] = 128
    first = one(tmp_path / "in", mask, passes=semantic(unknown="ignore")).read("a")
    write(FolderWriter(), [first], tmp_path / "a")
    second = FolderReader(root=str(tmp_path / "a")).read("a")
    assert strays.counts(second.trail) == {}
    assert second.trail == (replace(first.trail[0], slot="earlier.read"),)
    write(FolderWriter(), [second], tmp_path / "b")
    assert FolderReader(root=str(tmp_path / "b")).read("a").trail == second.trail
    write(FolderWriter(), [sample("s")], tmp_path / "c")
    assert FolderReader(root=str(tmp_path / "c")).read("s").trail == sample("s").trail


LOST = {"read": 1, "samples": 1, "count": 3, "near": 0, "values": {"lynx": 2, "owl": 1}, "other": 0}


def test_labels_of_unknown_classes_are_counted_with_their_sample(tmp_path: Path) -> None:
    words = ["cat", "lynx", "owl", "lynx"]
    picture_file(tmp_path / "images" / "a.png")
    (tmp_path / "names.txt").write_text("cat\n")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "a.xml").write_text(XML.format("".join(map(OBJECT.format, words))))
    voc = VocReader(root=str(tmp_path), unknown="ignore")
    assert strays.counts(voc.read("a").trail) == {"labels": LOST}
    assert voc.notes()["labels of unknown categories"] == 3
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("".join(f"{k} 0.5 0.5 0.2 0.2\n" for k in (0, 7, 9, 7)))
    yolo = YoloReader(root=str(tmp_path), unknown="ignore")
    assert strays.counts(yolo.read("a").trail) == {"labels": LOST | {"values": {"7": 2, "9": 1}}}
    assert yolo.notes()["labels of unknown categories"] == 3
    rows = [{"id": k, "image_id": 1, "category_id": c, "bbox": [1, 1, 5, 5]} for k, c in enumerate((1, 7, 9, 7))]
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": rows,
        "categories": [{"id": 1, "name": "cat"}],
    }
    json_file(tmp_path / "instances.json", content)
    coco = CocoReader(root=str(tmp_path), labels="instances.json", unknown="ignore")
    assert strays.counts(coco.read("a").trail) == {"labels": LOST | {"values": {"7": 2, "9": 1}}}
    found = {"bbox": [[1, 1, 5, 5]] * 4, "names": words}
    picture = (tmp_path / "images" / "a.png").read_bytes()
    (tmp_path / "tar").mkdir()
    (tmp_path / "tar" / "names.txt").write_text("cat\n")
    json_file(tmp_path / "row.json", {"objects": found})
    members = [("a.json", (tmp_path / "row.json").read_bytes()), ("a.png", picture)]
    (tmp_path / "tar" / "train-000.tar").write_bytes(tar.write(members))
    foreign = WebdatasetReader(root=str(tmp_path / "tar"), names="names.txt", unknown="ignore")
    assert strays.counts(foreign.read("a").trail) == {"labels": LOST}
    assert CocoReader(root=str(tmp_path), labels="instances.json", classes={7: "cat", 9: "cat"}).read("a").trail == ()
