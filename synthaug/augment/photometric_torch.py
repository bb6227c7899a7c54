"""The photometric stages on the device: the same draws, the same values within 1/255, whole batches.

Plain functions on [B, 3, H, W] float32 tensors in [0, 1]; the draws of a stage come as one row per picture.
Noise is the host's own, so that a picture does not depend on where it was computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from synthaug.augment.photometric import hue_matrix, normal_noise
from synthaug.contracts import Draw, Pointwise


def pointwise(images: Tensor, stages: Sequence[Pointwise], draws: Sequence[Sequence[Draw]]) -> Tensor:
    """A row of pointwise stages as one table of 1,025 knots per channel, read with linear interpolation.

    Args:
        images: [B, 3, H, W] in [0, 1].
        stages: In the order of running.
        draws: One row per picture, one draw per stage in it.

    Returns:
        A new tensor. Within 1/255 of the host's values for curves whose slope stays below 30 away from
        black (a gamma below 0.3 is steeper there).
    """
    count = 1025
    tables = torch.from_numpy(np.stack([_table(stages, row, count) for row in draws])).to(images.device)
    place = images * (count - 1)
    index = place.floor().clamp_(0, count - 2)
    share = place.sub_(index)
    flat = index.long().flatten(2)
    low = tables.gather(2, flat).view_as(images)
    high = tables.gather(2, flat + 1).view_as(images)
    return torch.lerp(low, high, share)


def _table(stages: Sequence[Pointwise], draws: Sequence[Draw], count: int) -> np.ndarray:
    """[3, count] values of the composed curve, clipped between stages as the engine does."""
    values = np.repeat(np.linspace(0, 1, count, dtype=np.float32)[:, None], 3, axis=1)
    for stage, draw in zip(stages, draws, strict=True):
        values = np.clip(stage.curve(values, draw), 0.0, 1.0).astype(np.float32)
    return np.ascontiguousarray(values.T)


def hue_saturation(images: Tensor, draws: Sequence[Draw]) -> Tensor:
    """`HueSaturation` on a batch; one 3x3 product per picture."""
    still = np.eye(3, dtype=np.float32)
    rows = [hue_matrix(d["hue"], d["saturation"]) if d["apply"] else still for d in draws]
    matrices = torch.from_numpy(np.stack(rows)).to(images.device)
    return torch.einsum("bij,bjhw->bihw", matrices, images).clamp_(0, 1)


def gaussian_noise(images: Tensor, draws: Sequence[Draw]) -> Tensor:
    """`GaussianNoise` on a batch; the noise is drawn on the CPU and copied (3 MB per 512x512 picture)."""
    done = images.clone()
    for image, draw in zip(done, draws, strict=True):
        if not draw["apply"]:
            continue
        noise = torch.from_numpy(normal_noise(draw["seed"], tuple(image.shape), 1.0)).to(images.device)
        spread = (image * draw["shot"] ** 2 + draw["sigma"] ** 2).sqrt_()
        image.addcmul_(noise, spread).clamp_(0, 1)
    return done


def gaussian_blur(images: Tensor, draws: Sequence[Draw]) -> Tensor:
    """`GaussianBlur` on a batch: two passes of a kernel of its own per picture."""
    done = images.clone()
    for image, draw in zip(done, draws, strict=True):
        if draw["apply"] and draw["sigma"] >= 0.1:
            image.copy_(blurred(image, draw["sigma"]))
    return done


def sharpen(images: Tensor, draws: Sequence[Draw]) -> Tensor:
    """`Sharpen` on a batch."""
    done = images.clone()
    for image, draw in zip(done, draws, strict=True):
        if draw["apply"]:
            image.add_(image - blurred(image, draw["sigma"]), alpha=draw["amount"]).clamp_(0, 1)
    return done


def blurred(image: Tensor, sigma: float) -> Tensor:
    """One picture [3, H, W] under a Gaussian of `sigma` pixels, cut at 4 sigma, edges mirrored."""
    reach = int(np.ceil(4 * sigma))
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (weights / weights.sum()).to(image.device, torch.float32)
    padded = _mirrored(_mirrored(image, reach, 1), reach, 2)[:, None]
    rows = functional.conv2d(padded, kernel.view(1, 1, 1, -1))
    return functional.conv2d(rows, kernel.view(1, 1, -1, 1))[:, 0]


def _mirrored(image: Tensor, reach: int, axis: int) -> Tensor:
    """Reflected about the outermost pixels, as often as the picture is small (OpenCV's REFLECT_101)."""
    length = image.shape[axis]
    place = torch.arange(-reach, length + reach, device=image.device)
    period = max(2 * (length - 1), 1)
    place = place.remainder(period)
    return image.index_select(axis, torch.minimum(place, period - place).clamp_(0, length - 1))
