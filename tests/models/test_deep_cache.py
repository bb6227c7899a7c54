"""Step caches: nothing changes where nothing is left out, and what is left out depends on the step's number alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from synthaug.errors import ConfigError
from synthaug.models.deep_cache import LEAST_STEPS, StepCache, Steps, cache_denoiser
from synthaug.models.pipelines import Extras, Img2ImgModel, Request, open_img2img
from synthaug.refine import tiles
from tests.models.families import build_flux, build_sd3, build_sdxl
from tests.models.tiny import build_tiny_sd

torch.set_num_threads(1)
STEPS = 12
Build = Callable[[Path], Path]


def pictures(count: int, width: int = 64) -> torch.Tensor:
    return torch.rand((count, 3, 64, width), generator=torch.Generator().manual_seed(0))


def painted(model: Img2ImgModel, count: int = 2, steps: int = STEPS, **more: Any) -> torch.Tensor:
    asked = [Request("a b", "", 0.9, 10 + i) for i in range(count)]
    return model(pictures(count, more.pop("width", 64)), asked, steps=steps, guidance=3.0, **more).images


def opened(folder: Path, cache: StepCache | None = None) -> Img2ImgModel:
    model = open_img2img(folder, device="cpu", dtype="float32")
    if cache is not None:
        pipe: Any = model._pipe  # pyright: ignore[reportPrivateUsage]
        cache_denoiser(getattr(pipe, "unet", None) or pipe.transformer, pipe.scheduler, cache)
    return model


@pytest.fixture(scope="module", params=["sd", "sdxl", "flux"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    makers: dict[str, Build] = {"sd": build_tiny_sd, "sdxl": build_sdxl, "flux": build_flux}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return makers[request.param](tmp_path_factory.mktemp("cached") / request.param)


def test_a_cache_that_leaves_nothing_out_changes_no_bit(folder: Path) -> None:
    assert torch.equal(painted(opened(folder)), painted(opened(folder, StepCache(every=1))))


def test_the_error_is_small_and_grows_with_what_is_left_out(folder: Path) -> None:
    whole = painted(opened(folder))
    apart = [float((painted(opened(folder, StepCache(n))) - whole).pow(2).mean().sqrt()) for n in (2, 6)]
    assert 0 < apart[0] < 0.05
    assert apart[0] < apart[1], apart


def test_steps_before_the_first_cached_one_are_those_of_no_cache(folder: Path) -> None:
    late = painted(opened(folder, StepCache(3, from_step=STEPS)))
    assert torch.equal(late, painted(opened(folder)))


def test_neighbours_batches_and_order_do_not_matter(folder: Path) -> None:
    model = opened(folder, StepCache(3))
    first = painted(model)
    painted(model, 1, steps=15)
    assert torch.equal(first, painted(model)), "what an earlier batch left behind is gone"
    asked = [Request("a b", "", 0.9, 10), Request("x y z", "", 0.9, 77)]
    beside = torch.stack([pictures(2)[0], 1 - pictures(2)[1]])
    assert torch.equal(first[0], model(beside, asked, steps=STEPS, guidance=3.0).images[0])


def test_deep_blocks_run_on_whole_steps_alone(tiny_sd: Path) -> None:
    model = open_img2img(tiny_sd, device="cpu", dtype="float32")
    pipe: Any = model._pipe  # pyright: ignore[reportPrivateUsage]
    ran = {"mid": 0, "first": 0}

    def counted(block: Any, name: str) -> None:
        forward = block.forward

        def called(*args: Any, **kwargs: Any) -> Any:
            ran[name] += 1
            return forward(*args, **kwargs)

        block.forward = called

    counted(pipe.unet.mid_block, "mid")
    counted(pipe.unet.down_blocks[0], "first")
    cache_denoiser(pipe.unet, pipe.scheduler, StepCache(3, from_step=2))
    painted(model)
    executed = int(STEPS * 0.9)
    assert ran == {"mid": sum(i <= 2 or (i - 2) % 3 == 0 for i in range(executed)), "first": executed}


def test_each_tile_has_a_memory_of_its_own(tiny_sd: Path) -> None:
    plan = tiles.plan((64, 128), tile=(64, 64), overlap=32).scaled(8)
    cached, plain = opened(tiny_sd, StepCache(2)), opened(tiny_sd)
    wide, apart = (painted(m, 1, width=128, extras=Extras(tiles=plan)) for m in (plain, cached))
    assert torch.isfinite(apart).all()
    assert 0 < (wide - apart).abs().mean() < 0.02
    same = opened(tiny_sd, StepCache(1))
    assert torch.equal(wide, painted(same, 1, width=128, extras=Extras(tiles=plan)))


def test_calls_are_counted_within_a_step_and_steps_within_a_batch() -> None:
    class Scheduler:
        def set_timesteps(self, count: int) -> None: ...

        def step(self) -> None: ...

    scheduler = Scheduler()
    steps = Steps(scheduler)
    scheduler.set_timesteps(4)
    steps.call += 1
    scheduler.step()
    assert (steps.batch, steps.step, steps.call) == (1, 1, 0)
    scheduler.set_timesteps(4)
    assert (steps.batch, steps.step, steps.call) == (2, 0, 0)


def test_short_runs_and_networks_without_a_place_for_it_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"every=2 with 3 executed steps: a cache needs {LEAST_STEPS} or more"):
        StepCache(2).check(3)
    StepCache(1).check(1)
    StepCache(2).check(LEAST_STEPS)
    with pytest.raises(ConfigError, match="SD3Transformer2DModel offers no place"):
        opened(build_sd3(tmp_path / "sd3"), StepCache(2))
