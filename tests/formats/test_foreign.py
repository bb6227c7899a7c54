"""Labels of foreign Parquet and tar: whose names they have, what four numbers are, and what is no label at all."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from synthaug.errors import ConfigError, InputError, Rejected
from synthaug.formats.huggingface.reader import HuggingfaceReader, class_names
from synthaug.formats.webdataset import tar
from synthaug.formats.webdataset.reader import WebdatasetReader

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
BOX = datasets.List(datasets.Value("float32"))
INT = datasets.Value("int64")


def parquet(root: Path, objects: Any, values: list[Any], name: str = "train-0", **more: Any) -> HuggingfaceReader:
    """A file as `datasets` writes it; `objects` None leaves the column out, `more` are (feature, value) by column."""
    root.mkdir(exist_ok=True)
    features = {"image": datasets.Image(), **{key: feature for key, (feature, _) in more.items()}}
    rows: list[dict[str, Any]] = [{"image": PICTURE, **{key: value for key, (_, value) in more.items()}}] * len(values)
    if objects is not None:
        features["objects"] = objects
        rows = [{**row, "objects": value} for row, value in zip(rows, values, strict=True)]
    made = datasets.Dataset.from_list(rows, features=datasets.Features(features))
    made.to_parquet(str(root / f"{name}.parquet"))
    return HuggingfaceReader(root=str(root))


def names_of(reader: HuggingfaceReader | WebdatasetReader) -> list[list[str]]:
    """Class names of the instances of every sample."""
    table = [category.name for category in reader.categories()]
    return [[table[i.class_id - 1] for i in reader.read(name).labels.instances] for name in reader.ids()]


def kinds(label: Any, wrapped: bool = True) -> Any:
    inner = {"bbox": BOX, "category": label}
    return datasets.Sequence(inner) if wrapped else {key: datasets.List(value) for key, value in inner.items()}


def one(label: Any) -> dict[str, Any]:
    return {"bbox": [[5, 6, 30, 20]], "category": [label]}


# Names of class numbers


@pytest.mark.parametrize("spelling", ["sequence", "list of structs", "struct of lists"])
def test_names_are_those_of_the_column_that_is_read(tmp_path: Path, spelling: str) -> None:
    told = {
        "bbox": BOX,
        "occlusion": datasets.ClassLabel(names=["none", "some", "all"]),
        "category": datasets.ClassLabel(names=["cat", "dog", "cow"]),
    }
    columns = {"bbox": [[5, 6, 30, 20], [40, 10, 20, 20]], "occlusion": [0, 0], "category": [2, 1]}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    made = {
        "sequence": (datasets.Sequence(told), columns),
        "list of structs": ([told], rows),
        "struct of lists": ({key: datasets.List(value) for key, value in told.items()}, columns),
    }
    reader = parquet(tmp_path, made[spelling][0], [made[spelling][1]])
    assert [c.name for c in reader.categories()] == ["cat", "dog", "cow"]
    assert names_of(reader) == [["cow", "dog"]]
    assert reader.describe(reader.ids()[0]).classes == (2, 3)


def test_names_of_another_column_name_nothing(tmp_path: Path) -> None:
    told = {"bbox": BOX, "occlusion": datasets.ClassLabel(names=["none", "some"]), "category": INT}
    reader = parquet(tmp_path, [told], [[{"bbox": [5, 6, 30, 20], "occlusion": 0, "category": 1}]])
    assert names_of(reader) == [["1"]]
    assert class_names({"feature": {"label": {"names": None, "_type": "ClassLabel"}}, "_type": "List"}) == {}


def test_files_that_number_their_classes_differently_are_joined_by_name(tmp_path: Path) -> None:
    for name, names in (("train-0", ["cat", "dog"]), ("train-1", ["dog", "cat"]), ("train-2", ["cow", "dog"])):
        reader = parquet(tmp_path, kinds(datasets.ClassLabel(names=names)), [one(0), one(1)], name)
    assert [c.name for c in reader.categories()] == ["cat", "dog", "cow"]
    assert names_of(reader) == [["cat"], ["dog"], ["dog"], ["cat"], ["cow"], ["dog"]]
    assert reader.describe(reader.ids()[4]).classes == (3,)
    renamed = HuggingfaceReader(root=str(tmp_path), classes={"dog": "pet", "cat": "pet"})
    assert names_of(renamed) == [["pet"], ["pet"], ["pet"], ["pet"], ["cow"], ["pet"]]


def test_numbers_without_names_beside_numbers_with_names_are_refused(tmp_path: Path) -> None:
    parquet(tmp_path, kinds(datasets.ClassLabel(names=["cat", "dog"])), [one(1)])
    reader = parquet(tmp_path, kinds(INT), [one(1), one(0)], "train-1")
    with pytest.raises(
        InputError, match=r"train-1\.parquet: no class names\): 2 labels of 2 classes.*none of cat, dog"
    ):
        reader.categories()
    told = HuggingfaceReader(root=str(tmp_path), classes={0: "cat", 1: "dog"})
    assert names_of(told) == [["dog"], ["dog"], ["cat"]]
    (tmp_path / "names.txt").write_text("cow\ndog\ncat\n")
    fixed = HuggingfaceReader(root=str(tmp_path), names="names.txt")
    assert [c.name for c in fixed.categories()] == ["cow", "dog", "cat"]
    assert names_of(fixed) == [["dog"], ["dog"], ["cow"]]
    ignoring = HuggingfaceReader(root=str(tmp_path), unknown="ignore")
    assert names_of(ignoring) == [["dog"], [], []]
    assert ignoring.notes()["labels of unknown categories"] == 2


def test_bare_number_is_not_taken_for_a_class_that_is_called_so(tmp_path: Path) -> None:
    named = parquet(tmp_path, kinds(datasets.ClassLabel(names=["1", "0"])), [one(0), one(1)])
    assert names_of(named) == [["1"], ["0"]]
    reader = parquet(tmp_path, kinds(INT), [one(1)], "train-1")
    with pytest.raises(InputError, match=r"numbers without a name, and classes of the dataset are called 1;"):
        reader.categories()


def test_number_without_a_name_of_its_own_is_unknown_and_text_is_a_name(tmp_path: Path) -> None:
    reader = parquet(tmp_path / "none", kinds(datasets.ClassLabel(names=["cat", "dog"])), [one(-1), one(1)])
    with pytest.raises(InputError, match="-1: 1 labels"):
        reader.categories()
    parquet(tmp_path / "text", kinds(datasets.ClassLabel(names=["cat", "dog"])), [one(1)])
    mixed = parquet(tmp_path / "text", kinds(datasets.Value("string")), [one("dog"), one("cow")], "train-1")
    assert [c.name for c in mixed.categories()] == ["cat", "dog", "cow"]
    assert names_of(mixed) == [["dog"], ["dog"], ["cow"]]


# Nothing that is understood


def test_parquet_without_labels_that_are_understood_is_refused_by_its_columns(tmp_path: Path) -> None:
    mask = (datasets.Image(), Image.fromarray(np.ones((40, 60), np.uint8)))
    reader = parquet(tmp_path / "mask", None, [0, 0], label=mask)
    with pytest.raises(InputError, match=r"labels for 0 of 2 images[\s\S]*no column 'objects'[\s\S]*label \(Image\)"):
        reader.ids()
    sorted_by_class = (datasets.ClassLabel(names=["a", "b"]), 1)
    reader = parquet(tmp_path / "class", None, [0], label=sorted_by_class)
    with pytest.raises(InputError, match=r"label \(ClassLabel\)[\s\S]*read\.objects=NAME[\s\S]*read\.unlabelled=true"):
        reader.ids()
    bare = HuggingfaceReader(root=str(tmp_path / "class"), unlabelled=True)
    assert names_of(bare) == [[]]
    assert bare.categories() == ()
    assert bare.notes()["images without labels"] == 1
    empty = parquet(tmp_path / "empty", kinds(INT), [{"bbox": [], "category": []}])
    with pytest.raises(InputError, match="the objects hold bbox, category"):
        empty.ids()


@pytest.mark.parametrize("spelling", ["struct of lists", "list of structs"])
@pytest.mark.parametrize("names", [("rect", "type"), ("bbox", "type"), ("rect", "category")])
def test_objects_in_a_foreign_spelling_are_refused_by_their_columns(
    tmp_path: Path, spelling: str, names: tuple[str, str]
) -> None:
    box, label = names
    if spelling == "list of structs":
        reader = parquet(tmp_path, [{box: BOX, label: INT}], [[{box: [5, 6, 30, 20], label: 1}]])
    else:
        lists = {box: datasets.List(BOX), label: datasets.List(INT)}
        reader = parquet(tmp_path, lists, [{box: [[5, 6, 30, 20]], label: [1]}])
    with pytest.raises(InputError, match=rf"labels for 0 of 1 images[\s\S]*the objects hold {box}, {label}; underst"):
        reader.ids()
    bare = HuggingfaceReader(root=str(tmp_path), unlabelled=True)
    assert [len(bare.read(name).labels.instances) for name in bare.ids()] == [0]


def test_objects_under_another_name(tmp_path: Path) -> None:
    parquet(tmp_path, None, [0], faces=(kinds(datasets.ClassLabel(names=["cat", "dog"])), one(1)))
    assert names_of(HuggingfaceReader(root=str(tmp_path), objects="faces")) == [["dog"]]
    with pytest.raises(InputError, match=r"no column 'face'\. Did you mean 'faces'"):
        HuggingfaceReader(root=str(tmp_path), objects="face").ids()


def test_single_objects_that_are_not_understood_cost_their_sample(tmp_path: Path) -> None:
    told = [{"bbox": [[1, 2, 3, 4]], "category": ["cat"]}, {"bbox": [[1, 2, 3, 4]]}, {"rect": [[1, 2, 3, 4]]}, {}]
    reader = shard(tmp_path, *({"objects": objects} for objects in told))
    assert reader.ids() == ("0", "1", "2", "3")
    assert len(reader.read("0").labels.instances) == 1
    with pytest.raises(Rejected, match="object 1 has no class, its columns are bbox; understood: boxes in bbox"):
        reader.read("1")
    with pytest.raises(Rejected, match="objects have the columns rect; understood are boxes in bbox"):
        reader.read("2")
    assert reader.read("3").labels.instances == ()
    assert reader.notes()["images without labels"] == 2


def shard(root: Path, *documents: Any, **more: bytes) -> WebdatasetReader:
    """A tar with a picture and a json for each document; `more` are members of every sample by suffix."""
    buffer = io.BytesIO()
    PICTURE.save(buffer, "PNG")
    members: list[tuple[str, bytes]] = []
    for number, document in enumerate(documents):
        members.append((f"{number}.png", buffer.getvalue()))
        members += [(f"{number}.{suffix}", data) for suffix, data in more.items()]
        if document is not None:
            members.append((f"{number}.json", json.dumps(document).encode()))
    (root / "train-0.tar").write_bytes(tar.write(members))
    return WebdatasetReader(root=str(root))


def test_tar_without_labels_that_are_understood_is_refused_by_its_members(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"0 of 2 images[\s\S]*no member \.json, members are \.png \(2\), \.cls \(2\)"):
        shard(tmp_path, None, None, cls=b"1").ids()
    reader = shard(tmp_path, {"caption": "a dog", "labels": ["dog"]})
    with pytest.raises(InputError, match=r"no \.json has objects under 'objects', its keys are caption, labels; memb"):
        reader.ids()
    assert WebdatasetReader(root=str(tmp_path), unlabelled=True).ids() == ("0",)
    with pytest.raises(InputError, match=r"1 rows are broken:\n  - 0: .*expected lists by name"):
        shard(tmp_path, {"objects": "none"}).ids()


def test_tar_with_boxes_at_the_top_of_its_json(tmp_path: Path) -> None:
    document = {"bbox": [[1, 2, 30, 20]], "labels": ["cat"], "caption": "a cat", "id": 7}
    assert names_of(shard(tmp_path, document)) == [["cat"]]
    under = shard(tmp_path, {"truth": {"bbox": [[1, 2, 30, 20]], "labels": ["cat"]}})
    with pytest.raises(InputError, match="its keys are truth"):
        under.ids()
    assert names_of(WebdatasetReader(root=str(tmp_path), objects="truth")) == [["cat"]]


# Four numbers


def test_boxes_whose_column_does_not_say_what_they_are_have_to_be_told(tmp_path: Path) -> None:
    reader = shard(tmp_path, {"boxes": [[1, 2, 13, 14]], "labels": ["cat"]})
    for look in (reader.categories, lambda: reader.read("0"), lambda: reader.describe("0")):
        with pytest.raises(InputError, match=r"1 boxes stand in 'boxes'[\s\S]*read\.boxes=xyxy or read\.boxes=xywh"):
            look()
    for boxes, wanted in (("xyxy", (1.0, 2.0, 13.0, 14.0)), ("xywh", (1.0, 2.0, 14.0, 16.0))):
        told = WebdatasetReader(root=str(tmp_path), boxes=boxes)  # type: ignore[arg-type]
        assert told.read("0").labels.instances[0].box == wanted


def test_notes_say_which_boxes_were_assumed_and_how_many_could_be_the_other(tmp_path: Path) -> None:
    told = {"bbox": [[5, 6, 30, 20], [40, 10, 20, 20], [1, 1, 20, 1]], "category": [0, 0, 1]}
    reader = parquet(tmp_path, kinds(INT), [told, {"bbox": [], "category": []}])
    doubt = "boxes read as xywh that would do as xyxy too (read.boxes says which)"
    assert reader.notes() == {
        "images": 2, "images without labels": 1, "labels of unknown categories": 0, "boxes read as xywh": 3, doubt: 1,
    }  # fmt: skip
    for boxes in ("xywh", "xyxy"):
        notes = HuggingfaceReader(root=str(tmp_path), boxes=boxes).notes()
        assert notes[f"boxes read as {boxes}"] == 3
        assert doubt not in notes
    with pytest.raises(ConfigError, match="boxes='cxcywh'"):
        HuggingfaceReader(root=str(tmp_path), boxes="cxcywh")  # type: ignore[arg-type]
