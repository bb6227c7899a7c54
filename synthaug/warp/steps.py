"""The two kinds of motion that a warp is made of: a homography, or a dense map from the target back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from synthaug.camera import Camera, Matrix
from synthaug.errors import Rejected
from synthaug.labels import Size
from synthaug.warp import dense

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Border = Literal["constant", "reflect"]
"""What pictures show outside their source: black, or the picture mirrored at its edges. Labels have nothing there."""

SINGULAR = 1e-12

_BLOCK = 1 << 14


@dataclass(frozen=True)
class Homography:
    """Source pixels to target pixels, x' ~ matrix @ (x, y, 1).

    Attributes:
        matrix: 3x3, scaled so that the third coordinate is 1 at the source centre. Points where it is
            not positive lie behind the new camera: they are not visible and become NaN.
    """

    matrix: Matrix

    @cached_property
    def forward(self) -> Float64:
        """The matrix as an array [3, 3]."""
        return np.array(self.matrix, dtype=np.float64)

    @cached_property
    def inverse(self) -> Float64:
        """Its inverse [3, 3], with the sign that keeps visible points positive."""
        return np.asarray(np.linalg.inv(self.forward), dtype=np.float64)

    @property
    def affine(self) -> bool:
        """Whether parallel lines stay parallel: the last row is (0, 0, 1)."""
        return self.matrix[2] == (0.0, 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Dense:
    """Any other motion, as a map from the target back to the source.

    Attributes:
        backward: [H, W, 2] float32, read-only: continuous source (x, y) seen at each target pixel
            centre, NaN where there is nothing.
        source: (height, width) of the canvas that the coordinates mean.
        camera: Intrinsics and distortion after the motion where they are known (a lens model); its
            camera axes are those from before, so extrinsics come from the sample.
    """

    backward: Float32
    source: Size
    camera: Camera | None = None

    @cached_property
    def seeds(self) -> Float32:
        """First guesses for the inversion, see `dense.seeds`."""
        return dense.seeds(self.backward, self.source)

    @cached_property
    def reverses(self) -> bool:
        """Whether the picture is turned over, see `dense.reverses`."""
        return dense.reverses(self.backward)

    def forward(self, points: Float64) -> Float64:
        """Source points [N, 2] to target points, to 0.01 px; NaN where nothing sees them."""
        height, width = self.source
        known = np.nan_to_num(points, nan=0.0, posinf=0.0, neginf=0.0)
        block = dense.block(self.backward.shape[:2])
        column = np.clip(known[:, 0], 0, width - 1).astype(np.intp) // block
        row = np.clip(known[:, 1], 0, height - 1).astype(np.intp) // block
        return dense.invert(self.backward, points, self.seeds[row, column].astype(np.float64))


def last_canvas(steps: Sequence[Homography | Dense], source: Size) -> Size:
    """The canvas that the next homography starts from: the last dense map's, or the source."""
    for step in reversed(steps):
        if isinstance(step, Dense):
            rows, columns = step.backward.shape[:2]
            return rows, columns
    return source


def sized(size: Sequence[int]) -> Size:
    """A canvas as (height, width) of at least one pixel each.

    Raises:
        Rejected: Under `warp`, for an empty canvas.
    """
    height, width = int(size[0]), int(size[1])
    if height < 1 or width < 1:
        raise Rejected("warp", f"a canvas of {height}x{width} pixels; both sides need at least one")
    return height, width


def scaled(array: Float64, source: Size) -> Homography:
    """A homography brought to the scale of its class, its visible side kept."""
    if not np.isfinite(array).all():
        raise Rejected("warp", f"homography with entries that are not finite: {array.tolist()}")
    rows: list[list[float]] = array.tolist()
    a, b, c = rows[2]
    largest = max(abs(v) for row in rows for v in row)
    middle = c if a == b == 0 else abs(a * source[1] / 2 + b * source[0] / 2 + c)
    scale = middle if abs(middle) > SINGULAR * largest else largest
    values = tuple(tuple(v / scale for v in row) for row in rows)
    # Singular is a matter of the picture: measured with its sides as units and every row brought to size 1.
    unit = [(p * source[1], q * source[0], r) for p, q, r in values]
    sizes = [max(map(abs, row)) for row in unit]
    (a, b, c), (d, e, f), (g, h, i) = unit
    volume = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    if scale == 0 or abs(volume) <= SINGULAR * sizes[0] * sizes[1] * sizes[2]:
        raise Rejected("warp", f"singular homography {rows}; it would crush the picture")
    return Homography(values)


def through(values: Float64, points: Float64) -> Float64:
    """Points [N, 2] through a 3x3 matrix; NaN where the third coordinate is not positive.

    Written out: as a matrix product, long lists would wake the threads of a BLAS for two multiplications.
    """
    x, y = points[:, 0], points[:, 1]
    (a, b, c), (d, e, f), (g, h, i) = values.tolist()
    moved = np.empty((len(points), 2))
    np.add(a * x + b * y, c, out=moved[:, 0])
    np.add(d * x + e * y, f, out=moved[:, 1])
    if g == h == 0 and i == 1:
        return moved
    depth = g * x + h * y + i
    depth[~(depth > 1e-12)] = np.nan
    moved /= depth[:, None]
    return moved


def homography_grid(back: Float64, size: Size, density: tuple[int, int] = (1, 1)) -> Float32:
    """The source point of every pixel centre, as two planes.

    Args:
        back: Target to source, with the sign that keeps visible points positive.
        size: (height, width) of the target.
        density: Samples per pixel down and across; above 1 the planes are that much larger.

    Returns:
        [2, H, W]: x and y; NaN behind the camera. Sums in float64 per row and column, products in float32.
    """
    height, width = size[0] * density[0], size[1] * density[1]
    x, y = (np.arange(width) + 0.5) / density[1], (np.arange(height) + 0.5) / density[0]
    projective = bool(back[2, :2].any())
    back = back if projective else back / back[2, 2]
    rows = (back[:, :1] * x).astype(np.float32)
    columns = (back[:, 1:2] * y + back[:, 2:]).astype(np.float32)[:, :, None]
    planes = np.empty((2, height, width), np.float32)
    # A few rows at a time: what is computed between stays in the cache.
    step = max(1, _BLOCK // width)
    for top in range(0, height, step):
        block, down = planes[:, top : top + step], columns[:, top : top + step]
        np.add(rows[:2, None], down[:2], out=block)
        if projective:
            depth = rows[2] + down[2]
            if float(depth.min()) <= 1e-12:
                depth[depth <= 1e-12] = np.nan
            block *= np.reciprocal(depth, out=depth)
    return planes
