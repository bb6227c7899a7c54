"""What part of the picture is kept, and at what size. Motions like those of `geometric`, on a new canvas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from synthaug.augment import ranges
from synthaug.contracts import Draw, Geometry
from synthaug.errors import ConfigError, Rejected
from synthaug.labels import Labels, Size
from synthaug.warp import motion
from synthaug.warp.motion import Warp

Fit = Literal["stretch", "pad", "crop"]


class RandomCrop(Geometry):
    """Cuts a window of fixed size at a whole-pixel place; nothing is resampled.

    Args:
        height: Of the window, pixels, 1..16384.
        width: Of the window, pixels, 1..16384.
        scope: `sample`, or `group`: one draw for all samples of a group (frames of a sequence, views of a scene).
    """

    sees = "size"

    def __init__(self, *, height: int, width: int, scope: ranges.Shared = "sample") -> None:
        self.scope = ranges.shared(scope)
        self.size = ranges.canvas(height, width)

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        return {"top": float(rng.random()), "left": float(rng.random())}

    def warp(self, labels: Labels, draw: Draw) -> Warp:
        room = labels.size[0] - self.size[0], labels.size[1] - self.size[1]
        if min(room) < 0:
            raise Rejected(
                "size",
                f"the picture is {labels.size[1]}x{labels.size[0]}, the crop {self.size[1]}x{self.size[0]} pixels; "
                "put augment=resize before it, or take augment=random_resized_crop",
            )
        top, left = int(draw["top"] * (room[0] + 1)), int(draw["left"] * (room[1] + 1))
        return motion.crop(labels.size, (left, top, left + self.size[1], top + self.size[0]))

    def canvas(self, size: Size) -> Size:
        return self.size


class RandomResizedCrop(Geometry):
    """Cuts a window of random area and aspect and brings it to a fixed size.

    Drawn as in Szegedy et al., Going deeper with convolutions (CVPR 2015): up to ten tries for a window
    that fits, else the largest centred one whose aspect is allowed.

    Args:
        height: Of the result, pixels, 1..16384.
        width: Of the result, pixels, 1..16384.
        area: Range of the window's share of the picture, within [0.01, 1].
        aspect: Range of the window's width by height in pixels, within [0.1, 10]; drawn log-uniformly.
        scope: `sample`, or `group`: one draw for all samples of a group (frames of a sequence, views of a scene).
    """

    sees = "size"

    def __init__(
        self,
        *,
        height: int,
        width: int,
        area: Sequence[float] = (0.4, 1.0),
        aspect: Sequence[float] = (0.75, 1.3333),
        scope: ranges.Shared = "sample",
    ) -> None:
        self.scope = ranges.shared(scope)
        self.size = ranges.canvas(height, width)
        self.area = ranges.interval("area", area, 0.01, 1, "of the picture")
        self.aspect = ranges.interval("aspect", aspect, 0.1, 10, "(width by height)")

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        ratio = labels.size[1] / labels.size[0]
        for _ in range(10):
            area, aspect = ranges.uniform(rng, self.area), ranges.log_uniform(rng, self.aspect)
            width, height = float(np.sqrt(area * aspect / ratio)), float(np.sqrt(area * ratio / aspect))
            if width <= 1 and height <= 1:
                left, top = float(rng.uniform(0, 1 - width)), float(rng.uniform(0, 1 - height))
                return {"window": [left, top, left + width, top + height]}
        aspect = min(max(ratio, self.aspect[0]), self.aspect[1]) / ratio
        width, height = min(1.0, aspect), min(1.0, 1 / aspect)
        return {"window": [(1 - width) / 2, (1 - height) / 2, (1 + width) / 2, (1 + height) / 2]}

    def warp(self, labels: Labels, draw: Draw) -> Warp:
        height, width = labels.size
        x0, y0, x1, y1 = draw["window"]
        return _window(labels.size, self.size, (x0 * width, y0 * height, x1 * width, y1 * height))

    def canvas(self, size: Size) -> Size:
        return self.size


class Resize(Geometry):
    """Brings the whole picture to a fixed size.

    Args:
        height: Of the result, pixels, 1..16384.
        width: Of the result, pixels, 1..16384.
        fit: `stretch` changes the aspect; `pad` keeps it and leaves empty borders (a letterbox); `crop`
            keeps it and cuts what stands over, centred.
        scope: `group`: all frames of a sequence move alike, so `flow` survives; `sample` says that they need not
            (they do all the same while their sizes are equal: nothing is drawn).
    """

    sees = "size"

    def __init__(self, *, height: int, width: int, fit: Fit = "stretch", scope: ranges.Shared = "group") -> None:
        self.scope = ranges.shared(scope)
        self.size = ranges.canvas(height, width)
        if fit not in get_args(Fit):
            raise ConfigError(f"fit is {fit!r}, expected one of {', '.join(get_args(Fit))}")
        self.fit: Fit = fit

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        return {}

    def warp(self, labels: Labels, draw: Draw) -> Warp:
        height, width = labels.size
        across, down = self.size[1] / width, self.size[0] / height
        if self.fit != "stretch":
            across = down = min(across, down) if self.fit == "pad" else max(across, down)
        half = self.size[1] / across / 2, self.size[0] / down / 2
        window = (width / 2 - half[0], height / 2 - half[1], width / 2 + half[0], height / 2 + half[1])
        return _window(labels.size, self.size, window)

    def canvas(self, size: Size) -> Size:
        return self.size


def _window(source: Size, target: Size, window: tuple[float, float, float, float]) -> Warp:
    """The motion that brings a window of the source to the whole target."""
    x0, y0, x1, y1 = window
    across, down = target[1] / (x1 - x0), target[0] / (y1 - y0)
    matrix = np.array([[across, 0, -x0 * across], [0, down, -y0 * down], [0, 0, 1.0]])
    return Warp.homography(matrix, source, target)
