"""Which materials a class of objects may have, with weights; and the material that a file's name suggests."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from synthaug.errors import ConfigError, nearest, printable
from synthaug.texture.entry import UNKNOWN, checked_word

ANY = "*"
"""As a class: all that are not named. As a material: every texture of the library."""
_HINTS: dict[str, str] = {
    "asphalt": "asphalt tarmac road",
    "brick": "brick bricks",
    "cardboard": "cardboard carton",
    "carpet": "carpet rug",
    "ceramic": "ceramic tile tiles porcelain",
    "concrete": "concrete cinder cement",
    "fabric": "fabric cloth curtain textile denim wool cotton linen",
    "glass": "glass window windows",
    "ground": "ground soil dirt mud sand gravel grass",
    "leather": "leather",
    "metal": "metal steel iron copper aluminium aluminum brass rust grate grill airduct",
    "paper": "paper book",
    "plaster": "plaster stucco drywall wall walls ceiling",
    "plastic": "plastic",
    "rubber": "rubber",
    "stone": "stone marble granite rock rocks slate cobble cobblestone",
    "water": "water slime lava",
    "wood": "wood wooden plank planks parquet oak pine fence",
}
_MATERIALS = {word: material for material, words in _HINTS.items() for word in words.split()}
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def words_of(name: str) -> tuple[str, ...]:
    """The words of a path, in lower case, each once, digits left out."""
    return tuple(dict.fromkeys(word.lower() for word in _PARTS.findall(name)))


def suggested(name: str) -> str:
    """The material that the words of a path suggest, the first of the file's own name that does; else `unknown`."""
    for part in reversed(name.split("/")):
        for word in words_of(part):
            if word in _MATERIALS:
                return _MATERIALS[word]
    return UNKNOWN


@dataclass(frozen=True, slots=True)
class Materials:
    """For each class the materials that its objects may be made of, with weights.

    Attributes:
        of_class: Weights by material by class; `*` stands for every class that is not named. A class without any
            material keeps its surface.
    """

    of_class: Mapping[str, Mapping[str, float]]

    @classmethod
    def parse(cls, value: Any) -> Materials:
        """From configuration: `{car: {metal: 2, paint: 1}, crate: wood, floor: [wood, stone], person: null, "*": "*"}`.

        A list gives every material the same weight; `*` as a material is every texture of the library.

        Raises:
            ConfigError: Another shape, a weight that is no positive number, or a word that is none.
        """
        if not isinstance(value, Mapping) or not value:
            raise ConfigError(f"materials={value!r}: expected classes with materials, such as {{car: {{metal: 2}}}}")
        rows = cast("Mapping[Any, Any]", value)
        return cls({str(name): _weights(str(name), found) for name, found in rows.items()})

    def of(self, class_name: str) -> Mapping[str, float]:
        """Weights by material for a class; empty where it keeps its surface."""
        return self.of_class.get(class_name, self.of_class.get(ANY, {}))

    def used(self) -> tuple[str, ...]:
        """Every material that is named, sorted."""
        return tuple(sorted({material for weights in self.of_class.values() for material in weights}))

    def check(self, materials: Iterable[str], classes: Sequence[str] | None = None) -> None:
        """Holds the mapping against what is there, before a run starts.

        Args:
            materials: Those of the library.
            classes: Those of the input; None where they are not known.

        Raises:
            ConfigError: A material that no texture has, or a class that the input lacks.
        """
        there = set(materials)
        missing = [m for m in self.used() if m != ANY and m not in there]
        if missing:
            raise ConfigError(
                f"no texture of the library is of {', '.join(missing)}.{nearest(missing[0], there)}"
                " Import some, or take it out of materials"
            )
        if not there:
            raise ConfigError("the library is empty; import textures first")
        strange = [] if classes is None else [n for n in self.of_class if n != ANY and n not in classes]
        if strange:
            raise ConfigError(
                f"materials: no class is called '{printable(strange[0])}'.{nearest(strange[0], classes or ())}"
            )


def _weights(class_name: str, value: Any) -> dict[str, float]:
    if value is None:
        return {}
    if isinstance(value, str):
        value = {value: 1}
    elif isinstance(value, Sequence):
        value = dict.fromkeys(cast("Sequence[Any]", value), 1)
    if not isinstance(value, Mapping) or not value:
        raise ConfigError(f"materials.{class_name}={value!r}: expected materials with weights, or null for none")
    found: dict[str, float] = {}
    for material, weight in cast("Mapping[Any, Any]", value).items():
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not 0 < weight < math.inf:
            raise ConfigError(f"materials.{class_name}.{material}={weight!r}: expected a weight above 0")
        key = f"materials.{class_name}"
        found[ANY if material == ANY else checked_word(key, str(material))] = float(weight)
    return dict(sorted(found.items()))
