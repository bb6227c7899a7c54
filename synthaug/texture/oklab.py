"""Linear sRGB to OKLab: distances between colours that look about as large as they are.

Ottosson, "A perceptual color space for image processing", 2020. L from 0 (black) to 1 (white), a and b within
about 0.4 of zero; 0.02 is a difference that most people just see.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import ConfigError, printable
from synthaug.transfer import linear_from_srgb, srgb_from_linear

_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_HEX = re.compile(r"#?([0-9a-fA-F]{6})")


def oklab_from_linear(colours: NDArray[Any]) -> NDArray[np.float64]:
    """[..., 3] linear sRGB, zero or more, to [..., 3] OKLab."""
    return np.cbrt(np.maximum(colours, 0.0) @ _TO_CONES.T) @ _TO_LAB.T


def hex_of(lab: NDArray[Any]) -> str:
    """The sRGB colour of an OKLab triple as `#rrggbb`, clipped to what a screen shows."""
    cones = np.asarray(lab, np.float64) @ np.linalg.inv(_TO_LAB).T
    srgb = srgb_from_linear(cones**3 @ np.linalg.inv(_TO_CONES).T)
    return "#" + "".join(f"{round(float(v) * 255):02x}" for v in srgb)


def parsed(text: str) -> NDArray[np.float64]:
    """OKLab of `#rrggbb`; the # may be missing, since shells take it for a comment.

    Raises:
        ConfigError: Anything else.
    """
    found = _HEX.fullmatch(text.strip())
    if not found:
        raise ConfigError(f"colour={printable(text)}: expected six hexadecimal digits, such as '#aa8844'")
    return oklab_from_linear(linear_from_srgb(np.array(list(bytes.fromhex(found[1]))) / 255))
