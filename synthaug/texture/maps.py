"""Material maps that a picture of a surface suggests: height, normals, roughness, occlusion, all wrapping like it.

One picture holds no relief: what follows reads dark as deep and fine contrast as rough, as painters of game textures
do by hand. It is right for mortar, cracks, weaves and pebbles; it is wrong where colour is paint (black and white tiles
get steps), where the deep is light (`light_is_deep`) and where light is in the picture. The normals are those of the
height to the last digit, whatever the height is worth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import ConfigError
from synthaug.metrics.texture import as_colour
from synthaug.transfer import linear_from_srgb

Float32 = NDArray[np.float32]
_SCALES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Pixels; spreads of the Gaussians between which the height collects contrast."""
_TOP = 3.0
"""Contrast in standard deviations that is the highest and the lowest height."""
_DIRECTIONS = 8
_STEPS = (1, 2, 4, 8, 16)
"""Pixels at which the horizon is looked for."""


@dataclass(frozen=True, slots=True, eq=False)
class MaterialMaps:
    """Maps of one surface; rows and columns as in its albedo.

    Attributes:
        height: [H, W] in [0, 1]; 1 stands out. One unit is `relief` pixels.
        normal: [H, W, 3] unit vectors: x to the right, y up, z out of the surface (OpenGL, glTF). 8 bits a channel
            would cost up to half a degree: store 16.
        roughness: [H, W] in [0, 1].
        occlusion: [H, W] in [0, 1]; 1 sees the whole sky.
        relief: Pixels from height 0 to height 1.
    """

    height: Float32
    normal: Float32
    roughness: Float32
    occlusion: Float32
    relief: float


def from_albedo(
    albedo: NDArray[Any],
    *,
    relief: float = 8.0,
    smooth: float = 1.0,
    light_is_deep: bool = False,
    roughness: float = 0.7,
    contrast: float = 0.3,
) -> MaterialMaps:
    """All maps of a tile; a rolled tile gives rolled maps.

    Costs about 0.2 CPU seconds for 1024 x 1024.

    Args:
        albedo: [H, W, 3] sRGB, uint8 or float in [0, 1]. It is taken to wrap; one that does not gets a step there.
        relief: 0 to 1024; depth from the lowest to the highest point, in pixels.
        smooth: 0 to 16; spread in pixels of the Gaussian that the height is smoothed with: grain is no relief.
        light_is_deep: Turns the height over: for pale mortar between dark bricks.
        roughness: 0 to 1; of a surface of even brightness.
        contrast: 0 to 1; how much rougher than that the finest-grained places are, and smoother the bright and even.

    Raises:
        InputError: An albedo of another form.
        ConfigError: A parameter out of its range.
    """
    colour = as_colour(albedo, "albedo")
    for name, value, high in (
        ("relief", relief, 1024),
        ("smooth", smooth, 16),
        ("roughness", roughness, 1),
        ("contrast", contrast, 1),
    ):
        if not 0 <= value <= high:
            raise ConfigError(f"{name}={value}: expected 0 to {high}")
    height = height_from(colour, smooth)
    height = 1 - height if light_is_deep else height
    return MaterialMaps(
        height=height,
        normal=normals(height, relief),
        roughness=_roughness(colour, roughness, contrast),
        occlusion=occlusion(height, relief),
        relief=relief,
    )


