"""Every random number of a diffusion call from the sample's own key, never from a shared state.

Diffusers takes one `torch.Generator` per picture, but on the CPU such a generator keeps only the low 32 bits
of its seed, and on a GPU its numbers depend on the device. So the generators that we pass are empty tokens:
while a `SampleNoise` is active, a draw that names a token is served from that sample's Philox stream, on
the CPU, in float32. That covers starting noise, the VAE's posterior and ancestral schedulers alike, through
`torch.overrides.TorchFunctionMode`, without touching a line of the pipeline. A draw that names no token would
make a picture depend on its neighbours and is refused.
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
        counts: Numbers drawn so far, per picture.
    """

    def __init__(self, noise_seeds: Sequence[int]) -> None:
        super().__init__()
        self.tokens = [torch.Generator("cpu") for _ in noise_seeds]
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
            raise SynthaugError(
                f"the pipeline drew random numbers with {getattr(func, '__name__', func)}, outside of its samples'"
                " keys; choose another scheduler (Euler, DDIM, UniPC, DPM-Solver++ draw per sample)"
            )
        return func(*args, **kwargs)

    def _draw(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.Tensor:
        size = kwargs.get("size", args[0] if len(args) == 1 and not isinstance(args[0], int) else args)
        sample = self._index.get(id(kwargs.get("generator")))
        if sample is None:
            raise SynthaugError(
                "the pipeline drew noise without naming a sample's generator; its pictures would depend on their batch"
            )
        shape = tuple(int(side) for side in size)
        noise = torch.from_numpy(self._streams[sample].standard_normal(shape, dtype=np.float32))
        self.counts[sample] += noise.numel()
        return noise.to(device=kwargs.get("device"), dtype=kwargs.get("dtype") or torch.float32)
