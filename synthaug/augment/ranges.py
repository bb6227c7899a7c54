"""Constructor arguments of augmentations: ranges to draw from, checked once and refused by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from synthaug.contracts import Border
from synthaug.errors import ConfigError
from synthaug.labels import Size

Interval = tuple[float, float]
Shared = Literal["sample", "group"]
"""Who has one draw in common: a sample has its own, or all samples of a group have the same."""


def interval(name: str, value: object, low: float, high: float, unit: str) -> Interval:
    """A range to draw from: `[from, to]`, both within [low, high].

    Raises:
        ConfigError: Not two finite numbers in ascending order, or outside of the limits.
    """
    limits = f"two numbers [from, to] in ascending order, within [{low:g}, {high:g}] {unit}"
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise ConfigError(f"{name} is {value!r}, expected {limits}")
    ends = [number(f"{name}[{i}]", end, low, high, unit) for i, end in enumerate(value)]
    if ends[0] > ends[1]:
        raise ConfigError(f"{name} is {list(value)}, expected {limits}")
    return ends[0], ends[1]


def number(name: str, value: object, low: float, high: float, unit: str) -> float:
    """One finite number within [low, high]; `ConfigError` otherwise."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and low <= value <= high:
        return float(value)
    raise ConfigError(f"{name} is {value!r}, expected a number within [{low:g}, {high:g}] {unit}")


def probability(name: str, value: object) -> float:
    """A share of the samples in [0, 1]; `ConfigError` otherwise."""
    return number(name, value, 0.0, 1.0, "(a probability)")


def shared(value: object) -> Shared:
    """The scope of a stage's draws; `ConfigError` for anything but `sample` and `group`."""
    for choice in get_args(Shared):
        if value == choice:
            return choice
    raise ConfigError(f"scope is {value!r}, expected one of {', '.join(get_args(Shared))}")


def border(value: object) -> Border:
    """What pictures show outside their source; `ConfigError` for anything but `constant` and `reflect`."""
    for choice in get_args(Border):
        if value == choice:
            return choice
    raise ConfigError(f"border is {value!r}, expected one of {', '.join(get_args(Border))}")


def canvas(height: object, width: object) -> Size:
    """A target size, both sides 1..16384 pixels; `ConfigError` otherwise."""
    return _side("height", height), _side("width", width)


def _side(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 16384:
        raise ConfigError(f"{name} is {value!r}, expected a whole number of pixels within [1, 16384]")
    return value


def uniform(rng: np.random.Generator, ends: Interval) -> float:
    """One number, every value of the range equally likely."""
    return float(rng.uniform(*ends))


def log_uniform(rng: np.random.Generator, ends: Interval) -> float:
    """One positive number; halving is as likely as doubling."""
    return float(np.exp(rng.uniform(math.log(ends[0]), math.log(ends[1]))))


def applies(rng: np.random.Generator, share: float) -> bool:
    """Whether a stage acts on this sample. Always costs one number, so that later ones do not shift."""
    return bool(rng.random() < share)
