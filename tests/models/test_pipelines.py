"""Tiny diffusion pipelines through the real loader: independence, sizes, broken outputs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from synthaug.errors import SynthaugError
from synthaug.models import noise
from synthaug.models.finite import FiniteWatch
from synthaug.models.pipelines import Img2ImgModel, Output, Request, open_img2img, pad_reflect
from tests.models.tiny import build_tiny_sd, edit_weights

torch.set_num_threads(1)
STEPS = {"steps": 4, "guidance": 4.0}


def pictures(count: int, height: int = 40, width: int = 56, seed: int = 0) -> torch.Tensor:
    return torch.rand((count, 3, height, width), generator=torch.Generator().manual_seed(seed))


def request(seed: int, strength: float = 0.5, prompt: str = "a b") -> Request:
    return Request(prompt, "", strength, seed)


@pytest.fixture(scope="module")
def model(tiny_sd: Path) -> Img2ImgModel:
    return open_img2img(tiny_sd, device="cpu", dtype="float32")


@pytest.fixture(scope="module", params=["EulerAncestralDiscreteScheduler", "LCMScheduler", "PNDMScheduler"])
def scheduled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Img2ImgModel:
    path = build_tiny_sd(tmp_path_factory.mktemp("s") / "m", scheduler=request.param)
    return open_img2img(path, device="cpu", dtype="float32")


def independent(model: Img2ImgModel) -> None:
    images = pictures(4)
    torch.manual_seed(1)
    first = model(images[:3], [request(10), request(11), request(12)], **STEPS).images
    torch.manual_seed(2)
    order = [3, 2, 0]
    other = model(images[order], [request(10 + i) for i in order], **STEPS).images
    assert torch.equal(other[2], first[0])
    assert torch.equal(other[1], first[2])
    assert not torch.equal(first[0], model(images[:3], [request(99), request(11), request(12)], **STEPS).images[0])


def test_a_picture_depends_on_its_own_request_alone(model: Img2ImgModel) -> None:
    independent(model)


def test_nor_on_its_neighbours_with_two_threads(model: Img2ImgModel) -> None:
    images = pictures(4)
    torch.set_num_threads(2)
    try:
        first = model(images[:3], [request(10), request(11), request(12)], **STEPS).images
        other = model(images[[3, 1, 0]], [request(5), request(11), request(6, prompt="z")], **STEPS).images
    finally:
        torch.set_num_threads(1)
    assert torch.equal(other[1], first[1])


def test_nor_with_ancestral_and_multistep_schedulers(scheduled: Img2ImgModel) -> None:
    independent(scheduled)


def test_a_padded_tail_changes_nothing(model: Img2ImgModel) -> None:
    images = pictures(2)
    full = model(images[[0, 1, 0]], [request(1), request(2), request(1)], **STEPS).images
    padded = model(images[[1, 1, 1]], [request(2)] * 3, **STEPS).images
    assert torch.equal(full[1], padded[0])


def test_strengths_may_differ_within_a_batch(model: Img2ImgModel) -> None:
    images = pictures(2)
    mixed = model(images, [request(1, 0.5), request(2, 1.0)], **STEPS).images
    assert torch.equal(mixed[0], model(images, [request(1, 0.5), request(2, 0.5)], **STEPS).images[0])
    assert torch.equal(mixed[1], model(images, [request(1, 1.0), request(2, 1.0)], **STEPS).images[1])


@pytest.mark.parametrize(("scheduler", "extra"), [("DDIMScheduler", 0), ("EulerAncestralDiscreteScheduler", 2)])
def test_draws_per_sample_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str, extra: int
) -> None:
    """VAE posterior + starting noise + one draw per ancestral step, the same number for each sample."""
    seen: list[noise.SampleNoise] = []

    class Recorded(noise.SampleNoise):
        def __init__(self, noise_seeds: list[int]) -> None:
            super().__init__(noise_seeds)
            seen.append(self)

    monkeypatch.setattr(noise, "SampleNoise", Recorded)
    model = open_img2img(build_tiny_sd(tmp_path / "m", scheduler=scheduler), device="cpu", dtype="float32")
    model(pictures(3), [request(i) for i in range(3)], **STEPS)
    latent = 4 * 8 * 8
    assert [s.counts for s in seen] == [[latent * (2 + extra)] * 3]


@pytest.mark.parametrize("size", [*range(1, 130, 16), 130, 63, 65])
def test_c6_sizes_are_kept(model: Img2ImgModel, size: int) -> None:
    images = pictures(1, size, 131 - size)
    output = model(images, [request(1, 0.25)], **STEPS)
    assert output.images.shape == images.shape
    assert output.reasons == ("",)


@pytest.mark.slow
def test_c6_every_size_from_1_to_130(model: Img2ImgModel) -> None:
    for size in range(1, 131):
        images = pictures(1, size, 131 - size)
        assert model(images, [request(1, 0.25)], **STEPS).images.shape == images.shape


def test_c6_a_model_that_changes_the_size_is_refused(tiny_sd: Path) -> None:
    model = open_img2img(tiny_sd, device="cpu", dtype="float32")
    decode = model._pipe.vae.decode
    model._pipe.vae.decode = lambda latents, **k: (decode(latents, **k)[0][..., :-8],)
    with pytest.raises(SynthaugError, match="labels would not fit"):
        model(pictures(1), [request(1)], **STEPS)


def test_padding_mirrors_without_repeating_the_border() -> None:
    row = torch.arange(3.0).expand(1, 3, 1, 3)
    assert pad_reflect(row, 8)[0, 0, 0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    assert pad_reflect(pictures(1, 8, 16), 8).shape == (1, 3, 8, 16)


def test_c3_poisoned_weight(tiny_sd: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tiny_sd, tmp_path / "m"))
    edit_weights(path / "vae/diffusion_pytorch_model.safetensors", **{"decoder.conv_out.bias": float("nan")})
    output = open_img2img(path, device="cpu", dtype="float32")(pictures(2), [request(1), request(2)], **STEPS)
    assert output.reasons == ("nonfinite", "nonfinite")
    assert torch.isnan(output.images).all()


def test_c3_infinity_is_seen_before_the_clamp(tiny_sd: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tiny_sd, tmp_path / "m"))
    edit_weights(path / "vae/diffusion_pytorch_model.safetensors", **{"decoder.conv_out.bias": float("inf")})
    output = open_img2img(path, device="cpu", dtype="float32")(pictures(1), [request(1)], **STEPS)
    assert output.reasons == ("nonfinite",)


def test_c3_is_per_picture() -> None:
    class Processor:
        def postprocess(self, image: torch.Tensor) -> torch.Tensor:
            return image.clamp(0, 1)

    processor = Processor()
    watch = FiniteWatch(processor)
    watch.reset(3)
    images = torch.zeros(3, 3, 4, 4)
    images[1, 0, 0, 0] = torch.inf
    assert torch.isfinite(processor.postprocess(images)).all()
    assert watch.alive == [True, False, True]


def test_c5_flagged_pictures_leave_no_pixel(tmp_path: Path) -> None:
    path = build_tiny_sd(tmp_path / "m", checker=True)
    images, asked = pictures(2), [request(1), request(2)]
    assert open_img2img(path, device="cpu", dtype="float32")(images, asked, **STEPS).reasons == ("", "")
    edit_weights(path / "safety_checker/model.safetensors", concept_embeds_weights=-2.0)
    output = open_img2img(path, device="cpu", dtype="float32")(images, asked, **STEPS)
    assert output.reasons == ("safety", "safety")
    assert torch.isnan(output.images).all()


def test_c5_a_fake_checker_flags_one_of_two(tmp_path: Path) -> None:
    model = open_img2img(build_tiny_sd(tmp_path / "m", checker=True), device="cpu", dtype="float32")
    images, asked = pictures(2), [request(1), request(2)]
    clean = model(images, asked, **STEPS)

    def fake(images: torch.Tensor, clip_input: object) -> tuple[torch.Tensor, list[bool]]:
        images[1] = 0.0
        return images, [False, True]

    model._pipe.safety_checker.forward = fake
    output: Output = model(images, asked, **STEPS)
    assert output.reasons == ("", "safety")
    assert torch.equal(output.images[0], clean.images[0])
    assert torch.isnan(output.images[1]).all()


def test_bfloat16_runs(tiny_sd: Path) -> None:
    output = open_img2img(tiny_sd, device="cpu", dtype="bfloat16")(pictures(1), [request(1)], **STEPS)
    assert output.images.dtype == torch.float32
    assert output.reasons == ("",)


def test_an_unkeyed_draw_inside_the_pipeline_is_refused(tiny_sd: Path) -> None:
    model = open_img2img(tiny_sd, device="cpu", dtype="float32")
    add_noise = model._pipe.scheduler.add_noise
    model._pipe.scheduler.add_noise = lambda x, n, t: add_noise(x, torch.randn_like(n), t)
    with pytest.raises(SynthaugError, match="outside of its samples' keys"):
        model(pictures(1), [request(1)], **STEPS)
