from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synthaug import rle
from synthaug.errors import InputError, Rejected
from synthaug.formats.yolo.reader import YoloReader
from synthaug.labels import Category
from tests.formats.sets import picture_file


def put(root: Path, labels: dict[str, str | None], names: str = "cat\ndog\n") -> str:
    """60x40 pictures and their text files; None writes no file."""
    for stem, text in labels.items():
        picture_file(root / "images" / f"{stem}.png")
        if text is not None:
            path = root / "labels" / f"{stem}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    (root / "classes.txt").write_text(names)
    return str(root)


def test_boxes_are_centres_and_sizes_and_empty_files_are_background(tmp_path: Path) -> None:
    root = put(tmp_path, {"a": "1 0.5 0.5 0.5 0.25\n\n0 0.25 0.25 0.1 0.1\n", "empty": "", "none": None})
    reader = YoloReader(root=root)
    first, second = reader.read("a").labels.instances
    np.testing.assert_allclose(first.box, (15, 15, 45, 25))
    assert (first.class_id, second.class_id) == (2, 1)
    assert reader.read("empty").labels.instances == reader.read("none").labels.instances == ()
    assert reader.notes() == {"images": 3, "images without labels": 1, "labels of unknown categories": 0}
    assert reader.describe("a").classes == (1, 2)
    assert reader.files() == ("classes.txt",)


def test_polygons_become_masks(tmp_path: Path) -> None:
    root = put(tmp_path, {"a": "0 0.1 0.25 0.5 0.25 0.5 0.5 0.1 0.5\n"})
    made = YoloReader(root=root).read("a").labels.instances[0]
    assert made.mask is not None
    expected = np.zeros((40, 60), bool)
    expected[10:20, 6:30] = True
    np.testing.assert_array_equal(rle.decode(made.mask), expected)
    assert made.box == (6.0, 10.0, 30.0, 20.0)


def test_poses_take_their_shape_from_data_yaml(tmp_path: Path) -> None:
    root = put(tmp_path, {"a": "0 0.5 0.5 0.5 0.5 0.5 0.25 2 0 0 0 0.6 0.7 1\n"})
    (tmp_path / "classes.txt").unlink()
    (tmp_path / "data.yaml").write_text(
        "names: {0: person}\nkpt_shape: [3, 3]\nflip_idx: [0, 2, 1]\nkpt_names: {0: [nose, l, r]}\ntrain: images\n"
    )
    reader = YoloReader(root=root)
    assert reader.categories() == (Category("person", ("nose", "l", "r"), (), (0, 2, 1)),)
    points = reader.read("a").labels.instances[0].keypoints
    np.testing.assert_allclose(points, [(30, 10, 2), (0, 0, 0), (36, 28, 1)])


@pytest.mark.parametrize("layout", ["images/{}", "{}/images"])
@pytest.mark.parametrize("told", [True, False])
def test_splits_are_found_in_both_usual_layouts(tmp_path: Path, layout: str, told: bool) -> None:
    for word, stem in (("train", "a"), ("valid", "b")):
        folder = tmp_path / layout.format(word)
        picture_file(folder / f"{stem}.png")
        text = Path(str(folder).replace("images", "labels")) / f"{stem}.txt"
        text.parent.mkdir(parents=True)
        text.write_text("0 0.5 0.5 0.5 0.5")
    paths = f"train: ../{layout.format('train')}\nval: ../{layout.format('valid')}\n" if told else ""
    (tmp_path / "data.yaml").write_text(f"{paths}nc: 1\nnames: ['cat']\n")
    reader = YoloReader(root=str(tmp_path))
    found = {name: reader.read(name).split for name in reader.ids()}
    assert found == {"train/a": "train", "valid/b": "val"}
    assert YoloReader(root=str(tmp_path), split="val").ids() == ("valid/b",)
    assert all(len(reader.read(name).labels.instances) == 1 for name in found)


