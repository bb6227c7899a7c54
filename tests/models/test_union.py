"""Union ControlNets in our loop against diffusers' own pipeline: one kind, several at once, weights by place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from synthaug.errors import ConfigError
from synthaug.models import controlnets
from synthaug.models.hints import Asked, Hint, Shown, residuals
from synthaug.models.noise import SampleNoise
from synthaug.models.pipelines import Extras, Img2ImgModel, Request, open_img2img
from tests.models.families import build_sdxl
from tests.models.tiny_additions import build_union

torch.set_num_threads(1)
STEPS: dict[str, Any] = {"steps": 4, "guidance": 4.0}
FACTOR = 2
"""Pixels per place of the tiny XL's latent."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sdxl(tmp_path_factory.mktemp("xl") / "xl")


@pytest.fixture(scope="module")
def model(folder: Path) -> Img2ImgModel:
    return open_img2img(folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def net(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = build_union(tmp_path_factory.mktemp("net") / "union", folder)
    assert controlnets.inputs(str(path)) == 6
    return controlnets.open_controlnet(path, device="cpu", dtype="float32", width=32)


@pytest.fixture(scope="module")
def peer(model: Img2ImgModel, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Diffusers' own pipeline, with its own loading of the same net."""
    from diffusers.models.controlnets.controlnet_union import ControlNetUnionModel
    from diffusers.pipelines.controlnet import pipeline_controlnet_union_sd_xl_img2img as union

    path = build_union(tmp_path_factory.mktemp("net") / "union", folder)
    pipe: Any = model._pipe  # pyright: ignore[reportPrivateUsage]
    made: Any = union.StableDiffusionXLControlNetUnionImg2ImgPipeline(
        vae=pipe.vae, text_encoder=pipe.text_encoder, text_encoder_2=pipe.text_encoder_2, tokenizer=pipe.tokenizer,
        tokenizer_2=pipe.tokenizer_2, unet=pipe.unet, scheduler=pipe.scheduler, add_watermarker=False,
        controlnet=ControlNetUnionModel.from_pretrained(path),
    )  # fmt: skip
    made.set_progress_bar_config(disable=True)
    return made


def pictures(count: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.rand((count, 3, 64, 64), generator=torch.Generator().manual_seed(seed))


def hint(net: Any, mode: int, weight: float | torch.Tensor = 1.0, count: int = 2, **when: float) -> Hint:
    side = 64 // FACTOR
    weights = torch.full((count, 1, side, side), weight) if isinstance(weight, float | int) else weight
    return Hint(net, pictures(count, 10 + mode), weights, mode=mode, **when)


def requests(count: int = 2) -> list[Request]:
    return [Request("a b", "z", 0.5, 10 + i) for i in range(count)]


def ours(model: Img2ImgModel, *hints: Hint) -> torch.Tensor:
    return model(pictures(), requests(), **STEPS, extras=Extras(list(hints))).images


def theirs(peer: Any, hints: list[Hint], scales: list[float]) -> torch.Tensor:
    """One picture at a time: in a batch, its pictures see each other."""
    found, images = [], pictures()
    for i, request in enumerate(requests()):
        noise = SampleNoise([request.seed])
        with torch.inference_mode(), noise:
            made = peer(
                prompt=["a b"], negative_prompt=["z"], image=images[i : i + 1],
                control_image=[h.images[i : i + 1] for h in hints], control_mode=[h.mode for h in hints], strength=0.5,
                num_inference_steps=4, guidance_scale=4.0, controlnet_conditioning_scale=scales,
                generator=noise.tokens, output_type="pt", height=64, width=64,
            ).images  # fmt: skip
        found.append(made)
    return torch.cat(found)


@pytest.mark.parametrize("asked", [[(1, 0.7)], [(1, 0.7), (4, 1.0)], [(0, 0.4), (3, 0.9), (5, 0.2)]])
def test_kinds_together_are_those_of_diffusers_own_pipeline(
    model: Img2ImgModel, net: Any, peer: Any, asked: list[tuple[int, float]]
) -> None:
    hints = [hint(net, mode, weight) for mode, weight in asked]
    found = ours(model, *hints)
    plain = model(pictures(), requests(), **STEPS).images
    assert (found - plain).abs().max() > 1e-3, "the net says nothing, so nothing was compared"
    assert (found - theirs(peer, hints, [w for _, w in asked])).abs().max() < 1e-4


def test_kinds_of_one_net_meet_in_it_and_those_of_two_are_added(model: Img2ImgModel, net: Any, folder: Path) -> None:
    together = ours(model, hint(net, 1), hint(net, 4))
    calls: list[int] = []
    handle = net.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(len(kwargs["controlnet_cond"])), with_kwargs=True
    )
    ours(model, hint(net, 1), hint(net, 4))
    handle.remove()
    assert calls == [2, 2], "two steps, one call each"
    assert torch.equal(together, ours(model, hint(net, 1), hint(net, 4)))
    assert not torch.equal(together, ours(model, hint(net, 1)))


def test_a_kind_that_has_left_off_is_not_shown(model: Img2ImgModel, net: Any) -> None:
    assert torch.equal(ours(model, hint(net, 1), hint(net, 4, start=0.99)), ours(model, hint(net, 1)))
    plain = model(pictures(), requests(), **STEPS).images
    assert torch.equal(ours(model, hint(net, 1, start=0.99), hint(net, 4, start=0.99)), plain)


def test_the_same_weight_everywhere_is_that_weight_and_a_map_differs_by_place(net: Any) -> None:
    latents, words = torch.rand(1, 4, 32, 32), torch.rand(1, 5, 32)
    more = {"text_embeds": torch.rand(1, 16), "time_ids": torch.rand(1, 6)}
    asked = Asked(latents, torch.tensor(500), words, more)

    def added(weight: Any) -> list[torch.Tensor]:
        hints = [hint(net, 1, 0.5, 1), hint(net, 4, weight, 1)]
        found = residuals([Shown.of(h, None, twice=False) for h in hints], asked)
        return [*found["down_block_additional_residuals"], found["mid_block_additional_residual"]]

    weight = torch.full((1, 1, 32, 32), 0.25)
    whole = added(0.25)
    assert all(torch.equal(a, b) for a, b in zip(whole, added(weight), strict=True))
    weight[..., 16:] = 1.0
    weight[..., :16] = 0.0
    fewer = added(weight)
    assert not any(torch.equal(a, b) for a, b in zip(whole, fewer, strict=True))


def test_a_picture_does_not_see_its_neighbours_weights(net: Any, model: Img2ImgModel) -> None:
    weight = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(3))
    first = ours(model, hint(net, 1, 0.5), hint(net, 4, weight))
    weight[1] = 0.1
    assert torch.equal(first[0], ours(model, hint(net, 1, 0.5), hint(net, 4, weight))[0])


def test_a_union_of_another_family_is_refused(folder: Path, tmp_path: Path) -> None:
    path = build_union(tmp_path / "union", folder)
    with pytest.raises(ConfigError, match=r"32 channels, the model has 768.*two families"):
        controlnets.open_controlnet(path, device="cpu", dtype="float32", width=768)


def test_one_folder_is_opened_once_for_all_its_kinds(folder: Path, tmp_path: Path) -> None:
    path = build_union(tmp_path / "union", folder)
    opened: list[str] = []

    def opener(name: str) -> object:
        opened.append(name)
        return object()

    nets = controlnets.shared([str(path), str(tmp_path / "." / "union"), "other"], opener)
    assert nets[0] is nets[1] is not nets[2]
    assert len(opened) == 2


def test_a_recorded_graph_tells_weights_apart_though_their_texts_are_equal() -> None:
    from torch.utils import _pytree as tree

    from synthaug.models import graphs, hints

    hints._lay_open()  # pyright: ignore[reportPrivateUsage]
    even, other = torch.zeros(2, 1, 64, 64), torch.zeros(2, 1, 64, 64)
    other[..., 20:40, 20:40] = 1
    assert repr(even) == repr(other)
    scales = [hints._Scale(even), hints._Scale(other)]  # pyright: ignore[reportPrivateUsage]
    leaves, form = tree.tree_flatten({"conditioning_scale": scales})
    assert [leaf is one for leaf, one in zip(leaves, (even, other), strict=True)] == [True, True]
    assert tree.tree_unflatten(leaves, form)["conditioning_scale"][1].weights is other
    strange = [{1: even}.keys(), {1: even}.keys()]  # no plain value: only the very same one fits a recording
    assert graphs._trait(strange[0]) != graphs._trait(strange[1])  # pyright: ignore[reportPrivateUsage]


def test_a_copy_of_a_net_counts_as_the_net() -> None:
    opened: list[str] = []

    def opener(path: str) -> object:
        opened.append(path)
        return object()

    nets = controlnets.shared(["a/union", "b/union", "c"], opener, lambda path: path.rpartition("/")[2])
    assert nets[0] is nets[1] is not nets[2]
    assert opened == ["a/union", "c"]
