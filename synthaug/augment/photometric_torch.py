"""The photometric stages on the device: the same draws, the same values within 1/255, whole batches.

Plain functions on [B, 3, H, W] float32 tensors in [0, 1]; one draw per picture. They give a new tensor. Only
elementwise operations: no matrix product or convolution, whose bits hang on process-wide settings (TF32,
cuDNN's choice of algorithm). Noise is the host's own, so that a picture does not depend on where it was made.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from synthaug.augment.photometric import hue_matrix, normal_noise
from synthaug.contracts import Draw


def hue_saturation(images: Tensor, draws: Sequence[Draw]) -> Tensor:
    """`HueSaturation` on a batch."""
    still = np.eye(3, dtype=np.float32)
    rows = [hue_matrix(d["hue"], d["saturation"]) if d["apply"] else still for d in draws]
    weights = torch.from_numpy(np.stack(rows)).to(images.device)[..., None, None]
    mixed = images[:, :1] * weights[:, :, 0]
    for channel in (1, 2):
        mixed.addcmul_(images[:, channel : channel + 1], weights[:, :, channel])
    return mixed.clamp_(0, 1)


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
    """`GaussianBlur` on a batch."""
    return blurred(images, [d["sigma"] if d["apply"] and d["sigma"] >= 0.1 else 0.0 for d in draws])


def sharpen(images: Tensor, draws: Sequence[Draw]) -> Tensor:
    """`Sharpen` on a batch."""
    soft = blurred(images, [d["sigma"] if d["apply"] else 0.0 for d in draws])
    amounts = images.new_tensor([d["amount"] if d["apply"] else 0.0 for d in draws])
    return torch.addcmul(images, images - soft, amounts[:, None, None, None]).clamp_(0, 1)


def blurred(images: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Each picture under a Gaussian of its own, cut at 4 sigma, edges mirrored; a sigma of 0 leaves it as it is.

    Two passes of shifted sums: 2 (8 sigma + 1) of them, with the largest sigma of the batch.
    """
    weights = _kernels(sigmas).to(images.device)
    for axis in (3, 2):
        length, reach = images.shape[axis], weights.shape[1] // 2
        padded = _mirrored(images, reach, axis)
        total = torch.zeros_like(images)
        for place in range(weights.shape[1]):
            total.addcmul_(padded.narrow(axis, place, length), weights[:, place, None, None, None])
        images = total
    return images


def _kernels(sigmas: Sequence[float]) -> Tensor:
    """[B, taps] weights that add up to 1, as many taps as the widest kernel needs."""
    reach = max(int(np.ceil(4 * sigma)) for sigma in sigmas)
    offsets = np.abs(np.arange(-reach, reach + 1, dtype=np.float64))
    kernels = np.zeros((len(sigmas), len(offsets)))
    for kernel, sigma in zip(kernels, sigmas, strict=True):
        inside = offsets <= np.ceil(4 * sigma)
        kernel[inside] = np.exp(-(offsets[inside] ** 2) / (2 * sigma**2)) if sigma else 1.0
    return torch.from_numpy((kernels / kernels.sum(axis=1, keepdims=True)).astype(np.float32))


def _mirrored(images: Tensor, reach: int, axis: int) -> Tensor:
    """Reflected about the outermost pixels, as often as the picture is small (OpenCV's REFLECT_101)."""
    length = images.shape[axis]
    place = torch.arange(-reach, length + reach, device=images.device)
    period = max(2 * (length - 1), 1)
    place = place.remainder(period)
    return images.index_select(axis, torch.minimum(place, period - place).clamp_(0, length - 1))
