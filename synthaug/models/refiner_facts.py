"""`refiner.json`: the numbers that belong to a refiner beside its weights, and what it takes."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, cast

from synthaug.errors import InputError
from synthaug.models import rectified
from synthaug.models.maps import FACTS, NONE, MapSpec, spec_from

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Facts:
    """What `refiner.json` says.

    Attributes:
        channels, layers: As `rectified.Shape`.
        spread: Expected size of the difference between a photo and its simplified picture.
        grain: Standard deviations of luma detail on flat surfaces of the photos, in [0, 1] units: quantiles at
            even steps from the smoothest tile to the roughest.
        weights: SHA-256 of the weights file.
        format: Version of this layout.
        maps: What it takes beside the picture.
        steps: Calls of the network that a distilled refiner was made for; 0 for one that was not distilled.
    """

    channels: tuple[int, ...]
    layers: int
    spread: rectified.Spread
    grain: tuple[float, ...]
    weights: str
    format: int = _FORMAT
    maps: MapSpec = NONE
    steps: int = 0

    @property
    def shape(self) -> rectified.Shape:
        """The network's size."""
        return rectified.Shape(self.channels, self.layers, self.maps.channels)

    @property
    def digest(self) -> str:
        """SHA-256 over all of these numbers, the weights' own included."""
        return hashlib.sha256(json.dumps(self.rows(), sort_keys=True).encode()).hexdigest()

    def rows(self) -> dict[str, Any]:
        """As `refiner.json` has it: maps and steps stand there only where there are any."""
        rows = asdict(self)
        if self.maps == NONE:
            del rows["maps"]
        if not self.steps:
            del rows["steps"]
        return rows


def facts_from(value: object) -> Facts:
    """Facts from the file's JSON. Raises `InputError` for what training never writes."""
    rows = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    try:
        facts = Facts(
            channels=tuple(int(c) for c in rows["channels"]),
            layers=int(rows["layers"]),
            spread=rectified.Spread(
                tuple(float(knot) for knot in rows["spread"]["knots"]),
                tuple(tuple(float(level) for level in row) for row in rows["spread"]["levels"]),
            ),
            grain=tuple(float(level) for level in rows["grain"]),
            weights=str(rows["weights"]),
            format=int(rows["format"]),
            maps=spec_from(rows),
            steps=int(rows.get("steps", 0)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{FACTS}: not what `synthaug train refiner` writes ({error!r})") from error
    if facts.format != _FORMAT:
        raise InputError(f"{FACTS}: format {facts.format}, this version reads {_FORMAT}")
    _check_numbers(facts)
    return facts


def _check_numbers(facts: Facts) -> None:
    knots, levels = facts.spread.knots, facts.spread.levels
    numbers = (*knots, *facts.grain, *(level for row in levels for level in row))
    fits = len(knots) >= 2 and len(levels) == 3 and all(len(row) == len(knots) for row in levels)
    rising = all(0 < a < b for a, b in pairwise(knots))
    if not 0 <= facts.steps <= 1000:
        raise InputError(f"{FACTS}: {facts.steps} steps, expected 0 to 1000; copy it again")
    if not (facts.grain and fits and rising and all(math.isfinite(n) and 0 <= n <= 1 for n in numbers)):
        raise InputError(f"{FACTS}: spread and grain do not hold the numbers that training writes; copy it again")