def test_folders_beside_the_splits_are_not_lost(tmp_path: Path) -> None:
    picture_file(tmp_path / "images" / "train" / "a.png")
    picture_file(tmp_path / "images" / "night" / "b.png")
    for name in ("train/a", "night/b"):
        (tmp_path / "labels" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.5 0.5")
    (tmp_path / "classes.txt").write_text("cat")
    assert YoloReader(root=str(tmp_path)).ids() == ("night/b", "train/a")


def test_e1_class_beyond_the_names_is_refused_or_ignored(tmp_path: Path) -> None:
    root = put(tmp_path, {"a": "0 0.5 0.5 0.5 0.5\n7 0.5 0.5 0.5 0.5\n"})
    with pytest.raises(InputError, match=r"1 labels of 1 classes[\s\S]*7: 1 labels"):
        YoloReader(root=root).ids()
    ignored = YoloReader(root=root, unknown="ignore")
    assert ignored.ids() == ("a",)
    assert len(ignored.read("a").labels.instances) == 1
    merged = YoloReader(root=put(tmp_path, {"a": "0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.5 0.5\n"}), classes={"dog": "cat"})
    assert merged.categories() == (Category("cat"),)
    assert [i.class_id for i in merged.read("a").labels.instances] == [1, 1]


def test_e2_two_images_of_one_stem_are_refused(tmp_path: Path) -> None:
    root = put(tmp_path, {"a": "0 0.5 0.5 0.5 0.5"})
    picture_file(tmp_path / "images" / "a.jpg")
    with pytest.raises(InputError, match="share the stem"):
        YoloReader(root=root).ids()


def test_e3_dangling_files_are_refused_or_ignored_and_class_lists_are_no_labels(tmp_path: Path) -> None:
    root = put(tmp_path, {"a": "0 0.5 0.5 0.5 0.5"})
    (tmp_path / "labels" / "classes.txt").write_text("cat\ndog\n")
    assert YoloReader(root=root).ids() == ("a",)
    (tmp_path / "labels" / "ghost.txt").write_text("0 0.5 0.5 0.5 0.5")
    with pytest.raises(InputError, match=r"1 of 2 label files[\s\S]*labels/ghost\.txt"):
        YoloReader(root=root).ids()
    assert YoloReader(root=root, dangling="ignore").ids() == ("a",)


@pytest.mark.parametrize(
    "text",
    [
        "0 0.5 0.5 0 0.5",
        "0 0.5 0.5 -0.2 0.5",
        "0 1.5 0.5 0.2 0.5",
        "0 nan 0.5 0.2 0.5",
        "0 inf 0.5 0.2 0.5",
        "0 0.5 0.5 0.2",
        "0 0.5 0.5 0.2 0.2 0.9",
        "0.5 0.5 0.5 0.2 0.2",
        "-1 0.5 0.5 0.2 0.2",
        "cat 0.5 0.5 0.2 0.2",
        "0 0.5 0.5 0.2 0.2\n0 0.1 0.1 0.5 0.1 0.5 0.5",
        "0 0.1 0.1 0.5 0.1 0.1 0.1",
        "0 0.1 0.1 5 0.1 5 0.5",
        "\udcff",
    ],
)
def test_e4_a_bad_line_rejects_its_sample_alone(tmp_path: Path, text: str) -> None:
    root = put(tmp_path, {"bad": "", "good": "0 0.5 0.5 0.5 0.5"})
    (tmp_path / "labels" / "bad.txt").write_bytes(text.encode("utf-8", "surrogateescape"))
    reader = YoloReader(root=root)
    assert reader.ids() == ("bad", "good")
    with pytest.raises(Rejected) as caught:
        reader.read("bad")
    assert caught.value.reason == "label"
    assert len(reader.read("good").labels.instances) == 1


def test_e4_clip_on_request_and_a_pixel_of_rounding_always(tmp_path: Path) -> None:
    root = put(tmp_path, {"far": "0 0.9 0.5 0.4 0.5", "near": "0 0.0983333 0.5 0.2 0.5"})
    assert YoloReader(root=root, clip=True).read("far").labels.instances[0].box[2] == 60.0
    assert YoloReader(root=root).read("near").labels.instances[0].box[0] == 0.0
    with pytest.raises(Rejected, match="leaves"):
        YoloReader(root=root).read("far")


def test_b14_equal_lines_are_two_instances(tmp_path: Path) -> None:
    root = put(tmp_path, {"a": "0 0.5 0.5 0.5 0.5\n0 0.5 0.5 0.5 0.5\n"})
    assert [i.id for i in YoloReader(root=root).read("a").labels.instances] == [1, 2]


@pytest.mark.parametrize(
    "text",
    ["a: &x [1]\nnames: *x\n", "names: [a]\nnames: [b]\n", "names: {0: a, 2: b}\n", "names: 3\n", "- a\n",
     "names: !!python/object/apply:os.system [ls]\n", "names: ['a', 'a']\n"],
)  # fmt: skip
def test_a_data_yaml_that_is_not_plain_is_refused(tmp_path: Path, text: str) -> None:
    root = put(tmp_path, {"a": "0 0.5 0.5 0.5 0.5"})
    (tmp_path / "classes.txt").unlink()
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(InputError):
        YoloReader(root=root).categories()


def test_without_names_it_is_refused(tmp_path: Path) -> None:
    root = put(tmp_path, {"a": "0 0.5 0.5 0.5 0.5"})
    (tmp_path / "classes.txt").unlink()
    with pytest.raises(InputError, match=r"read\.names"):
        YoloReader(root=root).categories()


def test_labels_for_no_image_are_refused_unless_asked_for(tmp_path: Path) -> None:
    root = put(tmp_path, {"a": None, "b": None})
    with pytest.raises(InputError, match=r"labels for 0 of 2 images[\s\S]*read\.labels[\s\S]*read\.unlabelled=true"):
        YoloReader(root=root).ids()
    bare = YoloReader(root=root, unlabelled=True)
    assert bare.ids() == ("a", "b")
    assert bare.read("a").labels.instances == ()
    assert bare.notes()["images without labels"] == 2
    # One empty file is the convention of a background picture, and says that labels are meant to be here.
    assert YoloReader(root=put(tmp_path, {"a": ""})).ids() == ("a", "b")


@pytest.mark.parametrize("flips", ["[1, 2, 0]", "[0, 1]", "[0, 1, 3]", "[0.0, 2, 1]", "7"])
def test_a_flip_idx_that_is_no_mirror_is_refused(tmp_path: Path, flips: str) -> None:
    put(tmp_path, {"a": "0 0.5 0.5 0.5 0.5 0.5 0.25 2 0 0 0 0.6 0.7 1\n"})
    (tmp_path / "classes.txt").unlink()
    (tmp_path / "data.yaml").write_text(f"names: {{0: person}}\nkpt_shape: [3, 3]\nflip_idx: {flips}\n")
    with pytest.raises(InputError, match="flip_idx"):
        YoloReader(root=str(tmp_path)).categories()
