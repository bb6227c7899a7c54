"""Keypoint skeletons as drawings: people in the colours of OpenPose, everything else by its own skeleton."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.errors import ConfigError, nearest
from synthaug.labels import Category, Instance, Labels, Size
from synthaug.refine.guidance.guide import Float32, Guide, Source

Canvas = NDArray[np.uint8]
Point = tuple[float, float] | None
Colour = tuple[int, int, int]

STYLES = ("auto", "openpose", "generic")
BODY = (
    "nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow", "left wrist",
    "right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle",
    "right eye", "left eye", "right ear", "left ear",
)  # fmt: skip
"""The 18 keypoints of OpenPose's COCO model, in its order."""
LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10),
    (1, 11), (11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
"""Pairs of indices into `BODY` that are joined, in the order of drawing; limb i has colour i."""
COLOURS: tuple[Colour, ...] = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0), (0, 255, 85),
    (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255), (170, 0, 255),
    (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip
"""Red, green, blue of keypoint i and limb i."""
_RADIUS = 4.0
"""Pixels at a short side of 512: of a joint, and half the width of a limb."""
_DIM = 0.6
_ENOUGH = 8


@dataclass(frozen=True)
class Skeleton(Source):
    """Bodies as ControlNet's OpenPose preprocessor draws them; other classes as their own skeleton in a hue circle.

    A body has the 18 points of OpenPose; the neck, which COCO lacks, is the middle of the shoulders where both are
    known. Limbs are ellipses at 0.6 of their colour, joints discs in full colour over them. Keypoints of the dataset
    are recognised by name. About 6 ms at 512x512.

    Args:
        style: `auto` draws as a body what names at least 8 of COCO's keypoints; `openpose` draws nothing else;
            `generic` draws everything by its own skeleton.
        occluded: Whether keypoints that are there but hidden are drawn; a detector guesses them too.
        radius: Of a joint, pixels at a short side of 512, in [0.5, 64]; grows with the picture, as models expect.
    """

    kind: ClassVar[str] = "skeleton"

    style: str = "auto"
    occluded: bool = True
    radius: float = _RADIUS

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise ConfigError(f"skeleton style={self.style}: unknown.{nearest(self.style, STYLES)}")
        if not 0.5 <= self.radius <= 64:
            raise ConfigError(f"skeleton radius={self.radius}: expected 0.5 to 64 pixels")

    def missing(self, passes: Collection[str], categories: Sequence[Category], camera: bool | None) -> str:
        del passes, camera
        if not any(c.keypoints for c in categories):
            return "skeleton needs classes with keypoints; the input has none"
        if self.style == "openpose" and not any(body(c) for c in categories):
            return f"skeleton style=openpose needs a class that names {_ENOUGH} of COCO's keypoints; use style=generic"
        return ""

    def guide(self, labels: Labels, picture: Float32) -> Guide:
        canvas = np.zeros((*labels.size, 3), np.uint8)
        radius = self.radius * max(min(labels.size) / 512, 0.25)
        drawn = {"bodies": 0, "others": 0}
        for instance in labels.instances:
            category = labels.category(instance)
            if not instance.keypoints or not any(state for _, _, state in instance.keypoints):
                continue
            places = self._places(instance)
            order = body(category) if self.style != "generic" else ()
            if order:
                _draw(canvas, _joints(places, order), LIMBS, COLOURS, COLOURS, radius)
                drawn["bodies"] += 1
            elif self.style != "openpose":
                limbs, joints = hues(len(category.skeleton)), hues(len(places))
                _draw(canvas, places, category.skeleton, limbs, joints, radius)
                drawn["others"] += 1
        image = canvas.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
        return Guide(image, {"kind": self.kind, "from": "keypoints", "style": self.style, **drawn})

    def _places(self, instance: Instance) -> list[Point]:
        least = 1 if self.occluded else 2
        return [(x, y) if state >= least else None for x, y, state in instance.keypoints]


def body(category: Category) -> tuple[int | None, ...]:
    """For each point of `BODY` its index among the keypoints of a class; empty where the class is no body."""
    names = {" ".join(re.split(r"[\s_\-.]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", n))).lower(): i
             for i, n in enumerate(category.keypoints)}  # fmt: skip
    order = tuple(names.get(name) for name in BODY)
    return order if sum(i is not None for i in order) >= _ENOUGH else ()


def hues(count: int) -> tuple[Colour, ...]:
    """`count` full colours, evenly around the hue circle from red on."""
    spread = (colorsys.hsv_to_rgb(i / max(count, 1), 1.0, 1.0) for i in range(count))
    return tuple((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in spread)


def _joints(places: Sequence[Point], order: Sequence[int | None]) -> list[Point]:
    joints = [None if i is None else places[i] for i in order]
    right, left = joints[2], joints[5]
    if order[1] is None and right and left:
        joints[1] = ((right[0] + left[0]) / 2, (right[1] + left[1]) / 2)
    return joints


def _draw(
    canvas: Canvas,
    places: Sequence[Point],
    limbs: Sequence[tuple[int, int]],
    limb_colours: Sequence[Colour],
    joint_colours: Sequence[Colour],
    radius: float,
) -> None:
    """Limbs first, in order, then joints over them."""
    size = (canvas.shape[0], canvas.shape[1])
    for (a, b), colour in zip(limbs, limb_colours, strict=False):
        first, second = places[a], places[b]
        if first and second and _near(first, size) and _near(second, size):
            dim = tuple(int(v * _DIM) for v in colour)
            cv2.fillConvexPoly(canvas, _ellipse(first, second, radius), dim, cv2.LINE_8, _SHIFT)
    for place, colour in zip(places, joint_colours, strict=False):
        if place and _near(place, size):
            x, y = _fixed(np.array(place))
            cv2.circle(canvas, (int(x), int(y)), round(radius * _ONE), colour, -1, cv2.LINE_8, _SHIFT)


_SHIFT = 4
_ONE = 1 << _SHIFT
_TURN = np.linspace(0, 2 * np.pi, 64, endpoint=False)


def _ellipse(first: tuple[float, float], second: tuple[float, float], radius: float) -> NDArray[np.int32]:
    """Outline of an ellipse between two points, `radius` half wide, in the drawing functions' fixed point."""
    a, b = np.array(first), np.array(second)
    along = (b - a) / 2
    length = float(np.hypot(*along))
    across = np.array([-along[1], along[0]]) / length * radius if length > 1e-6 else np.array([0.0, radius])
    outline = (a + b) / 2 + np.cos(_TURN)[:, None] * along + np.sin(_TURN)[:, None] * across
    return _fixed(outline).astype(np.int32)


def _fixed(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Continuous pixels, first centre at (0.5, 0.5), to the fixed point in which OpenCV counts from centres."""
    return np.rint((points - 0.5) * _ONE)


def _near(point: tuple[float, float], size: Size) -> bool:
    """Whether a point is within a canvas' length of the canvas: farther out, fixed point would overflow."""
    return all(-side <= value <= 2 * side for value, side in zip(point, (size[1], size[0]), strict=True))
