"""Photos as training pairs: what is held out, what is broken, and that pairs are a function of their number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synthaug.errors import ConfigError, InputError
from synthaug.train.photos import Crops, Folder, Photos, find
from tests.train.photos import make_photos


def test_held_out_photos_are_every_nth_by_name(tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", 12)
    photos = find([Folder(str(folder), 4)], 64)
    assert photos.held_out == [["photo00.jpg", "photo04.jpg", "photo08.jpg"]]
    assert photos.count == 9
    assert not set(photos.names[0]) & set(photos.held_out[0])


def test_broken_and_tiny_photos_are_named_and_left_out(tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", 10)
    make_photos(tmp_path / "tiny", 1, (1, 1))
    (folder / "dot.jpg").write_bytes((tmp_path / "tiny" / "photo00.jpg").read_bytes())
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no picture")
    whole = (folder / "photo03.jpg").read_bytes()
    (folder / "photo03.jpg").write_bytes(whole[: len(whole) // 2])
    photos = find([Folder(str(folder))], 64)
    assert set(photos.broken) == {"photos/dot.jpg", "photos/empty.png"}
    assert "1x1" in photos.broken["photos/dot.jpg"]
    # Half a file has a whole header: it is met, named and passed over while training.
    crops = Crops(photos, 64, 64, 0)
    for step in range(20):
        crops.batch(step, range(2))
    assert set(photos.broken) == {"photos/dot.jpg", "photos/empty.png", "photos/photo03.jpg"}


def test_too_few_photos_and_no_folder(tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", 7)
    with pytest.raises(ConfigError, match=r"7 usable photos among 7"):
        find([Folder(str(folder))], 64)
    with pytest.raises(ConfigError, match=r"0 usable photos among 7(.|\n)*100x80, smaller than 96"):
        find([Folder(str(folder))], 96)
    with pytest.raises(InputError, match="nowhere"):
        find([Folder(str(tmp_path / "nowhere"))], 64)


def test_nothing_but_broken_photos_ends_in_one_error(tmp_path: Path) -> None:
    folder = make_photos(tmp_path / "photos", 8)
    for path in folder.iterdir():
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ConfigError, match="in a row cannot be decoded"):
        Crops(find([Folder(str(folder))], 64), 64, 64, 0).pair(0, 0)


def test_a_pair_depends_on_seed_step_and_place_alone(tmp_path: Path) -> None:
    photos = find([Folder(str(make_photos(tmp_path / "photos", 9)))], 64)
    crops = Crops(photos, 64, 64, 5)
    batch = crops.batch(3, range(4))
    # Two processes share the work and see the same crops as one.
    halves = [crops.batch(3, range(rank, 4, 2)) for rank in range(2)]
    for side in range(2):
        assert np.array_equal(batch[side][0::2], halves[0][side])
        assert np.array_equal(batch[side][1::2], halves[1][side])
    assert batch[0].shape == (4, 3, 64, 64)
    assert not np.array_equal(batch[0], crops.batch(4, range(4))[0])
    assert not np.array_equal(batch[0], Crops(photos, 64, 64, 6).batch(3, range(4))[0])


def test_every_folder_is_drawn_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = make_photos(tmp_path / "few", 8), make_photos(tmp_path / "many", 32)
    seen: list[int] = []
    read = Photos.read

    def watched(self: Photos, folder: int, index: int) -> object:
        seen.append(folder)
        return read(self, folder, index)

    monkeypatch.setattr(Photos, "read", watched)
    crops = Crops(find([Folder(str(few)), Folder(str(many))], 64), 64, 64, 0)
    for step in range(60):
        crops.pair(step, 0)
    # Square roots of 8 and 32: a third and two thirds.
    assert 0.18 < seen.count(0) / len(seen) < 0.5
