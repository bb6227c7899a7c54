"""Pictures to the device and back: the values of plain conversions, to the bit. CUDA's part is in `tests/gpu`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthaug.engine import appearance, wire
from synthaug.sample import Picture

LEVELS = np.arange(256, dtype=np.uint8)
BYTES = np.stack([LEVELS.reshape(16, 16), LEVELS[::-1].reshape(16, 16), np.roll(LEVELS, 7).reshape(16, 16)], axis=-1)


@pytest.mark.parametrize("space", ["srgb", "linear"])
def test_every_level_arrives_as_the_host_would_divide_it(space: str) -> None:
    floats = np.random.default_rng(0).random((16, 16, 3), np.float32)
    for pictures in ([Picture(BYTES), Picture(BYTES[::-1].copy())], [Picture(BYTES), Picture(floats, "linear")]):
        wanted = np.concatenate([appearance.to_planes(p, space) for p in pictures])  # type: ignore[arg-type]
        found = wire.sent(pictures, space, "cpu")  # type: ignore[arg-type]
        assert found.dtype == torch.float32
        assert found.is_contiguous()
        assert np.array_equal(found.numpy(), wanted)


def test_bytes_come_back_as_they_went() -> None:
    there = wire.sent([Picture(BYTES)], "srgb", "cpu")
    back = wire.fetched(wire.packed(there, as_bytes=True))
    assert back.dtype == np.uint8
    assert np.array_equal(back[0], BYTES)
    half = torch.tensor([0.0, 0.5 / 255, 1.5 / 255, 1.0]).expand(1, 3, 1, 4)
    assert wire.fetched(wire.packed(half, as_bytes=True))[0, 0, :, 0].tolist() == [0, 0, 2, 255], "to the nearest even"


def test_floats_come_back_untouched() -> None:
    values = torch.rand(2, 3, 5, 4)
    assert np.array_equal(wire.fetched(wire.packed(values, as_bytes=False)), values.permute(0, 2, 3, 1).numpy())
