"""FLUX.1 with ControlNets, through diffusers' own pipeline."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from synthaug.errors import ConfigError, SecurityError, SynthaugError
from synthaug.models import controlnets
from synthaug.models.capabilities import refuse
from synthaug.models.hints import Hint
from synthaug.models.pipelines import Extras, Img2ImgModel, Request, open_img2img
from tests.models.builders import build_flux_controlnet, build_kontext
from tests.models.families import build_flux
from tests.models.tiny import build_tiny_controlnet, build_tiny_sd

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_flux(tmp_path_factory.mktemp("flux") / "m")


@pytest.fixture(scope="module")
def model(folder: Path) -> Img2ImgModel:
    return open_img2img(folder, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def net(model: Img2ImgModel, folder: Path) -> Any:
    return model.open_net(build_flux_controlnet(folder.parent / "net", folder))


def pictures(count: int, seed: int = 0, size: tuple[int, int] = (52, 70)) -> torch.Tensor:
    return torch.rand((count, 3, *size), generator=torch.Generator().manual_seed(seed))


def hint(net: Any, seed: int = 5, weight: float = 1.0, **more: Any) -> Hint:
    return Hint(net, pictures(2, seed, (64, 128)), torch.full((2, 1, 32, 64), weight), **more)


ASKED = [Request("a b", "", 0.5, 1), Request("c", "", 0.5, 2)]


def run(model: Img2ImgModel, *hints: Hint, asked: list[Request] = ASKED) -> torch.Tensor:
    output = model(pictures(2), asked, steps=4, guidance=1.0, extras=Extras(hints))
    assert output.reasons == ("", "")
    return output.images


def test_guidance_images_count_each_for_its_own_picture(model: Img2ImgModel, net: Any) -> None:
    made = run(model, hint(net))
    assert made.shape == (2, 3, 52, 70)
    shown = hint(net)
    other = shown.images.clone()
    other[1] = 1 - other[1]
    changed = run(model, dataclasses.replace(shown, images=other))
    assert torch.equal(changed[0], made[0])
    assert not torch.equal(changed[1], made[1])
    assert torch.equal(run(model, hint(net)), made)


def test_weight_and_schedule(model: Img2ImgModel, net: Any) -> None:
    none = run(model, hint(net, weight=0.0))
    assert torch.equal(run(model, hint(net, seed=6, weight=0.0)), none)
    assert not torch.equal(run(model, hint(net)), none)
    assert torch.equal(run(model, hint(net, start=0.9, end=1.0)), none)
    assert not torch.equal(run(model, hint(net, start=0.0, end=0.6)), run(model, hint(net)))


def test_several_nets_and_a_union_net(model: Img2ImgModel, net: Any, folder: Path) -> None:
    one = run(model, hint(net))
    two = run(model, hint(net), hint(net, seed=8))
    assert not torch.equal(one, two)
    union = model.open_net(build_flux_controlnet(folder.parent / "union", folder, union=4))
    assert controlnets.inputs(str(folder.parent / "union")) == 4
    assert controlnets.inputs(str(folder.parent / "net")) is None
    assert len(controlnets.digest(str(folder.parent / "net"))) == 64
    depth, tile = run(model, hint(union, mode=2)), run(model, hint(union, mode=1))
    assert not torch.equal(depth, tile)
    with pytest.raises(ConfigError, match="one at a time"):
        run(model, hint(union, mode=1), hint(union, mode=2))


def test_what_only_our_loop_can_do_is_refused(model: Img2ImgModel, net: Any) -> None:
    uneven = hint(net)
    uneven.weights[0, 0, 0, 0] = 0
    with pytest.raises(ConfigError, match="by class need our own loop"):
        run(model, uneven)
    with pytest.raises(SynthaugError, match="takes no hold"):
        model(pictures(2), ASKED, steps=4, guidance=1.0, extras=Extras(hold=lambda *_: lambda *_: torch.zeros(1)))
    with pytest.raises(ConfigError, match="no words against"):
        refuse(model.snapshot.family, ["controls", "negative_prompt"])
    asked = [dataclasses.replace(one, negative="z") for one in ASKED]
    with pytest.raises(ConfigError, match="words against"):
        model(pictures(2), asked, steps=4, guidance=4.0, extras=Extras([hint(net)]))


def test_nets_of_another_family_are_refused(model: Img2ImgModel, folder: Path, tmp_path: Path) -> None:
    sd = build_tiny_sd(tmp_path / "sd")
    with pytest.raises(SecurityError, match=r"ControlNetModel.*expected FluxControlNetModel"):
        model.open_net(build_tiny_controlnet(tmp_path / "n", sd))
    net = build_flux_controlnet(tmp_path / "flux", folder)
    with pytest.raises(ConfigError, match="of two families"):
        open_img2img(sd, device="cpu", dtype="float32").open_net(net)
    config = json.loads((net / "config.json").read_text())
    (net / "config.json").write_text(json.dumps(config | {"joint_attention_dim": 24}))
    with pytest.raises(ConfigError, match="joint_attention_dim is 24, of the model 16"):
        model.open_net(net)
    kontext = open_img2img(build_kontext(tmp_path / "k"), device="cpu", dtype="float32")
    with pytest.raises(ConfigError, match=r"controls .* Kontext has no such knob.*FLUX\.1, Stable Diffusion"):
        kontext.open_net(net)
