"""A number that a configuration gives for all classes, or for each: `0.5`, or `{car: 0.5, "*": 0}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from synthaug.errors import ConfigError, nearest, printable
from synthaug.texture.materials import ANY


@dataclass(frozen=True, slots=True)
class ByClass:
    """A number for every class.

    Attributes:
        field: Of the configuration, for messages.
        values: By class; `*` for those that are not named.
        default: Where neither says anything.
    """

    field: str
    values: Mapping[str, float]
    default: float

    @classmethod
    def parse(cls, field: str, given: Any, default: float, low: float, high: float) -> ByClass:
        """From configuration: null, a number, or numbers by class.

        Raises:
            ConfigError: Anything else, or a number outside of `low` to `high`.
        """
        if given is None:
            return cls(field, {}, default)
        rows = cast("Mapping[Any, Any]", given) if isinstance(given, Mapping) else {ANY: given}
        values: dict[str, float] = {}
        for name, value in rows.items():
            where = field if not isinstance(given, Mapping) else f"{field}.{printable(str(name))}"
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not low <= value <= high:
                raise ConfigError(f"{where}={value!r}: expected a number from {low:g} to {high:g}")
            values[str(name)] = float(value)
        return cls(field, values, default)

    def of(self, class_name: str) -> float:
        """The number of a class; "" asks for what has no class."""
        return self.values.get(class_name, self.values.get(ANY, self.default))

    def check(self, classes: Sequence[str]) -> None:
        """Raises `ConfigError` for a class that the input lacks."""
        for name in self.values:
            if name != ANY and name not in classes:
                raise ConfigError(f"{self.field}: no class is called '{printable(name)}'.{nearest(name, classes)}")
