"""Segmentation: ADE20K's own colours, names understood but never guessed, maps of one's own."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from synthaug.errors import ConfigError
from synthaug.labels import Category
from synthaug.refine.guidance import ade20k
from synthaug.refine.guidance.segmentation import Segmentation
from tests.refine.guidance.scenes import GREY, ball, only


def test_the_palette_is_the_benchmarks() -> None:
    assert len(ade20k.COLOURS) == 150
    names = list(ade20k.COLOURS)
    known = {
        (1, "wall"): (120, 120, 120),
        (2, "building"): (180, 120, 120),
        (3, "sky"): (6, 230, 230),
        (4, "floor"): (80, 50, 50),
        (7, "road"): (140, 140, 140),
        (12, "sidewalk"): (235, 255, 7),
        (13, "person"): (150, 5, 61),
        (21, "car"): (0, 102, 200),
        (49, "skyscraper"): (140, 140, 140),
        (84, "truck"): (255, 0, 20),
        (128, "bicycle"): (255, 245, 0),
        (137, "traffic light"): (41, 0, 255),
        (150, "flag"): (92, 0, 255),
    }
    for (place, name), colour in known.items():
        assert names[place - 1] == name
        assert ade20k.COLOURS[name] == colour
    # All 150 were compared with the benchmark's color150 table and with ControlNet's own; this keeps them so.
    data = np.array(list(ade20k.COLOURS.values()), np.uint8).tobytes()
    assert hashlib.sha256(data).hexdigest() == "ce475c9151035eff51f4cf27fd7d906959b1480f6d15b9423ae2417c1b23a0ed"
    shared = [c for c in ade20k.COLOURS.values() if list(ade20k.COLOURS.values()).count(c) > 1]
    assert set(shared) == {(140, 140, 140)}


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("car", "car"),
        ("Cars", "car"),
        ("Pedestrian", "person"),
        ("traffic_light", "traffic light"),
        ("TrafficLight", "traffic light"),
        ("traffic-sign", "signboard"),
        ("motobike", "minibike"),
        ("Vegetation", "tree"),
        ("RoadLine", "road"),
        ("boxes", "box"),
        ("die", None),
        ("carpet", "rug"),
        ("can", None),
        ("", None),
    ],
)
def test_names_are_understood_and_not_guessed(word: str, name: str | None) -> None:
    assert ade20k.find(word) == name


def test_every_word_names_a_class_and_every_class_itself() -> None:
    assert set(ade20k.WORDS.values()) == set(ade20k.COLOURS)
    assert all(ade20k.find(name) == name for name in ade20k.COLOURS)
    assert all(ade20k.find(word) == name for word, name in ade20k.WORDS.items())


def test_pixels_have_their_classes_colours() -> None:
    labels = ball(sky=False)  # a car before a road
    guide = Segmentation().guide(labels, GREY)
    eight = np.rint(guide.image * 255).astype(np.uint8)
    inside = labels.passes["instance"] == 1
    assert (eight[:, inside].T == (0, 102, 200)).all()
    assert (eight[:, ~inside].T == (140, 140, 140)).all()
    assert guide.facts["black"] == []
    derived = Segmentation().guide(only(labels, "instance"), GREY)
    np.testing.assert_array_equal(guide.image, derived.image)
    assert derived.facts["from"] == "instance"


def test_background_and_own_maps() -> None:
    labels = ball()
    sky = labels.passes["instance"] == 0
    assert not Segmentation().guide(labels, GREY).image[:, sky].any()
    filled = Segmentation(background="sky").guide(labels, GREY).image
    assert (np.rint(filled[:, sky] * 255).T == (6, 230, 230)).all()
    mapped = Segmentation(mapping={"car": "truck"}).guide(labels, GREY).image
    assert (np.rint(mapped[:, ~sky] * 255).T == (255, 0, 20)).all()
    black = Segmentation(mapping={"car": ""}).guide(labels, GREY).image
    assert not black.any()
    own = Segmentation(colours={"car": (1, 2, 3)}, mapping={"car": "truck"}).guide(labels, GREY).image
    assert (np.rint(own[:, ~sky] * 255).T == (1, 2, 3)).all()


def test_classes_without_a_colour_are_told_with_their_nearest_and_refused_if_all_are() -> None:
    dice = (Category("1"), Category("trafic lite"))
    assert "knows a colour for no class ('1', 'trafic lite')" in Segmentation().missing({"semantic"}, dice, None)
    mixed = (*dice, Category("car"))
    assert not Segmentation().missing({"semantic"}, mixed, None)
    notes = Segmentation().notes({"semantic"}, mixed, None)
    assert notes[0] == "segmentation: '1' is black"
    assert "near in ADE20K: traffic light" in notes[1]
    assert not Segmentation(mapping={"1": "box"}).missing({"semantic"}, dice, None)
    assert not Segmentation(background="table").missing({"semantic"}, dice, None)
    typo = Segmentation(mapping={"carr": "car"}).missing({"semantic"}, mixed, None)
    assert "'carr'" in typo
    assert "Did you mean 'car'" in typo
    assert "needs semantic or instance" in Segmentation().missing({"depth"}, mixed, None)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"mapping": {"car": "carr"}}, "Did you mean 'car'"),
        ({"background": "flor"}, "Did you mean 'floor'"),
        ({"colours": {"car": (0, 0)}}, "colours.car"),
        ({"colours": {"car": (0, 0, 256)}}, "colours.car"),
        ({"colours": {"car": (0, 0, 0.5)}}, "colours.car"),
    ],
)
def test_ranges_are_refused(fields: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        Segmentation(**fields)  # type: ignore[arg-type]
