"""Every family, as a tiny random pipeline on disk, opened and run by our own entry."""

from __future__ import annotations

import importlib.util
import inspect
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from synthaug.errors import ConfigError
from synthaug.models import capabilities, families
from synthaug.models.families import Family, Runner, Words
from synthaug.models.noise import SampleNoise
from synthaug.models.pipelines import Img2ImgModel, Request, open_img2img
from synthaug.models.snapshot import inspect as inspect_model
from tests.models import builders
from tests.models.families import build_flux, build_sd3, build_sdxl
from tests.models.tiny import edit_weights

torch.set_num_threads(1)
BUILD: dict[str, tuple[Family, Callable[[Path], Path]]] = {
    "sd21": (families.SD, builders.build_sd21),
    "sdxl": (families.SDXL, build_sdxl),
    "lcm": (families.LCM, builders.build_lcm),
    "sd3": (families.SD3, build_sd3),
    "flux": (families.FLUX, build_flux),
    "kontext": (families.KONTEXT, builders.build_kontext),
    "qwen": (families.QWEN, builders.build_qwen),
    "z": (families.Z, builders.build_z),
    "kandinsky": (families.KANDINSKY, builders.build_kandinsky),
    "unclip": (families.UNCLIP, builders.build_unclip),
    "karlo": (families.KARLO, builders.build_karlo),
    "amused": (families.AMUSED, builders.build_amused),
    "pix2pix": (families.PIX2PIX, builders.build_pix2pix),
    "pix2pix_xl": (families.PIX2PIX_XL, builders.build_pix2pix_xl),
    "klein": (families.KLEIN, builders.build_klein),
    "flux2": (families.FLUX2, builders.build_flux2),
    "qwen_edit": (families.QWEN_EDIT, builders.build_qwen_edit),
    "qwen_edit_plus": (
        families.QWEN_EDIT_PLUS,
        lambda path: builders.build_qwen_edit(path, "QwenImageEditPlusPipeline"),
    ),
}
CACHED = [n for n, (f, _) in BUILD.items() if f.runner is not Runner.LOOP and f.words is not Words.PIPELINE]
SIZE = (52, 70)


@pytest.fixture(scope="module", autouse=True)
def small_references_and_stubs() -> Any:
    """Two processors need torchvision and get a stub; Qwen's editors see a reference of 64x64, not of a megapixel."""
    import diffusers.pipelines.qwenimage.pipeline_qwenimage_edit as edit
    import diffusers.pipelines.qwenimage.pipeline_qwenimage_edit_plus as plus
    import transformers

    stub = builders.stub_processor()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("Qwen2VLProcessor", "PixtralProcessor"):
            patch.setattr(transformers, name, stub)
        patch.setattr(edit, "calculate_dimensions", lambda area, ratio: (64, 64, None))
        patch.setattr(plus, "calculate_dimensions", lambda area, ratio: (64, 64))
        yield


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Img2ImgModel]:
    """Built, saved and opened once for the tests of this file."""
    found: dict[str, Img2ImgModel] = {}

    def get(name: str) -> Img2ImgModel:
        if name not in found:
            path = tmp_path_factory.mktemp(name) / "m"
            with torch.random.fork_rng():
                torch.manual_seed(zlib.crc32(name.encode()))
                BUILD[name][1](path)
            found[name] = open_img2img(path, device="cpu", dtype="float32")
            assert found[name].snapshot.family is BUILD[name][0]
        return found[name]

    return get


@pytest.fixture(params=BUILD)
def model(request: pytest.FixtureRequest, opened: Callable[[str], Img2ImgModel]) -> Img2ImgModel:
    return opened(request.param)


def pictures(count: int, seed: int = 0, size: tuple[int, int] = (50, 60)) -> torch.Tensor:
    return torch.rand((count, 3, *size), generator=torch.Generator().manual_seed(seed))


def ask(model: Img2ImgModel, prompt: str, seed: int, *, negative: str = "", strength: float = 0.5) -> Request:
    knobs = model.snapshot.family.knobs
    words = prompt if "prompt" in knobs else ""
    return Request(words, negative, strength if "strength" in knobs else None, seed)


def run(
    model: Img2ImgModel, images: torch.Tensor, *asked: Request, guidance: float = 4.0, steps: int = 4
) -> torch.Tensor:
    output = model(images, asked, steps=steps, guidance=guidance)
    assert output.reasons == ("",) * len(asked)
    return output.images


def test_every_family_is_here() -> None:
    assert {family for family, _ in BUILD.values()} == set(capabilities.families())


