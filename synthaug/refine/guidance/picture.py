"""Guidance by the picture itself: as it is, coarser, blurred, without colour."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from cv2.typing import MatLike

from synthaug.errors import ConfigError
from synthaug.labels import Labels
from synthaug.refine.guidance.guide import Float32, Guide, Source, grey

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R BT.601, as every 8-bit grey conversion of the preprocessors has it."""


@dataclass(frozen=True)
class Tile(Source):
    """The picture for tile ControlNets, which keep what it shows and invent detail below its resolution.

    About 1 ms at 512x512.

    Args:
        factor: 1 to 64; detail finer than this many pixels is removed by averaging. 1 is the picture as it is.
    """

    kind: ClassVar[str] = "tile"

    factor: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.factor <= 64:
            raise ConfigError(f"tile factor={self.factor}: expected 1 to 64")

    def guide(self, labels: Labels, picture: Float32) -> Guide:
        height, width = labels.size
        facts = {"kind": self.kind, "from": "picture", "factor": self.factor}
        if self.factor == 1:
            return Guide(picture.clip(0.0, 1.0), facts)
        small = (max(1, round(width / self.factor)), max(1, round(height / self.factor)))
        coarse = cv2.resize(_last(picture), small, interpolation=cv2.INTER_AREA)
        return Guide(_first(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)), facts)


@dataclass(frozen=True)
class Blur(Source):
    """The picture under a Gaussian blur, mirrored at its borders. About 8 ms at 512x512.

    Args:
        sigma: Pixels, more than 0, up to 200.
    """

    kind: ClassVar[str] = "blur"

    sigma: float = 8.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma <= 200:
            raise ConfigError(f"blur sigma={self.sigma}: expected more than 0, up to 200 pixels")

    def guide(self, labels: Labels, picture: Float32) -> Guide:
        done = cv2.GaussianBlur(_last(picture), (0, 0), self.sigma, borderType=cv2.BORDER_REFLECT_101)
        return Guide(_first(done), {"kind": self.kind, "from": "picture", "sigma": self.sigma})


@dataclass(frozen=True)
class Grey(Source):
    """The picture's luma (BT.601) in three equal channels. About 1 ms at 512x512."""

    kind: ClassVar[str] = "grey"

    def guide(self, labels: Labels, picture: Float32) -> Guide:
        luma = np.tensordot(_LUMA, picture, axes=1).clip(0.0, 1.0)
        return Guide(grey(luma), {"kind": self.kind, "from": "picture"})


def _last(picture: Float32) -> Float32:
    return np.ascontiguousarray(picture.transpose(1, 2, 0))


def _first(picture: MatLike) -> Float32:
    return np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32).clip(0.0, 1.0)
