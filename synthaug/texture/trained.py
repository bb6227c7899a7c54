"""Tiles from a model that was trained on textures (`models/texture`): every family through one signature.

They look like the tiles that the model has learnt from, in their size, and wrap as far as the family does
(docs/textures.md has the figures). It fails where few tiles were learnt from: then it repeats them, which
`metrics.texture.nearest_distances` shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from synthaug import seeds
from synthaug.texture.exemplar import Tile, settled

if TYPE_CHECKING:
    from synthaug.models.texture.saving import Opened


def drawn_class(opened: Opened, seed: int) -> str:
    """Name of the class of a tile, drawn by its seed; empty where the model has none."""
    if not opened.classes:
        return ""
    place = seeds.generator(seed, "texture", 0, "class").random()
    return opened.classes[int(place * len(opened.classes))]


def sample(
    opened: Opened, tile_seeds: Sequence[int], labels: Sequence[str], *, side: int = 0, batch: int = 16
) -> Iterator[Tile]:
    """One tile per seed and class, each a function of its own.

    Args:
        opened: A model from its file.
        tile_seeds: One per tile.
        labels: As many names of classes; empty ones for a model whose classes have no names, or that has none.
        side: In pixels; 0 for that of the tiles that the model learnt from.
        batch: Tiles at a time.

    Yields:
        Tiles in order; without pixels where a value is not finite (`nonfinite`).

    Raises:
        InputError: A side or class that the model does not have.
    """
    import torch

    model = opened.model
    for place in range(0, len(tile_seeds), batch):
        these, named = tile_seeds[place : place + batch], labels[place : place + batch]
        noise = [seeds.fork(seeds.generator(seed, "texture", 0, "trained")) for seed in these]
        numbers = torch.tensor([opened.number(name) for name in named]) if all(named) else None
        made = model.sample(numbers, noise, side or model.side)
        pixels = (made.to("cpu", torch.float32) / 2 + 0.5).permute(0, 2, 3, 1).numpy()
        for row, seed in enumerate(these):
            if not np.isfinite(pixels[row]).all():
                yield Tile(seed, None, "nonfinite")
            else:
                yield Tile(seed, settled(np.clip(pixels[row], 0, 1)))
