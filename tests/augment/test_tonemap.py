"""Tone mapping: closed forms at grey and white, chromaticity kept, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from synthaug.augment.tonemap import ToneMap
from synthaug.errors import ConfigError
from synthaug.labels import Labels
from synthaug.transfer import linear_from_srgb, srgb_from_linear


def tone(image: np.ndarray, **options: float) -> np.ndarray:
    return ToneMap(**options).paint(image[None], [Labels(image.shape[1:])], [{"exposure": 0.0}])[0]  # type: ignore[arg-type]


def test_a_flat_picture_becomes_the_compressed_key_whatever_its_level() -> None:
    expected = srgb_from_linear(0.18 * (1 + 0.18 / 16) / 1.18)
    for level in (0.001, 1.0, 5000.0):
        mapped = tone(np.full((3, 4, 5), level, np.float32))
        assert mapped == pytest.approx(np.full((3, 4, 5), float(expected)), abs=1e-3)


def test_chromaticity_survives_and_order_is_kept() -> None:
    rng = np.random.default_rng(0)
    image = rng.gamma(0.5, 2.0, (3, 16, 16)).astype(np.float32) * np.float32(0.2)
    linear = linear_from_srgb(tone(image, white=1000.0))
    clear = linear.max(axis=0) < 0.99
    share = linear[:, clear] / linear[:, clear].sum(axis=0)
    assert share == pytest.approx(image[:, clear] / image[:, clear].sum(axis=0), abs=2e-3)


def test_the_transfer_curve_is_its_own_inverse() -> None:
    values = np.linspace(0, 1, 4097)
    assert srgb_from_linear(linear_from_srgb(values)) == pytest.approx(values, abs=1e-7)
    assert linear_from_srgb(0.5) == pytest.approx(0.2140411, abs=1e-6)


@pytest.mark.parametrize("options", [{"key": 0.0}, {"white": 0.0}, {"exposure": (1.0, 0.0)}])
def test_values_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=str(next(iter(options)))):
        ToneMap(**options)  # type: ignore[arg-type]