def test_it_keeps_the_size_and_knows_nothing_of_its_neighbours(model: Img2ImgModel) -> None:
    images = pictures(2, size=SIZE)
    made = run(model, images, ask(model, "a b", 1), ask(model, "c", 2))
    assert made.shape == images.shape
    assert made.std() > 0.01
    assert 0 <= made.min() < made.max() <= 1
    other = images.clone()
    other[1] = pictures(1, 9, SIZE)[0]
    long = "d e f " * 20
    assert torch.equal(run(model, other, ask(model, "a b", 1), ask(model, long, 7))[0], made[0])
    swapped = run(model, images[[1, 0]], ask(model, "c", 2), ask(model, "a b", 1))
    assert torch.equal(swapped[1], made[0])


def test_picture_seed_and_words_all_count(model: Img2ImgModel) -> None:
    images = pictures(1)
    made = run(model, images, ask(model, "a b", 1))
    assert torch.equal(run(model, images, ask(model, "a b", 1)), made)
    assert not torch.equal(run(model, 1 - images, ask(model, "a b", 1)), made)
    assert not torch.equal(run(model, images, ask(model, "a b", 2)), made)
    if "prompt" in model.snapshot.family.knobs:
        assert not torch.equal(run(model, images, ask(model, "z", 1)), made)
    else:
        with pytest.raises(ConfigError, match=r"prompt \(words\) is set, but .* FLUX\.1, .*Z-Image"):
            run(model, images, Request("z", "", None, 1))


def test_words_against_count_where_the_family_has_them(model: Img2ImgModel) -> None:
    images = pictures(2)
    made = run(model, images, ask(model, "a", 1), ask(model, "a", 2))
    mixed = run(model, images, ask(model, "a", 1, negative="z"), ask(model, "a", 2))
    assert torch.equal(mixed[1], made[1])
    if "negative_prompt" in model.snapshot.family.knobs:
        assert not torch.equal(mixed[0], made[0])
        model.check(negative=True, steps=4, strength=ask(model, "", 0).strength)
    else:
        with pytest.raises(ConfigError, match=r"negative_prompt .* is set, but"):
            model.check(negative=True, steps=4, strength=ask(model, "", 0).strength)


def test_strength_counts_or_is_refused(model: Img2ImgModel) -> None:
    images, family = pictures(1), model.snapshot.family
    if "strength" not in family.knobs:
        with pytest.raises(ConfigError, match=r"strength .* is set, but"):
            run(model, images, Request("a", "", 0.5, 1))
        return
    with pytest.raises(ConfigError, match="strength=null"):
        run(model, images, Request("a", "", None, 1))
    with pytest.raises(ConfigError, match="no step"):
        run(model, images, Request("a", "", 0.2, 1))
    low = run(model, images, ask(model, "a", 1, strength=0.25))
    high = run(model, images, ask(model, "a", 1, strength=0.75))
    assert not torch.equal(low, high)
    together = run(model, images[[0, 0]], ask(model, "a", 1, strength=0.25), ask(model, "a", 1, strength=0.75))
    alone = run(model, images[[0, 0]], ask(model, "a", 1, strength=0.25), ask(model, "a", 1, strength=0.25))
    assert torch.equal(together[0], alone[0])
    assert not torch.equal(together[1], alone[0])


@pytest.mark.parametrize("name", ["lcm", "sd3", "flux", "qwen", "z", "unclip", "pix2pix", "pix2pix_xl", "klein"])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_the_pictures_are_those_of_diffusers(opened: Callable[[str], Img2ImgModel], name: str, guidance: float) -> None:
    """Prompts encoded once and apart, and padded to buckets, say the same as prompts in the pipeline's own hands."""
    model = opened(name)
    images, asked = pictures(1, size=(64, 64)), ask(model, "a b", 1)
    ours = run(model, images, asked, guidance=guidance)
    noise = SampleNoise([1])
    pipe, family = model._pipe, model.snapshot.family
    shown: Any = images
    if family.pictures:
        shown = pipe.image_processor.numpy_to_pil(images.permute(0, 2, 3, 1).numpy())
    told = {
        "prompt": ["a b"], "image": shown, "strength": asked.strength, "num_inference_steps": 4,
        "negative_prompt": None if name == "pix2pix_xl" else [""],  # to XL no words are zeros, not an empty text
        family.guidance: guidance, "height": 64, "width": 64, "generator": noise.tokens,
        "output_type": "pt",
    }  # fmt: skip
    accepts = inspect.signature(pipe.__call__).parameters
    with torch.inference_mode(), noise:
        theirs = pipe(**{k: v for k, v in told.items() if k in accepts and v is not None}).images
    assert (ours - theirs).abs().max() < 1e-4


