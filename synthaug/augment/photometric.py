"""Colour, noise, blur and compression on the host: what a camera and its files do to a picture.

All stages take and give sRGB in [0, 1] and move nothing. Those that are `also_on_device` hand a torch tensor to
their twin in `photometric_torch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from statistics import NormalDist
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug import seeds
from synthaug.augment import ranges
from synthaug.contracts import Appearance, Draw
from synthaug.errors import Rejected
from synthaug.labels import Labels

Float32 = NDArray[np.float32]


def _twins() -> Any:
    """The same stages in torch; asked for only by who holds a tensor, so that the host never imports torch."""
    from synthaug.augment import photometric_torch

    return photometric_torch


class HueSaturation(Appearance):
    """Turns hues and scales saturation by one 3x3 matrix, which keeps luma (ITU-R BT.601) as it is.

    Haeberli, Matrix Operations for Image Processing (1993): a rotation and a scaling of the plane of
    chroma in YIQ. Against HSV it has no seams at grey and costs a third. About 1 ms at 512x512.

    Args:
        hue: Range of the turn in degrees within [-180, 180].
        saturation: Range of the factor within [0, 4]; 0 is grey, 1 changes nothing.
        probability: Share of the samples that are changed, in [0, 1].
        scope: `sample`, or `group`: one draw for all samples of a group (frames of a sequence, views of a scene).
    """

    also_on_device = True

    def __init__(
        self,
        *,
        hue: Sequence[float] = (-12.0, 12.0),
        saturation: Sequence[float] = (0.7, 1.3),
        probability: float = 1.0,
        scope: ranges.Shared = "sample",
    ) -> None:
        self.scope = ranges.shared(scope)
        self.hue = ranges.interval("hue", hue, -180, 180, "degrees")
        self.saturation = ranges.interval("saturation", saturation, 0, 4, "(factor)")
        self.probability = ranges.probability("probability", probability)

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        return {
            "apply": ranges.applies(rng, self.probability),
            "hue": ranges.uniform(rng, self.hue),
            "saturation": ranges.uniform(rng, self.saturation),
        }

    def paint(self, images: Any, labels: Sequence[Labels], draws: Sequence[Draw]) -> Any:
        if not isinstance(images, np.ndarray):
            return _twins().hue_saturation(images, draws)
        for image, draw in zip(images, draws, strict=True):
            if draw["apply"]:
                image[...] = _mixed(image, hue_matrix(draw["hue"], draw["saturation"]))
        return images


def hue_matrix(hue: float, saturation: float) -> Float32:
    """The 3x3 matrix on (r, g, b) that turns hues by `hue` degrees (red to yellow to green) and scales saturation."""
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
    angle = np.radians(hue)
    cosine, sine = saturation * np.cos(angle), saturation * np.sin(angle)
    turn = np.array([[1, 0, 0], [0, cosine, sine], [0, -sine, cosine]])
    return (np.linalg.inv(to_yiq) @ turn @ to_yiq).astype(np.float32)


def _mixed(image: Float32, matrix: Float32) -> Float32:
    """Channels [3, H, W] through a 3x3 matrix, clipped; one product at a time, so that no BLAS decides the bits."""
    out = np.empty_like(image)
    part = np.empty_like(image[0])
    for target, row in zip(out, matrix, strict=True):
        np.multiply(image[0], row[0], out=target)
        for channel, weight in zip(image[1:], row[1:], strict=True):
            np.add(target, np.multiply(channel, weight, out=part), out=target)
    return np.clip(out, 0.0, 1.0, out=out)


class GaussianNoise(Appearance):
    """Adds noise of its own to every pixel and channel, with a variance that may grow with the signal.

    `variance = sigma^2 + shot^2 * value`: read noise and shot noise (Foi et al., IEEE TIP 2008). Every
    value is an independent draw of the sample's Philox generator, 16 bits through the inverse of the normal
    distribution: 65,536 equally likely values, the largest 4.3 standard deviations out. About 1.2 ms at
    512x512, 1.6 ms with shot noise.

    Args:
        sigma: Range of the standard deviation as a share of full scale, within [0, 0.5].
        shot: Range of the standard deviation that full scale adds, within [0, 0.5].
        probability: Share of the samples that are changed, in [0, 1].
        scope: `sample`, or `group`: one draw for all samples of a group (frames of a sequence, views of a scene);
            the noise is then the same in all of them, as the fixed pattern of a sensor is.
    """

    also_on_device = True

    def __init__(
        self,
        *,
        sigma: Sequence[float] = (0.005, 0.03),
        shot: Sequence[float] = (0.0, 0.0),
        probability: float = 1.0,
        scope: ranges.Shared = "sample",
    ) -> None:
        self.scope = ranges.shared(scope)
        self.sigma = ranges.interval("sigma", sigma, 0, 0.5, "of full scale")
        self.shot = ranges.interval("shot", shot, 0, 0.5, "of full scale")
        self.probability = ranges.probability("probability", probability)

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        return {
            "apply": ranges.applies(rng, self.probability),
            "sigma": ranges.uniform(rng, self.sigma),
            "shot": ranges.uniform(rng, self.shot),
            "seed": seeds.fork(rng),
        }

    def paint(self, images: Any, labels: Sequence[Labels], draws: Sequence[Draw]) -> Any:
        if not isinstance(images, np.ndarray):
            return _twins().gaussian_noise(images, draws)
        for image, draw in zip(images, draws, strict=True):
            if not draw["apply"]:
                continue
            if draw["shot"] == 0.0:
                image += normal_noise(draw["seed"], image.shape, draw["sigma"])
            else:
                spread = np.multiply(image, np.float32(draw["shot"] ** 2))
                spread += np.float32(draw["sigma"] ** 2)
                noise = normal_noise(draw["seed"], image.shape, 1.0)
                noise *= np.sqrt(spread, out=spread)
                image += noise
            np.clip(image, 0.0, 1.0, out=image)
        return images


def normal_noise(seed: int, shape: tuple[int, ...], sigma: float) -> Float32:
    """Normal noise of one sample: float32, mean 0, standard deviation `sigma`, no value beyond 4.3 of them."""
    count = int(np.prod(shape))
    words = seeds.from_seed(seed).bit_generator.random_raw(-(-count // 4))
    picks = np.asarray(words, dtype="<u8").view("<u2")[:count]
    table = (_quantiles() * np.float32(sigma))[None]
    # OpenCV's 16-bit look-up (since 4.12) takes half the time of np.take, for the same values.
    return np.asarray(cv2.LUT(picks[None], table), dtype=np.float32).reshape(shape)


@cache
def _quantiles() -> Float32:
    """The middles of 65,536 equally likely slices of the normal distribution, scaled to variance 1."""
    normal = NormalDist()
    upper = np.array([normal.inv_cdf((i + 0.5) / 65536) for i in range(32768, 65536)])
    both = np.concatenate([-upper[::-1], upper])
    return (both / both.std()).astype(np.float32)


class GaussianBlur(Appearance):
    """Blurs as a lens out of focus does, in first approximation.

    Args:
        sigma: Range of the standard deviation in pixels within [0, 20]; below 0.1 nothing changes.
        probability: Share of the samples that are changed, in [0, 1].
        scope: `sample`, or `group`: one draw for all samples of a group (frames of a sequence, views of a scene).
    """

    also_on_device = True

    def __init__(
        self, *, sigma: Sequence[float] = (0.3, 1.5), probability: float = 1.0, scope: ranges.Shared = "sample"
    ) -> None:
        self.scope = ranges.shared(scope)
        self.sigma = ranges.interval("sigma", sigma, 0, 20, "pixels")
        self.probability = ranges.probability("probability", probability)

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        return {"apply": ranges.applies(rng, self.probability), "sigma": ranges.uniform(rng, self.sigma)}

    def paint(self, images: Any, labels: Sequence[Labels], draws: Sequence[Draw]) -> Any:
        if not isinstance(images, np.ndarray):
            return _twins().gaussian_blur(images, draws)
        for image, draw in zip(images, draws, strict=True):
            if draw["apply"] and draw["sigma"] >= 0.1:
                for plane in image:
                    plane[...] = blurred(plane, draw["sigma"])
        return images


def blurred(plane: Float32, sigma: float) -> Float32:
    """One plane [H, W] under a Gaussian of `sigma` pixels, cut at 4 sigma, edges mirrored."""
    reach = 2 * int(np.ceil(4 * sigma)) + 1
    return cv2.GaussianBlur(plane, (reach, reach), sigma, borderType=cv2.BORDER_REFLECT_101)  # type: ignore[return-value]


class Sharpen(Appearance):
    """Unsharp mask, as cameras apply it: adds what a blur takes away.

    Args:
        amount: Range of the gain of the detail within [0, 5].
        sigma: Range of the blur's standard deviation in pixels within [0.1, 20].
        probability: Share of the samples that are changed, in [0, 1].
        scope: `sample`, or `group`: one draw for all samples of a group (frames of a sequence, views of a scene).
    """

    also_on_device = True

    def __init__(
        self,
        *,
        amount: Sequence[float] = (0.2, 0.8),
        sigma: Sequence[float] = (0.5, 1.5),
        probability: float = 1.0,
        scope: ranges.Shared = "sample",
    ) -> None:
        self.scope = ranges.shared(scope)
        self.amount = ranges.interval("amount", amount, 0, 5, "(gain)")
        self.sigma = ranges.interval("sigma", sigma, 0.1, 20, "pixels")
        self.probability = ranges.probability("probability", probability)

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        return {
            "apply": ranges.applies(rng, self.probability),
            "amount": ranges.uniform(rng, self.amount),
            "sigma": ranges.uniform(rng, self.sigma),
        }

    def paint(self, images: Any, labels: Sequence[Labels], draws: Sequence[Draw]) -> Any:
        if not isinstance(images, np.ndarray):
            return _twins().sharpen(images, draws)
        for image, draw in zip(images, draws, strict=True):
            if draw["apply"]:
                for plane in image:
                    detail = plane - blurred(plane, draw["sigma"])
                    plane += np.float32(draw["amount"]) * detail
                np.clip(image, 0.0, 1.0, out=image)
        return images


class JpegArtifacts(Appearance):
    """Compresses as JPEG and decodes again (OpenCV's libjpeg, colour at half resolution).

    Args:
        quality: Range of the quality, whole numbers within [1, 100].
        probability: Share of the samples that are changed, in [0, 1].
        scope: `sample`, or `group`: one draw for all samples of a group (frames of a sequence, views of a scene).
    """

    def __init__(
        self, *, quality: Sequence[int] = (40, 95), probability: float = 1.0, scope: ranges.Shared = "sample"
    ) -> None:
        self.scope = ranges.shared(scope)
        low, high = ranges.interval("quality", quality, 1, 100, "(JPEG quality)")
        self.quality = round(low), round(high)
        self.probability = ranges.probability("probability", probability)

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        return {
            "apply": ranges.applies(rng, self.probability),
            "quality": int(rng.integers(self.quality[0], self.quality[1], endpoint=True)),
        }

    def paint(self, images: Any, labels: Sequence[Labels], draws: Sequence[Draw]) -> Any:
        for image, draw in zip(images, draws, strict=True):
            if draw["apply"]:
                image[...] = _compressed(image, draw["quality"])
        return images


def _compressed(image: Float32, quality: int) -> Float32:
    planes = [cv2.convertScaleAbs(plane, alpha=255.0) for plane in image[::-1]]
    done, data = cv2.imencode(".jpg", cv2.merge(planes), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise Rejected("encode", f"OpenCV could not compress a picture of {image.shape[1:]} pixels as JPEG")
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return decoded[..., ::-1].transpose(2, 0, 1).astype(np.float32) * np.float32(1 / 255)
