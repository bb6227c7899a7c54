"""Tiles of every family that makes pictures of words: they wrap, and depend on their own request alone."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synthaug.errors import ConfigError
from synthaug.models import capabilities, families, tile_model, tiling
from synthaug.models.families import Family
from synthaug.models.loras import Lora
from synthaug.models.noise import SampleNoise
from synthaug.models.pipelines import Request
from synthaug.models.tile_model import TileModel, open_tiles
from tests.models import builders
from tests.models.families import build_flux, build_sd3, build_sdxl
from tests.models.tiny import build_tiny_sd, edit_weights

torch.set_num_threads(1)
SIZE = (64, 64)
SLOW = ("sdxl", "lcm", "sd3", "kontext", "klein", "flux2")
BUILD: dict[str, tuple[Family, Callable[[Path], Path]]] = {
    "sd15": (families.SD, build_tiny_sd),
    "sdxl": (families.SDXL, build_sdxl),
    "lcm": (families.LCM, builders.build_lcm),
    "sd3": (families.SD3, build_sd3),
    "flux": (families.FLUX, build_flux),
    "kontext": (families.KONTEXT, builders.build_kontext),
    "qwen": (families.QWEN, builders.build_qwen),
    "z": (families.Z, builders.build_z),
    "amused": (families.AMUSED, builders.build_amused),
    "klein": (families.KLEIN, builders.build_klein),
    "flux2": (families.FLUX2, builders.build_flux2),
}


@pytest.fixture(scope="module", autouse=True)
def stubs() -> Any:
    """Processors that need torchvision."""
    # Its import puts placeholders in their place, so it comes first.
    importlib.import_module("diffusers.pipelines.qwenimage.pipeline_qwenimage_edit")
    import transformers

    stub = builders.stub_processor()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("Qwen2VLProcessor", "PixtralProcessor"):
            patch.setattr(transformers, name, stub)
        yield


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TileModel]:
    found: dict[str, TileModel] = {}

    def get(name: str) -> TileModel:
        if name not in found:
            path = tmp_path_factory.mktemp(name) / "m"
            with torch.random.fork_rng():
                torch.manual_seed(zlib.crc32(name.encode()))
                BUILD[name][1](path)
            found[name] = open_tiles(path, device="cpu", dtype="float32")
            assert found[name].snapshot.family is BUILD[name][0]
        return found[name]

    return get


def ask(prompt: str, seed: int, negative: str = "", strength: float | None = None) -> Request:
    return Request(prompt, negative, strength, seed)


def run(model: TileModel, *asked: Request, guidance: float = 4.0, **more: Any) -> torch.Tensor:
    made = model(asked, SIZE, steps=3, guidance=guidance, **more)
    assert made.reasons == ("",) * len(asked)
    return made.images


def test_every_family_that_makes_pictures_of_words_is_here() -> None:
    assert {family for family, _ in BUILD.values()} == {f for f in capabilities.families() if f.text2img}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in BUILD])
def test_tiles_depend_on_their_own_request_alone(opened: Callable[[str], TileModel], name: str) -> None:
    model = opened(name)
    made = run(model, ask("a b", 1), ask("c", 2))
    assert made.shape == (2, 3, *SIZE)
    assert made.std() > 0.01
    assert 0 <= made.min() < made.max() <= 1
    assert torch.equal(run(model, ask("a b", 1), ask("d e f " * 9, 7))[0], made[0])
    assert torch.equal(run(model, ask("c", 2), ask("a b", 1))[1], made[0])
    assert not torch.equal(run(model, ask("a b", 3), ask("c", 2))[0], made[0])
    assert not torch.equal(run(model, ask("z", 1), ask("c", 2))[0], made[0])


def step_at_wrap(tiles: torch.Tensor, cell: int) -> float:
    """The step across the wrap over those across other borders of cells: in random networks cells show."""
    ratios: list[float] = []
    for axis in (2, 3):
        steps = (tiles.roll(-1, axis) - tiles).abs().mean([a for a in range(4) if a != axis])[cell - 1 :: cell]
        ratios.append(float(steps[-1] / steps[:-1].mean()))
    return max(ratios, key=lambda ratio: abs(np.log(ratio)))


@pytest.mark.parametrize("name", ["qwen", "amused"])
def test_no_seam(opened: Callable[[str], TileModel], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of models whose zero padding shows even untrained; rolls of the others are compared in `test_tiling`."""
    model = opened(name)
    cell = model.pictures.factor * model.snapshot.family.patch
    asked = [ask("a", seed) for seed in range(12)]

    def ratio() -> float:
        return step_at_wrap(model(asked, (64, 64), steps=2, guidance=1.0).images, cell)

    assert ratio() == pytest.approx(1, abs=0.2)
    monkeypatch.setattr(tiling, "Torus", nullcontext)
    assert ratio() > 1.5


