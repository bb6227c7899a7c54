"""Parquet for `datasets`: exact round trips, the peer library as oracle, foreign files by habit."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools import mask as peer

from synthaug import rle
from synthaug.contracts import DatasetInfo
from synthaug.engine.build import build
from synthaug.errors import ConfigError, InputError, Rejected, SecurityError
from synthaug.formats.huggingface.features import columns
from synthaug.formats.huggingface.reader import HuggingfaceReader
from synthaug.formats.huggingface.writer import HuggingfaceWriter
from synthaug.labels import PASSES, Labels
from synthaug.sample import Picture, Sample, escape_id
from tests.formats.sets import CATEGORIES, boxes_only, equal_labels, sample, write


def written(root: Path, samples: list[Sample], shards: int = 2, **settings: Any) -> HuggingfaceReader:
    write(HuggingfaceWriter(**settings), samples, root, shards, seed=7, recipe="try")
    return HuggingfaceReader(root=str(root))


def equal(a: Sample, b: Sample) -> None:
    equal_labels(a.labels, b.labels)
    np.testing.assert_array_equal(a.image.pixels, b.image.pixels)
    for name in ("id", "group", "view", "frame", "split", "trail"):
        assert getattr(a, name) == getattr(b, name)


def every_pass(made: Sample) -> Sample:
    """The sample with every label pass that there is, values that are hard to store included."""
    rng = np.random.default_rng(5)
    passes = dict(made.labels.passes)
    for name, spec in PASSES.items():
        if name not in passes:
            shape = (*made.labels.size, spec.channels) if spec.channels else made.labels.size
            passes[name] = rng.normal(size=shape).astype(np.float32)
            passes[name][2, 3] = np.nan
            passes[name][0, 0] = 0.0
    passes["depth"] = passes["depth"].copy()
    passes["depth"][5, 5] = 1e-30
    passes["semantic"] = np.where(passes["semantic"] == 2, 3, passes["semantic"]).astype(np.int32)
    return replace(made, labels=replace(made.labels, passes=passes))


def load(root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, *args: Any, **more: Any) -> Any:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    datasets.disable_progress_bars()
    return datasets.load_dataset(*(args or (str(root),)), cache_dir=str(cache), **more)


# Round trips


def test_everything_a_sample_is_comes_back(tmp_path: Path) -> None:
    samples = [every_pass(sample(f"scene/{k}", k, split="val" if k == 4 else "train")) for k in range(5)]
    reader = written(tmp_path, samples, row_group=2)
    assert sorted(reader.ids()) == sorted(s.id for s in samples)
    assert reader.categories() == CATEGORIES
    for made in samples:
        equal(made, reader.read(made.id))
        told = reader.describe(made.id)
        assert (told.size, set(told.passes), told.group, told.view, told.frame) == (
            made.labels.size, set(PASSES), "scene/1", "left", 3,
        )  # fmt: skip
        assert told.files == (
            f"data/{made.split}-{'000001' if made.id in ('scene/1', 'scene/3') else '000000'}.parquet",
        )
        assert told.classes == (1, 2, 3)
        assert told.split == made.split
        assert len(reader.digest(told.files[0])) == 64
        assert reader.stamp(told.files[0])[0] == (tmp_path / told.files[0]).stat().st_size


def test_reference_is_kept_on_request(tmp_path: Path) -> None:
    made = sample("a")
    other = Picture(255 - made.image.pixels)
    reader = written(tmp_path / "with", [replace(made, reference=other), sample("b", 1)], reference=True)
    np.testing.assert_array_equal(reader.read("a").reference.pixels, other.pixels)
    np.testing.assert_array_equal(reader.read("b").reference.pixels, sample("b", 1).image.pixels)
    plain = written(tmp_path / "without", [replace(made, reference=other)])
    np.testing.assert_array_equal(plain.read("a").reference.pixels, made.image.pixels)


def test_stale_pass_is_left_out_and_masks_survive_without_the_instance_pass(tmp_path: Path) -> None:
    made = every_pass(sample("a"))
    stale = written(tmp_path / "stale", [replace(made, stale=frozenset({"albedo"}))])
    assert set(stale.read("a").labels.passes) == set(PASSES) - {"albedo"}
    depth = written(tmp_path / "depth", [made], passes=["depth"])
    found = depth.read("a").labels
    assert set(found.passes) == {"depth"}
    for before, after in zip(made.labels.instances, found.instances, strict=True):
        np.testing.assert_array_equal(made.labels.mask(before), found.mask(after))


def test_no_instances_no_passes(tmp_path: Path) -> None:
    empty = sample("empty")
    bare = replace(empty, labels=Labels(empty.labels.size, CATEGORIES), trail=())
    reader = written(tmp_path, [bare, boxes_only(sample("boxes", 3))], shards=1)
    equal(bare, reader.read("empty"))
    assert reader.describe("empty").classes == ()
    assert [i.box for i in reader.read("boxes").labels.instances] == [i.box for i in sample("boxes").labels.instances]


def test_pass_that_only_some_samples_have_is_left_out_and_counted_on_the_card(tmp_path: Path) -> None:
    full, less = sample("a"), sample("b", 1)
    few = replace(less, labels=replace(less.labels, passes={"instance": less.labels.passes["instance"]}))
    writer = HuggingfaceWriter()
    writer.open(DatasetInfo(CATEGORIES, ("train",), ("instance",), {}))
    for made in (full, few):
        writer.add(writer.encode(made))
    fragment = writer.close_shard("000000")
    (tmp_path / "data").mkdir()
    (tmp_path / fragment.files[0].name).write_bytes(fragment.files[0].data)
    assert set(HuggingfaceReader(root=str(tmp_path)).read("a").labels.passes) == {"instance"}
    card = writer.finalise([fragment])[0].data.decode()
    assert "left out: depth (1 samples), ignore (1 samples), normals (1 samples), semantic (1 samples)" in card


def test_the_card_says_how_each_column_counts_the_classes_and_the_files_do_so(tmp_path: Path) -> None:
    made = sample("a")
    write(HuggingfaceWriter(), [made], tmp_path)
    card = (tmp_path / "README.md").read_text("utf-8")
    assert "| class | `objects.categories` | pixels of `semantic` |" in card
    assert "| background | | 0 |" in card
    row = pq.read_table(next((tmp_path / "data").glob("*.parquet"))).to_pylist()[0]
    semantic = np.asarray(Image.open(io.BytesIO(row["semantic"]["bytes"])))
    for category, instance in zip(row["objects"]["categories"], made.labels.instances, strict=True):
        assert f"| {CATEGORIES[category].name} | {category} | {category + 1} |" in card
        if instance.id in (1, 2):  # those that the semantic pass shows
            assert set(semantic[made.labels.passes["instance"] == instance.id].tolist()) == {category + 1}


def test_pass_that_one_sample_lacks_is_null_in_its_row(tmp_path: Path) -> None:
    full, less = every_pass(sample("a")), boxes_only(sample("b", 1))
    writer = HuggingfaceWriter()
    writer.open(DatasetInfo(CATEGORIES, ("train",), tuple(PASSES), {}))
    for made in (full, less):
        writer.add(writer.encode(made))
    file = writer.close_shard("000000").files[0]
    (tmp_path / "x.parquet").write_bytes(file.data)
    row = pq.read_table(tmp_path / "x.parquet").slice(1).to_pylist()[0]
    assert all(row[name] is None for name in PASSES)
    reader = HuggingfaceReader(root=str(tmp_path))
    equal(full, reader.read("a"))
    equal(less, reader.read("b"))


def test_untouched_jpeg_keeps_its_bytes(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(sample("a").image.pixels).save(buffer, "JPEG", quality=90)
    pixels = np.asarray(Image.open(io.BytesIO(buffer.getvalue())).convert("RGB"))
    picture = Picture(pixels, source=buffer.getvalue())
    reader = written(tmp_path, [replace(sample("a"), image=picture, reference=picture)])
    table = pq.read_table(tmp_path / "data" / "train-000000.parquet")
    assert table["image"][0].as_py() == {"bytes": buffer.getvalue(), "path": "a.jpg"}
    np.testing.assert_array_equal(reader.read("a").image.pixels, pixels)


def test_linear_picture_is_rejected(tmp_path: Path) -> None:
    made = sample("a")
    picture = Picture(made.image.pixels.astype(np.float32), "linear")
    writer = HuggingfaceWriter()
    writer.open(DatasetInfo(CATEGORIES, ("train",), (), {}))
    assert not getattr(writer, "holds_linear", False)
    with pytest.raises(Rejected, match="8 bits"):
        writer.encode(replace(made, image=picture, reference=picture))


def test_bytes_are_the_same_every_time_and_order_is_the_plans(tmp_path: Path) -> None:
    samples = [sample(f"s{k}", k) for k in (3, 1, 2)]
    for name in ("one", "two"):
        written(tmp_path / name, samples, shards=1)
    for path in sorted((tmp_path / "one").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
    assert HuggingfaceReader(root=str(tmp_path / "one")).ids() == ("s3", "s1", "s2")


def test_f5_dots_braces_percent_in_names(tmp_path: Path) -> None:
    ids = [escape_id(name) for name in ("a.b/c.d", "x{1..3}", "50%", "-rf", "__meta__/x", "näme *?[1]")]
    samples = [sample(name, k, split="a.b/{0..9}*" if k else "train") for k, name in enumerate(ids)]
    reader = written(tmp_path, samples)
    assert sorted(reader.ids()) == sorted(ids)
    for made in samples:
        equal(made, reader.read(made.id))
    assert all(
        set(path.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789ABCDEF~-_.") for path in tmp_path.glob("data/*")
    )


def test_the_writer_names_its_reader(tmp_path: Path) -> None:
    made = sample("a")
    written(tmp_path, [made])
    reader = build({**(HuggingfaceWriter().reader() or {}), "root": str(tmp_path)}, "read")
    equal(made, reader.read("a"))


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="row_group=0"):
        HuggingfaceWriter(row_group=0)
    with pytest.raises(ConfigError, match="boxes='yxyx'"):
        HuggingfaceReader(root="x", boxes="yxyx")  # type: ignore[arg-type]


# The peer library


def test_datasets_loads_the_folder_by_its_card_and_every_value_is_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [every_pass(sample(f"scene/{k}", k, split="val" if k == 2 else "train")) for k in range(3)]
    written(tmp_path / "set", samples, license="cc-by-4.0")
    loaded = load(tmp_path / "set", tmp_path / "cache", monkeypatch)
    assert {name: part.num_rows for name, part in loaded.items()} == {"train": 2, "val": 1}
    rows = {row["id"]: row for part in loaded.values() for row in part}
    for made in samples:
        row, labels = rows[made.id], made.labels
        np.testing.assert_array_equal(np.array(row["image"]), made.image.pixels)
        for name in ("instance", "semantic", "depth", "alpha"):
            np.testing.assert_array_equal(np.array(row[name]), labels.passes[name])
        assert np.array(row["depth"]).dtype == np.float32
        np.testing.assert_array_equal(np.array(row["ignore"]) > 0, labels.passes["ignore"])
        for name in ("normals", "position", "uv", "flow", "albedo"):
            np.testing.assert_array_equal(np.load(io.BytesIO(row[name])), labels.passes[name])
        objects = row["objects"]
        assert objects["ids"] == [1, 2, 3, 9]
        assert objects["iscrowd"] == [0, 0, 0, 1]
        assert objects["keypoints"][1] == [41.25, 31.5, 2.0, 0.0, 0.0, 0.0, 48.0, 39.0, 1.0]
        for instance, bbox, area, counts in zip(
            labels.instances, objects["bbox"], objects["area"], objects["masks"], strict=True
        ):
            mask = labels.mask(instance)
            assert mask is not None
            size = [row["height"], row["width"]]
            np.testing.assert_array_equal(peer.decode({"size": size, "counts": counts}).astype(bool), mask)
            assert area == mask.sum()
            x, y, width, height = bbox
            assert (x, y, x + width, y + height) == instance.box


def test_features_are_those_that_datasets_itself_would_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, [sample("a")], reference=True)
    import datasets

    wanted = columns(tuple(sample("a").labels.passes), [c.name for c in CATEGORIES], reference=True)
    schema = pq.read_schema(tmp_path / "data" / "train-000000.parquet")
    features = datasets.Features.from_arrow_schema(schema)
    assert features.arrow_schema.remove_metadata() == schema.remove_metadata()
    assert features._to_yaml_list() == wanted.yaml()
    told = json.loads(schema.metadata[b"huggingface"])
    assert told == json.loads(features.arrow_schema.metadata[b"huggingface"])
    assert features["objects"]["categories"].feature.int2str(2) == "tür Ω"
    assert isinstance(features["objects"]["bbox"], datasets.List)


def test_datasets_loads_a_single_file_without_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = sample("a")
    written(tmp_path / "set", [made], shards=1)
    file = str(tmp_path / "set" / "data" / "train-000000.parquet")
    row = load(tmp_path, tmp_path / "cache", monkeypatch, "parquet", data_files=file, split="train")[0]
    np.testing.assert_array_equal(np.array(row["instance"]), made.labels.passes["instance"])


def test_splits_of_like_names_are_kept_apart_by_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = ("train", "train-x", "train-000000")
    written(tmp_path / "set", [sample(f"s{k}", k, split=split) for k, split in enumerate(splits)], shards=1)
    loaded = load(tmp_path / "set", tmp_path / "cache", monkeypatch)
    assert {name: part["id"][:] for name, part in loaded.items()} == {
        "train": ["s0"], "train_x": ["s1"], "train_000000": ["s2"],
    }  # fmt: skip


def test_card_tells_seed_recipe_counts_and_escapes_what_came_from_outside(tmp_path: Path) -> None:
    import yaml

    made = sample("a")
    names = ("a|b", "<script>", "c\nd")
    categories = tuple(replace(c, name=name) for c, name in zip(CATEGORIES, names, strict=True))
    written(tmp_path, [replace(made, labels=replace(made.labels, categories=categories))], license="mit", title="Dice")
    text = (tmp_path / "README.md").read_text("utf-8")
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "mit"
    assert front["size_categories"] == ["n<1K"]
    assert set(front["task_categories"]) == {
        "object-detection", "image-segmentation", "keypoint-detection", "depth-estimation",
    }  # fmt: skip
    objects = next(f for f in front["dataset_info"]["features"] if f["name"] == "objects")["struct"]
    assert list(objects[1]["list"]["class_label"]["names"].values()) == list(names)
    assert "# Dice" in text
    assert "- seed: 7" in text
    assert "- recipe: try" in text
    assert "| a\\|b | 0 | 1 | 2 |" in text
    assert "<script>" not in text.split("---\n")[2]
    assert "| c\\\\nd | 2 | 3 | 1 |" in text


# Foreign files


def png(seed: int, size: tuple[int, int] = (40, 60)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def foreign(root: Path, objects: list[Any], name: str = "train-00000-of-00001", **more: list[Any]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": png(k), "path": f"{k}.png"} for k in range(len(objects))]
    pq.write_table(pa.table({"image": images, "objects": objects, **more}), root / f"{name}.parquet")
    return root


def test_foreign_rows_bring_boxes_by_habit(tmp_path: Path) -> None:
    objects = [{"bbox": [[5.0, 6.0, 10.0, 8.0]], "category": [3]}, {"bbox": [], "category": []}]
    reader = HuggingfaceReader(root=str(foreign(tmp_path, objects)))
    first, second = reader.ids()
    assert first == escape_id("train-00000-of-00001/000000")
    assert [c.name for c in reader.categories()] == ["3"]
    assert reader.read(first).labels.instances[0].box == (5.0, 6.0, 15.0, 14.0)
    assert reader.read(second).labels.instances == ()
    assert reader.describe(first).size == (40, 60)
    assert reader.describe(first).classes == (1,)
    corners = HuggingfaceReader(root=str(tmp_path), boxes="xyxy")
    assert corners.read(first).labels.instances[0].box == (5.0, 6.0, 10.0, 8.0)


def test_foreign_class_labels_list_of_structs_and_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    features = datasets.Features(
        {
            "image": datasets.Image(),
            "name": datasets.Value("string"),
            "objects": [
                {"bbox": datasets.List(datasets.Value("float32")), "label": datasets.ClassLabel(names=["cat", "dog"])}
            ],
        }
    )
    rows = [{"image": Image.open(io.BytesIO(png(k))), "name": f"x.{k}", "objects": o} for k, o in enumerate(
        [[{"bbox": [1, 2, 3, 4], "label": 1}], [{"bbox": [1, 2, 3, 4], "label": 0}, {"bbox": [0, 0, 9, 9], "label": 1}]]
    )]  # fmt: skip
    datasets.Dataset.from_list(rows, features=features).to_parquet(str(tmp_path / "valid-00000-of-00001.parquet"))
    reader = HuggingfaceReader(root=str(tmp_path), id_column="name")
    assert reader.ids() == ("x~2E0", "x~2E1")
    assert [c.name for c in reader.categories()] == ["cat", "dog"]
    assert [i.class_id for i in reader.read("x~2E1").labels.instances] == [1, 2]
    assert reader.read("x~2E0").split == "val"
    assert HuggingfaceReader(root=str(tmp_path), split="val", id_column="name").ids() == reader.ids()
    with pytest.raises(InputError, match="for split 'test'"):
        HuggingfaceReader(root=str(tmp_path), split="test").ids()


def test_foreign_masks_win_over_boxes(tmp_path: Path) -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:20, 5:25] = True
    counts = rle.encode(mask).counts.decode()
    objects = [{"bbox": [[0.0, 0.0, 60.0, 40.0]], "categories": ["cat"], "masks": [counts]}]
    reader = HuggingfaceReader(root=str(foreign(tmp_path, objects)))
    instance = reader.read(reader.ids()[0]).labels.instances[0]
    assert instance.box == (5.0, 10.0, 25.0, 20.0)
    assert instance.mask is not None
    np.testing.assert_array_equal(rle.decode(instance.mask), mask)


def test_e1_foreign_classes_beyond_the_names_file(tmp_path: Path) -> None:
    objects = [{"bbox": [[5.0, 6.0, 10.0, 8.0]] * 2, "category": [0, 2]}]
    foreign(tmp_path, objects)
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    with pytest.raises(InputError, match="2: 1 labels"):
        HuggingfaceReader(root=str(tmp_path), names="names.txt").categories()
    reader = HuggingfaceReader(root=str(tmp_path), names="names.txt", unknown="ignore")
    assert [i.class_id for i in reader.read(reader.ids()[0]).labels.instances] == [1]
    assert reader.notes()["labels of unknown categories"] == 1
    mapped = HuggingfaceReader(root=str(tmp_path), classes={0: "cat", 2: "cat"})
    assert [c.name for c in mapped.categories()] == ["cat"]


def test_e2_ids_that_occur_twice_are_refused(tmp_path: Path) -> None:
    foreign(tmp_path, [None, None], key=["a", "a"])
    with pytest.raises(InputError, match="1 samples have the id of another one"):
        HuggingfaceReader(root=str(tmp_path), id_column="key").ids()
    with pytest.raises(InputError, match=r"no column 'kye'.*Did you mean 'key'"):
        HuggingfaceReader(root=str(tmp_path), id_column="kye").ids()


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        ({"bbox": [[1.0, 2.0, 3.0, 4.0]], "category": [1, 2]}, "different lengths"),
        ({"bbox": [[1.0, 2.0, 3.0]], "category": [1]}, "four numbers"),
        ({"bbox": [[1.0, 2.0, -3.0, 4.0]], "category": [1]}, "empty or has swapped corners"),
        ({"bbox": [[1.0, 2.0, float("nan"), 4.0]], "category": [1]}, "four numbers"),
        ({"bbox": [[50.0, 30.0, 30.0, 5.0]], "category": [1]}, "leaves the 60x40 canvas"),
        ({"bbox": [[1.0, 2.0, 3.0, 4.0]], "category": [1], "masks": ["#!"]}, "RLE|character"),
    ],
)
def test_broken_objects_are_rejected(tmp_path: Path, objects: Any, reason: str) -> None:
    good = {"bbox": [[1.0, 2.0, 3.0, 4.0]], "category": [1]}
    root = foreign(tmp_path, [objects])
    foreign(tmp_path, [good], "train-00001-of-00001")
    reader = HuggingfaceReader(root=str(root))
    with pytest.raises(Rejected, match=reason):
        reader.read(reader.ids()[0])


def test_row_without_bytes_is_rejected_and_no_path_is_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png(1))
    table = pa.table({"image": [{"bytes": None, "path": "secret.png"}], "objects": [None]})
    pq.write_table(table, tmp_path / "train.parquet")
    reader = HuggingfaceReader(root=str(tmp_path), unlabelled=True)
    with pytest.raises(Rejected, match=r"holds no bytes; it names the file 'secret\.png' instead"):
        reader.read(reader.ids()[0])


def test_damaged_and_changed_files_are_noticed(tmp_path: Path) -> None:
    made = sample("a")
    reader = written(tmp_path, [made, sample("b", 1)], shards=1, row_group=1)
    assert reader.ids() == ("a", "b")
    path = tmp_path / "data" / "train-000000.parquet"
    data = path.read_bytes()
    path.write_bytes(data)
    with pytest.raises(Rejected, match="changed since it was indexed"):
        reader.read("b")
    path.write_bytes(data[:-5])
    with pytest.raises(InputError, match="not readable as Parquet"):
        HuggingfaceReader(root=str(tmp_path)).ids()
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(SecurityError, match="link"):
        HuggingfaceReader(root=str(tmp_path)).ids()


def test_files_of_two_datasets_are_not_mixed(tmp_path: Path) -> None:
    written(tmp_path, [sample("a")], shards=1)
    foreign(tmp_path / "more", [None])
    with pytest.raises(InputError, match="differ in their classes"):
        HuggingfaceReader(root=str(tmp_path)).ids()
    hidden = tmp_path / "more"
    hidden.rename(tmp_path / ".work")
    assert HuggingfaceReader(root=str(tmp_path)).ids() == ("a",)
