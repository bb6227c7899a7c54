"""What is said of photos: captions beside them and in lists, templates, and every way in which they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthaug.errors import ConfigError, InputError
from synthaug.train.lora_words import words_for
from synthaug.train.photos import Folder, Photos, find
from tests.train.photos import make_photos

NAMES = [f"photo{i:02d}.jpg" for i in range(8)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_photos(tmp_path / "photos", 8)


def photos_in(*folders: Path, hold_out: int = 0) -> Photos:
    return find([Folder(str(folder), hold_out) for folder in folders], 32)


def listed(path: Path, names: list[str]) -> str:
    path.write_text("# name, tab, caption\n\n" + "".join(f"{name}\ta {name}\n" for name in names))
    return str(path)


def beside(folder: Path, text: str = "a {}\n  b") -> None:
    for name in NAMES:
        (folder / name).with_suffix(".txt").write_text(text.format(name))


def test_one_prompt_for_all(folder: Path) -> None:
    assert words_for(photos_in(folder), "", [""]).of(0.3, 0, NAMES[0]) == "a photo"
    words = words_for(photos_in(folder), {"a street": 3, "a road": 1}, [""])
    assert [words.of(share, 0, NAMES[0]) for share in (0.0, 0.74, 0.76)] == ["a street", "a street", "a road"]


def test_captions_beside_photos(folder: Path) -> None:
    beside(folder)
    (folder / "README.txt").write_text("no caption")
    words = words_for(photos_in(folder), "", ["beside"])
    assert words.of(0.0, 0, "photo03.jpg") == "a photo03.jpg b"
    template = words_for(photos_in(folder), "grainy photo, {caption}", ["beside"])
    assert template.of(0.0, 0, "photo03.jpg") == "grainy photo, a photo03.jpg b"


def test_captions_in_a_file_per_folder(folder: Path, tmp_path: Path) -> None:
    other = make_photos(tmp_path / "other", 8)
    beside(other, "z")
    words = words_for(photos_in(folder, other), "", [listed(tmp_path / "list.tsv", NAMES), "beside"])
    assert [words.of(0.0, number, NAMES[1]) for number in range(2)] == ["a photo01.jpg", "z"]


def test_a_caption_is_no_template(folder: Path) -> None:
    beside(folder, "{{caption}} {{weather}}")
    assert words_for(photos_in(folder), "", ["beside"]).of(0.0, 0, NAMES[0]) == "{caption} {weather}"


def test_captions_of_photos_that_are_held_out_are_no_mistake(folder: Path, tmp_path: Path) -> None:
    photos = find([Folder(str(make_photos(tmp_path / "more", 12)), 4)], 32)
    names = [f"photo{i:02d}.jpg" for i in range(12)]
    assert len(words_for(photos, "", [listed(tmp_path / "list.tsv", names)]).captions[0]) == 9


def test_photos_without_a_caption_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"2 of 8 photos in .* have none(.|\n)*photo06\.jpg(.|\n)*photo07\.jpg"):
        words_for(photos_in(folder), "", [listed(tmp_path / "list.tsv", NAMES[:6])])
    beside(folder)
    (folder / "photo02.txt").write_text(" \n")
    with pytest.raises(ConfigError, match=r"1 of 8(.|\n)*photo02\.jpg"):
        words_for(photos_in(folder), "", ["beside"])


def test_captions_without_a_photo_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"1 captions are for photos that are not in(.|\n)*photo0x\.jpg"):
        words_for(photos_in(folder), "", [listed(tmp_path / "list.tsv", [*NAMES, "photo0x.jpg"])])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"photo00.jpg a b\n", r"list\.tsv:1: 'photo00\.jpg a b': expected a name, a tab"),
        (b"photo00.jpg\ta\nphoto00.jpg\tb\n", r"list\.tsv:2: 'photo00\.jpg': twice"),
        (b"photo00.jpg\t\xff\n", "not UTF-8"),
    ],
)
def test_broken_lists(folder: Path, tmp_path: Path, text: bytes, match: str) -> None:
    (tmp_path / "list.tsv").write_bytes(text)
    with pytest.raises(InputError, match=match):
        words_for(photos_in(folder), "", [str(tmp_path / "list.tsv")])


def test_words_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; expected `beside`"):
        words_for(photos_in(folder), "", [str(tmp_path / "none.tsv")])
    beside(folder)
    with pytest.raises(ConfigError, match=r"write \{caption\} into it"):
        words_for(photos_in(folder), "a photo", ["beside"])
    with pytest.raises(ConfigError, match="for every folder, or for none"):
        words_for(photos_in(folder, make_photos(tmp_path / "other", 8)), "", ["beside", ""])
