"""Numbers of the photos that a refiner needs beside its weights, measured once before the first step."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch

from synthaug.models import guards, rectified
from synthaug.train.photos import Crops

KNOTS = tuple(v / 255 for v in (0.12, 0.25, 0.45, 0.8, 1.5, 3.0, 6.0, 12.0, 24.0))
BATCHES, EACH = 40, 8
_QUANTILES = 17
_LEAST = 0.1 / 255
"""Below it is rounding; also what a bin without pixels falls back to."""


def measure(crops: Crops) -> dict[str, Any]:
    """Spread and grain over 320 crops, as `rectified.Spread` and `Facts.grain` have them. About 5 s."""
    energy, counts = np.zeros((3, len(KNOTS))), np.zeros(len(KNOTS))
    grain: list[torch.Tensor] = []
    borders = torch.tensor([(a * b) ** 0.5 for a, b in pairwise(KNOTS)])
    for step in range(BATCHES):
        photos, conditions = (torch.from_numpy(side) for side in crops.batch(-2 - step, range(EACH)))
        difference = rectified.difference(photos, conditions)
        place = torch.bucketize(guards.texture(conditions), borders).flatten().numpy()
        counts += np.bincount(place, minlength=len(KNOTS))
        for channel in range(3):
            squares = difference[:, channel].square().flatten().numpy()
            energy[channel] += np.bincount(place, weights=squares, minlength=len(KNOTS))
        grain.append(guards.grain_levels(photos, conditions))
    levels = np.sqrt(energy / np.maximum(counts, 1))
    # A bin that no photo fills takes its smoother neighbour's level; detail never makes differences smaller.
    levels = np.maximum.accumulate(np.maximum(levels, _LEAST), axis=1)
    flat = torch.cat(grain).double().numpy()
    quantiles = np.quantile(flat, np.linspace(0, 1, _QUANTILES)) if len(flat) else np.full(_QUANTILES, 1 / 255)
    return {
        "knots": list(KNOTS),
        "levels": [[round(float(v), 7) for v in row] for row in levels],
        "grain": [round(float(v), 7) for v in quantiles],
    }
