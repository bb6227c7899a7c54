"""Options of speed on CUDA: each against the plain pipeline on the same device, within what is promised."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synthaug.engine import wire
from synthaug.engine.capacity import short_of_memory
from synthaug.models import fp8
from synthaug.models.deep_cache import StepCache
from synthaug.models.graphs import Graphed
from synthaug.models.hints import Hint
from synthaug.models.pipelines import Extras, Img2ImgModel, Request, open_img2img
from synthaug.models.speed import Speed, prepare, prepare_net
from synthaug.sample import Picture
from tests.models.tiny import build_tiny_controlnet, build_tiny_sd

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
CUDA = "cuda:0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_sd(tmp_path_factory.mktemp("gpu") / "sd", scheduler="DPMSolverMultistepScheduler")


def opened(folder: Path, options: Speed | None = None, dtype: str = "bfloat16") -> Img2ImgModel:
    model = open_img2img(folder, device=CUDA, dtype=dtype)
    if options is not None:
        prepare(model._pipe, options, device=CUDA)  # pyright: ignore[reportPrivateUsage]
    return model


def painted(model: Img2ImgModel, count: int = 4, steps: int = 8, net: Any = None) -> torch.Tensor:
    images = torch.rand((count, 3, 64, 64), generator=torch.Generator().manual_seed(0)).to(CUDA)
    extras = Extras(hints=[Hint(net, images, torch.ones(count, 1, 8, 8, device=CUDA))]) if net is not None else None
    asked = [Request("a b", "c", 0.5, 10 + i) for i in range(count)]
    return model(images, asked, steps=steps, guidance=3.0, extras=extras).images.cpu()


def check_near(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Promise D3 for half precision: 40 dB, and 99.9% of the values within 6 levels."""
    apart = np.abs((found * 255).round().numpy().astype(int) - (wanted * 255).round().numpy().astype(int))
    assert 20 * np.log10(255 / max(np.sqrt((apart**2).mean()), 1e-6)) >= 40
    assert np.quantile(apart, 0.999) <= 6


def test_half_precision_stays_near_single_precision(folder: Path) -> None:
    apart = (painted(opened(folder)) - painted(opened(folder, dtype="float32"))).pow(2).mean()
    assert -10 * torch.log10(apart) >= 40


def test_another_micro_batch_moves_values_within_what_is_promised(folder: Path) -> None:
    model = opened(folder, Speed(channels_last=True))
    check_near(painted(model, 2), painted(model, 8)[:2])


@pytest.mark.parametrize("way", ["regional", "whole"])
def test_compiled(folder: Path, way: str) -> None:
    torch._dynamo.reset()
    check_near(painted(opened(folder, Speed(compile=way, channels_last=True))), painted(opened(folder)))


def test_graphs_give_what_the_launched_kernels_give_batch_after_batch(folder: Path) -> None:
    """With a scheduler that keeps what was predicted: a replay must not write into it."""
    model, plain = opened(folder, Speed(graphs=True)), opened(folder, Speed())
    graph: Any = model._pipe.unet.forward  # pyright: ignore[reportPrivateUsage]
    assert isinstance(graph, Graphed)
    for count in (4, 2, 4):
        check_near(painted(model, count), painted(plain, count))
    assert graph.recorded == 2, "once per shape"
    assert torch.equal(painted(model), painted(model))


def test_graphs_of_a_network_that_is_compiled_and_of_a_controlnet_beside_it(folder: Path, tmp_path: Path) -> None:
    torch._dynamo.reset()
    net = build_tiny_controlnet(tmp_path / "net", folder)
    options = Speed(compile="regional", graphs=True, channels_last=True)
    model, plain = opened(folder, options), opened(folder)
    fast, slow = model.open_net(net), plain.open_net(net)
    prepare_net(fast, options, device=CUDA)
    check_near(painted(model, net=fast), painted(plain, net=slow))


def test_linear_layers_in_eight_bits_are_near_and_tokens_apart() -> None:
    fp8.refuse_device(CUDA)
    torch.manual_seed(0)
    layer = torch.nn.Linear(512, 1024, device=CUDA, dtype=torch.bfloat16)
    low = fp8._linear_class()(layer)
    rows = torch.randn(4, 64, 512, device=CUDA, dtype=torch.bfloat16)
    found, wanted = low(rows).float(), layer(rows).float()
    assert 0 < (found - wanted).norm() / wanted.norm() < 0.05
    other = torch.cat([rows[:1], 100 * rows[1:]])
    assert torch.equal(low(other)[:1].float(), found[:1]), "louder neighbours change no scale"
    assert torch.allclose(low.cpu()(rows.cpu()).float(), found.cpu(), atol=0.05, rtol=0.05), "the host's numbers"


def test_a_step_cache_saves_time_and_stays_near(folder: Path) -> None:
    cached = opened(folder, Speed(cache=StepCache(2), compile="regional"))
    apart = (painted(cached, steps=24) - painted(opened(folder), steps=24)).pow(2).mean().sqrt()
    assert apart < 0.05


def test_pictures_travel_beside_one_another_unchanged() -> None:
    """From several threads at once, as micro-batches do, while the device is busy."""
    busy = torch.randn(2048, 2048, device=CUDA)

    def there_and_back(seed: int) -> bool:
        pixels = np.random.default_rng(seed).integers(0, 256, (4, 200, 300, 3), dtype=np.uint8)
        with torch.inference_mode():
            sent = wire.sent([Picture(own) for own in pixels], "srgb", CUDA)
            _ = busy @ busy
            packed = wire.packed(sent, as_bytes=True)
            del sent
            return bool((wire.fetched(packed) == pixels).all())

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(there_and_back, range(64)))


def test_a_real_lack_of_memory_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 44, dtype=torch.uint8, device=CUDA)
    assert short_of_memory(caught.value)
