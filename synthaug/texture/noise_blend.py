"""By-example noise: patches of a crop, blended on a triangle grid that wraps, without the blur of blending.

Heitz and Neyret, "High-performance by-example noise using a histogram-preserving blending operator" (HPG 2018), with
the fitted colour space and per-channel tables of Deliot and Heitz, "Procedural stochastic textures by tiling and
blending" (GPU Zen 2, 2019). The crop is made Gaussian, channel by channel; a mean of Gaussians divided by the root of
its squared weights is the same Gaussian again; the way back gives the crop's own histogram.

Good for what has no shapes: asphalt, stucco, sand, bark, grass, carpet, marble. It fails on bricks, planks, weaves and
pebbles: where a feature is as large as a patch, its edges fade into each other like double exposures, lines stop and
start again, and colours that depend on each other in a curve mix into new ones. Use `quilting` there. Light that
changes over the crop becomes blotches.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug import seeds
from synthaug.errors import ConfigError
from synthaug.labels import Size
from synthaug.metrics.texture import as_colour
from synthaug.texture.exemplar import check_size, settled

Float32 = NDArray[np.float32]
_REACH = 5.0
"""The table back from Gaussian values ends here; one in a million is beyond."""
_KNOTS = 4096


def synthesize(
    exemplar: NDArray[Any],
    size: Size,
    seed: int,
    *,
    patch: float = 0.5,
    sharpness: float = 2.0,
    device: str | None = None,
) -> Float32:
    """A seamless tile with the histogram and the fine structure of a crop.

    Costs about 0.3 CPU seconds for 1024 x 1024 from 256 x 256.

    Args:
        exemplar: [h, w, 3] sRGB, uint8 or float in [0, 1]; need not wrap.
        size: (height, width) of the tile in pixels; as a multiple of a patch it keeps the grid even.
        seed: 0 or more; the same seed gives the same tile.
        patch: 0.1 to 0.9; diameter of a patch as a share of the crop's shorter side. More keeps larger features and
            shows fewer different patches.
        sharpness: 1 to 16; power of the blending weights. 1 is the paper's; more shows one patch at a time, with
            narrower borders between them.
        device: Where to blend, with torch (`cpu`, `cuda`); None for numpy. The same picture within 1e-4.

    Returns:
        [H, W, 3] float32 sRGB in [0, 1].

    Raises:
        InputError: An exemplar of another form.
        ConfigError: A parameter out of its range.
    """
    crop = as_colour(exemplar, "exemplar")
    check_size(size)
    if not 0.1 <= patch <= 0.9:
        raise ConfigError(f"patch={patch}: expected 0.1 to 0.9 of the crop's shorter side")
    if not 1 <= sharpness <= 16:
        raise ConfigError(f"sharpness={sharpness}: expected 1 to 16")
    mean, axes = _colour_axes(crop)
    gaussian, tables = _gaussianised(((crop - mean) @ axes).astype(np.float32, copy=False))
    values: Any = np.ascontiguousarray(gaussian.transpose(2, 0, 1))
    if device is not None:
        import torch

        values = torch.from_numpy(values).to(device)
    blended = _blend(values, size, seed, max(4.0, patch * min(crop.shape[:2]) / 2), sharpness)
    colour = _back(blended, tables, axes, mean)
    return settled(np.ascontiguousarray(colour))


def _colour_axes(crop: Float32) -> tuple[Float32, Float32]:
    """Mean colour, and the orthonormal axes along which the crop's colours are uncorrelated, as columns."""
    flat = crop.reshape(-1, 3).astype(np.float64)
    mean = flat.mean(0)
    _, axes = np.linalg.eigh(np.cov((flat - mean).T) + 1e-12 * np.eye(3))
    return mean.astype(np.float32), axes.astype(np.float32)


def _gaussianised(values: Float32) -> tuple[Float32, Float32]:
    """[h, w, 3] with standard normal channels, and [3, K] tables from normal values back.

    Equal values are ordered by their surroundings (Coltuc, Bolon and Chassery, "Exact histogram specification", TIP
    2006): an order by place would draw a ramp on them.
    """
    near = cv2.blur(values, (3, 3), borderType=cv2.BORDER_REFLECT)
    count = values.shape[0] * values.shape[1]
    ranks = (np.arange(count) + 0.5) / count
    quantiles = _normal_quantiles(ranks)
    gaussian = np.empty((count, 3), np.float32)
    knots = _normal_shares(np.linspace(-_REACH, _REACH, _KNOTS))
    tables = np.empty((3, _KNOTS), np.float32)
    for channel in range(3):
        plain = values[..., channel].ravel()
        order = np.lexsort((near[..., channel].ravel(), plain))
        gaussian[order, channel] = quantiles
        tables[channel] = np.interp(knots, ranks, plain[order])
    return gaussian.reshape(values.shape), tables


