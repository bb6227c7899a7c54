from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synthaug.errors import InputError, Rejected
from synthaug.formats.voc import VocReader, parse_xml
from synthaug.formats.yolo.reader import YoloReader
from tests.formats.sets import picture_file

OBJECT = (
    "<object><name>{name}</name><difficult>{difficult}</difficult><truncated>1</truncated><bndbox><xmin>{0}</xmin>"
    "<ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"
)


def put(root: Path, stem: str, *objects: str, size: tuple[int, int] | None = (60, 40), image: bool = True) -> None:
    """An image of 60x40 and its XML."""
    if image:
        picture_file(root / "JPEGImages" / f"{stem}.png", (40, 60))
    told = "" if size is None else f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    path = root / "Annotations" / f"{stem}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation>{told}{''.join(objects)}</annotation>")


def an(name: str, *box: object, difficult: int = 0) -> str:
    return OBJECT.format(*box, name=name, difficult=difficult)


def test_inclusive_boxes_from_one_become_continuous_edges(tmp_path: Path) -> None:
    put(tmp_path, "a", an("cat", 1, 1, 60, 40), an("dog", 11, 6, 11, 6, difficult=1))
    reader = VocReader(root=str(tmp_path))
    made = reader.read("a")
    assert [i.box for i in made.labels.instances] == [(0.0, 0.0, 60.0, 40.0), (10.0, 5.0, 11.0, 6.0)]
    assert [i.ignore for i in made.labels.instances] == [False, True]
    assert [c.name for c in reader.categories()] == ["cat", "dog"]
    assert made.labels.instances[0].attributes == {"truncated": True}
    described = reader.describe("a")
    assert (described.size, described.classes) == ((40, 60), (1, 2))
    assert described.files == ("JPEGImages/a.png", "Annotations/a.xml")


def test_boxes_from_zero_stay_as_they_are(tmp_path: Path) -> None:
    put(tmp_path, "a", an("cat", 0, 0, 10, 20))
    made = VocReader(root=str(tmp_path), one_based=False).read("a")
    assert made.labels.instances[0].box == (0.0, 0.0, 10.0, 20.0)


def test_names_file_fixes_the_order_and_split_lists_choose(tmp_path: Path) -> None:
    put(tmp_path, "a", an("cat", 1, 1, 9, 9))
    put(tmp_path, "b", an("dog", 1, 1, 9, 9))
    (tmp_path / "labels.txt").write_text("dog\ncat\n")
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("b  1\n")
    reader = VocReader(root=str(tmp_path), split="val")
    assert reader.ids() == ("b",)
    assert reader.read("b").split == "val"
    assert reader.read("b").labels.instances[0].class_id == 1
    assert set(reader.files()) == {"labels.txt", "ImageSets/Main/val.txt"}


def test_e1_unknown_class_is_refused_mapped_or_ignored(tmp_path: Path) -> None:
    put(tmp_path, "a", an("cat", 1, 1, 9, 9), an("lynx", 1, 1, 9, 9), an("lynx", 2, 2, 9, 9))
    (tmp_path / "labels.txt").write_text("cat")
    with pytest.raises(InputError, match=r"2 labels of 1 classes[\s\S]*lynx: 2"):
        VocReader(root=str(tmp_path)).ids()
    mapped = VocReader(root=str(tmp_path), classes={"lynx": "cat"})
    assert mapped.ids() == ("a",)
    assert [i.class_id for i in mapped.read("a").labels.instances] == [1, 1, 1]
    ignored = VocReader(root=str(tmp_path), unknown="ignore")
    assert ignored.ids() == ("a",)
    assert len(ignored.read("a").labels.instances) == 1
    assert ignored.describe("a").classes == (1,)


def test_e2_two_images_of_one_stem_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "a", an("cat", 1, 1, 9, 9))
    picture_file(tmp_path / "JPEGImages" / "a.jpg")
    with pytest.raises(InputError, match=r"1 files share the stem[\s\S]*a\.jpg and JPEGImages/a\.png"):
        VocReader(root=str(tmp_path)).ids()


def test_e3_dangling_xml_is_refused_with_its_name_and_images_without_labels_are_counted(tmp_path: Path) -> None:
    put(tmp_path, "a", an("cat", 1, 1, 9, 9))
    put(tmp_path, "ghost", an("cat", 1, 1, 9, 9), image=False)
    picture_file(tmp_path / "JPEGImages" / "empty.png")
    with pytest.raises(InputError, match=r"1 of 2 label files[\s\S]*Annotations/ghost\.xml"):
        VocReader(root=str(tmp_path)).ids()
    reader = VocReader(root=str(tmp_path), dangling="ignore")
    assert reader.ids() == ("a", "empty")
    assert reader.notes() == {"images": 2, "images without labels": 1, "labels of unknown categories": 0}
    assert reader.read("empty").labels.instances == ()


@pytest.mark.parametrize(
    ("box", "word"),
    [
        ((30, 5, 10, 20), "swapped"),
        (("nan", 5, 10, 20), "not finite"),
        (("inf", 5, 10, 20), "not finite"),
        (("ten", 5, 10, 20), "four numbers"),
        (("", 5, 10, 20), "four numbers"),
        ((5, 5, 90, 20), "leaves the 60x40 canvas"),
        ((-9, 5, 20, 20), "leaves"),
        ((70, 5, 90, 20), "leaves"),
    ],
)
def test_e4_a_bad_box_rejects_its_sample_alone(tmp_path: Path, box: tuple[object, ...], word: str) -> None:
    put(tmp_path, "good", an("cat", 1, 1, 9, 9))
    put(tmp_path, "bad", an("cat", *box))
    reader = VocReader(root=str(tmp_path))
    assert reader.ids() == ("bad", "good")
    with pytest.raises(Rejected, match=word) as caught:
        reader.read("bad")
    assert caught.value.reason == "label"
    assert len(reader.read("good").labels.instances) == 1


