"""The surfaces of the table-top scene: wood, cloth, felt, card, stone, plaster and printed patterns."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from synthaug import seeds
from synthaug.render.scene import Material, Rgb, Texture, linear, repeated
from synthaug.render.textures import Checks, Fibre, Marble, Sheet, Weave, Wood
from synthaug.transfer import linear_from_srgb

_WOODS = (("#c89c68", "#8c5c30"), ("#7c5234", "#44281a"), ("#d8b88c", "#b08854"), ("#a87850", "#6c4428"))
_STONES = (("#dcd8d0", "#6c6864"), ("#5c6460", "#c8ccc4"), ("#c8a890", "#7c5448"))
_HARD = {"wood": 0.25, "card": 0.2, "stone": 0.2, "paint": 0.2, "checks": 0.15}
_SOFT = {"cloth": 0.4, "felt": 0.3, "checks": 0.3}
_TABLES = {"wood": 0.5, "cloth": 0.2, "card": 0.15, "stone": 0.15}
_WALLS = {"plaster": 0.7, "stripes": 0.3}
_METRES = {
    "wood": 0.5,
    "card": 0.6,
    "stone": 0.4,
    "paint": 0.5,
    "checks": 0.2,
    "cloth": 0.35,
    "felt": 0.4,
    "plaster": 1.0,
    "stripes": 0.5,
}
"""Width of one texture in the world."""


@dataclass(frozen=True, slots=True)
class Cover:
    """A surface and the word for it that the labels carry."""

    name: str
    material: Material


def table(size: tuple[float, float], rng: np.random.Generator) -> Cover:
    """Of the table, whose u and v go once along its width and depth in metres."""
    return _flat(_chosen(_TABLES, rng), size, rng)


def wall(size: tuple[float, float], rng: np.random.Generator) -> Cover:
    """Of the wall, likewise."""
    return _flat(_chosen(_WALLS, rng), size, rng)


def hard(unit: float, coated: bool, rng: np.random.Generator) -> Cover:
    """Of boxes, pots and balls.

    Args:
        unit: Metres of one unit of u and v; a whole number of textures fits on it, so that they close around a body.
        coated: With a clear coat.
        rng: Draws kind, colours and gloss.
    """
    return _around(_chosen(_HARD, rng), unit, float(rng.uniform(0.12, 0.4)) if coated else None, rng)


def soft(unit: float, rng: np.random.Generator) -> Cover:
    """Of cushions, likewise; never with a coat."""
    return _around(_chosen(_SOFT, rng), unit, None, rng)


def _flat(kind: str, size: tuple[float, float], rng: np.random.Generator) -> Cover:
    texture = _texture(kind, rng)
    return Cover(kind, Material(texture, None, repeated(size[0] / _METRES[kind], size[1] / _METRES[kind])))


def _around(kind: str, unit: float, roughness: float | None, rng: np.random.Generator) -> Cover:
    count = float(max(1, round(unit / _METRES[kind])))
    return Cover(kind, Material(_texture(kind, rng), roughness, repeated(count, count)))


def _chosen(shares: dict[str, float], rng: np.random.Generator) -> str:
    return str(rng.choice(list(shares), p=list(shares.values())))


def _texture(kind: str, rng: np.random.Generator) -> Texture:
    seed, colour, other = seeds.fork(rng), _colour(rng), _colour(rng)
    if kind == "wood":
        light, dark = _WOODS[int(rng.integers(len(_WOODS)))]
        return Wood(linear(light), linear(dark), seed)
    if kind == "stone":
        stone, vein = _STONES[int(rng.integers(len(_STONES)))]
        return Marble(linear(stone), linear(vein), seed)
    if kind == "cloth":
        return Weave(colour, seed, threads=96)
    if kind == "felt":
        return Fibre(colour, seed)
    if kind in ("checks", "stripes"):
        cells = int(rng.choice([4, 6, 8]))
        return Checks(colour, other, seed, (cells, 1 if kind == "stripes" else cells))
    if kind == "plaster":
        level = float(rng.uniform(0.45, 0.75))
        return Sheet((level, level * 0.98, level * float(rng.uniform(0.88, 0.98))), seed, stain=0.03, grain=0.02)
    if kind == "card":
        return Sheet(linear("#b8946a"), seed, stain=0.04, grain=0.05, specks=20)
    return Sheet(colour, seed, stain=0.01, grain=0.01)


def _colour(rng: np.random.Generator) -> Rgb:
    """Neither black nor white, so that light shows on it."""
    hue, saturation, value = rng.uniform(0, 1), rng.uniform(0.15, 0.75), rng.uniform(0.4, 0.88)
    red, green, blue = linear_from_srgb(colorsys.hsv_to_rgb(float(hue), float(saturation), float(value)))
    return float(red), float(green), float(blue)
