"""What instances say of their own surface: attributes that go before what is configured for their class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from synthaug.errors import Rejected
from synthaug.labels import Instance

METRES, COAT = "metres_per_uv", "coat"
INDEX = (1.0, 2.5)
"""Least and largest index of refraction of a coat."""


def metres_per_uv(instance: Instance) -> tuple[float, float] | None:
    """Metres that a unit of u and of v are, from the attribute `metres_per_uv`; None where there is none.

    Raises:
        Rejected: Under `label`, for anything but two lengths.
    """
    value = instance.attributes.get(METRES)
    if value is None:
        return None
    pair = cast("Sequence[Any]", value) if isinstance(value, list | tuple) else ()
    if len(pair) != 2 or not all(_number(v) and 0 < v < np.inf for v in pair):
        raise Rejected("label", f"instance {instance.id}: attribute {METRES}={value!r}, expected two lengths in metres")
    return float(pair[0]), float(pair[1])


def coat(instance: Instance) -> float | None:
    """Index of refraction of the clear coat, from the attribute `coat`; 1 is none, None where nothing is said.

    Raises:
        Rejected: Under `label`, for anything but a number from 1 to 2.5.
    """
    value: Any = instance.attributes.get(COAT)
    if value is None:
        return None
    low, high = INDEX
    if not _number(value) or not low <= value <= high:
        raise Rejected(
            "label",
            f"instance {instance.id}: attribute {COAT}={value!r}, expected the index of refraction of a clear coat,"
            f" {low:g} (none) to {high:g}",
        )
    return float(value)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