def test_a_transformer_that_sees_the_border_leaves_no_seam(opened: Callable[[str], TileModel]) -> None:
    model = opened("flux")
    words: Any = model._words  # pyright: ignore[reportPrivateUsage]
    cell = model.pictures.factor * model.snapshot.family.patch
    line = torch.linspace(-10, 10, 64 // cell)
    ramp = (line[:, None] + line).flatten()[:, None]
    asked = [ask("a", seed) for seed in range(4)]

    def ratio() -> float:
        return step_at_wrap(model(asked, (64, 64), steps=20, guidance=1.0).images, cell)

    hook = words._plain.transformer.register_forward_hook(lambda _m, _a, out: (out[0] + ramp, *out[1:]))
    try:
        rolled, words.token = ratio(), None
        plain, words.token = ratio(), cell
    finally:
        hook.remove()
    assert plain > 1.8
    assert 1 / 1.4 < rolled < 1.4


def test_the_pictures_are_those_of_diffusers_but_for_the_border(opened: Callable[[str], TileModel]) -> None:
    """Without the torus it is the pipeline itself, with noise by sample."""
    model = opened("sd15")
    pipe: Any = model._words._plain  # type: ignore[union-attr]
    assert type(pipe).__name__ == "StableDiffusionPipeline"
    noise = SampleNoise([4])
    with torch.inference_mode(), noise:
        told = {"num_inference_steps": 3, "guidance_scale": 4.0, "height": 64, "width": 128}
        theirs = pipe(["a"], generator=noise.tokens, output_type="pt", **told).images
    ours = model._from_words([ask("a", 4)], (64, 128), 3, 4.0).images  # pyright: ignore[reportPrivateUsage]
    assert (ours - theirs).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["sd15", "flux", pytest.param("kontext", marks=pytest.mark.slow), "amused"])
def test_a_tile_to_start_from_counts_and_stays_a_tile(opened: Callable[[str], TileModel], name: str) -> None:
    model = opened(name)
    strength = 0.6 if "strength" in model.snapshot.family.knobs else None
    start = torch.rand((1, 3, *SIZE), generator=torch.Generator().manual_seed(0))
    made = run(model, ask("a", 1, strength=strength), start=start)
    assert made.shape == start.shape
    assert not torch.equal(made, run(model, ask("a", 1, strength=strength), start=1 - start))
    with pytest.raises(ConfigError, match="strength"):
        run(model, ask("a", 1, strength=None if strength else 0.6), start=start)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unclip", "kandinsky", "pix2pix"])
def test_families_without_words_alone_start_from_a_tile(tmp_path: Path, name: str) -> None:
    build = {
        "unclip": builders.build_unclip, "kandinsky": builders.build_kandinsky, "pix2pix": builders.build_pix2pix,
    }[name]  # fmt: skip
    model = open_tiles(build(tmp_path / "m"), device="cpu", dtype="float32")
    strength = 0.6 if name == "kandinsky" else None
    start = torch.rand((1, 3, *SIZE), generator=torch.Generator().manual_seed(0))
    made = run(model, ask("a", 1, strength=strength), start=start)
    assert made.shape == start.shape
    assert not torch.equal(made, run(model, ask("a", 1, strength=strength), start=1 - start))
    with pytest.raises(ConfigError, match="give a tile to start from"):
        run(model, ask("a", 1))


def test_what_a_model_cannot_do_is_refused(opened: Callable[[str], TileModel], tmp_path: Path) -> None:
    model = opened("sd15")
    for size in ((64, 100), (0, 64), (32, 64)):
        with pytest.raises(ConfigError, match="multiples of 64"):
            model([ask("a", 1)], size, steps=3, guidance=1.0)
    with pytest.raises(ConfigError, match="negative_prompt"):
        run(opened("lcm"), ask("a", 1, negative="z"))
    unclip = open_tiles(builders.build_unclip(tmp_path / "u"), device="cpu", dtype="float32")
    with pytest.raises(ConfigError, match="give a tile to start from"):
        run(unclip, ask("a", 1))


def test_no_picture_leaves_where_a_value_is_not_finite(tmp_path: Path) -> None:
    folder = build_tiny_sd(tmp_path / "m")
    edit_weights(folder / "vae" / "diffusion_pytorch_model.safetensors", **{"decoder.conv_out.bias": float("nan")})
    made = open_tiles(folder, device="cpu", dtype="float32")([ask("a", 1)], SIZE, steps=2, guidance=1.0)
    assert made.reasons == ("nonfinite",)
    assert made.images.isnan().all()


def test_a_flagged_picture_does_not_leave(tmp_path: Path) -> None:
    folder = build_tiny_sd(tmp_path / "m", checker=True)
    edit_weights(folder / "safety_checker" / "model.safetensors", concept_embeds_weights=-2.0)
    made = open_tiles(folder, device="cpu", dtype="float32")([ask("a", 1)], SIZE, steps=2, guidance=1.0)
    assert made.reasons == ("safety",)
    assert made.images.isnan().all()


def test_a_lora_counts_and_belongs_to_the_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = build_tiny_sd(tmp_path / "m")
    merged: list[Any] = []
    monkeypatch.setattr(tile_model.loras, "merge", lambda pipe, stack: merged.append(stack))
    monkeypatch.setattr(Lora, "digest", lambda self: f"digest of {self.path}")
    stacks = [[], [Lora("x", "a.safetensors")], [Lora("x", "a.safetensors", 0.5)], [Lora("x", "b.safetensors")]]
    found = [open_tiles(folder, device="cpu", dtype="float32", stack=stack).snapshot.digest for stack in stacks]
    assert len(set(found)) == 4
    assert merged == stacks[1:]
