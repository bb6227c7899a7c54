"""A strength per pixel: each place joins the denoising as late as its strength says.

Differential diffusion (Levin and Fried, 2023, arXiv:2306.00950): before every step, places whose turn has not come
are set back to the original, noised to that step. They shape what happens around them and are not changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import ConfigError
from synthaug.refine.arrays import where

Bools = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]

_SLACK = 1e-5
"""Of a step: 10 * (1 - 0.9) is a little more than 1 in float32, and means 1."""


def to_latent(strength: Float32, guard: Bools, factor: int, canvas: tuple[int, int]) -> Float32:
    """The map at latent resolution: averaged over areas, but never above what a guarded pixel allows.

    Args:
        strength: [H, W] in [0, 1].
        guard: [H, W], pixels whose strength must not be averaged away.
        factor: Pixels of the picture per latent place, along one side.
        canvas: (height, width) in pixels that the model works on, at least H and W, multiples of `factor`; the
            map is carried on beyond its own edges.

    Returns:
        [height / factor, width / factor] float32.
    """
    height, width = canvas
    if height % factor or width % factor or height < strength.shape[0] or width < strength.shape[1]:
        raise ConfigError(f"a canvas of {canvas} for a map of {strength.shape}: expected multiples of {factor}")
    pads = ((0, height - strength.shape[0]), (0, width - strength.shape[1]))
    blocks = _blocks(np.pad(strength, pads, mode="edge"), factor)
    strict = _blocks(np.pad(np.where(guard, strength, np.float32(1)), pads, mode="edge"), factor)
    return np.minimum(blocks.mean(axis=(1, 3), dtype=np.float64), strict.min(axis=(1, 3))).astype(np.float32)


def _blocks(values: Float32, factor: int) -> Float32:
    return values.reshape(values.shape[0] // factor, factor, values.shape[1] // factor, factor)


def free_from(strength: Float32, steps: int) -> Int32:
    """The first step at which each place may change: it takes part in the last `strength` share of the steps.

    Args:
        strength: Any shape, in [0, 1], relative to the steps that are run.
        steps: How many are run.

    Returns:
        Whole numbers from 0 (all along) to `steps` (never); places above 0 have the last step at least.
    """
    first = np.ceil(steps * (1 - strength.astype(np.float64)) - steps * _SLACK).astype(np.int32)
    return np.where(strength > 0, np.clip(first, 0, max(steps - 1, 0)), steps).astype(np.int32)


def step_masks(strength: Float32, timesteps: Sequence[Any]) -> Bools:
    """[T, ...], for each of the timesteps that are run where the latents are free to change."""
    first = free_from(strength, len(timesteps))
    return np.arange(len(timesteps)).reshape(-1, *(1,) * first.ndim) >= first


def rescaled(strength: Float32, own: float, shared: float) -> Float32:
    """The map of a picture of strength `own` in a batch that is denoised at `shared`, the highest in it.

    Raises:
        ConfigError: `own` is above `shared`, or not above 0.
    """
    if not 0 < own <= shared:
        raise ConfigError(f"strength {own} in a batch at {shared}: expected more than 0 and at most that")
    return (strength * np.float32(own / shared)).astype(np.float32)


class DifferentialBlend:
    """Holds places back in a denoising loop of any scheduler.

        blend = DifferentialBlend(free_from(strength, steps), original, noised, steps)
        x = blend(0, None)
        for i, t in enumerate(timesteps):
            x = step(x, t)
            x = blend(i + 1, x)

    The loop begins with the noised original everywhere. After the last step, places of strength 0 are the original
    latents, without noise.

    Args:
        first: From `free_from`, on the latents' device, broadcast against them: [B, 1, h, w] or [h, w].
        original: Latents of the input, [B, C, h, w].
        noised: From a step's index to the original at that step's noise level, with the same noise every time:
            `lambda i: scheduler.add_noise(original, noise, timesteps[i : i + 1])`.
        steps: How many are run.
    """

    def __init__(self, first: Any, original: Any, noised: Callable[[int], Any], steps: int) -> None:
        self._first = first
        self._original = original
        self._noised = noised
        self.steps = steps

    def __call__(self, step: int, latents: Any) -> Any:
        """The latents that go into step `step`, from 0; with `step` equal to `steps`, the final ones."""
        if step == 0:
            return self._noised(0)
        held = self._original if step >= self.steps else self._noised(step)
        # A place whose first step this is comes out of the step before as all others do, and starts here.
        return where(self._first >= step, held, latents)
