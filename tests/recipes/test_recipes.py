"""Every recipe in `pipelines/`, composed, checked and run on a handful of tiny pictures. A new file adds a test."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from synthaug import testing
from synthaug.engine import local, verify
from synthaug.engine.configure import compose
from synthaug.engine.shelf import Shelf
from synthaug.engine.targets import find_conf
from tests.engine import runs
from tests.texture.pictures import texture

RECIPES = sorted(path.stem for path in find_conf("pipelines").glob("*.yaml"))
TINY_SCENE = ("read.scenes=2", "read.views=2", "read.width=64", "read.height=64", "read.samples_per_pixel=4")


def rendered(folder: Path) -> tuple[str, ...]:
    if importlib.util.find_spec("mitsuba") is None:
        pytest.skip("mitsuba is not installed (extra 'render')")
    return (*TINY_SCENE, "read.dice=[2,4]")


def folder_of_samples(folder: Path) -> tuple[str, ...]:
    target = "write._target_=synthaug.formats.folder.writer.FolderWriter"
    runs.run(folder / "in", "gate.share=0", "read.count=4", "read.width=96", "read.height=64", target)
    return (f"read.root={folder / 'in'}",)


def street(folder: Path) -> tuple[str, ...]:
    photos, images, labels = (folder / name for name in ("photos", "in/images", "in/labels"))
    for path in (photos, images, labels):
        path.mkdir(parents=True)
    for i in range(4):
        sample = testing.make_sample(i)
        Image.fromarray(sample.image.pixels).save(images / f"{i}.png")
        Image.fromarray(sample.image.pixels[::-1, ::-1]).save(photos / f"{i}.jpg")
        height, width = sample.labels.size
        rows = []
        for instance in sample.labels.instances:
            x0, y0, x1, y1 = instance.box
            centre = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height)
            rows.append(" ".join([str(instance.class_id - 1), *map(str, centre)]))
        (labels / f"{i}.txt").write_text("\n".join(rows) + "\n")
    (folder / "in/labels.txt").write_text("disc\nsquare\n")
    return (f"read.root={folder / 'in'}", f"refine.photos={photos}", "read.names=labels.txt")


def drone(folder: Path) -> tuple[str, ...]:
    images, masks = folder / "in/train/images", folder / "in/train/masks"
    images.mkdir(parents=True)
    masks.mkdir()
    for i in range(3):
        sample = testing.make_sample(i)
        ids = sample.labels.passes["instance"]
        colours = np.zeros((*ids.shape, 3), np.uint8)
        colours[...] = (255, 0, 0)
        colours[ids == 1], colours[ids == 2] = (0, 255, 0), (0, 0, 255)
        Image.fromarray(sample.image.pixels).save(images / f"1_run1_cam1_{i:05d}.jpeg", quality=95)
        Image.fromarray(colours).save(masks / f"1_run1_mask_{i:05d}.png")
    return (f"read.root={folder / 'in'}",)


def textured_dice(folder: Path) -> tuple[str, ...]:
    return (*rendered(folder), library(folder))


def textured_table(folder: Path) -> tuple[str, ...]:
    rendered(folder)
    return (*TINY_SCENE, "read.objects=[2,3]", library(folder))


def library(folder: Path) -> str:
    tiles = [texture(number, "wood") for number in range(3)]
    Shelf(folder / "textures").add(tiles)
    return f"retexture.library={folder / 'textures'}"


INPUTS: dict[str, Callable[[Path], tuple[str, ...]]] = {
    "convert": folder_of_samples,
    "demo": textured_dice,
    "dice": rendered,
    "dice_textures": textured_dice,
    "driving": street,
    "follow_me": drone,
    "textures": textured_table,
}


def test_every_recipe_has_an_input() -> None:
    assert set(RECIPES) == set(INPUTS)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_runs_whole(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    overrides = [*INPUTS[name](tmp_path), f"write.root={out}", "engine.workers=0", "engine.progress=none"]
    config = compose(name, overrides)
    assert local.run(config) == 0
    totals = json.loads((out / "manifest.json").read_text())["totals"]
    assert totals["planned"] == totals["written"] > 2
    assert (out / "contact_sheet.png").stat().st_size > 1000
    before = runs.digest(out)
    assert local.run(config) == 0
    assert runs.digest(out) == before
    assert verify.verify(str(out)) == 0