@pytest.mark.parametrize("name", CACHED)
def test_each_unique_prompt_is_encoded_once(opened: Callable[[str], Img2ImgModel], name: str) -> None:
    model = opened(name)
    cache = model.native.words.cache
    before = cache.encodes
    run(model, pictures(3), *(ask(model, word, i) for i, word in enumerate(["x y", "y x", "x y"])), guidance=0.0)
    assert cache.encodes == before + 2
    run(model, pictures(3), *(ask(model, word, i) for i, word in enumerate(["x x", "x y", "x x"])), guidance=0.0)
    assert cache.encodes == before + 3


def test_flow_families_refuse_a_strength_that_ignores_the_picture(model: Img2ImgModel) -> None:
    family = model.snapshot.family
    if not family.flow or "strength" not in family.knobs:
        return
    model.check(negative=False, steps=4, strength=0.75)
    with pytest.raises(ConfigError, match=r"pure noise.*0\.75"):
        model.check(negative=False, steps=4, strength=0.8)


def test_amused_at_full_strength_would_hardly_change_a_thing(opened: Callable[[str], Img2ImgModel]) -> None:
    model = opened("amused")
    images = pictures(1)
    with pytest.raises(ConfigError, match="masks next to nothing"):
        run(model, images, ask(model, "a", 1, strength=1.0))
    shown = pictures(1, size=(64, 64))

    def theirs(words: str, strength: float) -> torch.Tensor:
        noise, pipe = SampleNoise([1]), model._pipe
        with torch.inference_mode(), noise:
            told = {"prompt": [words], "image": shown, "strength": strength}
            return pipe(**told, generator=noise.whole, output_type="pt").images

    def felt(strength: float) -> float:
        return (theirs("a", strength) - theirs("z", strength)).abs().mean().item()

    assert felt(0.9) > 10 * felt(1.0)


def test_amused_shows_an_infinity_that_its_pipeline_would_clip(
    opened: Callable[[str], Img2ImgModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = opened("amused")
    weight = model._pipe.vqvae.decoder.conv_out.bias
    kept = weight.data.clone()
    weight.data.fill_(float("inf"))
    try:
        output = model(pictures(2), [ask(model, "a", 1), ask(model, "b", 2)], steps=4, guidance=4.0)
    finally:
        weight.data.copy_(kept)
    assert output.reasons == ("nonfinite", "nonfinite")


def test_kandinsky_from_two_folders_is_that_from_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = builders.kandinsky_parts()
    monkeypatch.setattr(builders, "kandinsky_parts", lambda: parts)
    one = open_img2img(builders.build_kandinsky(tmp_path / "one"), device="cpu", dtype="float32")
    decoder, prior = builders.build_kandinsky_apart(tmp_path)
    two = open_img2img(decoder, device="cpu", dtype="float32", base=prior)
    images, asked = pictures(2), [ask(one, "a", 1, negative="c"), ask(one, "b", 2)]
    assert torch.equal(run(one, images, *asked), run(two, images, *asked))
    # Its pipeline swaps height and width when it resizes; we do not let it.
    tall = pictures(1, size=(130, 60))
    assert run(two, tall, asked[0]).shape == tall.shape
    edit_weights(prior / "prior/diffusion_pytorch_model.safetensors", prd_embedding=0.5)
    assert len({one.snapshot.digest, two.snapshot.digest, inspect_model(decoder, prior).digest}) == 3
    with pytest.raises(ConfigError, match="needs a prior"):
        open_img2img(decoder, device="cpu", dtype="float32")
    with pytest.raises(ConfigError, match="give its folder as"):
        open_img2img(prior, device="cpu", dtype="float32")
    with pytest.raises(ConfigError, match="is no prior"):
        open_img2img(decoder, device="cpu", dtype="float32", base=decoder)
    with pytest.raises(ConfigError, match="brings its prior"):
        open_img2img(tmp_path / "one", device="cpu", dtype="float32", base=prior)
    with pytest.raises(ConfigError, match=r"base=.*no such folder"):
        open_img2img(decoder, device="cpu", dtype="float32", base=tmp_path / "none")


@pytest.mark.parametrize(("name", "processor"), [("flux2", "PixtralProcessor")])
def test_a_processor_that_cannot_be_imported_is_named(
    opened: Callable[[str], Img2ImgModel], monkeypatch: pytest.MonkeyPatch, name: str, processor: str
) -> None:
    import transformers

    class Missing:
        """What transformers puts in its place."""

    monkeypatch.setattr(transformers, processor, Missing)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=f"{processor} needs torchvision"):
        open_img2img(opened(name).snapshot.path, device="cpu", dtype="float32")
