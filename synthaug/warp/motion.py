"""What a warp is: a motion of the canvas, described once and carried out by the rest of this room.

Coordinates are continuous pixels, the centre of the first pixel at (0.5, 0.5). A warp maps points of its
source canvas to points of its target canvas. Neighbouring homographies merge into one, so a canvas that
stood between them cuts nothing off; a dense map ends at its own canvas.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthaug.camera import Camera, matrix
from synthaug.errors import Rejected
from synthaug.labels import Box, Size
from synthaug.warp import dense
from synthaug.warp.steps import SINGULAR, Dense, Homography, homography_grid, last_canvas, scaled, sized, through

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Warp:
    """A motion from a source canvas to a target canvas. Immutable; grids are computed once and kept.

    Attributes:
        source: (height, width) before.
        target: (height, width) after.
        steps: Applied in order; never two homographies side by side, never empty.
    """

    source: Size
    target: Size
    steps: tuple[Homography | Dense, ...]

    @staticmethod
    def identity(size: Size) -> Warp:
        """The motion that moves nothing."""
        return Warp.homography(np.eye(3), size, size)

    @staticmethod
    def homography(values: ArrayLike, source: Size, target: Size) -> Warp:
        """A projective motion.

        Args:
            values: 3x3, source pixels to target pixels, any scale but zero. The horizon may cross the source
                canvas, but not its centre: the side of the centre is the visible one.
            source: (height, width) before.
            target: (height, width) after.

        Raises:
            Rejected: Under `warp`, when the matrix is singular, not finite or not 3x3.
        """
        try:
            array = np.array(matrix(values, 3, 3), dtype=np.float64)
        except ValueError as problem:
            raise Rejected("warp", f"homography: {problem}") from problem
        middle = float(array[2] @ (source[1] / 2, source[0] / 2, 1.0))
        if abs(middle) <= SINGULAR * float(np.abs(array).max()):
            raise Rejected("warp", "the homography sends the centre of the picture to infinity; draw a milder one")
        return Warp(sized(source), sized(target), (scaled(array / middle, source),))

    @staticmethod
    def dense(backward: NDArray[np.floating], source: Size, camera: Camera | None = None) -> Warp:
        """A motion given by a map from the target back to the source.

        Args:
            backward: [H, W, 2]: for each target pixel centre the continuous source (x, y), NaN where
                there is nothing. Copied to float32.
            source: (height, width) of the source canvas.
            camera: Intrinsics and distortion after the motion, where known; see `Dense`.
        """
        if backward.ndim != 3 or backward.shape[2] != 2 or not backward.size:
            raise Rejected("warp", f"dense map of shape {backward.shape}, expected [height, width, 2]")
        values = np.array(backward, dtype=np.float32, order="C")
        values[~np.isfinite(values).all(axis=2)] = np.nan
        values.setflags(write=False)
        return Warp(sized(source), sized(values.shape[:2]), (Dense(values, sized(source), camera),))

    def then(self, other: Warp) -> Warp:
        """This motion followed by another one, as one: pictures are resampled once.

        Raises:
            Rejected: Under `warp`, when this target is not the other's source.
        """
        if self.target != other.source:
            raise Rejected("warp", f"a warp to {self.target} cannot be followed by one from {other.source}")
        before, last, first, after = self.steps[:-1], self.steps[-1], other.steps[0], other.steps[1:]
        if isinstance(last, Homography) and isinstance(first, Homography):
            canvas = last_canvas(before, self.source)
            product = first.forward @ last.forward
            return Warp(self.source, other.target, (*before, scaled(product, canvas), *after))
        return Warp(self.source, other.target, (*self.steps, *other.steps))

    def inverse(self) -> Warp:
        """The way back: exact for homographies, to 0.01 px for dense maps (its camera is then unknown)."""
        result: Warp | None = None
        canvas = self.target
        for index in range(len(self.steps) - 1, -1, -1):
            step, before = self.steps[index], last_canvas(self.steps[:index], self.source)
            if isinstance(step, Homography):
                back = Warp.homography(step.inverse, canvas, before)
            else:
                map_ = step.forward(dense.centres(step.source)).reshape(*step.source, 2)
                back = Warp.dense(map_, step.backward.shape[:2])
            result = back if result is None else result.then(back)
            canvas = before
        assert result is not None
        return result

    @property
    def is_homography(self) -> bool:
        """Whether the whole motion is one homography."""
        return len(self.steps) == 1 and isinstance(self.steps[0], Homography)

    @property
    def matrix(self) -> Float64:
        """The homography [3, 3], source to target pixels. Raises `ValueError` for other motions."""
        step = self.steps[0]
        if len(self.steps) != 1 or not isinstance(step, Homography):
            raise ValueError("this warp is no homography; ask is_homography first")
        return step.forward.copy()

    @cached_property
    def is_identity(self) -> bool:
        """Whether nothing moves at all."""
        step = self.steps[0]
        alone = len(self.steps) == 1 and isinstance(step, Homography)
        return alone and self.source == self.target and bool((self.matrix == np.eye(3)).all())

    @cached_property
    def mirrored(self) -> bool:
        """Whether the motion turns the picture over."""
        turned = False
        for step in self.steps:
            over = np.linalg.det(step.forward) < 0 if isinstance(step, Homography) else step.reverses
            turned ^= bool(over)
        return turned

    def forward(self, points: ArrayLike) -> Float64:
        """Source points [N, 2] to target points; NaN where they are not visible or cannot be inverted.

        A result may lie outside the target canvas, where the motion says so.
        """
        spots = np.asarray(points, dtype=np.float64).reshape(-1, 2)
        for step in self.steps:
            spots = through(step.forward, spots) if isinstance(step, Homography) else step.forward(spots)
        return spots

    def backward(self, points: ArrayLike) -> Float64:
        """Target points [N, 2] to the source points seen there; NaN where there is nothing."""
        spots = np.asarray(points, dtype=np.float64).reshape(-1, 2)
        for step in reversed(self.steps):
            if isinstance(step, Homography):
                spots = through(step.inverse, spots)
            else:
                spots = dense.look_up(step.backward, spots)
        return spots

    def backward_grid(self) -> Float32:
        """[H, W, 2] float32, read-only: the source point seen at every target pixel centre.

        Computed once per warp and shared by everything that moves. May point outside the source
        canvas; NaN where there is nothing. Costs about 0.4 ms for a homography at 512x512.
        """
        return self.planes.transpose(1, 2, 0)

    @cached_property
    def planes(self) -> Float32:
        """The same grid as two contiguous planes [2, H, W], x and y."""
        last = self.steps[-1]
        if isinstance(last, Dense):
            planes = np.ascontiguousarray(last.backward.transpose(2, 0, 1))
        else:
            planes = homography_grid(last.inverse, self.target)
        for step in reversed(self.steps[:-1]):
            if isinstance(step, Dense):
                planes = dense.compose(step.backward, planes)
            else:
                spots = through(step.inverse, planes.reshape(2, -1).T.astype(np.float64))
                planes = np.ascontiguousarray(spots.T, dtype=np.float32).reshape(2, *self.target)
        planes.setflags(write=False)
        return planes


def crop(source: Size, box: Box) -> Warp:
    """Cuts a box out; where it leaves the canvas, the result is padded.

    Args:
        source: (height, width) before.
        box: x0, y0, x1, y1 in source pixels. The new canvas has its size, rounded, at least 1x1; whole
            numbers move pixels without interpolation.
    """
    x0, y0, x1, y1 = box
    target = (max(round(y1 - y0), 1), max(round(x1 - x0), 1))
    return Warp.homography([[1, 0, -x0], [0, 1, -y0], [0, 0, 1]], source, target)


def resize(source: Size, target: Size) -> Warp:
    """Stretches the whole canvas (height, width) onto another one."""
    scale = np.diag([target[1] / source[1], target[0] / source[0], 1.0])
    return Warp.homography(scale, source, target)


def hflip(source: Size) -> Warp:
    """Swaps left and right: a mirror."""
    return Warp.homography([[-1, 0, source[1]], [0, 1, 0], [0, 0, 1]], source, source)


def vflip(source: Size) -> Warp:
    """Swaps top and bottom: a mirror."""
    return Warp.homography([[1, 0, 0], [0, -1, source[0]], [0, 0, 1]], source, source)


def rotation(source: Size, degrees: float, *, expand: bool = False) -> Warp:
    """Turns the picture about its centre, counter-clockwise as it is looked at.

    Args:
        source: (height, width) before.
        degrees: Any angle; multiples of 90 move pixels without interpolation where the canvas allows.
        expand: Whether the canvas grows to hold the whole picture; otherwise it keeps its size.
    """
    cosine, sine = _turn(degrees)
    height, width = source
    target = source
    if expand:
        across, down = abs(width * cosine) + abs(height * sine), abs(width * sine) + abs(height * cosine)
        target = (max(round(down), 1), max(round(across), 1))
    return Warp.homography(_about(source, target, np.array([[cosine, sine], [-sine, cosine]])), source, target)


def affine(
    source: Size,
    *,
    scale: tuple[float, float] = (1.0, 1.0),
    degrees: float = 0.0,
    shear: tuple[float, float] = (0.0, 0.0),
    translate: tuple[float, float] = (0.0, 0.0),
) -> Warp:
    """Scales, shears, turns and shifts about the centre, in this order; the canvas keeps its size.

    Args:
        source: (height, width).
        scale: Factors along x and y, positive magnifies; negative mirrors.
        degrees: Counter-clockwise as looked at.
        shear: Degrees along x and y, within (-90, 90).
        translate: Pixels along x and y.
    """
    cosine, sine = _turn(degrees)
    slant = np.array([[1.0, np.tan(np.radians(shear[0]))], [np.tan(np.radians(shear[1])), 1.0]])
    linear = np.array([[cosine, sine], [-sine, cosine]]) @ slant @ np.diag(scale)
    array = _about(source, source, linear)
    array[:2, 2] += translate
    return Warp.homography(array, source, source)


def perspective(source: Size, corners: ArrayLike, target: Size | None = None) -> Warp:
    """Sends the four corners of the canvas to given places.

    Args:
        source: (height, width) before.
        corners: [4, 2] target pixels of the top left, top right, bottom right and bottom left corner.
        target: (height, width) after; the same as before by default.

    Raises:
        Rejected: Under `warp`, when three of the places lie on one line.
    """
    height, width = source
    before = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float64)
    after = np.asarray(corners, dtype=np.float64).reshape(4, 2)
    system = np.zeros((8, 8))
    for i, ((x, y), (u, v)) in enumerate(zip(before, after, strict=True)):
        system[2 * i] = (x, y, 1, 0, 0, 0, -u * x, -u * y)
        system[2 * i + 1] = (0, 0, 0, x, y, 1, -v * x, -v * y)
    try:
        solved = np.linalg.solve(system, after.ravel())
    except np.linalg.LinAlgError as problem:
        raise Rejected("warp", f"corners {after.tolist()} span no quadrilateral") from problem
    return Warp.homography(np.append(solved, 1.0).reshape(3, 3), source, target or source)


def _turn(degrees: float) -> tuple[float, float]:
    """Cosine and sine, exact for multiples of 90 degrees."""
    quarters = {0.0: (1.0, 0.0), 90.0: (0.0, 1.0), 180.0: (-1.0, 0.0), 270.0: (0.0, -1.0)}
    angle = float(degrees) % 360.0
    return quarters.get(angle, (float(np.cos(np.radians(angle))), float(np.sin(np.radians(angle)))))


def _about(source: Size, target: Size, linear: Float64) -> Float64:
    """A linear motion about the source centre, which lands on the target centre."""
    array = np.eye(3)
    array[:2, :2] = linear
    array[:2, 2] = np.array(target[::-1]) / 2 - linear @ (np.array(source[::-1]) / 2)
    return array
