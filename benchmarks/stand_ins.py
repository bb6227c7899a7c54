"""A device that only waits: for benchmarks of everything around it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from synthaug.contracts import Appearance, Draw
from synthaug.labels import Labels

WAITED: list[float] = []
"""Seconds of each call, in this process."""


class TimedDevice(Appearance):
    """Waits as long as a device would compute, and returns the pictures a little paler.

    Args:
        seconds: Wait per micro-batch, 0 or more.
    """

    place = "device"
    generative = True

    def __init__(self, *, seconds: float = 0.5) -> None:
        self.seconds = seconds

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        return {}

    def paint(self, images: Any, labels: Sequence[Labels], draws: Sequence[Draw]) -> Any:
        begun = time.monotonic()
        images.mul_(0.9).add_(0.05)
        time.sleep(max(0.0, self.seconds - (time.monotonic() - begun)))
        WAITED.append(time.monotonic() - begun)
        return images