def _normal_shares(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x])


def _normal_quantiles(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of the normal distribution, read off a fine table; the tails go to 6."""
    x = np.linspace(-6, 6, 24001)
    return np.interp(shares, _normal_shares(x), x)


def _blend(values: Any, size: Size, seed: int, edge: float, sharpness: float) -> Any:
    """[3, H, W] standard normal: one patch of [3, h, w] around each vertex of a triangle grid on the torus.

    A patch is the hexagon where its vertex has weight: 1 at the vertex, 0 at the six neighbours. The grid is
    stretched a little so that whole triangles fill the tile, an even number of rows of them: every second one is
    moved by half an edge.
    """
    (height, width), (h, w) = size, values.shape[-2:]
    columns, rows = math.ceil(width / edge), 2 * math.ceil(height / edge / math.sqrt(3))
    across, down = width / columns, height / rows
    pad_y, pad_x = math.ceil(down), math.ceil(across)
    drawn = seeds.generator(seed, "texture", 0, "noise_blend").random((rows, columns, 2))
    total = _on(np.zeros((4, height + 2 * pad_y, width + 2 * pad_x), np.float32), values)
    for row, column in np.ndindex(rows, columns):
        y, x = row * down, ((column + row / 2) * across) % width
        at_y, at_x = (np.arange(math.ceil(c - r), math.floor(c + r) + 1) for c, r in ((y, down), (x, across)))
        weight = _on(_hat((at_y - y) / down, (at_x - x) / across) ** np.float32(sharpness), values)
        top, left = (
            int(u * (side - len(at) + 1)) for u, side, at in zip(drawn[row, column], (h, w), (at_y, at_x), strict=True)
        )
        source = values[:, top : top + len(at_y), left : left + len(at_x)]
        rows_here, columns_here = (slice(at[0] + pad, at[-1] + pad + 1) for at, pad in ((at_y, pad_y), (at_x, pad_x)))
        total[:3, rows_here, columns_here] += weight * source
        total[3, rows_here, columns_here] += weight**2
    folded = _folded(total.swapaxes(1, 2), pad_x).swapaxes(1, 2)
    folded = _folded(folded, pad_y)
    return folded[:3] / folded[3] ** 0.5


def _hat(y: NDArray[np.float64], x: NDArray[np.float64]) -> Float32:
    """Barycentric weight of the vertex at (0, 0), in units of row distance and edge; the grid leans by half an edge."""
    v, u = y[:, None], x[None] - y[:, None] / 2
    return np.maximum(1 - np.maximum(np.maximum(abs(u), abs(v)), abs(u + v)), 0).astype(np.float32)


def _folded(total: Any, pad: int) -> Any:
    """[N, pad + H + pad, W] to [N, H, W]: what lies beyond an edge comes in at the other."""
    inside = total[:, pad:-pad]
    inside[:, -pad:] += total[:, :pad]
    inside[:, :pad] += total[:, -pad:]
    return inside


def _back(blended: Any, tables: Float32, axes: Float32, mean: Float32) -> Float32:
    """[3, H, W] standard normal to [H, W, 3] colours: through the tables, and out of the colour axes."""
    place = ((blended + _REACH) * ((_KNOTS - 1) / (2 * _REACH))).clip(0, _KNOTS - 1.001)
    first = place.astype(np.intp) if isinstance(place, np.ndarray) else place.long()
    share, looked_up = place - first, _on(tables, blended)
    colour = _on(np.zeros((*place.shape[1:], 3), np.float32), blended) + _on(mean, blended)
    for channel, axis in enumerate(axes.T):
        table = looked_up[channel]
        value = table[first[channel]] * (1 - share[channel]) + table[first[channel] + 1] * share[channel]
        colour += value[..., None] * _on(axis, blended)
    colour = colour.clip(0, 1)
    return colour if isinstance(colour, np.ndarray) else colour.cpu().numpy()


def _on(values: Float32, pixels: Any) -> Any:
    """As an array or a tensor, wherever `pixels` are."""
    return values if isinstance(pixels, np.ndarray) else pixels.new_tensor(values)
