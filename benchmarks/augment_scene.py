"""The labelled picture that the augmentation benchmark moves, and the best that could become of it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from synthaug.camera import from_fov
from synthaug.contracts import Draw
from synthaug.labels import Category, Instance, Labels
from synthaug.sample import Picture, Sample

SIZE = (512, 512)


def scene(*, instance_pass: bool) -> Sample:
    """A picture with the spectrum of a photo, 20 discs with boxes and one keypoint each, depth."""
    rng = np.random.Generator(np.random.Philox(key=5))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIZE[1]), np.fft.fftfreq(SIZE[0])))
    frequency[0, 0] = 1
    planes = [np.fft.ifft2(np.exp(2j * np.pi * rng.random(SIZE)) / frequency).real for _ in range(3)]
    pixels = np.stack([np.clip(128 + 40 * (p - p.mean()) / p.std(), 0, 255) for p in planes], axis=-1)
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]] + 0.5
    ids = np.zeros(SIZE, np.int32)
    instances: list[Instance] = []
    for number in range(1, 21):
        row, column = divmod(number - 1, 5)
        cx, cy, radius = 96 + 80 * column + rng.uniform(-9, 9), 116 + 80 * row + rng.uniform(-9, 9), rng.uniform(12, 26)
        inside = (x - cx) ** 2 + (y - cy) ** 2 < radius**2
        ids[inside] = number
        pixels[inside] = 0.5 * pixels[inside] + 0.5 * rng.uniform(0, 255, 3)
        box = (cx - radius, cy - radius, cx + radius, cy + radius)
        instances.append(Instance(number, 1, box, keypoints=((cx, cy, 2),)))
    passes: dict[str, Any] = {"semantic": (ids > 0).astype(np.int32), "depth": (5 + x / 100).astype(np.float32)}
    if instance_pass:
        passes["instance"] = ids
    picture = Picture(pixels.round().astype(np.uint8))
    camera = from_fov(SIZE[1], SIZE[0], 60.0)
    labels = Labels(SIZE, (Category("disc", ("centre",)),), tuple(instances), passes, camera)
    return Sample("bench", picture, labels, picture)


def supersampled(pixels: np.ndarray, matrix: np.ndarray, tones: tuple[Draw, Draw]) -> tuple[np.ndarray, np.ndarray]:
    """8x8 bicubic samples per target pixel, averaged, then the tone curves in float; and the pixels inside."""
    back = np.linalg.inv(matrix)
    total = np.zeros((*SIZE, 3))
    inside = np.ones(SIZE, np.bool_)
    for dy in (np.arange(8) + 0.5) / 8:
        for dx in (np.arange(8) + 0.5) / 8:
            y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]].astype(np.float64) + np.array([dy, dx])[:, None, None]
            sx, sy, w = (row[0] * x + row[1] * y + row[2] for row in back)
            sx, sy = sx / w, sy / w
            inside &= (sx > 3) & (sy > 3) & (sx < SIZE[1] - 3) & (sy < SIZE[0] - 3)
            maps = (sx - 0.5).astype(np.float32), (sy - 0.5).astype(np.float32)
            total += cv2.remap(pixels.astype(np.float32), *maps, cv2.INTER_CUBIC)
    values = np.clip(total / 64 / 255, 0, 1)
    values = np.clip(values * tones[0]["contrast"] + tones[0]["brightness"], 0, 1) ** tones[1]["gamma"]
    return values * 255, inside


def psnr(pixels: np.ndarray, truth: np.ndarray, inside: np.ndarray) -> float:
    """Decibels over the pixels inside."""
    return float(10 * np.log10(255**2 / ((pixels.astype(np.float64) - truth)[inside] ** 2).mean()))
