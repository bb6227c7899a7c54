"""Tiny autoencoders in place of a pipeline's own, and what they cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from synthaug.errors import ConfigError, SecurityError
from synthaug.models import tiny_vae
from synthaug.models.pipelines import Request, open_img2img
from synthaug.models.speed import Speed, prepare

torch.set_num_threads(1)


def build_tiny_vae(path: Path, *, channels: int = 4, blocks: int = 4) -> Path:
    """Saves a random AutoencoderTiny whose latents are 1/2**(blocks - 1) of the size."""
    from diffusers import AutoencoderTiny

    with torch.random.fork_rng():
        torch.manual_seed(5)
        vae: Any = AutoencoderTiny(
            encoder_block_out_channels=(8,) * blocks, decoder_block_out_channels=(8,) * blocks,
            num_encoder_blocks=(1,) * blocks, num_decoder_blocks=(1,) * blocks, latent_channels=channels,
        )  # fmt: skip
    vae.save_pretrained(path, safe_serialization=True)
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return build_tiny_vae(tmp_path / "taesd")


def pipe_of(folder: Path, dtype: str = "float32") -> Any:
    return open_img2img(folder, device="cpu", dtype=dtype)._pipe  # pyright: ignore[reportPrivateUsage]


def test_it_takes_the_place_of_the_pipelines_own(tiny_sd: Path, tiny: Path) -> None:
    model = open_img2img(tiny_sd, device="cpu", dtype="float32")
    asked, images = [Request("a", "", 0.5, 7)], torch.rand(1, 3, 48, 80)
    before = model(images, asked, steps=4, guidance=1.0).images
    pipe: Any = model._pipe  # pyright: ignore[reportPrivateUsage]
    facts = prepare(pipe, Speed(vae=str(tiny)), device="cpu")
    assert facts["vae"] == "AutoencoderTiny"
    found = model(images, asked, steps=4, guidance=1.0)
    assert found.images.shape == images.shape
    assert found.reasons == ("",)
    assert not torch.equal(found.images, before)
    assert torch.equal(found.images, model(images, asked, steps=4, guidance=1.0).images)


def test_its_bytes_are_identity_and_its_path_is_not(tmp_path: Path, tiny: Path) -> None:
    other = build_tiny_vae(tmp_path / "elsewhere")
    assert Speed(vae=str(tiny)).identity() == Speed(vae=str(other)).identity()
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "scaling_factor": 0.5}))
    assert Speed(vae=str(tiny)).identity() != Speed(vae=str(other)).identity()


@pytest.mark.parametrize(("channels", "blocks"), [(16, 4), (4, 3)])
def test_latents_of_another_kind_are_refused(tmp_path: Path, tiny_sd: Path, channels: int, blocks: int) -> None:
    wrong = build_tiny_vae(tmp_path / "wrong", channels=channels, blocks=blocks)
    words = rf"latents of {channels} channels at 1/{2 ** (blocks - 1)} of the size, the pipeline's have 4 at 1/8"
    with pytest.raises(ConfigError, match=words):
        prepare(pipe_of(tiny_sd), Speed(vae=str(wrong)), device="cpu")


@pytest.mark.security
def test_other_classes_are_refused(tiny_sd: Path, tiny: Path) -> None:
    with pytest.raises(SecurityError, match=r"expected AutoencoderTiny"):
        tiny_vae.digest(tiny_sd / "vae")
    (tiny / "model.py").write_text("print()")
    with pytest.raises(SecurityError, match=r"not plain data"):
        tiny_vae.digest(tiny)


def test_the_cost_is_measured_against_the_pipelines_own(tiny_sd: Path, tiny: Path) -> None:
    own = pipe_of(tiny_sd).vae
    small = tiny_vae.open_tiny_vae(tiny, device="cpu", dtype=torch.float32, like=own)
    images = torch.rand(2, 3, 32, 32)
    same = tiny_vae.cost_db(own, own, images)
    assert same.apart_db == 99.0
    assert same.lost_db == 0.0
    cost = tiny_vae.cost_db(own, small, images)
    assert 0 < cost.tiny_db < 99
    back = (own.decode(own.encode(images * 2 - 1).latent_dist.mode()).sample / 2 + 0.5).clamp(0, 1)
    assert cost.own_db == pytest.approx(float(-10 * (back - images).pow(2).mean().log10()), abs=1e-3)
    assert set(cost.facts()) == {"own_db", "tiny_db", "apart_db", "lost_db"}