def test_e4_clip_on_request_cuts_what_sticks_out_and_no_more(tmp_path: Path) -> None:
    put(tmp_path, "a", an("cat", 5, 5, 90, 20))
    put(tmp_path, "b", an("cat", 70, 5, 90, 20))
    reader = VocReader(root=str(tmp_path), clip=True)
    assert reader.read("a").labels.instances[0].box == (4.0, 4.0, 60.0, 20.0)
    with pytest.raises(Rejected, match="no part on"):
        reader.read("b")


@pytest.mark.parametrize("size", [(61, 40), (60, 41), (120, 80), (40, 60)])
def test_d13_a_size_that_is_not_the_pictures_is_rejected(tmp_path: Path, size: tuple[int, int]) -> None:
    put(tmp_path, "a", an("cat", 1, 1, 9, 9), size=size)
    reader = VocReader(root=str(tmp_path))
    with pytest.raises(Rejected) as caught:
        reader.read("a")
    assert caught.value.reason == "size"
    if size != (40, 60):  # a transposed header may be a rotated photo, which only decoding can tell
        with pytest.raises(Rejected):
            reader.describe("a")


def test_a_size_of_zero_or_none_leaves_the_picture_its_own(tmp_path: Path) -> None:
    put(tmp_path, "a", an("cat", 1, 1, 9, 9), size=(0, 0))
    put(tmp_path, "b", an("cat", 1, 1, 9, 9), size=None)
    reader = VocReader(root=str(tmp_path))
    assert reader.describe("a").size == reader.describe("b").size == (40, 60)


@pytest.mark.parametrize(
    "data",
    [
        b'<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>',
        b'<?xml version="1.0" encoding="utf-16"?><annotation/>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>',
        b"<annotation>",
        b"<annotation></annotation><b/>",
        b"",
        b"\x00\x01",
    ],
)
def test_hostile_or_broken_xml_is_rejected(data: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        parse_xml(data, "x.xml")
    assert caught.value.reason == "label"


def test_hidden_doctype_in_another_encoding_is_rejected() -> None:
    text = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'
    with pytest.raises(Rejected, match="DOCTYPE"):
        parse_xml(text.encode("utf-16"), "x.xml")


def test_b14_equal_files_are_two_samples(tmp_path: Path) -> None:
    put(tmp_path, "a", an("cat", 1, 1, 9, 9))
    put(tmp_path, "b", an("cat", 1, 1, 9, 9))
    reader = VocReader(root=str(tmp_path))
    assert reader.ids() == ("a", "b")
    np.testing.assert_array_equal(reader.read("a").image.pixels, reader.read("b").image.pixels)


NAMES = ["a b", "e\u0301", "\u00e9", "x.y.z", "100%", "{stem}", "[ab]*?", "-rf", "con", "📷", "ä" * 100, "A", "a"]


def test_f3_f5_odd_names_are_kept_apart_and_found_again(tmp_path: Path) -> None:
    for name in NAMES:
        put(tmp_path, name, an("cat", 1, 1, 9, 9))
    reader = VocReader(root=str(tmp_path))
    ids = reader.ids()
    assert len(set(ids)) == len(NAMES)
    assert all("." not in name and name.isascii() and len(name) < 200 for name in ids)
    for name in ids:
        assert len(reader.read(name).labels.instances) == 1


def test_no_label_at_all_is_refused_with_the_place(tmp_path: Path) -> None:
    picture_file(tmp_path / "images" / "a.png")
    (tmp_path / "labels").mkdir()
    with pytest.raises(InputError, match=r"labels for 0 of 1 images[\s\S]*read\.labels"):
        VocReader(root=str(tmp_path)).ids()
    bare = VocReader(root=str(tmp_path), unlabelled=True)
    assert bare.ids() == ("a",)
    assert bare.notes() == {"images": 1, "images without labels": 1, "labels of unknown categories": 0}


def test_every_carla_image_has_the_same_boxes_and_classes_in_voc_and_yolo(data_root: Path) -> None:
    voc = VocReader(root=str(data_root / "carla"))
    yolo = YoloReader(root=str(data_root / "carla"), labels="labels_yolo_format")
    assert voc.ids() == yolo.ids()
    assert len(voc.ids()) == 160
    assert voc.categories() == yolo.categories()
    assert [c.name for c in voc.categories()] == ["vehicle", "bike", "motobike", "traffic_light", "traffic_sign"]
    boxes = 0
    for place, name in enumerate(voc.ids()):
        # Pixels of every image cost 10 s; labels need none of them, so one in eight is decoded.
        if place % 8 == 0:
            a, b = voc.read(name), yolo.read(name)
            assert a.image.pixels.shape == (380, 640, 3)  # RGBA files
            np.testing.assert_array_equal(a.image.pixels, b.image.pixels)
        pair, other = voc.pair(name), yolo.pair(name)
        size = voc.describe(name).size
        ours = [voc._instance(e, k, size, pair) for k, e in enumerate(voc._tree(pair).findall("object"), start=1)]  # type: ignore[union-attr]
        theirs = [yolo._instance(line, k, "detect", size) for k, line in enumerate(yolo._lines(other)[0], start=1)]
        assert [i.class_id for i in ours] == [i.class_id for i in theirs]
        for i, j in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(i.box, j.box, atol=1.0 + 1e-9)
            boxes += 1
    assert boxes == 534
