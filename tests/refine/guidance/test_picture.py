"""Tile, blur and grey: what they keep and what they remove."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from synthaug.errors import ConfigError
from synthaug.labels import Labels
from synthaug.refine.guidance.picture import Blur, Grey, Tile

SIZE = (64, 96)
LABELS = Labels(SIZE)
NOISE = np.random.default_rng(3).random((3, *SIZE), dtype=np.float32)


def test_tile_of_one_is_the_picture() -> None:
    np.testing.assert_array_equal(Tile().guide(LABELS, NOISE).image, NOISE)


def test_tile_keeps_means_of_blocks_and_removes_detail() -> None:
    image = Tile(factor=8).guide(LABELS, NOISE).image
    assert image.shape == NOISE.shape
    assert image.std() < 0.2 * NOISE.std()
    coarse = NOISE.reshape(3, 8, 8, 12, 8).mean(axis=(2, 4))
    np.testing.assert_allclose(image[:, 4::8, 4::8], coarse, atol=0.02)
    ramp = np.broadcast_to(np.linspace(0, 1, 96, dtype=np.float32), (3, *SIZE))
    np.testing.assert_allclose(Tile(4).guide(LABELS, ramp).image[:, :, 4:-4], ramp[:, :, 4:-4], atol=1e-3)


def test_tile_larger_than_the_picture() -> None:
    small = np.full((3, 5, 7), 0.25, np.float32)
    np.testing.assert_allclose(Tile(64).guide(Labels((5, 7)), small).image, small, atol=1e-6)


def test_blur_of_a_point_is_a_gaussian() -> None:
    point = np.zeros((3, *SIZE), np.float32)
    point[:, 32, 48] = 1
    image = Blur(sigma=3.0).guide(LABELS, point).image
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    wanted = np.exp(-((rows - 32) ** 2 + (columns - 48) ** 2) / 18.0)
    np.testing.assert_allclose(image[1], wanted / wanted.sum(), atol=1e-5)
    assert image.sum() == pytest.approx(3, rel=1e-3)


def test_grey_is_pillows_luma() -> None:
    eight = (NOISE * 255 + 0.5).astype(np.uint8)
    peer = np.asarray(Image.fromarray(eight.transpose(1, 2, 0)).convert("L"))
    image = Grey().guide(LABELS, eight.astype(np.float32) / 255).image
    assert (image[0] == image[2]).all()
    assert np.abs(image[0] * 255 - peer).max() <= 1.0


@pytest.mark.parametrize(
    ("build", "word"), [(lambda: Tile(0.5), "factor"), (lambda: Blur(0), "sigma"), (lambda: Blur(1e3), "sigma")]
)
def test_ranges_are_refused(build: object, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        build()  # type: ignore[operator]
