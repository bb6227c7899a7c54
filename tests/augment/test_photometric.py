"""Noise, blur, colour and compression on the host: statistics, closed forms, and determinism."""

from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np
import pytest

from synthaug.augment.photometric import (
    GaussianBlur,
    GaussianNoise,
    HueSaturation,
    JpegArtifacts,
    Sharpen,
    hue_matrix,
    normal_noise,
)
from synthaug.contracts import Appearance
from synthaug.errors import ConfigError
from synthaug.labels import Labels
from synthaug.seeds import from_seed
from tests.augment.scenes import smooth

LABELS = Labels((120, 160))
STAGES: tuple[Appearance, ...] = (
    HueSaturation(),
    GaussianNoise(),
    GaussianNoise(shot=[0.02, 0.05]),
    GaussianBlur(sigma=[1.0, 2.0]),
    Sharpen(),
    JpegArtifacts(),
)


def picture() -> np.ndarray:
    return smooth((120, 160)).transpose(2, 0, 1)[None].copy()


def painted(stage: Appearance, draw: dict[str, Any], image: np.ndarray | None = None) -> np.ndarray:
    return stage.paint((picture() if image is None else image).copy(), [LABELS], [draw])


@pytest.mark.parametrize("stage", STAGES, ids=lambda s: type(s).__name__)
def test_a_draw_decides_everything(stage: Appearance) -> None:
    draw = stage.draw(from_seed(1), LABELS, 0)
    assert json.loads(json.dumps(draw)) == draw
    first, again = painted(stage, draw), painted(stage, draw)
    assert first.dtype == np.float32
    assert first.shape == (1, 3, 120, 160)
    assert np.array_equal(first, again)
    assert first.min() >= 0
    assert first.max() <= 1
    assert not np.array_equal(first, picture())
    other = painted(stage, stage.draw(from_seed(2), LABELS, 0))
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("kind", [HueSaturation, GaussianNoise, GaussianBlur, Sharpen, JpegArtifacts])
def test_a_probability_of_zero_changes_nothing(kind: type[Any]) -> None:
    stage = kind(probability=0.0)
    assert np.array_equal(painted(stage, stage.draw(from_seed(1), LABELS, 0)), picture())


def test_noise_is_normal() -> None:
    """Moments, the Kolmogorov-Smirnov distance to the normal distribution, and no memory between pixels."""
    from statistics import NormalDist

    noise = normal_noise(12345, (3, 400, 400), 0.02)
    values = np.sort(noise.ravel().astype(np.float64)) / 0.02
    count = len(values)
    assert abs(values.mean()) < 4 / np.sqrt(count)
    assert abs(values.var() - 1) < 4 * np.sqrt(2 / count)
    assert abs((values**4).mean() - 3) < 0.05
    probe = np.linspace(-3.5, 3.5, 701)
    expected = np.array([NormalDist().cdf(v) for v in probe])
    assert np.abs(np.searchsorted(values, probe) / count - expected).max() < 1.63 / np.sqrt(count)
    for shifted in (noise[:, 1:] * noise[:, :-1], noise[..., 1:] * noise[..., :-1], noise[1:] * noise[:-1]):
        assert abs(shifted.mean() / 0.02**2) < 5 / np.sqrt(shifted.size)


def test_noise_of_two_seeds_is_independent() -> None:
    a, b = normal_noise(1, (3, 200, 200), 1.0), normal_noise(2, (3, 200, 200), 1.0)
    assert abs((a * b).mean()) < 5 / np.sqrt(a.size)


def test_shot_noise_grows_with_the_signal() -> None:
    steps = np.repeat(np.linspace(0.2, 0.8, 4, dtype=np.float32), 40)[None, None, None].repeat(120, axis=2)
    image = np.ascontiguousarray(np.broadcast_to(steps, (1, 3, 120, 160)))
    out = painted(GaussianNoise(), {"apply": True, "sigma": 0.01, "shot": 0.04, "seed": 9}, image)
    spread = (out - image).reshape(3, 120, 4, 40).std(axis=(0, 1, 3))
    assert spread == pytest.approx(np.sqrt(0.01**2 + 0.04**2 * np.linspace(0.2, 0.8, 4)), rel=0.03)


def test_hue_keeps_luma_and_closes_the_circle() -> None:
    luma = np.array([0.299, 0.587, 0.114])
    for hue, saturation in ((30, 1.0), (-120, 0.3), (180, 2.0)):
        matrix = hue_matrix(hue, saturation)
        assert luma @ matrix == pytest.approx(luma, abs=1e-4)
        assert matrix @ np.ones(3) == pytest.approx(np.ones(3), abs=1e-4)
    assert hue_matrix(120, 1.0) @ hue_matrix(240, 1.0) == pytest.approx(np.eye(3), abs=1e-4)
    assert hue_matrix(0, 0.0) @ np.array([1.0, 0, 0]) == pytest.approx([0.299] * 3, abs=1e-4)


def test_hue_goes_where_hsv_goes() -> None:
    """A turn of 120 degrees takes red to mostly green, as any colour wheel does."""
    red = np.zeros((1, 3, 4, 4), np.float32)
    red[0, 0] = 0.5
    out = painted(HueSaturation(), {"apply": True, "hue": -120.0, "saturation": 1.0}, red)[0, :, 0, 0]
    other = painted(HueSaturation(), {"apply": True, "hue": 120.0, "saturation": 1.0}, red)[0, :, 0, 0]
    assert {int(out.argmax()), int(other.argmax())} == {1, 2}
    assert int(other.argmax()) == 1, "positive degrees turn red towards yellow and green"


def test_blur_of_a_point_is_a_gaussian() -> None:
    image = np.zeros((1, 3, 41, 41), np.float32)
    image[..., 20, 20] = 1
    out = painted(GaussianBlur(), {"apply": True, "sigma": 2.0}, image)[0, 0]
    offsets = np.arange(41) - 20
    expected = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / 8) / (2 * np.pi * 4)
    assert np.abs(out - expected).max() < 2e-4
    assert out.sum() == pytest.approx(1, abs=1e-4)


def test_sharpening_is_what_the_blur_took() -> None:
    image = picture()
    soft = painted(GaussianBlur(), {"apply": True, "sigma": 1.5}, image)
    sharp = painted(Sharpen(), {"apply": True, "amount": 0.5, "sigma": 1.5}, image)
    assert np.abs(sharp - np.clip(image + 0.5 * (image - soft), 0, 1)).max() < 1e-6


def test_jpeg_is_jpeg() -> None:
    """Equal to compressing the 8-bit picture outside, and worse at a lower quality."""
    image = picture()
    pixels = np.rint(image[0].transpose(1, 2, 0) * 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 30])
    expected = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
    out = painted(JpegArtifacts(), {"apply": True, "quality": 30}, image)[0].transpose(1, 2, 0)
    assert np.array_equal(np.rint(out * 255).astype(np.uint8), expected)
    errors = [
        np.abs(painted(JpegArtifacts(), {"apply": True, "quality": q}, image) - image).mean() for q in (5, 50, 95)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_arguments_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"sigma\[1\] is 2"):
        GaussianNoise(sigma=[0, 2])
    with pytest.raises(ConfigError, match=r"quality\[0\] is 0"):
        JpegArtifacts(quality=[0, 50])
    with pytest.raises(ConfigError, match="probability is 2"):
        GaussianBlur(probability=2)
    with pytest.raises(ConfigError, match=r"hue\[0\] is -200"):
        HueSaturation(hue=[-200, 0])
