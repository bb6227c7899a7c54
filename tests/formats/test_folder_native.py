from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synthaug.errors import InputError, Rejected
from synthaug.formats.folder.reader import FolderReader
from synthaug.formats.folder.writer import FolderWriter
from synthaug.sample import Picture
from tests.formats.sets import equal_labels, sample, write

SAMPLES = [sample(f"s/{k}~20x", seed=k, split="train" if k % 3 else "val") for k in range(4)]


def test_read_of_written_is_the_sample(tmp_path: Path) -> None:
    darker = [replace(s, image=Picture(s.image.pixels // 2)) for s in SAMPLES]
    write(FolderWriter(reference=True), darker, tmp_path)
    reader = FolderReader(root=str(tmp_path))
    assert sorted(reader.ids()) == sorted(s.id for s in SAMPLES)
    assert reader.categories() == SAMPLES[0].labels.categories
    assert set(reader.digests()) == set(reader.files())
    for made in darker:
        again = reader.read(made.id)
        equal_labels(again.labels, made.labels)
        np.testing.assert_array_equal(again.image.pixels, made.image.pixels)
        np.testing.assert_array_equal(again.reference.pixels, made.reference.pixels)
        for name in ("id", "group", "view", "frame", "split", "trail", "stale"):
            assert getattr(again, name) == getattr(made, name), name
        described = reader.describe(made.id)
        assert set(described.passes) == set(made.labels.passes)
        assert (described.size, described.split, described.classes) == (made.labels.size, made.split, (1, 2, 3))
        assert set(reader.digests()) == set(described.files)
    assert FolderReader(root=str(tmp_path), split="val").ids() == ("s/0~20x", "s/3~20x")


def test_writing_what_was_read_gives_the_same_bytes(tmp_path: Path) -> None:
    write(FolderWriter(), SAMPLES, tmp_path / "a")
    reader = FolderReader(root=str(tmp_path / "a"))
    write(FolderWriter(), [reader.read(s.id) for s in SAMPLES], tmp_path / "b")
    for path in (tmp_path / "a").rglob("*"):
        if path.is_file():
            assert (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes() == path.read_bytes(), path.name


def test_linear_pictures_are_kept_as_floats(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).uniform(0, 40, (48, 64, 3)).astype(np.float32)
    made = replace(SAMPLES[1], image=Picture(pixels, "linear"), reference=Picture(pixels, "linear"))
    write(FolderWriter(), [made], tmp_path)
    reader = FolderReader(root=str(tmp_path))
    again = reader.read(made.id)
    np.testing.assert_array_equal(again.image.pixels, pixels)
    assert again.image.space == reader.describe(made.id).space == "linear"


def test_a_record_that_was_edited_into_nonsense_is_rejected_alone(tmp_path: Path) -> None:
    write(FolderWriter(), SAMPLES[:2], tmp_path)
    path = tmp_path / "labels" / f"{SAMPLES[0].id}.json"
    good = json.loads(path.read_text())
    reader = FolderReader(root=str(tmp_path))
    assert len(reader.ids()) == 2
    for key, value in [("size", 3), ("instances", [{}]), ("instances", [{"id": "x"}]), ("camera", []), ("trail", 7)]:
        path.write_text(json.dumps(good | {key: value}))
        with pytest.raises(Rejected) as caught:
            reader.read(SAMPLES[0].id)
        assert caught.value.reason == "label", (key, value)
    path.write_text("{")
    with pytest.raises(Rejected):
        reader.describe(SAMPLES[0].id)
    assert reader.read(SAMPLES[1].id).id == SAMPLES[1].id


def test_another_version_or_format_is_refused(tmp_path: Path) -> None:
    write(FolderWriter(), SAMPLES[:1], tmp_path)
    path = tmp_path / "dataset.json"
    good = json.loads(path.read_text())
    path.write_text(json.dumps(good | {"version": 99}))
    with pytest.raises(InputError, match=r"version 99[\s\S]*reads 1"):
        FolderReader(root=str(tmp_path)).ids()
    path.write_text(json.dumps({"name": "theirs"}))
    with pytest.raises(InputError, match="passes"):
        FolderReader(root=str(tmp_path)).ids()


def test_stale_passes_are_left_out(tmp_path: Path) -> None:
    made = replace(SAMPLES[0], stale=frozenset({"depth"}))
    write(FolderWriter(), [made], tmp_path)
    assert "depth" not in FolderReader(root=str(tmp_path)).read(made.id).labels.passes
