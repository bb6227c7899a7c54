"""The judge of `retexture.py`: sources, deferred pictures and the truth that they are held against."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug import seeds
from synthaug.engine.shelf import Shelf
from synthaug.labels import Labels
from synthaug.render import film, mitsuba_backend
from synthaug.render.mitsuba_backend import Rendered
from synthaug.render.reader import DiceReader, TabletopReader
from synthaug.render.scene import Scene, View
from synthaug.render.scene_reader import SceneReader, sample_of
from synthaug.render.textures import Checks, Fibre, Marble, Weave, Wood
from synthaug.sample import Sample
from synthaug.texture.importing import About, made
from synthaug.texture.library import Library
from synthaug.texture.placement import Placement
from synthaug.texture.rerender import retextured
from synthaug.texture.retexture import Retexture
from synthaug.transfer import linear_from_srgb, srgb_from_linear

Pixels = NDArray[np.uint8]
_ROOT = Path(os.environ.get("SYNTHAUG_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
REAL = {"brick_wall": 0.5, "marble": 0.4, "asphalt": 0.3, "stucco": 0.4, "wood": 0.4}
"""Tiles of miniworld, and their width in metres."""
MADE = {
    "oak": (Wood((0.5, 0.33, 0.18), (0.26, 0.14, 0.06), 1), 0.5),
    "felt": (Fibre((0.05, 0.2, 0.1), 2), 0.3),
    "stone": (Marble((0.6, 0.58, 0.55), (0.12, 0.11, 0.1), 3), 0.4),
    "cloth": (Weave((0.35, 0.12, 0.1), 4, threads=64), 0.3),
    "checks": (Checks((0.55, 0.5, 0.12), (0.06, 0.09, 0.3), 5), 0.24),
}
SLOT = "retexture"
GREY = float(linear_from_srgb(188 / 255))
"""A white tile would be rolled off where the light is bright."""


@dataclass(frozen=True)
class Setting:
    """One of the two scenes: its reader, and what the stage is told about it.

    Attributes:
        reader: Makes the reader from common fields.
        stage: Fields of `Retexture`.
        coverage: As the reader has it by default.
    """

    reader: Callable[..., SceneReader]
    stage: Mapping[str, Any]
    coverage: int


SETTINGS = {
    "dice": Setting(
        lambda **facts: DiceReader(**facts, zoom=2.0), {"coat": 1.5, "protect": 0.2, "scale": (0.12, 0.2)}, 0
    ),
    "tabletop": Setting(TabletopReader, {"scale": (0.6, 1.2)}, 4),
}


def library(folder: Path) -> Path:
    """Tiles made here, and real ones where there are any."""
    items = []
    for name, (recipe, metres) in MADE.items():
        items.append(made(name, {"albedo": _srgb(recipe.paint())}, About("own work", metres=metres, material=name)))
    for name, metres in REAL.items():
        path = _ROOT / "textures" / "miniworld" / f"{name}_1.png"
        if path.exists():
            picture: Any = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
            pixels = cv2.resize(picture, (512, 512), interpolation=cv2.INTER_AREA)
            items.append(made(name, {"albedo": pixels}, About("see SOURCES.md", metres=metres, tileable=True)))
    Shelf(folder).add(items, near="keep")
    return folder


def grey(folder: Path) -> Path:
    """A library of one grey tile: what the stage shows with it is the light that it has found, times `GREY`."""
    pixels = np.full((16, 16, 3), 188, np.uint8)
    Shelf(folder).add([made("grey", {"albedo": pixels}, About("own work", tileable=True))])
    return folder


def _srgb(linear: NDArray[Any]) -> Pixels:
    return np.rint(srgb_from_linear(np.clip(linear, 0, 1)) * 255).astype(np.uint8)


def staged(name: str, folder: Path) -> Retexture:
    """The stage as a user of that dataset would configure it, ready."""
    stage = Retexture(library=str(folder), shoulder=0.8, **SETTINGS[name].stage)
    stage.load("cpu")
    return stage


def draws(stage: Retexture, labels: Labels) -> dict[str, Any]:
    """One per object, keyed as the engine keys them."""
    return {
        i.object_id: stage.draw(seeds.generator(0, i.object_id, 0, SLOT), labels.of((i,)), 0) for i in labels.instances
    }


def linear_of(sample: Sample) -> NDArray[np.float32]:
    """[1, 3, H, W] linear, as the engine hands it to the stage."""
    pixels = linear_from_srgb(sample.image.pixels.astype(np.float32) / 255)
    return np.ascontiguousarray(pixels.astype(np.float32).transpose(2, 0, 1)[None])


def painted(stage: Retexture, sample: Sample) -> tuple[Pixels, dict[str, Any]]:
    """[H, W, 3] sRGB, and what the stage notes by object."""
    copies = sample.labels.copy(stage.wants)
    done = stage.paint(linear_of(sample), [copies], [draws(stage, sample.labels)])
    return _srgb(done.images[0].transpose(1, 2, 0)), dict(done.facts[0]["objects"])


def digests(labels: Labels) -> dict[str, str]:
    """Of every pass that is geometry, and of everything else that is true."""
    found = {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in labels.passes.items()}
    found.pop("albedo", None)
    return {**found, "instances": repr((labels.instances, labels.camera, labels.size))}


@dataclass(frozen=True)
class Judge:
    """How pictures are made: side, paths per pixel of the source and of the truth, variant of Mitsuba, scene, seed."""

    side: int
    samples: int
    paths: int
    variant: str
    name: str
    seed: int = 4

    def source(self, scene: Scene, view: View) -> Rendered:
        """What the reader would render."""
        return mitsuba_backend.render(
            scene, view, samples=self.samples, denoise=True, variant=self.variant, coverage=SETTINGS[self.name].coverage
        )

    def truth(self, scene: Scene, view: View) -> tuple[Any, Any]:
        """Radiance [H, W, 3] from either half of the paths."""
        views = (view, replace(view, noise_seed=view.noise_seed + 1))
        half = max(self.paths // 2, 1)
        one, two = (
            mitsuba_backend.render(scene, v, samples=half, denoise=False, variant=self.variant).radiance for v in views
        )
        return one, two

    def reader(self, scenes: int) -> SceneReader:
        """Of this scene."""
        return SETTINGS[self.name].reader(scenes=scenes, views=2, width=self.side, height=self.side, seed=self.seed)


@dataclass(frozen=True)
class Frame:
    """One view, judged.

    Attributes:
        scene, view, rendered: The source, and its `gain` of the light meter.
        new: The scene with the placements of the stage.
        halves: Radiance of the truth of `new`.
        names: Object ids with a new surface.
        identical: Whether geometry and instances are the same bytes after the stage and after the re-render.
    """

    scene: Scene
    view: View
    rendered: Rendered
    gain: float
    new: Scene
    halves: tuple[Any, Any]
    names: frozenset[str]
    identical: bool

    def sample(self, view: View) -> Sample:
        """The source as another exposure of the same camera."""
        return sample_of(f"{self.scene.id}/{view.name}", self.scene, view, self.rendered, self.gain)

    def truth(self, view: View) -> Pixels:
        """Likewise the truth."""
        return film.develop((self.halves[0] + self.halves[1]) / 2, view, self.gain)

    def noise(self) -> NDArray[np.float64]:
        """[H, W, 3] squared error of the truth by what its halves differ by."""
        one, two = (film.develop(half, self.view, self.gain).astype(np.float64) for half in self.halves)
        return np.square(one - two) / 4

    def changed(self, labels: Labels) -> NDArray[np.bool_]:
        """[H, W] pixels of the objects with a new surface."""
        ids = [i.id for i in labels.instances if i.object_id in self.names]
        return np.isin(labels.passes["instance"], ids)


def judged(judge: Judge, stage: Retexture, scene: Scene, view: View, gain: float | None = None) -> Frame:
    """Renders source and truth of one view. `gain` exposes it like another view; None meters it."""
    rendered = judge.source(scene, view)
    gain = film.meter(rendered.radiance) if gain is None else gain
    sample = sample_of(f"{scene.id}/{view.name}", scene, view, rendered, gain)
    before = digests(sample.labels)
    facts = painted(stage, sample)[1]
    placements = {key: Placement.from_json(fact) for key, fact in facts.items() if "entry" in fact}
    tiles = Library.open(stage.library)
    inks = {key: (fact["ink"][0], fact["ink"][1], fact["ink"][2]) for key, fact in facts.items() if "ink" in fact}
    new = retextured(scene, tiles, placements, inks)
    settings: dict[str, Any] = {"denoise": False, "variant": judge.variant, "coverage": SETTINGS[judge.name].coverage}
    again = sample_of(sample.id, new, view, mitsuba_backend.render(new, view, samples=1, **settings))
    same = before == digests(sample.labels) == digests(again.labels)
    return Frame(scene, view, rendered, gain, new, judge.truth(new, view), frozenset(placements), same)


def borders(ids: NDArray[Any]) -> NDArray[np.bool_]:
    """[H, W] pixels within 2 of another object."""
    five = np.ones((5, 5), np.uint8)
    low, high = (f(ids.astype(np.float32), five) for f in (cv2.erode, cv2.dilate))
    return low != high
