"""What a tile looks like from afar: colours, contrast, how much of it changes how fast and along which direction.

A look is drawn before the pixels of a tile, and the finished tile is brought to it. It is cheap to draw: one of those
of the tiles seen in training, blurred (a smoothed bootstrap, as in Silverman, "Density estimation", 1986, section
6.4). What is left to a network is the structure: where things stand, how they hang together. Bringing noise to the
statistics of a texture is the oldest way to make one (Heeger and Bergen, "Pyramid-based texture analysis/synthesis",
SIGGRAPH 1995); here it is applied to what a network made.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec

import torch
from torch import Tensor, nn

from synthaug import seeds as philox
from synthaug.models.texture.family import drawn

P = ParamSpec("P")
_OCTAVES, _DIRECTIONS, _RANKS = 6, 8, 8
_BANDS = _OCTAVES * _DIRECTIONS
SIZE = 3 + 6 + _BANDS + _RANKS
"""Numbers of a look: means of channels, how these vary together, bands of lightness, quantiles of lightness."""
_FLAT = 0.02
"""Spread of what counts as flat; nothing is divided by less."""
_SHARE = 1e-6
"""Of all variance, added to each: matrices stay definite in single precision."""
_FAINT = 0.01
"""Amplitude of a band, in units of the spread of lightness, below which it counts as empty."""
_MOST, _AGAIN = 30.0, 2.0
"""Largest gain of a band, the first time and every further time: what is not there is rounding or made by ranks."""
_HARDLY = 0.1
"""Spread of a map, after its bands were changed, that is still brought to 1: less was nothing from the start."""
_STEEP = 0.05
"""Least distance of two quantiles, in units of the spread of lightness, over which values are moved apart."""
_ROUNDS = 3
_BLUR = (*[0.04] * 3, *[0.1] * 6, *[0.04] * _BANDS, *[0.02] * _RANKS)
"""Of contrast in units of its own, above what is flat: a grey tile may get a tint, and no colours in it."""
_AXES = ((3**-0.5,) * 3, (2**-0.5, 0.0, -(2**-0.5)), (6**-0.5, -2 * 6**-0.5, 6**-0.5))
"""Lightness and two colours: what a grey tile lacks stands last."""


def _exactly(function: Callable[Concatenate[Tensor, P], Tensor]) -> Callable[Concatenate[Tensor, P], Tensor]:
    """In single precision, also where a training computes in half: small differences of sums are what counts here."""

    @functools.wraps(function)
    def called(first: Tensor, *rest: P.args, **named: P.kwargs) -> Tensor:
        with torch.autocast(first.device.type, enabled=False):
            return function(first.float(), *rest, **named)

    return called


@_exactly
def look_of(images: Tensor) -> Tensor:
    """[B, 65] of [B, 3, H, W] in [-1, 1]; rolling a tile does not change it.

    Mean of each channel; the Cholesky factor of the covariance of lightness and two colours; then, of lightness in
    units of its spread, the logarithms of the amplitudes in six octaves (the finest first) by eight directions, and
    eight quantiles.
    """
    colours = _colours(images)
    light = levelled(images, colours)[:, :1]
    bands = (_energies(torch.fft.rfft2(light), _windows(light), light.shape[-1]).sqrt() + _FAINT).log()
    return torch.cat([colours, bands, _quantiles(light[:, 0])], 1)


@_exactly
def levelled(images: Tensor, look: Tensor) -> Tensor:
    """Tiles without the colours and the contrast of their look: three uncorrelated maps, structure alone."""
    centred = _axes(look) @ (images.flatten(2) - look[:, :3, None])
    return torch.linalg.solve_triangular(_factor(look), centred, upper=False).view_as(images)


@_exactly
def toned(structure: Tensor, look: Tensor) -> Tensor:
    """The reverse of `levelled`."""
    return _painted(structure, look, _factor(look))


@_exactly
def alike(structure: Tensor, look: Tensor, *, ranks: bool = True) -> Tensor:
    """[B, 3, H, W] in RGB: maps of lightness and two colours, of any scale, brought to a look.

    All maps of a tile go through one filter, so that what hangs together in them stays together. `levelled` tiles come
    back as they were, within a level of 255 in the mean; rolled maps give a rolled tile. Maps that are flat to rounding
    get whatever rounding says.

    Args:
        structure: [B, 3, H, W], as `levelled` has them.
        look: [B, 65].
        ranks: Also the quantiles of lightness, in turns with the bands; gradients do not pass.
    """
    maps = _white(structure, _FLAT)
    for number in range(_ROUNDS if ranks else 1):
        maps = _filtered(maps, look, _AGAIN if number else _MOST)
        if ranks:
            maps = torch.cat([_ranked(maps[:, 0], look[:, -_RANKS:])[:, None], maps[:, 1:]], 1)
    factor = _factor(look)
    own = factor.diagonal(dim1=1, dim2=2)
    # What is flat stays flat: what `_root` added to the variances of the look is no contrast.
    added = _FLAT**2 + _SHARE * (factor.square().sum((1, 2)) - 3 * _FLAT**2).clamp(min=0)
    less = own - (own.square() - added[:, None]).clamp(min=0).sqrt()
    return _painted(_white(maps, _HARDLY), look, factor - torch.diag_embed(less))


def _white(maps: Tensor, floor: float) -> Tensor:
    """Uncorrelated maps of mean 0 and spread 1; what spreads much less than `floor` comes out as that share of 1."""
    centred = maps.flatten(2) - maps.mean((2, 3))[..., None]
    factor = _root(centred @ centred.mT / centred.shape[2], floor)
    white = torch.linalg.solve_triangular(factor, centred, upper=False) * math.sqrt(1 + floor**2)
    return white.view_as(maps)


def _root(covariance: Tensor, floor: float) -> Tensor:
    """[B, 3, 3]: Cholesky factor of a covariance and a floor; not finite where that is not."""
    flat = floor**2 + _SHARE * covariance.diagonal(dim1=1, dim2=2).sum(1)[:, None]
    return torch.linalg.cholesky_ex(covariance + torch.diag_embed(flat.expand(-1, 3))).L


def _filtered(structure: Tensor, look: Tensor, most: float) -> Tensor:
    """With the amplitudes of a look in each band of lightness."""
    windows, spectrum = _windows(structure), torch.fft.rfft2(structure)
    wanted = (look[:, 9 : 9 + _BANDS].exp() - _FAINT).clamp(min=0)
    found, gain = spectrum, torch.ones_like(wanted)
    for _ in range(_ROUNDS):  # bands overlap, so that once is not enough
        own = _energies(found[:, :1], windows, structure.shape[-1]).add(1e-12).sqrt()
        gain = (gain * (wanted + 1e-3) / (own + 1e-3)).clamp(max=most)
        found = spectrum * torch.einsum("bk,kyx->byx", gain, windows)[:, None]
    return torch.fft.irfft2(found, structure.shape[-2:])


def _energies(spectrum: Tensor, windows: Tensor, width: int) -> Tensor:
    """[B, K] mean squares of a map in each band, from its half spectrum [B, 1, H, W / 2 + 1]."""
    twice = torch.full(spectrum.shape[-1:], 2.0, device=spectrum.device)
    twice[0] = 1.0
    if width % 2 == 0:
        twice[-1] = 1.0
    power = spectrum[:, 0].abs().square() * twice
    return torch.einsum("byx,kyx->bk", power, windows) / (spectrum.shape[-2] * width) ** 2


def _quantiles(light: Tensor) -> Tensor:
    """[B, 8] of [B, H, W]."""
    shares = (torch.arange(_RANKS, device=light.device) + 0.5) / _RANKS
    return torch.quantile(light.flatten(1), shares.to(light), dim=1).T


def _ranked(light: Tensor, quantiles: Tensor) -> Tensor:
    """[B, H, W] with these quantiles, by a line from each to the next; beyond the outermost all are moved alike."""
    found, wanted = _quantiles(light), quantiles.sort(1).values
    # Where values are few, quantiles coincide: both sides are spread alike, or rounding would move values far.
    spread = nn.functional.pad((_STEEP - found.diff(dim=1)).clamp(min=0).cumsum(1), (1, 0))
    own, wanted = ((values + spread)[:, None, None] for values in (found, wanted))
    place = (light[..., None] >= own).sum(3, keepdim=True).clamp(1, _RANKS - 1)
    shape = (*light.shape, _RANKS)
    below, above, low, high = (
        values.expand(shape).gather(3, at)[..., 0] for values in (own, wanted) for at in (place - 1, place)
    )
    inside = torch.lerp(low, high, ((light - below) / (above - below)).clamp(0, 1))
    return inside + (light - above).clamp(min=0) - (below - light).clamp(min=0)


def _windows(like: Tensor) -> Tensor:
    return _bank(*like.shape[-2:]).to(like)


@functools.lru_cache(maxsize=8)
def _bank(height: int, width: int) -> Tensor:
    """[48, H, W / 2 + 1] smooth windows on half the plane of frequencies; their sum is 1, and 0 at the mean."""
    with torch.inference_mode(False):  # it is kept, and may serve a training later
        return _made(height, width)


def _made(height: int, width: int) -> Tensor:
    down, across = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    radius = (down.square() + across.square()).sqrt()
    octave = torch.log2(0.5 / radius.clamp(min=1e-6)).clamp(0, _OCTAVES - 1)
    turn = torch.atan2(down.expand_as(radius), across.expand_as(radius)) / math.pi * _DIRECTIONS
    rows: list[Tensor] = []
    for own in range(_OCTAVES):
        scale = torch.sin((1 - (octave - own).abs()).clamp(min=0) * math.pi / 2).square()
        for direction in range(_DIRECTIONS):
            apart = (turn - direction + _DIRECTIONS / 2) % _DIRECTIONS - _DIRECTIONS / 2
            rows.append(scale * torch.cos(apart.abs().clamp(max=1) * math.pi / 2).square())
    bank = torch.stack(rows)
    bank[:, 0, 0] = 0
    return bank


def _colours(maps: Tensor) -> Tensor:
    """[B, 9] of [B, 3, H, W]."""
    pixels = maps.flatten(2)
    centre = pixels.mean(2)
    rest = _axes(maps) @ (pixels - centre[..., None])
    factor = _root(rest @ rest.mT / rest.shape[2], _FLAT)
    rows, columns = torch.tril_indices(3, 3)
    return torch.cat([centre, factor[:, rows, columns]], 1)


def _factor(look: Tensor) -> Tensor:
    """[B, 3, 3], lower triangular, its diagonal at least that of what is flat."""
    rows, columns = torch.tril_indices(3, 3)
    factor = look.new_zeros(len(look), 3, 3)
    factor[:, rows, columns] = look[:, 3:9]
    diagonal = factor.diagonal(dim1=1, dim2=2)
    return factor + torch.diag_embed(diagonal.clamp(min=_FLAT) - diagonal)


def _blurred(look: Tensor, noise: Tensor) -> Tensor:
    """[B, 65] of as much and standard normal noise."""
    own = _factor(look).diagonal(dim1=1, dim2=2) - _FLAT
    rows, _ = torch.tril_indices(3, 3)
    scale = look.new_tensor(_BLUR).repeat(len(look), 1)
    scale[:, 3:9] *= own[:, rows]
    return look + scale * noise


def _painted(structure: Tensor, look: Tensor, factor: Tensor) -> Tensor:
    centred = _axes(look).mT @ (factor @ structure.flatten(2))
    return (centred + look[:, :3, None]).view_as(structure)


def _axes(like: Tensor) -> Tensor:
    return torch.tensor(_AXES, device=like.device, dtype=like.dtype)


class Looks(nn.Module):
    """Conditions a family on looks, and remembers the last that it has seen: all of those of a few hundred tiles.

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
        """[B, hidden] of [B, 65]."""
        told = self.layers(looks)
        return told if self.embed is None else told + self.embed(labels)

    @torch.no_grad()
    def learn(self, images: Tensor, labels: Tensor | None, rng: torch.Generator) -> Tensor:
        """[B, 65] looks of a batch, blurred; remembers them as they are."""
        found = look_of(images)
        places = (torch.arange(len(found), device=found.device) + self.count) % len(self.seen)
        self.seen[places] = found
        self.labels[places] = -1 if labels is None else labels
        self.count += len(found)
        return _blurred(found, drawn(rng, found.shape, found))

    def draw(self, seeds: Sequence[int], labels: Tensor | None) -> Tensor:
        """[B, 65], each a function of its seed and label: a look seen of that class, blurred.

        Where none of the class is remembered, of any; before a training, that of noise.
        """
        known = min(int(self.count), len(self.seen))
        plain = look_of(0.3 * torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))[0].to(self.seen)
        rows: list[Tensor] = []
        for i, seed in enumerate(seeds):
            rng = philox.generator(seed, "texture", 0, "look")
            blur = torch.from_numpy(rng.standard_normal(SIZE, dtype="float32")).to(self.seen)
            fitting = torch.arange(known, device=self.seen.device)
            if labels is not None and bool((own := self.labels[:known] == labels[i]).any()):
                fitting = own.nonzero()[:, 0]
            chosen = self.seen[fitting[int(rng.integers(len(fitting)))]] if len(fitting) else plain
            rows.append(_blurred(chosen[None], blur[None]))
        return torch.cat(rows)
