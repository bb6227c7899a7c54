"""From scene-linear light (HDR) to the 8-bit sRGB that everything after it expects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from synthaug.augment import ranges
from synthaug.contracts import Appearance, Draw
from synthaug.errors import ConfigError
from synthaug.labels import Labels
from synthaug.transfer import srgb_from_linear

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)


class ToneMap(Appearance):
    """Exposes and compresses a scene-linear picture (Reinhard et al., Photographic Tone Reproduction, 2002).

    Exposure follows the log-average luminance of the picture, as a camera's meter does; highlights above `white`
    times the middle grey burn out. Chromaticity is kept: all channels share one gain.

    Args:
        key: Grey to which the log-average goes, linear, in (0, 1].
        white: Smallest luminance that becomes white, in multiples of the exposed scale, at least 0.1.
        exposure: Stops added, drawn from this range, within [-10, 10].
        scope: `sample`, or `group`: one draw for all samples of a group (frames of a sequence, views of a scene).
    """

    takes = "linear"
    gives = "srgb"

    def __init__(
        self,
        *,
        key: float = 0.18,
        white: float = 4.0,
        exposure: tuple[float, float] = (0.0, 0.0),
        scope: ranges.Shared = "sample",
    ) -> None:
        self.scope = ranges.shared(scope)
        if not 0 < key <= 1:
            raise ConfigError(f"key={key}: expected a linear grey in (0, 1]")
        if not white >= 0.1:
            raise ConfigError(f"white={white}: expected at least 0.1")
        low, high = exposure
        if not -10 <= low <= high <= 10:
            raise ConfigError(f"exposure={list(exposure)}: expected stops [low, high] within [-10, 10]")
        self.key, self.white, self.exposure = key, white, (low, high)

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        return {"exposure": float(rng.uniform(*self.exposure))}

    def paint(self, images: Any, labels: Sequence[Labels], draws: Sequence[Draw]) -> Any:
        done = np.empty_like(images)
        for image, draw, out in zip(images, draws, done, strict=True):
            luminance = np.maximum(np.tensordot(_LUMINANCE, image, axes=1), 0.0)
            average = float(np.exp(np.log(luminance + 1e-6).mean()))
            scaled = luminance * np.float32(self.key / average * 2.0 ** draw["exposure"])
            compressed = scaled * (1 + scaled / np.float32(self.white**2)) / (1 + scaled)
            gain = compressed / np.maximum(luminance, np.float32(1e-9))
            out[...] = srgb_from_linear(image * gain)
        return done
