"""Options of speed: what is refused, what changes no byte, and how far the others move a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synthaug.errors import ConfigError
from synthaug.models import fp8, speed
from synthaug.models.deep_cache import StepCache
from synthaug.models.pipelines import Img2ImgModel, Request, open_img2img
from synthaug.models.speed import Speed, prepare
from tests.models.families import build_flux, build_sd3, build_sdxl
from tests.models.tiny import build_tiny_sd

torch.set_num_threads(1)
SD = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
PLAN: dict[str, Any] = {"components": SD, "steps": 30, "strength": 0.5, "dtype": "float32"}


def opened(folder: Path, options: Speed | None, dtype: str = "float32") -> Img2ImgModel:
    model = open_img2img(folder, device="cpu", dtype=dtype)
    if options is not None:
        prepare(model._pipe, options, device="cpu")  # pyright: ignore[reportPrivateUsage]
    return model


def painted(model: Img2ImgModel, count: int = 2, seed: int = 10) -> torch.Tensor:
    images = torch.rand((count, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    asked = [Request("a b", "", 0.5, seed + i) for i in range(count)]
    return model(images, asked, steps=4, guidance=3.0).images


def levels(one: torch.Tensor, other: torch.Tensor) -> np.ndarray:
    """How far pixels are apart, in steps of 8 bits."""
    first, second = ((values * 255).round().numpy().astype(int) for values in (one, other))
    return np.abs(first - second)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"compil": "whole"}, r"speed\.compil: no such field\. Did you mean 'compile'"),
        ({"compile": "all"}, r"speed\.compile='all': expected regional, whole or empty"),
        ({"compile": True}, r"speed\.compile=True: expected a text"),
        ({"graphs": "yes"}, r"speed\.graphs='yes': expected true or false"),
        ({"fp8": True}, r"speed\.fp8 without speed\.compile"),
        ({"cache": 2}, r"speed\.cache=2: expected a mapping"),
        ({"cache": {"every": 0}}, r"speed\.cache\.every=0: expected a whole number, 1 to 10"),
        ({"cache": {"every": 2, "from_step": -1}}, r"speed\.cache\.from_step=-1: .*0 to 1000"),
        ({"cache": {"each": 2}}, r"speed\.cache\.each: no such field"),
        ({"cache": {"every": 2}, "graphs": True}, "speed.cache with graphs"),
        ({"cache": {"every": 2}, "compile": "whole"}, "speed.cache with compile: whole"),
    ],
)
def test_wrong_fields_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Speed.parse(given)


def test_every_field_is_identity() -> None:
    assert Speed.parse(None) == Speed.parse({}) == Speed()
    given = {"channels_last": True, "compile": "regional", "cache": {"every": 3}}
    found = Speed.parse(given)
    assert found.cache == StepCache(3, 0)
    said = json.loads(json.dumps(found.identity()))
    assert said["cache"] == {"every": 3, "from_step": 0}
    assert said != json.loads(json.dumps(Speed().identity()))


def test_what_cannot_work_is_refused_at_plan_time() -> None:
    cached = Speed.parse({"cache": {"every": 2}})
    cached.check(**PLAN)
    with pytest.raises(ConfigError, match=r"every=2 with 7 executed steps"):
        cached.check(**{**PLAN, "strength": 0.25})
    with pytest.raises(ConfigError, match="SD3Transformer2DModel offers no place for a cache"):
        cached.check(**{**PLAN, "components": {"transformer": "SD3Transformer2DModel"}})
    low = Speed.parse({"fp8": True, "compile": "regional"})
    with pytest.raises(ConfigError, match="dtype=float32: expected bfloat16"):
        low.check(**PLAN)
    with pytest.raises(ConfigError, match=r"speed\.fp8 on cpu: expected a CUDA device"):
        low.check(**{**PLAN, "dtype": "bfloat16", "device": "cpu"})
    with pytest.raises(ConfigError, match=r"speed\.graphs on cpu: expected a CUDA device"):
        Speed.parse({"graphs": True}).check(**{**PLAN, "device": "cpu"})
    with pytest.raises(ConfigError, match=r"expected a folder with config\.json"):
        Speed.parse({"vae": "/nowhere"}).check(**PLAN)


def test_older_gpus_are_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old Card")
    with pytest.raises(ConfigError, match=r"Old Card has compute capability 8\.0, expected 8\.9 or more"):
        fp8.refuse_device("cuda:0")


@pytest.mark.parametrize("build", [build_tiny_sd, build_sdxl, build_sd3, build_flux])
def test_a_prepared_pipeline_without_options_gives_the_same_bytes(tmp_path: Path, build: Any) -> None:
    folder = build(tmp_path / "m")
    assert torch.equal(painted(opened(folder, Speed())), painted(opened(folder, None)))


def test_networks_are_out_of_reach_of_the_noise_mode(tiny_sd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call of Python per operation of the network was a good part of a small batch."""
    from synthaug.models import noise

    seen: list[Any] = []
    original = noise.SampleNoise.__torch_function__

    def counted(self: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(func)
        return original(self, func, *args, **kwargs)

    monkeypatch.setattr(noise.SampleNoise, "__torch_function__", counted)
    counts = []
    for options in (None, Speed()):
        model = opened(tiny_sd, options)
        painted(model)
        seen.clear()
        painted(model)
        counts.append(len(seen))
    assert counts[1] < counts[0] / 4, counts


def test_channels_last_moves_values_by_rounding_alone(tiny_sd: Path) -> None:
    model = opened(tiny_sd, Speed(channels_last=True))
    pipe: Any = model._pipe  # pyright: ignore[reportPrivateUsage]
    assert pipe.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    apart = levels(painted(model), painted(opened(tiny_sd, None)))
    assert apart.max() <= 1
    assert (apart > 0).mean() <= 0.001


def psnr(apart: np.ndarray) -> float:
    return float(20 * np.log10(255 / max(np.sqrt((apart**2).mean()), 1e-6)))


@pytest.mark.parametrize("options", [Speed(), Speed(channels_last=True)], ids=["plain", "channels_last"])
def test_another_micro_batch_moves_values_within_what_is_promised(tiny_sd: Path, options: Speed) -> None:
    """D3 of the promises: float32 one level on 0.1% of the values, half precision 40 dB and 6 levels on 99.9%."""
    for dtype in ("float32", "bfloat16"):
        model = opened(tiny_sd, options, dtype)
        apart = levels(painted(model, 2), painted(model, 4)[:2])
        if dtype == "float32":
            assert apart.max() <= 1
            assert (apart > 0).mean() <= 0.001
        else:
            assert psnr(apart) >= 40
            assert np.quantile(apart, 0.999) <= 6


def test_half_precision_stays_near_single_precision(tiny_sd: Path) -> None:
    apart = levels(painted(opened(tiny_sd, Speed())), painted(opened(tiny_sd, Speed(), "bfloat16")))
    assert apart.any(), "or the comparison compares nothing"
    assert psnr(apart) >= 40
    assert np.quantile(apart, 0.99) <= 6


@pytest.fixture
def graphs_made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Compiles with a backend that keeps what it was given and runs it as it is."""
    made: list[Any] = []
    compiled = torch.compile

    def backend(graph: Any, inputs: Any) -> Any:
        made.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda forward, **more: compiled(forward, backend=backend, **more))
    torch._dynamo.reset()
    yield made  # type: ignore[misc]
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["regional", "whole"])
def test_a_compiled_network_is_compiled_once_per_shape(tiny_sd: Path, way: str, graphs_made: list[Any]) -> None:
    model = opened(tiny_sd, Speed(compile=way))
    first = painted(model)
    count = len(graphs_made)
    assert count
    for seed in (10, 50, 90):
        again = painted(model, seed=seed)
    assert len(graphs_made) == count, "another batch must not compile anything anew"
    assert torch.isfinite(again).all()
    assert levels(first, painted(opened(tiny_sd, None))).max() <= 1


def test_blocks_of_one_shape_share_what_was_compiled(tiny_sd: Path, graphs_made: list[Any]) -> None:
    model = opened(tiny_sd, Speed(compile="regional"))
    pipe: Any = model._pipe  # pyright: ignore[reportPrivateUsage]
    names = [type(m).__name__ for m in pipe.unet.modules()]
    blocks = sum(name in ("BasicTransformerBlock", "ResnetBlock2D") for name in names)
    painted(model)
    shapes = 2  # encoder and decoder of the autoencoder are compiled whole
    assert len(graphs_made) - shapes < blocks, "twins must not be compiled twice"


def test_linear_layers_in_eight_bits() -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 96)
    rows = torch.randn(2, 7, 64) * torch.logspace(-3, 3, 7)[:, None]
    found = fp8._linear_class()(layer)(rows)
    wanted = layer(rows)
    error = (found - wanted).norm(dim=-1) / wanted.norm(dim=-1)
    assert 0 < error.max() < 0.05, "every token has a scale of its own, small ones too"
    alone = fp8._linear_class()(layer)(rows[:1])
    assert torch.equal(found[:1], alone), "no token depends on its neighbours"


def test_eight_bits_keep_large_values_finite_and_zeros_zero() -> None:
    rows = torch.tensor([[1e30, -1e30, 0.0], [0.0, 0.0, 0.0]])
    values, scale = fp8.quantised(rows)
    back = values.float() * scale
    assert torch.isfinite(back).all()
    assert torch.allclose(back, rows)


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "pays"),
    [
        ("down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q", 640, 640, True),
        ("down_blocks.0.attentions.1.transformer_blocks.0.ff.net.2", 2560, 640, True),
        ("down_blocks.0.attentions.1.transformer_blocks.0.attn2.to_k", 2048, 640, False),
        ("down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q", 320, 320, False),
        ("time_embedding.linear_1", 1280, 1280, False),
        ("transformer_blocks.3.norm1.linear", 3072, 18432, False),
        ("single_transformer_blocks.3.proj_mlp", 3072, 12288, True),
        ("single_transformer_blocks.3.proj_mlp", 3072, 12290, False),
    ],
)
def test_only_layers_that_gain_are_converted(name: str, inputs: int, outputs: int, pays: bool) -> None:
    assert fp8.pays(name, inputs, outputs) is pays


def test_conversion_replaces_layers_in_place_and_wants_bfloat16(tiny_sd: Path) -> None:
    pipe: Any = open_img2img(tiny_sd, device="cpu", dtype="bfloat16")._pipe  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(ConfigError, match="no linear layer that would gain"):
        fp8.convert(pipe.unet)
    assert fp8.convert(pipe.unet, least=8) > 0
    assert any(type(m).__name__ == "Fp8Linear" for m in pipe.unet.modules())
    with pytest.raises(ConfigError, match="expected bfloat16"):
        fp8.convert(pipe.unet.float(), least=8)


def test_nets_beside_the_pipeline_are_prepared_alike(tiny_sd: Path) -> None:
    pipe: Any = open_img2img(tiny_sd, device="cpu", dtype="float32")._pipe  # pyright: ignore[reportPrivateUsage]
    assert speed.prepare_net(pipe.unet, Speed(channels_last=True), device="cpu") == 0
    with pytest.raises(ConfigError, match="has no denoiser"):
        prepare(object(), Speed(), device="cpu")
