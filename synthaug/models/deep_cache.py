"""Step caches: on some steps of the denoising, what the deep layers gave on an earlier step stands in for them.

UNets: DeepCache (Ma et al., CVPR 2024): only the outermost block on each side is computed anew. Transformers: all
blocks but the first give the residual that they gave before, by the hooks of diffusers' FirstBlockCache.
Which steps those are is fixed by their number. FirstBlockCache itself asks the pictures, by a mean over the batch:
what a picture becomes would depend on its neighbours, and the host would wait for the device at every step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from synthaug.errors import ConfigError

LEAST_STEPS = 8
"""Steps below which a cache is refused: each step then changes the picture too much to be left out."""


@dataclass(frozen=True, slots=True)
class StepCache:
    """Which steps are computed whole.

    Attributes:
        every: Of `every` steps one is whole, 1 to 10; 1 leaves nothing out.
        from_step: Steps before this one are all whole, from 0; this one is, too.
    """

    every: int = 2
    from_step: int = 0

    def whole(self, step: int) -> bool:
        """Whether step `step` of those that run, from 0, is computed whole."""
        return step <= self.from_step or (step - self.from_step) % self.every == 0

    @property
    def least(self) -> int:
        """Steps that have to run."""
        return LEAST_STEPS if self.every > 1 else 1

    def check(self, executed: int) -> None:
        """Refuses runs that are too short. Raises `ConfigError`.

        Args:
            executed: Denoising steps that run.
        """
        if executed < self.least:
            raise ConfigError(
                f"speed.cache.every={self.every} with {executed} executed steps: a cache needs {LEAST_STEPS} or more;"
                " raise steps or strength, or leave the cache out"
            )


class Steps:
    """Counts where a batch is: told by its scheduler, so that no timestep has to be fetched from the device.

    Args:
        scheduler: The pipeline's own object; `set_timesteps` and `step` are wrapped on it, and on it alone.

    Attributes:
        batch: Batches begun.
        step: Steps done in this batch.
        call: Calls of the denoiser done in this step: a tile each, or one with the prompt and one against it.
    """

    def __init__(self, scheduler: Any) -> None:
        self.batch = self.step = self.call = 0
        scheduler.set_timesteps = _before(scheduler.set_timesteps, self._begin)
        scheduler.step = _before(scheduler.step, self._next)

    def _begin(self) -> None:
        self.batch, self.step, self.call = self.batch + 1, 0, 0

    def _next(self) -> None:
        self.step, self.call = self.step + 1, 0


def cache_denoiser(denoiser: Any, scheduler: Any, cache: StepCache) -> None:
    """Puts the cache into a loaded denoiser, in place.

    Between whole steps the deep features of one batch stay on the device: for a UNet of SDXL at 1024 pixels some
    40 MB per picture in half precision.

    Args:
        denoiser: `pipe.unet` or `pipe.transformer`.
        scheduler: Of the same pipeline, which must go on using this very object.

    Raises:
        ConfigError: A network that offers no place for it.
    """
    steps = Steps(scheduler)
    if hasattr(denoiser, "down_blocks") and len(denoiser.down_blocks) > 1:
        _cache_unet(denoiser, cache, steps)
    elif hasattr(denoiser, "enable_cache"):
        _cache_transformer(denoiser, cache, steps)
    else:
        raise ConfigError(
            f"speed.cache: {type(denoiser).__name__} offers no place for a cache; UNets, FLUX and Qwen-Image do"
        )


def _cache_unet(unet: Any, cache: StepCache, steps: Steps) -> None:
    deep = [*unet.down_blocks[1:], unet.mid_block, *unet.up_blocks[:-1]]
    for block in deep:
        if block is not None:
            block.forward = _Held(block.forward, cache, steps)
    unet.forward = _counting(unet.forward, steps)


class _Held:
    """A block that gives on some steps what it gave on the last whole one, call by call."""

    def __init__(self, forward: Callable[..., Any], cache: StepCache, steps: Steps) -> None:
        self._forward, self._cache, self._steps = forward, cache, steps
        self._kept: dict[int, tuple[Any, Any]] = {}
        self._batch = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        steps = self._steps
        if self._batch != steps.batch:
            self._kept.clear()
            self._batch = steps.batch
        shape = (args[0] if args else kwargs["hidden_states"]).shape
        kept = self._kept.get(steps.call)
        if kept is not None and kept[0] == shape and not self._cache.whole(steps.step):
            return kept[1]
        made = self._forward(*args, **kwargs)
        self._kept[steps.call] = (shape, made)
        return made


def _cache_transformer(transformer: Any, cache: StepCache, steps: Steps) -> None:
    """FirstBlockCache of diffusers, its decision replaced by the number of the step."""
    from diffusers.hooks.first_block_cache import FirstBlockCacheConfig
    from diffusers.hooks.hooks import HookRegistry

    try:
        transformer.enable_cache(FirstBlockCacheConfig())
    except IndexError as error:
        raise ConfigError(
            f"speed.cache: {type(transformer).__name__} has one block alone, nothing to leave out"
        ) from error
    seen: set[tuple[int, int]] = set()

    def whole(residual: Any) -> bool:
        """Every call of a batch is whole the first time."""
        here = steps.batch, steps.call
        first = here not in seen
        seen.add(here)
        return first or cache.whole(steps.step)

    for block in transformer.modules():
        hook: Any = HookRegistry.check_if_exists_or_initialize(block).get_hook("fbc_leader_block_hook")
        if hook is not None:
            hook._should_compute_remaining_blocks = whole
    forward, last = transformer.forward, [0]

    @functools.wraps(forward)
    def called(*args: Any, **kwargs: Any) -> Any:
        if last[0] != steps.batch:
            transformer._reset_stateful_cache()
            seen.clear()
            last[0] = steps.batch
        with transformer.cache_context(f"call {steps.call}"):
            return forward(*args, **kwargs)

    transformer.forward = _counting(called, steps)


def _counting(forward: Callable[..., Any], steps: Steps) -> Callable[..., Any]:
    @functools.wraps(forward)
    def counted(*args: Any, **kwargs: Any) -> Any:
        made = forward(*args, **kwargs)
        steps.call += 1
        return made

    return counted


def _before(method: Callable[..., Any], told: Callable[[], None]) -> Callable[..., Any]:
    """The method, heard; its signature stays, for the pipelines read it."""

    @functools.wraps(method)
    def heard(*args: Any, **kwargs: Any) -> Any:
        told()
        return method(*args, **kwargs)

    return heard
