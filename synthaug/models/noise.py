"""Every random number of a diffusion call from the sample's own key, never from a shared state.

Diffusers takes one `torch.Generator` per picture, but on the CPU such a generator keeps only the low 32 bits
of its seed, and on a GPU its numbers depend on the device. So the generators that we pass are empty tokens:
while a `SampleNoise` is active, a draw that names a token is served from that sample's Philox stream, on
the CPU, in float32. That covers starting noise, the VAE's posterior and ancestral schedulers alike, through
`torch.overrides.TorchFunctionMode`, without touching a line of the pipeline. A draw that names no token would
make a picture depend on its neighbours and is refused.

A pipeline that takes one generator for a whole batch (aMUSEd) gets the token `whole`: what is drawn by it is served
row by row, each sample's rows from its own stream. Uniform and categorical draws are known as well as normal ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from synthaug import seeds
from synthaug.errors import SynthaugError

_GLOBAL = frozenset(
    {
        torch.rand, torch.randn_like, torch.rand_like, torch.randint, torch.randint_like, torch.randperm, torch.normal,
        torch.bernoulli, torch.multinomial, torch.poisson, torch.Tensor.normal_, torch.Tensor.uniform_,
        torch.Tensor.random_, torch.Tensor.bernoulli_, torch.Tensor.exponential_, torch.Tensor.multinomial,
        torch.Tensor.bernoulli,
    }
)  # fmt: skip


class SampleNoise(TorchFunctionMode):
    """Serves the noise of one micro-batch; use it as a context around the pipeline's call.

    Args:
        noise_seeds: One 63-bit seed per picture, as `seeds.fork` makes them.

    Attributes:
        tokens: The generators to pass to the pipeline, one per picture. They hold no state.
        whole: One generator for the whole batch, in place of `tokens`.
        counts: Numbers drawn so far, per picture.
    """

    def __init__(self, noise_seeds: Sequence[int]) -> None:
        super().__init__()
        self.tokens = [torch.Generator("cpu") for _ in noise_seeds]
        self.whole = torch.Generator("cpu")
        self.counts = [0] * len(noise_seeds)
        self._streams = [seeds.from_seed(seed) for seed in noise_seeds]
        self._index = {id(token): i for i, token in enumerate(self.tokens)}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.randn:
            return self._draw(args, kwargs)
        if func in _GLOBAL:
            samples = self._named(kwargs.get("generator"))
            if samples and func is torch.rand:
                return self._uniform(_shape(args, kwargs), samples).to(kwargs.get("device") or "cpu")
            if samples and func is torch.Tensor.uniform_:
                return self._fill(samples, *args, **{k: v for k, v in kwargs.items() if k != "generator"})
            if samples and func is torch.multinomial and kwargs.get("num_samples", args[-1]) == 1:
                return self._categories(args[0], samples)
            raise SynthaugError(
                f"the pipeline drew random numbers with {getattr(func, '__name__', func)}, outside of its samples'"
                " keys; choose another scheduler (Euler, DDIM, UniPC, DPM-Solver++ draw per sample)"
            )
        return func(*args, **kwargs)

    def _draw(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.Tensor:
        samples = self._named(kwargs.get("generator"))
        if not samples:
            raise SynthaugError(
                "the pipeline drew noise without naming a sample's generator; its pictures would depend on their batch"
            )
        shape = _shape(args, kwargs)
        if len(samples) == 1:
            noise = torch.from_numpy(self._streams[samples[0]].standard_normal(shape, dtype=np.float32))
        else:
            rows = self._rows(shape, samples)
            noise = torch.cat([torch.from_numpy(self._streams[i].standard_normal(rows, np.float32)) for i in samples])
        self._count(noise, samples)
        return noise.to(device=kwargs.get("device"), dtype=kwargs.get("dtype") or torch.float32)

    def _named(self, generator: Any) -> list[int]:
        """The samples that a generator stands for; none for one that is not ours."""
        if generator is self.whole:
            return list(range(len(self.tokens)))
        sample = self._index.get(id(generator))
        return [] if sample is None else [sample]

    def _uniform(self, shape: Sequence[int], samples: Sequence[int]) -> torch.Tensor:
        """In [0, 1), float32, on the CPU."""
        rows = self._rows(shape, samples)
        noise = torch.cat([torch.from_numpy(self._streams[i].random(rows, dtype=np.float32)) for i in samples])
        self._count(noise, samples)
        return noise

    def _fill(self, samples: Sequence[int], target: torch.Tensor, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """As `Tensor.uniform_`."""
        return target.copy_(self._uniform(target.shape, samples) * (high - low) + low)

    def _categories(self, weights: torch.Tensor, samples: Sequence[int]) -> torch.Tensor:
        """As `torch.multinomial` for one draw per row of [N, K] weights: the inverse of their distribution."""
        sums = weights.to(torch.float64).cumsum(-1)
        points = self._uniform((len(weights), 1), samples).to(sums) * sums[:, -1:]
        drawn = torch.searchsorted(sums, points, right=True)
        return drawn.clamp_(max=weights.shape[-1] - 1)

    def _rows(self, shape: Sequence[int], samples: Sequence[int]) -> tuple[int, ...]:
        """Shape of each sample's share of a draw."""
        if shape[0] % len(samples):
            raise SynthaugError(f"the pipeline drew {tuple(shape)} numbers for {len(samples)} pictures at once")
        return (shape[0] // len(samples), *shape[1:])

    def _count(self, noise: torch.Tensor, samples: Sequence[int]) -> None:
        for sample in samples:
            self.counts[sample] += noise.numel() // len(samples)


def _shape(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[int, ...]:
    size = kwargs.get("size", args[0] if len(args) == 1 and not isinstance(args[0], int) else args)
    return tuple(int(side) for side in size)
