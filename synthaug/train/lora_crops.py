"""Crops of photos with what is said of them, for adapters of text-to-image models.

A crop is a function of (seed, step, place in the batch) and of the photos, as a refiner's is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthaug import seeds
from synthaug.train.lora_words import Words
from synthaug.train.photos import Photos, Window, scaled
from synthaug.train.simplify import Float32


@dataclass(frozen=True, slots=True)
class Said:
    """One crop.

    Attributes:
        pixels: [crop, crop, 3] in [0, 1].
        prompt: What is said of it.
        sizes: Height and width of the photo; top and left of the crop in it, in the crop's pixels; height and width
            of the crop. As Stable Diffusion XL was told (Podell et al., 2023, section 2.2).
    """

    pixels: Float32
    prompt: str
    sizes: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SaidCrops:
    """Draws crops.

    Attributes:
        photos: Where from.
        words: What is said of them.
        crop: Side in pixels.
        share: In (0, 1]; a crop takes this share of the photo's shorter side or more.
        flip: Whether half of the crops are mirrored.
        seed: Of everything drawn.
    """

    photos: Photos
    words: Words
    crop: int
    share: float
    flip: bool
    seed: int

    def draw(self, step: int, place: int) -> Said:
        """One crop. Raises `ConfigError` where one photo after another cannot be decoded."""
        rng = seeds.generator(self.seed, f"train/{step}", place, "crop")
        folder, index, photo = self.photos.draw(rng)
        window = self._window(photo, rng)
        height, width = photo.shape[:2]
        left = width - window.x - window.side if window.mirror else window.x
        small = self.crop / window.side
        prompt = self.words.of(rng.random(), folder, self.photos.names[folder][index])
        sizes = (height, width, round(window.y * small), round(left * small), self.crop, self.crop)
        return Said(scaled(window.cut(photo), self.crop), prompt, sizes)

    def _window(self, photo: NDArray[np.uint8], rng: np.random.Generator) -> Window:
        height, width = photo.shape[:2]
        shorter = min(height, width)
        # Never enlarged: a crop has at least as many pixels in its photo as the network sees.
        side = min(max(round(rng.uniform(self.share, 1) * shorter), self.crop), shorter)
        y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        return Window(y, x, side, bool(rng.random() < 0.5) and self.flip)
