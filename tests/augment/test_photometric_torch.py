"""The device's versions give the host's values within 1/255, whoever is beside them in the batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from synthaug.augment import photometric_torch as device
from synthaug.augment.photometric import GaussianBlur, GaussianNoise, HueSaturation, Sharpen
from synthaug.augment.pointwise import BrightnessContrast, ColourBalance, Gamma, ToneCurve
from synthaug.labels import Labels
from synthaug.seeds import from_seed
from tests.augment.scenes import smooth

torch.set_num_threads(1)
SIZE = (60, 80)
LABELS = Labels(SIZE)
BATCH = np.stack([smooth(SIZE, seed).transpose(2, 0, 1) for seed in range(3)])
PAIRS: tuple[tuple[Any, Any], ...] = (
    (HueSaturation(hue=[-90, 90]), device.hue_saturation),
    (GaussianNoise(sigma=[0.02, 0.1]), device.gaussian_noise),
    (GaussianNoise(shot=[0.05, 0.1], probability=0.5), device.gaussian_noise),
    (GaussianBlur(sigma=[0.0, 4.0]), device.gaussian_blur),
    (Sharpen(amount=[1, 2]), device.sharpen),
)


@pytest.mark.parametrize(("stage", "twin"), PAIRS, ids=lambda p: getattr(p, "__name__", type(p).__name__))
def test_equals_the_host(stage: Any, twin: Any) -> None:
    draws = [stage.draw(from_seed(seed), LABELS, 0) for seed in range(3)]
    host = np.concatenate([stage.paint(BATCH[i : i + 1].copy(), [LABELS], [draws[i]]) for i in range(3)])
    given = torch.from_numpy(BATCH.copy())
    found = twin(given, draws)
    assert np.abs(found.numpy() - host).max() < 1 / 255
    assert np.array_equal(given.numpy(), BATCH), "the batch is not written into"
    alone = twin(given[1:2], draws[1:2])
    assert np.abs(alone[0].numpy() - found[1].numpy()).max() < 1e-6


def test_a_row_of_curves_equals_the_host() -> None:
    stages = (BrightnessContrast(), Gamma(gamma=[0.5, 2.0]), ColourBalance(), ToneCurve(per_channel=True))
    draws = [[s.draw(from_seed(i), LABELS, 0) for s in stages] for i in range(3)]
    host = BATCH.copy()
    for stage_index, stage in enumerate(stages):
        host = np.concatenate([stage.paint(host[i : i + 1], [LABELS], [draws[i][stage_index]]) for i in range(3)])
    found = device.pointwise(torch.from_numpy(BATCH.copy()), stages, draws)
    assert np.abs(found.numpy() - host).max() < 1 / 255


def test_a_blur_wider_than_the_picture_mirrors_as_often_as_needed() -> None:
    image = smooth((9, 7)).transpose(2, 0, 1)
    host = GaussianBlur().paint(image[None].copy(), [Labels((9, 7))], [{"apply": True, "sigma": 4.0}])
    assert np.abs(device.blurred(torch.from_numpy(image.copy()), 4.0).numpy() - host[0]).max() < 1 / 255
