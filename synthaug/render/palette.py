"""The dice and surfaces of the first scene: what small shops sell, in colours read off photographs of dice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synthaug import seeds
from synthaug.render.scene import Material, Texture, linear, repeated
from synthaug.render.textures import Fibre, Pips, Sheet, Weave, Wood


@dataclass(frozen=True, slots=True)
class Look:
    """One kind of die.

    Attributes:
        name: Of its colour, for the labels.
        body, swirl, pip: sRGB; `swirl` equal to `body` where the plastic is of one colour.
        finish: Of `FINISHES`.
        edge: Millimetres.
        rounding: Radius of its edges as a share of the edge length.
    """

    name: str
    body: str
    swirl: str
    pip: str
    finish: str
    edge: float
    rounding: float


FINISHES = {"glossy": 0.06, "satin": 0.16, "resin": 0.09, "matt": 0.38}
"""GGX roughness of the coat by the name that the labels carry."""

LOOKS = (
    Look("red", "#d8161c", "#d8161c", "#f4f0ea", "glossy", 16, 0.07),
    Look("green", "#089a4e", "#089a4e", "#f4f4ee", "glossy", 16, 0.07),
    Look("blue", "#1b26b4", "#1b26b4", "#f0f0f4", "glossy", 16, 0.07),
    Look("purple", "#6b1488", "#6b1488", "#f2eef4", "glossy", 16, 0.08),
    Look("black", "#1b1a1c", "#1b1a1c", "#f0f0f0", "glossy", 16, 0.10),
    Look("white", "#eceae4", "#eceae4", "#17171a", "satin", 16, 0.10),
    Look("yellow", "#f2e500", "#f6b400", "#141414", "resin", 16, 0.15),
    Look("red-gold", "#d21420", "#a80c1c", "#d8a818", "resin", 16, 0.20),
    Look("grey-red", "#3a3634", "#55504c", "#c01c20", "resin", 16, 0.18),
    Look("crimson", "#8c1a32", "#b23c50", "#f0d8d8", "resin", 12, 0.14),
    Look("red", "#c8202a", "#c8202a", "#f4dcd4", "satin", 12, 0.12),
    Look("aubergine", "#2a1840", "#4a2c64", "#f0eef4", "resin", 12, 0.12),
    Look("navy", "#222a58", "#30407c", "#e8ecf4", "resin", 12, 0.13),
    Look("gold", "#8c6426", "#a8803c", "#100c08", "resin", 14, 0.08),
    Look("teal", "#087860", "#1c9c70", "#e8e010", "resin", 14, 0.12),
    Look("azure", "#1468b0", "#0c3868", "#c01840", "resin", 13, 0.16),
    Look("ivory", "#e8e2cc", "#e8e2cc", "#141210", "matt", 13, 0.16),
    Look("orange", "#f0701c", "#f0701c", "#181412", "satin", 14, 0.12),
)


def die_material(look: Look, rng: np.random.Generator) -> Material:
    """Its plastic, a little different from die to die."""
    tone = float(np.exp(rng.normal(0, 0.06)))
    body, swirl = (_scaled(colour, tone) for colour in (look.body, look.swirl))
    texture = Pips(body, swirl, linear(look.pip), seeds.fork(rng), float(rng.uniform(0.096, 0.116)))
    return Material(texture, FINISHES[look.finish] * float(np.exp(rng.normal(0, 0.15))))


def mat(rng: np.random.Generator) -> Material:
    """The pale plastic sheet of the photographs."""
    texture = Sheet(_pale(rng, 0.85), seeds.fork(rng), stain=0.01, grain=0.004, specks=6, folds=0.015)
    return Material(texture, 0.35, repeated(4.0, 4.0))


def card(rng: np.random.Generator, level: float) -> Material:
    """Grey card: the floor and the inner walls of the tray. `level` is its reflectance."""
    return Material(Sheet(_pale(rng, level), seeds.fork(rng), stain=0.015, grain=0.07, specks=10))


def print_rim(rng: np.random.Generator) -> Material:
    """The dark printed outside of the tray."""
    texture = Sheet((0.022, 0.021, 0.026), seeds.fork(rng), stain=0.5, grain=0.2)
    return Material(texture, 0.12)


def table(rng: np.random.Generator) -> tuple[str, Material]:
    """Another floor: paper, felt, cloth, wood or plastic, with its name."""
    seed = seeds.fork(rng)
    felts = ("#1c6a3c", "#7c1c24", "#20345c", "#303234")
    cloths = ("#b8b0a0", "#5c6c80", "#8c3830", "#d8d4cc")
    woods = (("#c89c68", "#8c5c30"), ("#7c5234", "#44281a"), ("#d8b88c", "#b08854"))
    plastics = ("#d0d0cc", "#2c2e32", "#c8b490", "#4c7088")
    kind = ("paper", "felt", "cloth", "wood", "plastic")[int(rng.integers(5))]
    texture: Texture
    if kind == "paper":
        return kind, Material(Sheet(_pale(rng, 0.78), seed, stain=0.006, grain=0.02), None, repeated(4.0, 4.0))
    if kind == "felt":
        texture = Fibre(linear(felts[int(rng.integers(len(felts)))]), seed)
        return kind, Material(texture, None, repeated(5.0, 5.0))
    if kind == "cloth":
        texture = Weave(linear(cloths[int(rng.integers(len(cloths)))]), seed)
        return kind, Material(texture, None, repeated(8.0, 8.0))
    if kind == "wood":
        light, dark = woods[int(rng.integers(len(woods)))]
        texture = Wood(linear(light), linear(dark), seed)
        return kind, Material(texture, float(rng.uniform(0.25, 0.45)), repeated(4.0, 4.0))
    texture = Sheet(linear(plastics[int(rng.integers(len(plastics)))]), seed, stain=0.01, grain=0.01, specks=4)
    return kind, Material(texture, float(rng.uniform(0.15, 0.4)), repeated(4.0, 4.0))


def _pale(rng: np.random.Generator, level: float) -> tuple[float, float, float]:
    red, green, blue = level * np.exp(rng.normal(0, 0.04)) * (1 + rng.normal(0, 0.003, 3) * [1, 0.3, 1])
    return float(min(red, 0.9)), float(min(green, 0.9)), float(min(blue, 0.9))


def _scaled(colour: str, gain: float) -> tuple[float, float, float]:
    red, green, blue = (min(v * gain, 0.92) for v in linear(colour))
    return red, green, blue
