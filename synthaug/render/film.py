"""From radiance to the picture of a small camera: light meter, lens fall-off, tone curve, 8 bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synthaug.render.scene import Float32, Float64, View
from synthaug.transfer import srgb_from_linear

MIDDLE = 0.54
"""Linear mean that the meter aims at over a light floor, before the lens takes its share: phone photos of a pale
table come out at sRGB 178 on average."""
WHITE_FLOOR = 0.75
"""Mean radiance of a scene on a light floor under a normalised sky and a lamp."""
TRUST = 0.45
"""Share of a change of the mean that the meter makes up for: a dark floor stays darker than a pale one."""


def meter(radiance: Float32) -> float:
    """What the light meter multiplies a picture by, [H, W, 3] linear, >= 0."""
    mean = max(float(radiance.mean(dtype=np.float64)), 1e-6)
    return MIDDLE / WHITE_FLOOR * (WHITE_FLOOR / mean) ** TRUST


def expose(radiance: Float32, view: View, metered: float | None = None) -> Float32:
    """Scene-linear picture, scaled by the meter, the view's exposure and its colour cast.

    Args:
        radiance: [H, W, 3] linear, >= 0.
        view: With exposure and cast.
        metered: What `meter` gave for another picture, to expose this one alike; None to meter this one.
    """
    gain = (meter(radiance) if metered is None else metered) * 2.0**view.exposure
    return (radiance * (gain * np.asarray(view.cast))).astype(np.float32)


def develop(radiance: Float32, view: View, metered: float | None = None) -> NDArray[np.uint8]:
    """[H, W, 3] sRGB as a phone would show it: exposed, vignetted, highlights rolled off above 0.8."""
    exposed = expose(radiance, view, metered).astype(np.float64) * _falloff(view)[..., None]
    knee = 0.8
    over = np.maximum(exposed - knee, 0)
    rolled = np.where(exposed > knee, knee + (1 - knee) * (1 - np.exp(-over / (1 - knee))), exposed)
    return np.rint(srgb_from_linear(rolled) * 255).astype(np.uint8)


def _falloff(view: View) -> Float64:
    """cos^4 of the angle to the axis, for the share that the lens leaves uncorrected."""
    height, width = view.size
    k = view.camera.K
    x = (np.arange(width) + 0.5 - k[0, 2]) / k[0, 0]
    y = (np.arange(height) + 0.5 - k[1, 2])[:, None] / k[1, 1]
    return 1 - view.vignette * (1 - (1 + x * x + y * y) ** -2)
