"""Class maps in the palette of segmentation ControlNets."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from synthaug.errors import ConfigError, nearest
from synthaug.labels import Category, Labels
from synthaug.refine.guidance import ade20k, derive
from synthaug.refine.guidance.guide import Float32, Guide, Route, Source


@dataclass(frozen=True)
class Segmentation(Source):
    """Classes as flat colours: those of ADE20K by class name, or colours of one's own.

    Class names are understood with synonyms (`ade20k.find`); what is not understood stays black, is told before the
    run with the nearest names, and is never guessed. About 1 ms at 512x512.

    Args:
        mapping: ADE20K class by class name of the dataset; an empty name keeps a class black on purpose.
        colours: Red, green, blue (0 to 255) by class name, for models with a palette of their own; goes first.
        background: ADE20K class of the pixels without a class, such as `floor`; empty for black.
    """

    kind: ClassVar[str] = "segmentation"
    routes: ClassVar[tuple[Route, ...]] = derive.CLASSES

    mapping: Mapping[str, str] = field(default_factory=dict[str, str])
    colours: Mapping[str, Sequence[int]] = field(default_factory=dict[str, Sequence[int]])
    background: str = ""

    def __post_init__(self) -> None:
        for name in (*self.mapping.values(), self.background):
            if name and name not in ade20k.COLOURS:
                raise ConfigError(f"segmentation: '{name}' is no class of ADE20K.{nearest(name, ade20k.COLOURS)}")
        for name, colour in self.colours.items():
            if len(colour) != 3 or not all(isinstance(v, int) and 0 <= v <= 255 for v in colour):
                raise ConfigError(f"segmentation colours.{name}={colour}: expected red, green, blue, whole, 0 to 255")

    def meaning(self, category: Category) -> str | None:
        """ADE20K class of a class of the dataset; empty where the mapping says so, None where nothing is known."""
        if category.name in self.mapping:
            return self.mapping[category.name]
        return ade20k.find(category.name)

    def palette(self, categories: Sequence[Category]) -> dict[str, ade20k.RGB | None]:
        """Colour by class name, None for black for want of one."""
        out: dict[str, ade20k.RGB | None] = {}
        for category in categories:
            if category.name in self.colours:
                red, green, blue = self.colours[category.name]
                out[category.name] = (red, green, blue)
            else:
                meaning = self.meaning(category)
                out[category.name] = None if meaning is None else ade20k.COLOURS.get(meaning, (0, 0, 0))
        return out

    def missing(self, passes: Collection[str], categories: Sequence[Category], camera: bool | None) -> str:
        unknown = (self.mapping.keys() | self.colours.keys()) - {c.name for c in categories}
        if unknown:
            named = sorted(unknown)[0]
            near = nearest(named, (c.name for c in categories))
            return f"segmentation maps the class '{named}' that the input lacks.{near}"
        if not any(self.palette(categories).values()) and not self.background:
            names = ", ".join(f"'{c.name}'" for c in categories[:6]) or "none at all"
            return f"segmentation knows a colour for no class ({names}); say them: mapping={{class: ADE20K class}}"
        return super().missing(passes, categories, camera)

    def notes(self, passes: Collection[str], categories: Sequence[Category], camera: bool | None) -> tuple[str, ...]:
        black = [name for name, colour in self.palette(categories).items() if colour is None]
        told = super().notes(passes, categories, camera)
        for name in black:
            near = ade20k.suggest(name)
            told = (
                *told,
                f"segmentation: '{name}' is black" + (f"; near in ADE20K: {', '.join(near)}" if near else ""),
            )
        return told

    def guide(self, labels: Labels, picture: Float32) -> Guide:
        classes, source = derive.classes(labels)
        palette = self.palette(labels.categories)
        ground = ade20k.COLOURS[self.background] if self.background else (0, 0, 0)
        table = np.array([ground, *((colour or (0, 0, 0)) for colour in palette.values())], np.float32) / 255
        image = np.empty((3, *labels.size), np.float32)
        for channel in range(3):
            np.take(table[:, channel], classes, out=image[channel], mode="clip")
        black = sorted(name for name, colour in palette.items() if colour is None)
        facts = {"kind": self.kind, "from": source, "palette": "own" if self.colours else "ade20k", "black": black}
        return Guide(image, facts)
