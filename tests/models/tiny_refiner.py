"""A refiner of a few thousand random weights, written as training writes it."""

from __future__ import annotations

from pathlib import Path

import torch

from synthaug.models import rectified
from synthaug.models.maps import NONE, MapSpec
from synthaug.models.rectified import Spread
from synthaug.models.refiner import Facts, to_files

SPREAD = Spread((0.001, 0.01, 0.1), ((0.01, 0.02, 0.04), (0.005, 0.01, 0.02), (0.008, 0.016, 0.03)))


def build_tiny_refiner(folder: Path, maps: MapSpec = NONE, steps: int = 0) -> Path:
    """Writes it and returns the folder."""
    torch.manual_seed(0)
    network = rectified.network(rectified.Shape((8, 16), 1, maps.channels))
    facts = Facts((8, 16), 1, SPREAD, (0.001, 0.002, 0.004), "", maps=maps, steps=steps)
    for name, data in to_files(network, facts).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder
