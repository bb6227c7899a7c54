"""The same comparisons for the CPU's torch and for a GPU: what a device computes against what the host computes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from synthaug.augment.geometric import Affine, Perspective
from synthaug.augment.lens import LensDistortion
from synthaug.augment.photometric import GaussianBlur, GaussianNoise, HueSaturation, Sharpen
from synthaug.augment.pointwise import BrightnessContrast, ColourBalance, Gamma, ToneCurve
from synthaug.contracts import Appearance, Draw
from synthaug.engine import bracket, device_row
from synthaug.engine.appearance import Work
from synthaug.engine.bracket import Settings
from synthaug.engine.pipeline import Bracket, Slot
from synthaug.engine.plan import Entry
from synthaug.engine.pools import Inline
from synthaug.labels import Labels, Size
from synthaug.seeds import from_seed
from synthaug.testing import make_sample
from synthaug.warp import device as warp_device
from synthaug.warp import motion
from synthaug.warp.motion import Warp
from synthaug.warp.resample import Resampler
from tests.augment.scenes import smooth

STAGES: tuple[Appearance, ...] = (
    HueSaturation(hue=[-90, 90], saturation=[0.0, 3.0]),
    GaussianNoise(sigma=[0.02, 0.1]),
    GaussianNoise(shot=[0.05, 0.1], probability=0.5),
    GaussianBlur(sigma=[0.0, 4.0], probability=0.7),
    Sharpen(amount=[1, 2], probability=0.7),
    BrightnessContrast(brightness=[-0.5, 0.5], contrast=[0.0, 4.0]),
    Gamma(gamma=[0.1, 10.0]),
    ColourBalance(gain=[0.3, 3.0]),
    ToneCurve(strength=0.5, per_channel=True),
)
"""Every native stage that a device can do, at settings stronger than anyone's."""


class Shade(Appearance):
    """A device stage without weights, for whatever device there is."""

    place = "device"

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        return {"gain": float(rng.uniform(0.7, 1.1)), "lift": float(rng.uniform(-0.1, 0.2))}

    def paint(self, images: Any, labels: Sequence[Labels], draws: Sequence[Draw]) -> Any:
        gains, lifts = (images.new_tensor([d[k] for d in draws]).reshape(-1, 1, 1, 1) for k in ("gain", "lift"))
        return images * gains + lifts


def photometric_gap(stage: Appearance, device: str, size: Size = (60, 80), count: int = 6) -> float:
    """The largest difference between a batch on `device` and its pictures one by one on the host."""
    labels = Labels(size)
    batch = np.stack([dark_and_bright(size, seed) for seed in range(count)])
    draws = [stage.draw(from_seed(seed), labels, 0) for seed in range(count)]
    host = np.concatenate([stage.paint(batch[i : i + 1].copy(), [labels], [draws[i]]) for i in range(count)])
    given = torch.from_numpy(batch.copy()).to(device)
    with torch.inference_mode():
        found = stage.paint(given, [labels] * count, draws)
        alone = stage.paint(torch.from_numpy(batch[1:2].copy()).to(device), [labels], draws[1:2])
    assert found.device == given.device
    assert torch.equal(alone[0], found[1]), "batch-mates matter"
    return float(np.abs(found.cpu().numpy() - host).max())


def dark_and_bright(size: Size, seed: int) -> np.ndarray:
    """[3, H, W] of all values in [0, 1], those next to black among them, where powers are steep."""
    picture = smooth(size, seed).transpose(2, 0, 1).copy()
    ramp = np.linspace(0, 1, picture[0].size, dtype=np.float32).reshape(size) ** 4
    picture[seed % 3] = ramp
    return picture


def warps(size: Size, seed: int) -> list[Warp]:
    """One motion of every kind that `warp.device` tells apart, all on a canvas of the same size."""
    rng, labels = from_seed(seed), Labels(size)
    tilt, bend = Perspective(jitter=0.15, cover=False), LensDistortion(k1=[-0.3, -0.2])
    turn = Affine(rotation=[-30, 30], scale=[0.8, 1.3])
    small = motion.affine(size, scale=(0.31, 0.4), degrees=17)
    shrunk = motion.affine(size, scale=(0.5, 0.5)).then(motion.crop(size, (2, 2, size[1] + 2, size[0] + 2)))
    lens = bend.warp(labels, bend.draw(rng, labels, 0))
    return [
        motion.hflip(size),
        motion.crop(size, (5, 3, size[1] + 5, size[0] + 3)),
        tilt.warp(labels, tilt.draw(rng, labels, 0)),
        turn.warp(labels, turn.draw(rng, labels, 0)),
        small,
        shrunk,
        lens,
        lens.then(small),
    ]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """In dB of 8-bit values; infinite where they are equal."""
    error = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else 10 * np.log10(255.0**2 / error)


def moved(pixels: np.ndarray, motions: Sequence[Warp], device: str, border: Any = "constant") -> np.ndarray:
    """8-bit [H, W, 3] pixels through each warp on `device`: [N, H', W', 3], rounded."""
    planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).to(device, torch.float32) / 255
    found = warp_device.picture(planes[None].repeat(len(motions), 1, 1, 1), motions, border)
    assert str(found.device).startswith(device.partition(":")[0])
    return np.rint(found.cpu().numpy() * 255).clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


def quality(pixels: np.ndarray, motions: Sequence[Warp], device: str, border: Any = "constant") -> list[float]:
    """PSNR in dB between device and host, warp by warp."""
    found = moved(pixels, motions, device, border)
    return [psnr(f, Resampler(w).picture(pixels, border)) for f, w in zip(found, motions, strict=True)]


def slots() -> tuple[Slot, ...]:
    """A tone curve and noise before a device stage, all other native stages behind it."""
    row = (Gamma(), GaussianNoise(), Shade(), HueSaturation(), GaussianBlur(), ToneCurve(), Sharpen(), GaussianNoise())
    return tuple(Slot(f"s{i}", stage) for i, stage in enumerate(row))


def settings(device: str) -> Settings:
    return Settings(
        seed=5, micro_batch=4, device=device, min_visible=0.0, min_area=1.0, hdr=False,
        host=Inline(), on_device=lambda compute: compute(),
    )  # fmt: skip


def works(count: int = 3) -> list[Work]:
    made = [make_sample(i) for i in range(count)]
    return [Work(i, Entry(s.id, s.id, 0, s.image.size, s.group, "train"), 0, s) for i, s in enumerate(made)]


def row_gap(device: str) -> int:
    """The largest difference in 8-bit steps between a row on `device` and the same row, native stages on the host."""
    row = slots()
    host = bracket.run(Bracket(row, ()), works(), settings("cpu"))
    found = device_row.paint_device(row, works(), 4, device, 5, last=True)
    steps = 0
    for one, other in zip(host, found, strict=True):
        assert isinstance(one, Work)
        assert isinstance(other, Work)
        assert one.sample.trail == other.sample.trail, "the same draws"
        apart = one.sample.image.pixels.astype(int) - other.sample.image.pixels.astype(int)
        steps = max(steps, int(np.abs(apart).max()))
    return steps
