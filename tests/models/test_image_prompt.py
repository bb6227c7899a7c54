"""Photos as prompts in our loop against diffusers' own way of taking them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from synthaug.errors import ConfigError, SecurityError
from synthaug.models import image_prompt
from synthaug.models.image_prompt import ImagePrompt, Seen, Viewer
from synthaug.models.latent import Job
from synthaug.models.noise import SampleNoise
from synthaug.models.pipelines import Img2ImgModel, open_img2img
from tests.models.families import build_flux, build_sdxl
from tests.models.tiny import build_tiny_sd
from tests.models.tiny_additions import adapter_tensors, build_encoder, save

torch.set_num_threads(1)
PHOTOS = {
    f"{i}.png": np.random.default_rng(i).integers(0, 256, shape, np.uint8)
    for i, shape in enumerate([(40, 56, 3), (64, 33, 3), (32, 32, 3)])
}
PROMPTS = ["a b", "c", "a b"]


def parts(root: Path, base: str, **more: Any) -> tuple[Path, ImagePrompt]:
    """A tiny model, and an adapter with an encoder for it."""
    folder = build_sdxl(root / "m") if base == "xl" else build_tiny_sd(root / "m")
    pipe: Any = open_img2img(folder, device="cpu", dtype="float32")._pipe  # pyright: ignore[reportPrivateUsage]
    width = 24 if more.get("plus") else 16
    file = save(root / "adapter.safetensors", adapter_tensors(pipe.unet, width=width, **more))
    return folder, ImagePrompt(str(file), str(build_encoder(root / "encoder")), "photos", 0.8)


def read(name: str) -> NDArray[np.uint8]:
    return PHOTOS[name]


def opened(folder: Path, prompt: ImagePrompt | None) -> tuple[Img2ImgModel, Any]:
    model = open_img2img(folder, device="cpu", dtype="float32")
    pipe: Any = model._pipe  # pyright: ignore[reportPrivateUsage]
    return model, pipe if prompt is None else image_prompt.install(pipe, prompt, device="cpu", read=read)


@pytest.fixture(scope="module", params=["sd", "xl", "plus"])
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Img2ImgModel, Viewer]:
    base, more = ("sd", {"plus": True}) if request.param == "plus" else (request.param, {})
    return opened(*parts(tmp_path_factory.mktemp("ip"), base, **more))


def pictures(count: int = 3) -> torch.Tensor:
    return torch.rand((count, 3, 64, 64), generator=torch.Generator().manual_seed(0))


def run(
    model: Img2ImgModel, photos: Sequence[Seen], guidance: float = 4.0, order: Sequence[int] = (0, 1, 2)
) -> torch.Tensor:
    assert model.loop is not None
    noise = SampleNoise([10 + i for i in order])
    prompts = [PROMPTS[i] for i in order]
    job = Job(pictures()[list(order)], prompts, ["z"] * len(order), 0.5, 4, guidance, photos=photos)
    with torch.inference_mode(), noise:
        return (model.loop(job, noise) / 2 + 0.5).clamp(0, 1)


def theirs(model: Img2ImgModel, guidance: float, embeds: Sequence[torch.Tensor]) -> torch.Tensor:
    """One picture at a time: a pipeline of diffusers takes one photo for all of a batch."""
    found, images = [], pictures()
    for i, one in enumerate(embeds):
        noise = SampleNoise([10 + i])
        with torch.inference_mode(), noise:
            made = model._pipe(  # pyright: ignore[reportPrivateUsage]
                prompt=PROMPTS[i : i + 1], negative_prompt=["z"], image=images[i : i + 1], strength=0.5,
                num_inference_steps=4, guidance_scale=guidance, generator=noise.tokens, output_type="pt",
                ip_adapter_image_embeds=[one],
            ).images  # fmt: skip
        found.append(made)
    return torch.cat(found)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_pictures_are_those_of_diffusers_with_the_same_embeddings(
    loaded: tuple[Img2ImgModel, Viewer], guidance: float
) -> None:
    model, viewer = loaded
    seen = viewer(PHOTOS)
    embeds = [torch.cat([one.against, one.toward]) if guidance > 1 else one.toward for one in seen]
    found = run(model, seen, guidance)
    assert (found - theirs(model, guidance, embeds)).abs().max() < 1e-4
    assert (found - run(model, seen[::-1], guidance)).abs().max() > 1e-3, "the photo changes nothing"


def test_and_those_of_diffusers_that_is_given_the_photo_itself(loaded: tuple[Img2ImgModel, Viewer]) -> None:
    from PIL import Image
    from transformers import CLIPImageProcessorPil

    model, viewer = loaded
    pipe: Any = model._pipe  # pyright: ignore[reportPrivateUsage]
    own, pipe.feature_extractor = pipe.feature_extractor, CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )  # fmt: skip
    photo = PHOTOS["0.png"]
    with torch.inference_mode():
        embeds = pipe.prepare_ip_adapter_image_embeds([Image.fromarray(photo)], None, "cpu", 1, True)[0]
    pipe.feature_extractor = own
    against, toward = embeds.chunk(2)
    seen = viewer.see(photo)
    assert torch.allclose(seen.toward, toward, atol=1e-6)
    assert torch.allclose(seen.against, against, atol=1e-6)


def test_every_photo_is_encoded_once_and_a_picture_sees_its_own_alone(loaded: tuple[Img2ImgModel, Viewer]) -> None:
    model, _ = loaded
    again = Viewer(model._pipe, read)  # pyright: ignore[reportPrivateUsage]
    names = list(PHOTOS)
    for _ in range(2):
        seen = again([names[0], names[1], names[0]])
    assert again.encodes == 2
    first = run(model, seen)
    other = run(model, again([names[2], names[1], names[0]]), order=[2, 1, 0])
    assert torch.equal(first[1], other[1])
    assert torch.equal(first[0], run(model, again([names[0]] * 3), order=[0, 0, 0])[1])


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 3, 3), (3, 1, 3), (1, 5000, 3), (700, 2, 3)])
def test_photos_of_any_shape_are_seen(loaded: tuple[Img2ImgModel, Viewer], shape: tuple[int, int, int]) -> None:
    photo = np.full(shape, 200, np.uint8)
    found = loaded[1].see(photo)
    assert torch.isfinite(found.toward).all()
    assert torch.allclose(found.toward, loaded[1].see(np.full((32, 32, 3), 200, np.uint8)).toward, atol=1e-5)


def test_weight_zero_is_the_base_to_the_bit(tmp_path: Path) -> None:
    folder, prompt = parts(tmp_path, "sd")
    model, viewer = opened(folder, ImagePrompt(prompt.adapter, prompt.encoder, "photos", 0.0))
    plain, _ = opened(folder, None)
    assert torch.equal(run(model, viewer(PHOTOS)), run(plain, []))


def test_one_for_another_base_is_refused_with_both_widths(tmp_path: Path) -> None:
    _, prompt = parts(tmp_path / "a", "xl")
    with pytest.raises(ConfigError, match=r"(?s)adapter.safetensors was made for another base.*\[32\].*\[16\]"):
        opened(build_tiny_sd(tmp_path / "b"), prompt)
    with pytest.raises(ConfigError, match="takes no image prompt"):
        opened(build_flux(tmp_path / "c"), prompt)


def test_one_for_another_encoder_is_refused(tmp_path: Path) -> None:
    folder, prompt = parts(tmp_path, "sd")
    other = build_encoder(tmp_path / "other", width=20)
    with pytest.raises(ConfigError, match=r"another image encoder than .*other, which gives 20 channels"):
        opened(folder, ImagePrompt(prompt.adapter, str(other), "photos"))


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"a": torch.ones(2)}, r"(?s)is no IP-Adapter.*- a"),
        ({"image_proj.proj.weight": torch.ones(2, 2)}, "is no IP-Adapter"),
        ({"image_proj.a": torch.ones(2), "ip_adapter.0.to_q_lora.down.weight": torch.ones(2)}, "FaceID"),
    ],
)
def test_what_is_no_plain_adapter_is_refused(tmp_path: Path, tensors: dict[str, torch.Tensor], told: str) -> None:
    folder, prompt = parts(tmp_path, "sd")
    path = save(tmp_path / "x.safetensors", tensors)
    with pytest.raises(ConfigError, match=told):
        opened(folder, ImagePrompt(str(path), prompt.encoder, "photos"))


@pytest.mark.security
def test_the_encoders_folder_is_plain_data_of_a_known_class(tmp_path: Path) -> None:
    folder, prompt = parts(tmp_path, "sd")
    with pytest.raises(ConfigError, match=r"encoder.*expected a folder with config\.json"):
        ImagePrompt(prompt.adapter, str(tmp_path / "none"), "photos").identity()
    config = Path(prompt.encoder) / "config.json"
    text = config.read_text()
    config.write_text(text.replace("CLIPVisionModelWithProjection", "CLIPModel"))
    with pytest.raises(SecurityError, match="CLIPModel"):
        opened(folder, prompt)
    config.write_text(text)
    before = prompt.identity()
    assert prompt.identity() == before
    (Path(prompt.encoder) / "model.bin").write_bytes(b"x")
    with pytest.raises(SecurityError, match="not plain data"):
        prompt.identity()


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"adapter": "a", "encoder": "b"}, r"image_prompt\.photos=: expected a path"),
        ({"adapter": "a", "encoder": "b", "photos": "c", "weight": 3}, r"weight=3: expected 0 to 2"),
        ({"adapter": "a", "encoder": "b", "photos": "c", "limit": 0}, r"limit=0: expected a whole number, 1 to 10000"),
        ({"adapter": "a", "encoder": "b", "photo": "c"}, "Did you mean 'photos'"),
        ("a", "image_prompt=a: expected"),
    ],
)
def test_configuration_that_is_none_is_refused(given: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        ImagePrompt.parse(given)


def test_nothing_is_nothing() -> None:
    assert ImagePrompt.parse(None) is None
    assert ImagePrompt.parse({}) is None
