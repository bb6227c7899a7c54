"""Noise from the sample's key: counted per sample, blind to neighbours and to global state."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthaug import seeds
from synthaug.errors import SynthaugError
from synthaug.models.noise import SampleNoise

torch.set_num_threads(1)


def test_a_token_draws_its_own_philox_stream() -> None:
    with SampleNoise([5, 6]) as noise:
        first = torch.randn((2, 3), generator=noise.tokens[1])
        second = torch.randn(4, generator=noise.tokens[1], dtype=torch.float16)
        other = torch.randn(2, 3, generator=noise.tokens[0])
    expected = seeds.from_seed(6)
    assert np.array_equal(first, expected.standard_normal((2, 3), dtype=np.float32))
    assert np.array_equal(second, expected.standard_normal(4, dtype=np.float32).astype(np.float16))
    assert np.array_equal(other, seeds.normal(5, (2, 3)))
    assert noise.counts == [6, 10]


def test_seeds_that_share_their_low_32_bits_differ() -> None:
    with SampleNoise([7, 7 + 2**32]) as noise:
        a, b = (torch.randn(8, generator=token) for token in noise.tokens)
    assert not torch.equal(a, b)


def test_diffusers_randn_tensor_goes_through() -> None:
    from diffusers.utils.torch_utils import randn_tensor

    with SampleNoise([1, 2]) as noise:
        both = randn_tensor((2, 4), generator=noise.tokens, device=torch.device("cpu"), dtype=torch.float32)
    with SampleNoise([2]) as noise:
        alone = randn_tensor((1, 4), generator=noise.tokens, device=torch.device("cpu"), dtype=torch.float32)
    assert torch.equal(both[1:], alone)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: torch.randn(3),
        lambda: torch.randn(3, generator=torch.Generator()),
        lambda: torch.rand(3),
        lambda: torch.randn_like(torch.zeros(3)),
        lambda: torch.zeros(3).normal_(),
        lambda: torch.normal(torch.zeros(3), torch.ones(3)),
        lambda: torch.randint(0, 3, (2,)),
        lambda: torch.zeros(3).uniform_(),
    ],
)
def test_draws_outside_of_the_samples_are_refused(draw) -> None:
    with SampleNoise([1]), pytest.raises(SynthaugError):
        draw()


def test_ends_with_its_context() -> None:
    with SampleNoise([1]):
        pass
    assert torch.randn(3).shape == (3,)


SEEDS = [11, 22, 33]


def test_one_generator_for_a_batch_serves_each_sample_from_its_own_stream() -> None:
    """Whatever is drawn by the whole batch is what each sample would have drawn alone."""

    def drawn(keys: list[int]) -> list[torch.Tensor]:
        with SampleNoise(keys) as noise:
            count = len(keys)
            found = [
                torch.rand((count, 4, 5), generator=noise.whole),
                torch.zeros(count, 7).uniform_(2, 3, generator=noise.whole),
                torch.randn((count, 3), generator=noise.whole),
                torch.multinomial(torch.ones(count * 6, 9), 1, generator=noise.whole).view(count, 6),
            ]
        assert noise.counts == [20 + 7 + 3 + 6] * count
        return found

    together = drawn(SEEDS)
    for place, seed in enumerate(SEEDS):
        for whole, alone in zip(together, drawn([seed]), strict=True):
            assert torch.equal(whole[place : place + 1], alone)
    assert together[0].min() >= 0
    assert together[0].max() < 1
    assert together[1].min() >= 2
    assert together[1].max() < 3
    assert not torch.equal(together[0][0], together[0][1])


def test_categories_come_as_often_as_their_weights_say() -> None:
    weights = torch.tensor([0.0, 1.0, 3.0, 0.0, 4.0, 0.0])
    with SampleNoise([1]) as noise:
        drawn = torch.multinomial(weights.expand(40_000, 6), 1, generator=noise.tokens[0])
    assert drawn.shape == (40_000, 1)
    assert drawn.dtype == torch.int64
    shares = torch.bincount(drawn[:, 0], minlength=6) / 40_000
    assert shares[[0, 3, 5]].tolist() == [0, 0, 0]
    assert (shares - weights / 8).abs().max() < 0.01


def test_a_draw_that_cannot_be_shared_out_is_refused() -> None:
    with SampleNoise(SEEDS) as noise, pytest.raises(SynthaugError, match="for 3 pictures at once"):
        torch.rand((4, 2), generator=noise.whole)
    with SampleNoise(SEEDS), pytest.raises(SynthaugError, match="outside of its samples' keys"):
        torch.rand((3, 2), generator=torch.Generator())
    with SampleNoise(SEEDS) as noise, pytest.raises(SynthaugError, match="multinomial"):
        torch.multinomial(torch.ones(3, 4), 2, generator=noise.whole)
