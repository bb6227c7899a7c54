"""What a tile looks like from afar: colours, contrast, how fast it changes along both axes. Drawn before its pixels.

A family that makes a tile piece by piece has to know from the first piece which material it is about. Where a folder
has no classes, nothing says so; these numbers do, and they are cheap to draw: from those of the tiles seen in
training, blurred (a smoothed bootstrap, as in Silverman, "Density estimation", 1986, section 6.4).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from synthaug import seeds as philox
from synthaug.models.texture.family import drawn

_LAGS = (1, 2, 4, 8, 16)
SIZE = 3 + 6 + 2 * len(_LAGS)
"""Numbers of a look: means of channels, how these vary together, steps across some lags downwards and to the right."""
_FLAT = 0.02
"""Spread of what counts as flat; nothing is divided by less."""
_BLUR = (*[0.04] * 3, *[0.01] * 6, *[0.04] * 2 * len(_LAGS))
_AXES = ((3**-0.5,) * 3, (2**-0.5, 0.0, -(2**-0.5)), (6**-0.5, -2 * 6**-0.5, 6**-0.5))
"""Lightness and two colours: what a grey tile lacks stands last."""


def look_of(images: Tensor) -> Tensor:
    """[B, 19] of [B, 3, H, W] in [-1, 1]; rolling or mirroring a tile does not change it.

    Mean of each channel; the Cholesky factor of the covariance of lightness and two colours; then, downwards and to the
    right, the mean step between pixels 1, 2, 4, 8 and 16 apart, in units of the spread.
    """
    unit = images.std((2, 3)).mean(1) + _FLAT
    steps = [(images - images.roll(lag, dim)).abs().mean((1, 2, 3)) / unit for dim in (2, 3) for lag in _LAGS]
    return torch.cat([_colours(images), torch.stack(steps, 1)], 1)


def levelled(images: Tensor, look: Tensor) -> Tensor:
    """Tiles without the colours and the contrast of their look: three uncorrelated maps, structure alone."""
    centred = _axes(look) @ (images.flatten(2) - look[:, :3, None])
    return torch.linalg.solve_triangular(_factor(look), centred, upper=False).view_as(images)


def toned(structure: Tensor, look: Tensor) -> Tensor:
    """The reverse of `levelled`."""
    return _painted(structure, look, _factor(look))


def alike(maps: Tensor, look: Tensor) -> Tensor:
    """[B, 3, H, W] of any colours and contrast, in those of a look."""
    factor = _factor(look)
    own = factor.diagonal(dim1=1, dim2=2)
    less = own - (own.square() - _FLAT**2).clamp(min=0).sqrt()  # what is flat stays flat
    return _painted(levelled(maps, _colours(maps)), look, factor - torch.diag_embed(less))


def _colours(maps: Tensor) -> Tensor:
    """[B, 9] of [B, 3, H, W]."""
    pixels = maps.flatten(2)
    centre = pixels.mean(2)
    rest = _axes(maps) @ (pixels - centre[..., None])
    flat = _FLAT**2 * torch.eye(3, device=maps.device, dtype=maps.dtype)
    factor = torch.linalg.cholesky(rest @ rest.mT / rest.shape[2] + flat)
    rows, columns = torch.tril_indices(3, 3)
    return torch.cat([centre, factor[:, rows, columns]], 1)


def _factor(look: Tensor) -> Tensor:
    """[B, 3, 3], lower triangular, its diagonal at least that of what is flat."""
    rows, columns = torch.tril_indices(3, 3)
    factor = look.new_zeros(len(look), 3, 3)
    factor[:, rows, columns] = look[:, 3:9]
    diagonal = factor.diagonal(dim1=1, dim2=2)
    return factor + torch.diag_embed(diagonal.clamp(min=_FLAT) - diagonal)


def _painted(structure: Tensor, look: Tensor, factor: Tensor) -> Tensor:
    centred = _axes(look).mT @ (factor @ structure.flatten(2))
    return (centred + look[:, :3, None]).view_as(structure)


def _axes(like: Tensor) -> Tensor:
    return torch.tensor(_AXES, device=like.device, dtype=like.dtype)


class Looks(nn.Module):
    """Conditions a family on looks, and remembers those that it has seen.

    Args:
        hidden: Numbers that the family is told.
        classes: How many; 0 for none. They are told as well.
        kept: Looks that are remembered, the last ones.
    """

    seen: Tensor
    labels: Tensor
    count: Tensor

    def __init__(self, hidden: int, classes: int = 0, kept: int = 512) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(SIZE, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.embed = nn.Embedding(classes, hidden) if classes else None
        self.register_buffer("seen", torch.zeros(kept, SIZE))
        self.register_buffer("labels", torch.full((kept,), -1))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self, looks: Tensor, labels: Tensor | None) -> Tensor:
        """[B, hidden] of [B, 19]."""
        told = self.layers(looks)
        return told if self.embed is None else told + self.embed(labels)

    @torch.no_grad()
    def learn(self, images: Tensor, labels: Tensor | None, rng: torch.Generator) -> Tensor:
        """[B, 19] looks of a batch, blurred; remembers them as they are."""
        found = look_of(images)
        places = (torch.arange(len(found), device=found.device) + self.count) % len(self.seen)
        self.seen[places] = found
        self.labels[places] = -1 if labels is None else labels
        self.count += len(found)
        return found + found.new_tensor(_BLUR) * drawn(rng, found.shape, found)

    def draw(self, seeds: Sequence[int], labels: Tensor | None) -> Tensor:
        """[B, 19], each a function of its seed and label: one that was seen of that class, blurred."""
        known = min(int(self.count), len(self.seen))
        rows: list[Tensor] = []
        for i, seed in enumerate(seeds):
            rng = philox.generator(seed, "texture", 0, "look")
            blur = torch.from_numpy(rng.standard_normal(SIZE, dtype="float32")).to(self.seen)
            fitting = torch.arange(known, device=self.seen.device)
            if labels is not None and bool((own := self.labels[:known] == labels[i]).any()):
                fitting = own.nonzero()[:, 0]
            chosen = self.seen[fitting[int(rng.integers(len(fitting)))]] if len(fitting) else torch.zeros_like(blur)
            rows.append(chosen + blur.new_tensor(_BLUR) * blur)
        return torch.stack(rows)
