"""The look of real photos without a network: colour and coarse light of a render moved toward theirs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synthaug.contracts import Appearance, Draw
from synthaug.errors import ConfigError, InputError, SynthaugError, first_of, nearest
from synthaug.formats.inputs import InputRoot
from synthaug.labels import Labels
from synthaug.refine.colour import Float32, mapped
from synthaug.refine.statistics import (
    BINS,
    CANONICAL,
    OPPONENT,
    RADIUS,
    Statistics,
    basis,
    cosines,
    fit,
    measure,
    thumbnail,
)

METHODS = ("reinhard", "transport", "fda")
_NOISE_FLOOR = 1.0
"""Variance in L*a*b* added to both pictures: a flat or grey one has no direction that could be stretched."""


class Look(Appearance):
    """Matches colour and coarse light of a picture to those of real photos.

    `reinhard` matches mean and spread of each L*a*b* axis (Reinhard et al., IEEE CG&A 2001); `transport`
    the whole covariance by the one linear map that moves colours least (Monge-Kantorovich: Pitie and Kokaram,
    CVMP 2007), which knows that a photo's shadows are blue; `fda` the amplitudes of low frequencies, phases
    kept (after Fourier domain adaptation: Yang and Soatto, CVPR 2020), for spectra smoothed over rings, on the
    picture mirrored at its borders and through a window without corners, so that nothing rings or blotches;
    `mix` draws one of the three. Colours that leave sRGB give up chroma, not hue.

    Args:
        photos: Folder of real photos. One of `photos` and `statistics` is needed.
        statistics: File made by `refine.statistics.Statistics.to_bytes`, instead of the folder.
        method: `reinhard`, `transport`, `fda` or `mix`.
        strength: 0 to 1; share of the way toward the photo.
        spread: 0 to 1; each sample draws its strength from `strength * (1 - spread)` to `strength`.
        strength_decay: In (0, 1]; each repair multiplies the strength by it.
        reference: `random` takes one photo for each sample, `mean` the average of all.
        beta: 0 to 0.06; radius of the window of `fda`, as a share of a 256-pixel side (0.02: 5 cycles).
        max_gain: 1 to 10; most stretching or squeezing of any colour axis; of a frequency, its square root.
        vivid: 0 to 200; chroma (CIE a*b*) at which a colour takes half of a cast, so that signals, lines and
            paint keep their colours; 0 treats all colours alike. Not for `fda`.
        limit: 1 to 10000; photos measured at most, evenly over the folder.
    """

    operational: ClassVar[frozenset[str]] = frozenset({"photos", "statistics"})

    def __init__(
        self,
        *,
        photos: str | None = None,
        statistics: str | None = None,
        method: str = "transport",
        strength: float = 0.6,
        spread: float = 0.5,
        strength_decay: float = 0.6,
        reference: str = "random",
        beta: float = 0.02,
        max_gain: float = 1.6,
        vivid: float = 50.0,
        limit: int = 256,
    ) -> None:
        if (photos is None) == (statistics is None):
            raise ConfigError("look needs either photos (a folder of real photos) or statistics (a file made from one)")
        if method not in (*METHODS, "mix"):
            raise ConfigError(f"method={method}: unknown.{nearest(method, (*METHODS, 'mix'))}")
        if reference not in ("random", "mean"):
            raise ConfigError(f"reference={reference}: unknown.{nearest(reference, ('random', 'mean'))}")
        for name, value, low, high in (
            ("strength", strength, 0, 1),
            ("spread", spread, 0, 1),
            ("beta", beta, 0, 0.06),
            ("max_gain", max_gain, 1, 10),
            ("vivid", vivid, 0, 200),
            ("limit", limit, 1, 10_000),
        ):
            if not low <= value <= high:
                raise ConfigError(f"{name}={value}: expected {low} to {high}")
        if not 0 < strength_decay <= 1:
            raise ConfigError(f"strength_decay={strength_decay}: expected a factor in (0, 1]")
        self.photos = photos
        self.statistics = statistics
        self.method = method
        self.strength = strength
        self.spread = spread
        self.strength_decay = strength_decay
        self.reference = reference
        self.beta = beta
        self.max_gain = max_gain
        self.vivid = vivid
        self.limit = limit
        self._planned: Statistics | None = None
        self._fitted: Statistics | None = None

    def load(self, device: str) -> None:
        """Measures the photos, or reads their statistics.

        Raises:
            InputError: They are no longer what `identity` said of them.
        """
        fitted = self._statistics()
        if self._planned is not None and fitted.digest != self._planned.digest:
            old, new = self._planned.files, fitted.files
            moved = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
            what = f"photos={self.photos}: {len(moved)} files" if moved else f"statistics={self.statistics}"
            raise InputError(f"{what} changed since the plan was made; restore what was there:{first_of(moved)}")
        self._fitted = fitted

    def identity(self) -> Mapping[str, Any]:
        """The content of the photos, or of the file of statistics: of all its bytes, whatever its head says."""
        fitted = self._planned = self._fitted or self._statistics()
        return {"photos": fitted.digest, "measured": fitted.count, "skipped": fitted.skipped}

    def _statistics(self) -> Statistics:
        if self.photos is not None:
            return fit(self.photos, self.limit)
        path = Path(str(self.statistics))
        data = InputRoot(path.parent).read(path.name)
        return replace(Statistics.from_bytes(data), digest=hashlib.sha256(data).hexdigest())

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        """Method, photo (-1 for the average) and strength."""
        # All three are always drawn, so that changing one field does not change what the others draw.
        method, photo, share = rng.integers(len(METHODS)), rng.random(), rng.random()
        strength = self.strength * (1 - self.spread * share) * self.strength_decay**attempt
        return {
            "method": METHODS[method] if self.method == "mix" else self.method,
            "photo": int(photo * self._ready().count) if self.reference == "random" else -1,
            "strength": round(strength, 6),
        }

    def _ready(self) -> Statistics:
        if self._fitted is None:
            raise SynthaugError("Look was used before load()")
        return self._fitted

    def paint(self, images: Any, labels: Sequence[Labels], draws: Sequence[Draw]) -> Any:
        """About 20 ms for a picture of 640x380 on one core."""
        return np.stack([self._painted(image, draw) for image, draw in zip(images, draws, strict=True)])

    def _painted(self, image: Float32, draw: Draw) -> Float32:
        strength = float(draw["strength"])
        if strength == 0:
            return image
        mean, covariance, amplitudes = self._ready().of(int(draw["photo"]))
        own_mean, own_covariance, own_amplitudes = measure(image)
        if draw["method"] == "fda":
            field = low_field(own_amplitudes, amplitudes, image, self.beta, self.max_gain)
            return added(image, np.float32(strength) * field)
        by = reinhard if draw["method"] == "reinhard" else monge
        matrix = by(own_covariance.astype(np.float64), covariance.astype(np.float64), self.max_gain)
        # Part of the way along the straight line from each colour to its image (McCann 1997).
        matrix = (1 - strength) * np.eye(3) + strength * matrix
        target = (1 - strength) * own_mean + strength * mean
        return mapped(image, matrix, target - matrix @ own_mean, self.vivid)


def reinhard(source: NDArray[np.float64], target: NDArray[np.float64], most: float) -> NDArray[np.float64]:
    """The map that matches the spread of each axis, [3, 3] covariances to a diagonal matrix."""
    gain = np.sqrt((np.diag(target) + _NOISE_FLOOR) / (np.diag(source) + _NOISE_FLOOR))
    return np.diag(np.clip(gain, 1 / most, most))


def monge(source: NDArray[np.float64], target: NDArray[np.float64], most: float) -> NDArray[np.float64]:
    """The symmetric map that takes one covariance to the other and moves colours least.

    T = S^-1/2 (S^1/2 R S^1/2)^1/2 S^-1/2; its eigenvalues, the gains, are kept within `most`.
    """
    source, target = (c + _NOISE_FLOOR * np.eye(3) for c in (source, target))
    root, inverse = _power(source, 0.5), _power(source, -0.5)
    gains, axes = np.linalg.eigh(inverse @ _power(root @ target @ root, 0.5) @ inverse)
    return (axes * np.clip(gains, 1 / most, most)) @ axes.T


def _power(matrix: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    """A symmetric positive matrix to a power."""
    values, axes = np.linalg.eigh(matrix)
    return (axes * np.maximum(values, 1e-9) ** exponent) @ axes.T


def low_field(own: Float32, wanted: Float32, planes: Float32, beta: float, most: float) -> Float32:
    """[3, H, W] to add so that low frequencies get the wanted amplitudes; their phases stay.

    Args:
        own, wanted: Amplitudes [3, 32] as `Statistics` has them.
        planes: The picture, [3, H, W].
        beta: Up to `beta * 256` cycles the amplitudes are matched, fading out by a raised cosine up to twice that.
        most: Its square root bounds the gain of any frequency; the mean is shifted, not scaled.
    """
    waves = cosines(thumbnail(planes))
    # A filter that lifts or sinks a band of frequencies leaves a glow around what stands out: half as much, in dB.
    gain = np.clip(wanted / np.maximum(own, np.float32(1e-5)), most**-0.5, most**0.5)
    rings = np.stack([np.interp(RADIUS, np.arange(BINS), row) for row in gain])
    radius = max(2 * beta * CANONICAL, 1e-6)
    window = 0.5 + 0.5 * np.cos(np.pi * np.clip(RADIUS / radius - 1, 0, 1))
    change = waves * (rings - 1) * window
    change[:, 0, 0] = wanted[:, 0] - own[:, 0]
    change = np.einsum("co,oij->cij", np.linalg.inv(OPPONENT), change).astype(np.float32)
    return basis(planes.shape[1]).T @ change @ basis(planes.shape[2])


def added(planes: Float32, field: Float32) -> Float32:
    """A picture plus a field, with less of it near white and black, so that nothing is pushed into clipping."""
    square = np.where(field > 0, planes, 1 - planes) ** 2
    return np.clip(planes + field * (1 - square * square), 0, 1)
