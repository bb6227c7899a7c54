"""The flow against closed forms: a network that knows the answer must be followed to it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from synthaug.errors import ConfigError
from synthaug.models import guards, rectified
from synthaug.models.rectified import Shape, Spread

torch.set_num_threads(1)
SPREAD = Spread((0.001, 0.01, 0.1), ((0.01, 0.02, 0.04), (0.005, 0.01, 0.02), (0.008, 0.016, 0.03)))


def noise(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))


class Knowing(torch.nn.Module):
    """Answers with the velocity that leads to `target`, folded: (x - target) / t."""

    def __init__(self, target: torch.Tensor) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace(block_out_channels=(8,))
        self._target = target

    def forward(self, inputs: torch.Tensor, times: torch.Tensor) -> Any:
        t = (times / rectified.TRAIN_STEPS)[:, None, None, None]
        return SimpleNamespace(sample=(inputs[:, :12] - self._target) / t)


@pytest.mark.parametrize("steps", [1, 3, 8])
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_no_starting_noise_is_left(steps: int, strength: float) -> None:
    condition = torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(1))
    target = noise((2, 12, 16, 32), 2)
    added = rectified.sample(Knowing(target), condition, [1, 2], spread=SPREAD, strength=strength, steps=steps)
    expected = rectified.from_opponent(torch.nn.functional.pixel_shuffle(target, 2) * SPREAD.at(condition))
    assert torch.allclose(added, expected, atol=1e-5)


def test_loss_is_zero_for_the_true_velocity() -> None:
    target, drawn = noise((2, 3, 32, 32), 1).clamp(-5, 5), noise((2, 12, 16, 16), 2)
    network = Knowing(torch.nn.functional.pixel_unshuffle(target, 2))
    loss = rectified.flow_loss(network, target, torch.rand(2, 3, 32, 32), drawn, torch.tensor([0.2, 0.9]))
    assert float(loss) < 1e-9


@pytest.mark.parametrize("size", [(1, 1), (31, 33), (64, 40)])
def test_any_size_and_neither_batch_nor_order_matter(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    unet = rectified.network(Shape((8, 16))).eval()
    pictures = torch.rand(3, 3, *size)

    def run(rows: list[int]) -> torch.Tensor:
        return rectified.sample(unet, pictures[rows], [10 + r for r in rows], spread=SPREAD, strength=1.0, steps=2)

    together = run([0, 1, 2])
    assert together.shape == pictures.shape
    for rows in ([2, 0], [1]):
        assert torch.allclose(run(rows), together[rows], atol=1e-5)
    assert not torch.allclose(together[0], together[1])


def test_spread_meets_its_knots_and_lies_between_them() -> None:
    flat = torch.full((1, 3, 16, 16), 0.5)
    assert torch.allclose(SPREAD.at(flat)[0, :, 8, 8], torch.tensor([0.01, 0.005, 0.008]))
    rough = flat + 0.5 * noise((1, 3, 16, 16))
    assert torch.allclose(SPREAD.at(rough)[0, :, 8, 8], torch.tensor([0.04, 0.02, 0.03]))
    some = SPREAD.at(flat + 0.02 * noise((1, 3, 16, 16)))
    assert float(some[0, 0].min()) >= 0.01
    assert float(some[0, 0].max()) <= 0.04
    detail = guards.texture(flat + 0.02 * noise((1, 3, 16, 16)))
    wanted = np.interp(np.log(detail.numpy()), np.log(SPREAD.knots), SPREAD.levels[0])
    assert np.allclose(some[:, :1].numpy(), wanted, atol=1e-6)


def test_opponent_channels_come_back() -> None:
    rgb = noise((2, 3, 5, 7))
    assert torch.allclose(rectified.from_opponent(rectified.opponent(rgb)), rgb, atol=1e-5)


def test_what_is_learnt_has_no_coarse_colour() -> None:
    condition = torch.rand(1, 3, 48, 48)
    assert rectified.difference(condition + 0.1, condition).abs().max() < 1e-5


@pytest.mark.parametrize("steps", [1, 2, 8])
def test_schedule(steps: int) -> None:
    times = rectified.schedule(0.7, steps)
    assert len(times) == steps + 1
    assert times[0] == 0.7
    assert times[-1] == 0.0
    assert times == sorted(times, reverse=True)


def test_logit_normal_times_have_the_known_median() -> None:
    times = rectified.logit_normal(noise((20000,)))
    assert float(times.median()) == pytest.approx(0.5, abs=0.01)
    assert 0 < float(times.min()) < float(times.max()) < 1


@pytest.mark.parametrize("channels", [(), (12,), (8,) * 6, (4, 8)])
def test_impossible_shapes(channels: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="channels"):
        rectified.network(Shape(channels))
