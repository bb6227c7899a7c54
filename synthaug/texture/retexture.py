"""New surfaces for rendered objects, on their own geometry and under their own light; no label moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from synthaug import seeds
from synthaug.contracts import Appearance, Draw
from synthaug.errors import ConfigError, InputError, SynthaugError
from synthaug.exchange import Painted
from synthaug.labels import Category, Instance, Labels
from synthaug.texture import attributes, wear
from synthaug.texture import library as libraries
from synthaug.texture.by_class import ByClass
from synthaug.texture.library import Library
from synthaug.texture.materials import ANY, Materials
from synthaug.texture.retexture_object import Wish, renewed
from synthaug.texture.retexture_view import View, planes
from synthaug.texture.tiles import Tiles

Mapped = Literal["auto", "uv", "planes"]
_PASSES = ("instance", "uv", "position", "depth", "normals", "albedo", "alpha")
_KINDS = wear.KINDS


class Retexture(Appearance):
    """Gives objects surfaces from a library of textures, and makes the picture the new reference.

    Deferred: the picture over the old albedo is the light, the light times the new albedo is the new surface, and what
    a clear coat mirrors stays (`shading`). Textures lie on the `uv` pass, else on three planes fixed to the object
    (`anchoring`), in their real size, turned and moved at random, the same in every frame and view. Relief is lit by
    the light of the picture (`lighting`). What new colours send on to each other is added as far as the picture shows
    it (`bounce`); a render knows the rest.

    Args:
        library: Folder of a texture library (`synthaug texture`).
        materials: Materials by class, `{car: {metal: 2, paint: 1}, crate: wood, person: null, "*": "*"}`; a class
            without any keeps its surface. Null: any texture for any class.
        probability: 0 to 1, share of the objects that are given a new surface; or a share by class.
        mapping: `uv` takes the texture coordinates, `planes` three planes fixed to the object, `auto` the first where
            there are any.
        metres_per_uv: Metres that a unit of u and of v are, by class: `{die: [0.048, 0.032]}`. An instance's attribute
            of that name goes first; what is neither named is measured in each picture (`placement`).
        scale: Smallest and largest factor on the real size of textures, 0.01 to 100.
        turn: 0 to 180 degrees; textures are turned by up to that, either way.
        relief: 0 to 4; how much of the relief of normal and height maps is lit anew.
        coat: Index of refraction of a clear coat over the colour (plastic, varnish: 1.5), 1 to 2.5, 1 for none; or by
            class. An instance's attribute of that name goes first.
        protect: 0 to 2; distance in OKLab from an object's usual colour beyond which a mark (pip, print) is kept, 0 for
            none: 0.2 tells pips from marbled plastic; or by class. Needs the `albedo` pass.
        cover: Weights of how new surfaces lie: `{full: 3, wear: 1, dirt: 1, stickers: 1}`; see `wear`. Null: full.
        covered: Smallest and largest share that is covered, other than `full`, 0 to 1.
        bounce: Whether changed objects get the light that the others send on anew, one bounce of it (`bounce`).
        fringe: Whether pixels beside an object whose centres it misses, but which show some of it, are repainted too.
            The colour of the old surface stays in them otherwise, and they stay identical to the bit.
        shoulder: 0.3 to 1; linear value above which the camera of the picture rolls off towards white, by
            1 - (1 - s) exp(-(v - s) / (1 - s)); 1 for pictures without: clipped, or scene-linear. The sRGB pictures of
            this package's renders have 0.8.
        largest: 64 to 16384 pixels; larger textures are reduced.
        cache: Megabytes of textures kept in memory, 1 to 65536; no byte of a dataset depends on it.
    """

    takes = "linear"
    gives = "linear"
    renews_reference: ClassVar[bool] = True
    operational: ClassVar[frozenset[str]] = frozenset({"library", "cache"})
    scope = "object"
    wants: tuple[str, ...] = _PASSES

    def __init__(
        self,
        *,
        library: str,
        materials: Mapping[str, Any] | None = None,
        probability: float | Mapping[str, float] = 1.0,
        mapping: Mapped = "auto",
        metres_per_uv: Mapping[str, tuple[float, float]] | None = None,
        scale: tuple[float, float] = (1.0, 1.0),
        turn: float = 180.0,
        relief: float = 1.0,
        coat: float | Mapping[str, float] = 1.0,
        protect: float | Mapping[str, float] = 0.0,
        cover: Mapping[str, float] | None = None,
        covered: tuple[float, float] = (0.4, 0.9),
        bounce: bool = True,
        fringe: bool = False,
        shoulder: float = 1.0,
        largest: int = 2048,
        cache: int = 512,
    ) -> None:
        self.library = library
        self.materials = Materials.parse(materials or {ANY: ANY})
        self.probability = ByClass.parse("probability", probability, 1.0, 0, 1)
        self.coat = ByClass.parse("coat", coat, 1.0, *attributes.INDEX)
        self.protect = ByClass.parse("protect", protect, 0.0, 0, 2)
        self.metres_per_uv = _sizes(metres_per_uv or {})
        self.cover = _weights(cover or {})
        _ordered("scale", scale, 0.01, 100)
        _ordered("covered", covered, 0, 1)
        _ordered("turn", (0.0, turn), 0, 180)
        _ordered("relief", (0.0, relief), 0, 4)
        _ordered("shoulder", (0.3, shoulder), 0.3, 1)
        _ordered("largest", (64, largest), 64, 16384)
        _ordered("cache", (1, cache), 1, 65536)
        if mapping not in ("auto", "uv", "planes"):
            raise ConfigError(f"mapping={mapping!r}: expected auto, uv or planes")
        self.mapping, self.scale, self.turn, self.relief = mapping, scale, turn, relief
        self.covered, self.bounce, self.fringe, self.shoulder, self.largest, self.cache = (
            covered,
            bounce,
            fringe,
            shoulder,
            largest,
            cache,
        )
        self._planned = ""
        self._opened: Library | None = None
        self._tiles: Tiles | None = None

    def expect(self, categories: Sequence[Category], passes: Sequence[str]) -> None:
        classes = [category.name for category in categories]
        there = self._library()
        self.materials.check(there.materials, classes)
        for rule in (self.probability, self.coat, self.protect):
            rule.check(classes)
        ByClass("metres_per_uv", dict.fromkeys(self.metres_per_uv, 0.0), 0.0).check(classes)
        self._expect_passes(set(passes))

    def _expect_passes(self, passes: set[str]) -> None:
        placed = bool({"position", "depth"} & passes)
        told = f"the input brings {', '.join(sorted(passes)) or 'no passes'}"
        if self.mapping == "uv" and "uv" not in passes:
            raise ConfigError(f"mapping=uv needs the pass uv; {told}. Use mapping=planes where there is depth")
        if not placed and (self.mapping == "planes" or "uv" not in passes):
            raise ConfigError(
                f"textures need to know where they lie: the pass uv, or position or depth with a camera; {told}."
                " Add one of them to the input"
            )
        if (self.mapping == "planes" or "uv" not in passes) and "normals" not in passes:
            raise ConfigError(f"textures without uv are laid on by the pass normals; {told}. Add it to the input")
        if not placed and ANY not in self.metres_per_uv:
            raise ConfigError(
                f"how large a unit of uv is cannot be measured without position or depth; {told}. Say it:"
                " metres_per_uv={'*': [0.1, 0.1]}, or as attribute metres_per_uv of every instance and '*' for the rest"
            )
        marked = any(value > 0 for value in self.protect.values.values())
        if marked and "albedo" not in passes:
            raise ConfigError(
                f"protect finds marks in the pass albedo; {told}. Add it, or set materials.CLASS=null for classes whose"
                " surface is the label"
            )

    def load(self, device: str) -> None:
        """Opens the library; textures are read when they are first used.

        Raises:
            InputError: It is no longer what `identity` said of it.
        """
        opened = self._library()
        found = self._digest(opened)
        if self._planned and found != self._planned:
            raise InputError(f"library={self.library} changed since the plan was made; restore it, or start anew")
        self._opened = opened
        self._tiles = Tiles(opened, self.largest, self.cache << 20)

    def identity(self) -> Mapping[str, Any]:
        """Content of the textures that the materials may name; others of the library may come and go."""
        opened = self._opened or self._library()
        self._planned = self._digest(opened)
        return {"textures": self._planned, "count": len(opened.used(self.materials))}

    def _library(self) -> Library:
        return Library.open(Path(self.library))

    def _digest(self, opened: Library) -> str:
        return libraries.identity(opened.used(self.materials))

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        """For one object: texture, turn in radians, offset in tiles, size, and how it covers; texture "" for none."""
        if self._opened is None:
            raise SynthaugError("Retexture was used before load()")
        # Everything is drawn for every object, so that changing one field does not change what the others draw.
        chance, size, angle, share, kind = rng.random(5)
        offset, seed = rng.random(2), seeds.fork(rng)
        name = labels.category(labels.instances[0]).name if labels.instances else ""
        entry = self._opened.draw(rng, self.materials, name)
        if entry is None or chance >= self.probability.of(name):
            return {"texture": ""}
        low, high = self.scale
        return {
            "texture": entry.id,
            "turn": round(float(np.radians(self.turn) * (2 * angle - 1)), 9),
            "offset": [round(float(v), 9) for v in offset],
            "scale": round(float(low * (high / low) ** size), 9),
            "cover": _picked(self.cover, float(kind)),
            "covered": round(float(self.covered[0] + (self.covered[1] - self.covered[0]) * share), 6),
            "seed": seed,
        }

    def paint(self, images: Any, labels: Sequence[Labels], draws: Sequence[Draw]) -> Any:
        """About 50 ms for a picture of 512x512 with seven dice, 110 ms where ten objects cover nearly all of it."""
        done = [self._painted(*row) for row in zip(images, labels, draws, strict=True)]
        pictures = np.stack([picture for picture, _ in done])
        return Painted(pictures, ("",) * len(done), tuple(facts for _, facts in done))

    def _painted(self, image: Any, labels: Labels, draw: Draw) -> tuple[Any, Mapping[str, Any]]:
        if self._tiles is None:
            raise SynthaugError("Retexture was used before load()")
        view = View(planes(image), labels, partial(self._index, labels), self.shoulder)
        facts: dict[str, Any] = {}
        for instance in labels.instances:
            key = _key(instance, draw)
            drawn = draw.get(key, {})
            if not drawn.get("texture"):
                continue
            name = labels.category(instance).name
            wish = Wish(
                drawn=drawn,
                mapping=self.mapping,
                size=self.metres_per_uv.get(name, self.metres_per_uv.get(ANY)),
                relief=self.relief,
                index=view.index_of(instance),
                protect=self.protect.of(name),
                fringe=self.fringe,
            )
            facts[key] = renewed(view, instance, wish, self._tiles)
        if self.bounce:
            view.exchange()
        return view.result(), {"objects": facts}

    def _index(self, labels: Labels, instance: Instance | None) -> float:
        """Of refraction of the coat; of what is no object for None."""
        if instance is None:
            return self.coat.of("")
        told = attributes.coat(instance)
        return self.coat.of(labels.category(instance).name) if told is None else told


def _key(instance: Instance, draw: Draw) -> str:
    """Under which name the draw of an object goes: its own, or that of the sample and its number."""
    if instance.object_id:
        return instance.object_id
    end = f"#{instance.id}"
    return next((name for name in draw if name.endswith(end)), end)


def _picked(weights: Mapping[str, float], chance: float) -> str:
    sums = np.cumsum(list(weights.values()))
    return list(weights)[min(int(np.searchsorted(sums, chance * sums[-1], side="right")), len(sums) - 1)]


def _weights(given: Mapping[str, float]) -> dict[str, float]:
    for name, value in given.items():
        if name not in _KINDS or not 0 <= value < np.inf:
            raise ConfigError(f"cover.{name}={value}: expected weights from 0 of {', '.join(_KINDS)}")
    found = {kind: float(given[kind]) for kind in _KINDS if given.get(kind, 0) > 0}
    if given and not found:
        raise ConfigError(f"cover={dict(given)}: no weight above 0")
    return found or {"full": 1.0}


def _sizes(given: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    for name, pair in given.items():
        if len(pair) != 2 or not all(0 < value < np.inf for value in pair):
            raise ConfigError(f"metres_per_uv.{name}={list(pair)}: expected two lengths in metres above 0")
    return {name: (float(u), float(v)) for name, (u, v) in given.items()}


def _ordered(field: str, pair: tuple[float, float], low: float, high: float) -> None:
    if not low <= pair[0] <= pair[1] <= high:
        shown = list(pair) if field in ("scale", "covered") else pair[1]
        raise ConfigError(f"{field}={shown}: expected {low:g} to {high:g}, the smaller first")