def height_from(colour: Float32, smooth: float = 1.0) -> Float32:
    """[H, W] in [0, 1] from [H, W, 3] sRGB in [0, 1]: contrast of the tone at several scales, wide ones counting more.

    The root of the scale weighs a band: a wide dark place is deeper than a narrow one. What changes over more than
    about 50 pixels is taken for colour or light. 0.5 is the mean; three standard deviations reach the ends.
    """
    # The cube root of luminance is what the eye calls tone (CIE L*): a dark material keeps its relief.
    tone = np.cbrt(_luminance(colour))
    spectrum, shape = np.fft.rfft2(tone.astype(np.float64)), tone.shape
    filters = [_gaussian(shape, scale) for scale in _SCALES]
    response = sum(math.sqrt(s) * (fine - wide) for s, fine, wide in zip(_SCALES, filters, filters[1:], strict=False))
    band = np.fft.irfft2(spectrum * response * _gaussian(shape, smooth), shape)
    spread = float(band.std())
    if spread < 1e-6:
        return np.full(shape, 0.5, np.float32)
    return (0.5 + band / (2 * _TOP * spread)).clip(0, 1).astype(np.float32)


def normals(height: Float32, relief: float) -> Float32:
    """[H, W, 3] unit normals of a height that wraps: x right, y up, z out of the surface.

    Slopes are central differences over two pixels; a wave of 64 pixels and 45 degrees is met within 0.05 degrees.

    Args:
        height: [H, W].
        relief: Pixels that one unit of height is.
    """
    deep = height.astype(np.float64) * relief
    right = (np.roll(deep, -1, 1) - np.roll(deep, 1, 1)) / 2
    down = (np.roll(deep, -1, 0) - np.roll(deep, 1, 0)) / 2
    found = np.stack([-right, down, np.ones_like(deep)], axis=2)
    return (found / np.linalg.norm(found, axis=2, keepdims=True)).astype(np.float32)


def occlusion(height: Float32, relief: float) -> Float32:
    """[H, W] in [0, 1]: share of the sky, cosine-weighted, above the horizon in eight directions.

    Horizon-based ambient occlusion (Bavoil, Sainz and Dimitrov, SIGGRAPH 2008) over the height, to 16 pixels: the mean
    of 1 - sin(horizon)^2, which is the light that a level patch at the bottom gets from an even sky.
    """
    deep = height * np.float32(relief)
    open_sky = np.zeros_like(deep)
    for turn in range(_DIRECTIONS):
        angle = 2 * math.pi * turn / _DIRECTIONS
        slope = np.zeros_like(deep)
        for step in _STEPS:
            dy, dx = round(step * math.sin(angle)), round(step * math.cos(angle))
            rise = np.roll(deep, (-dy, -dx), (0, 1)) - deep
            np.maximum(slope, rise / np.float32(math.hypot(dy, dx)), out=slope)
        open_sky += 1 / (1 + slope * slope)
    return open_sky / np.float32(_DIRECTIONS)


def _roughness(colour: Float32, level: float, contrast: float) -> Float32:
    """Rougher where fine contrast is stronger than usual, smoother where the surface is brighter than around it."""
    tone = np.cbrt(_luminance(colour)).astype(np.float64)
    shape = tone.shape
    near, wide = _blurred(tone, 1.5), _blurred(tone, 16.0)
    grain = np.sqrt(np.maximum(_blurred((tone - near) ** 2, 4.0), 0))
    usual = float(grain.mean())
    if usual < 1e-6:
        return np.full(shape, level, np.float32)
    shine = (near - wide) / max(float((near - wide).std()), 1e-6)
    change = np.tanh(grain / usual - 1) - 0.5 * np.tanh(shine)
    return (level + contrast * change / 1.5).clip(0, 1).astype(np.float32)


def _luminance(colour: Float32) -> Float32:
    return linear_from_srgb(colour) @ np.array([0.2126, 0.7152, 0.0722], np.float32)


def _blurred(values: NDArray[np.float64], spread: float) -> NDArray[np.float64]:
    """By a Gaussian on the torus."""
    return np.fft.irfft2(np.fft.rfft2(values) * _gaussian(values.shape, spread), values.shape)


def _gaussian(shape: tuple[int, ...], spread: float) -> NDArray[np.float64]:
    """Transfer function of a Gaussian of a spread in pixels, for `rfft2`."""
    y, x = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    return np.exp(-2 * (math.pi * spread) ** 2 * (y**2 + x**2))
