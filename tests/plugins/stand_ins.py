"""Stand-in classes for tests of configuration: constructors with every kind of field, and nothing behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from synthaug.errors import ConfigError


class Reader:
    """Reads nothing at all.

    Args:
        root: Folder of the dataset.
        images: Folder of the pictures below root; null finds the usual ones.
        classes: Class names in order.
    """

    def __init__(self, *, root: str, images: str | None = None, classes: Sequence[str] = ()) -> None:
        self.root, self.images, self.classes = root, images, classes


class Writer:
    """Writes nothing at all.

    Args:
        masks: How masks are stored: rle or polygons.
    """

    def __init__(self, *, masks: Literal["rle", "polygons"] = "rle") -> None:
        self.masks = masks


@dataclass(kw_only=True)
class Curve:
    """A curve, as a part of a stage.

    Args:
        gamma: Exponent, above 0.
    """

    gamma: float = 1.0


class Tint:
    """Shifts colours.

    Longer words about it.

    Args:
        strength: Share of the shift, 0 to 1. Zero leaves
            the picture alone.
        steps: Number of passes, 1 or more.
        colour: Red, green, blue in [0, 1].
        names: Weight by class name.
        soft: Whether edges blend.
        curve: A nested curve; null for none.
        free: Anything.
    """

    def __init__(
        self,
        *,
        strength: float = 0.5,
        steps: int = 1,
        colour: tuple[float, float, float] = (1.0, 1.0, 1.0),
        names: Mapping[str, float] | None = None,
        soft: bool = False,
        curve: Curve | None = None,
        free: Any = None,
    ) -> None:
        if not 0 <= strength <= 1:
            raise ConfigError(f"strength {strength} is out of range, expected 0 to 1")
        if steps < 1:
            raise ConfigError(f"steps {steps} is out of range, expected 1 or more")
        self.strength, self.steps, self.colour, self.names = strength, steps, colour, names
        self.soft, self.curve, self.free = soft, curve, free


class Broken:
    """Fails when it is built."""

    def __init__(self) -> None:
        raise OSError("no such device")
