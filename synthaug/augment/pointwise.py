"""Colour changes that look at one channel value at a time. The engine turns a row of them into one table.

Values are sRGB in [0, 1], as a camera's own controls act on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from synthaug.augment import ranges
from synthaug.contracts import Draw, Pointwise
from synthaug.labels import Labels


class BrightnessContrast(Pointwise):
    """Shifts all values and stretches them about a pivot: `(v - pivot) * contrast + pivot + brightness`.

    Args:
        brightness: Range of the shift, as a share of full scale, within [-1, 1].
        contrast: Range of the gain within [0, 4]; 1 changes nothing.
        pivot: Value in [0, 1] that the contrast leaves where it is.
        scope: `sample`, or `group`: one draw for all samples of a group (frames of a sequence, views of a scene).
    """

    also_on_device = True

    def __init__(
        self,
        *,
        brightness: Sequence[float] = (-0.15, 0.15),
        contrast: Sequence[float] = (0.8, 1.2),
        pivot: float = 0.5,
        scope: ranges.Shared = "sample",
    ) -> None:
        self.scope = ranges.shared(scope)
        self.brightness = ranges.interval("brightness", brightness, -1, 1, "of full scale")
        self.contrast = ranges.interval("contrast", contrast, 0, 4, "(gain)")
        self.pivot = ranges.number("pivot", pivot, 0, 1, "of full scale")

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        return {
            "brightness": ranges.uniform(rng, self.brightness),
            "contrast": ranges.uniform(rng, self.contrast),
        }

    def curve(self, values: Any, draw: Draw) -> Any:
        offset = self.pivot * (1 - draw["contrast"]) + draw["brightness"]
        return values * draw["contrast"] + offset


class Gamma(Pointwise):
    """Raises values to a power: below 1 brightens the shadows, above 1 darkens them; black and white stay.

    Args:
        gamma: Range of the exponent within [0.1, 10]; drawn log-uniformly.
        scope: `sample`, or `group`: one draw for all samples of a group (frames of a sequence, views of a scene).
    """

    also_on_device = True

    def __init__(self, *, gamma: Sequence[float] = (0.8, 1.25), scope: ranges.Shared = "sample") -> None:
        self.scope = ranges.shared(scope)
        self.gamma = ranges.interval("gamma", gamma, 0.1, 10, "(exponent)")

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        return {"gamma": ranges.log_uniform(rng, self.gamma)}

    def curve(self, values: Any, draw: Draw) -> Any:
        return values ** draw["gamma"]


class ColourBalance(Pointwise):
    """Multiplies red, green and blue by gains of their own, as a white balance that is a little off.

    Args:
        gain: Range of each gain within [0.1, 4]; drawn log-uniformly, then divided by their geometric
            mean, so that brightness stays about what it was.
        scope: `sample`, or `group`: one draw for all samples of a group (frames of a sequence, views of a scene).
    """

    also_on_device = True

    def __init__(self, *, gain: Sequence[float] = (0.9, 1.1), scope: ranges.Shared = "sample") -> None:
        self.scope = ranges.shared(scope)
        self.gain = ranges.interval("gain", gain, 0.1, 4, "(gain)")

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        gains = np.array([ranges.log_uniform(rng, self.gain) for _ in range(3)])
        return {"gains": [float(g) for g in gains / np.exp(np.log(gains).mean())]}

    def curve(self, values: Any, draw: Draw) -> Any:
        return values * _row(draw["gains"], values)


class ToneCurve(Pointwise):
    """Bends the tone curve: an S (contrast in the middle) and a bow (mid-tones up or down), ends fixed.

    `v + s sin(2 pi v) / 2 pi + b sin(pi v) / pi`, which stays monotone while |s| + |b| <= 1, so that no
    tones are exchanged.

    Args:
        strength: Largest |s| and |b|, within [0, 0.5].
        per_channel: Whether each channel gets a curve of its own, which tints shadows and lights.
        scope: `sample`, or `group`: one draw for all samples of a group (frames of a sequence, views of a scene).
    """

    also_on_device = True

    def __init__(self, *, strength: float = 0.25, per_channel: bool = False, scope: ranges.Shared = "sample") -> None:
        self.scope = ranges.shared(scope)
        self.strength = ranges.number("strength", strength, 0, 0.5, "(slope)")
        self.per_channel = bool(per_channel)

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        bends = rng.uniform(-self.strength, self.strength, (3, 2))
        if not self.per_channel:
            bends[1:] = bends[0]
        return {"s": [float(v) for v in bends[:, 0]], "bow": [float(v) for v in bends[:, 1]]}

    def curve(self, values: Any, draw: Draw) -> Any:
        turn = 2 * np.pi
        s, bow = _row(draw["s"], values), _row(draw["bow"], values)
        return values + _sine(values * turn) * s / turn + _sine(values * np.pi) * bow / np.pi


def _row(numbers: Sequence[float], values: Any) -> Any:
    """Three numbers for the three channels, of the kind and on the device of `values`."""
    return np.asarray(numbers, dtype=np.float32) if isinstance(values, np.ndarray) else values.new_tensor(numbers)


def _sine(values: Any) -> Any:
    return np.sin(values) if isinstance(values, np.ndarray) else values.sin()
