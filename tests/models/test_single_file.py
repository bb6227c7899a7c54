"""One safetensors file as model, with the configurations of a base folder; nothing from the network."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders import single_file_model
from safetensors.torch import load_file, save_file

from synthaug.errors import ConfigError, InputError, SecurityError
from synthaug.models.pipelines import Request, open_img2img
from synthaug.models.snapshot import inspect, weights_digest
from tests.models.builders import build_unclip, build_z
from tests.models.families import build_flux, build_sd35, build_sdxl
from tests.models.ldm import save_single_file, save_xl_file, save_z_file
from tests.models.makers import narrowed, save_flux_file, save_sd3_file

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def file(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_single_file(tiny_sd, tmp_path_factory.mktemp("file") / "sd.safetensors")


@pytest.fixture(scope="module")
def bare(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of configurations and tokenizer alone."""
    path = Path(shutil.copytree(tiny_sd, tmp_path_factory.mktemp("bare") / "sd"))
    for weights in path.rglob("*.safetensors"):
        weights.unlink()
    return path


def paint(model: Any) -> torch.Tensor:
    images = torch.rand((2, 3, 52, 70), generator=torch.Generator().manual_seed(0))
    asked = [Request("a b", "", 0.5, 1), Request("c", "", 0.5, 2)]
    return model(images, asked, steps=4, guidance=4.0).images


def test_it_is_the_folder_to_the_bit_and_no_socket_is_opened(
    file: Path, bare: Path, tiny_sd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(socket.socket, "connect", refused)
    model = open_img2img(file, device="cpu", dtype="float32", base=bare)
    assert model.loop is not None
    assert torch.equal(paint(model), paint(open_img2img(tiny_sd, device="cpu", dtype="float32")))


def test_the_weights_are_those_of_the_file(file: Path, tiny_sd: Path, tmp_path: Path) -> None:
    """The base's own weights lie there as well, and stay unread."""
    weights = load_file(file)
    key = "model.diffusion_model.out.2.bias"
    save_file({**weights, key: weights[key] + 1}, tmp_path / "other.safetensors")
    one = open_img2img(file, device="cpu", dtype="float32", base=tiny_sd)
    other = open_img2img(tmp_path / "other.safetensors", device="cpu", dtype="float32", base=tiny_sd)
    assert not torch.equal(paint(one), paint(other))


def test_the_digest_sees_file_and_base(file: Path, bare: Path, tiny_sd: Path, tmp_path: Path) -> None:
    first = weights_digest(file, bare)
    assert first == weights_digest(shutil.copy(file, tmp_path / "renamed.safetensors"), bare)
    assert first not in (weights_digest(file, tiny_sd), weights_digest(tiny_sd))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    (tmp_path / "flipped.safetensors").write_bytes(data)
    assert weights_digest(tmp_path / "flipped.safetensors", bare) != first


def test_without_a_base_the_way_out_is_named(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"set base=DIR to a\s+diffusers folder of the same family"):
        inspect(file)


@pytest.mark.parametrize("name", ["sd.ckpt", "sd.bin", "sd.pt", "sd"])
def test_another_kind_of_file(file: Path, bare: Path, tmp_path: Path, name: str) -> None:
    path = Path(shutil.copy(file, tmp_path / name))
    with pytest.raises(SecurityError, match=r"expected a folder or a \.safetensors file"):
        open_img2img(path, device="cpu", dtype="float32", base=bare)


def test_a_link(file: Path, bare: Path, tmp_path: Path) -> None:
    (tmp_path / "l.safetensors").symlink_to(file)
    with pytest.raises(SecurityError, match="no link"):
        inspect(tmp_path / "l.safetensors", bare)


def test_a_pickle_or_half_a_file_under_its_name(file: Path, bare: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"\x80\x04cos\nsystem\n.")
    with pytest.raises(SecurityError, match="not safetensors"):
        inspect(path, bare)
    path.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="truncated"):
        inspect(path, bare)


def test_a_family_that_is_not_read_from_files(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no single files of Stable unCLIP; of FLUX\.1.*Z-Image it does"):
        inspect(file, build_unclip(tmp_path / "u"))


def test_a_base_that_a_folder_does_not_need(tiny_sd: Path, bare: Path) -> None:
    with pytest.raises(ConfigError, match="lacks nothing"):
        inspect(tiny_sd, bare)


def test_a_base_of_another_family(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="StableDiffusionXLPipeline does not load"):
        open_img2img(file, device="cpu", dtype="float32", base=build_sdxl(tmp_path / "xl"))


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "first_stage_model.", "cond_stage_model."])
def test_a_file_that_lacks_a_network(file: Path, bare: Path, tmp_path: Path, prefix: str) -> None:
    save_file({k: v for k, v in load_file(file).items() if not k.startswith(prefix)}, tmp_path / "m.safetensors")
    with pytest.raises(ConfigError, match="does not load"):
        open_img2img(tmp_path / "m.safetensors", device="cpu", dtype="float32", base=bare)


def test_a_text_encoder_may_come_from_the_base(file: Path, tiny_sd: Path, tmp_path: Path) -> None:
    kept = {k: v for k, v in load_file(file).items() if not k.startswith("cond_stage_model.")}
    save_file(kept, tmp_path / "m.safetensors")
    model = open_img2img(tmp_path / "m.safetensors", device="cpu", dtype="float32", base=tiny_sd)
    assert torch.equal(paint(model), paint(open_img2img(tiny_sd, device="cpu", dtype="float32")))


def test_an_autoencoder_may_come_from_the_base(file: Path, tiny_sd: Path, tmp_path: Path) -> None:
    kept = {k: v for k, v in load_file(file).items() if not k.startswith("first_stage_model.")}
    save_file(kept, tmp_path / "m.safetensors")
    model = open_img2img(tmp_path / "m.safetensors", device="cpu", dtype="float32", base=tiny_sd)
    assert torch.equal(paint(model), paint(open_img2img(tiny_sd, device="cpu", dtype="float32")))


def test_xl_has_two_text_encoders_in_its_file(tmp_path: Path) -> None:
    torch.manual_seed(1)
    folder = build_sdxl(tmp_path / "xl", width=24)
    path = save_xl_file(folder, tmp_path / "xl.safetensors")
    wanted = paint(open_img2img(folder, device="cpu", dtype="float32"))
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    assert torch.equal(paint(open_img2img(path, device="cpu", dtype="float32", base=folder)), wanted)


def test_a_transformer_alone_takes_words_and_autoencoder_from_the_base(tmp_path: Path) -> None:
    torch.manual_seed(1)
    folder = build_z(tmp_path / "z")
    path = save_z_file(folder, tmp_path / "z.safetensors")
    wanted = paint(open_img2img(folder, device="cpu", dtype="float32"))
    (folder / "transformer/diffusion_pytorch_model.safetensors").unlink()
    assert torch.equal(paint(open_img2img(path, device="cpu", dtype="float32", base=folder)), wanted)


@pytest.mark.parametrize(
    ("pictures", "words"),
    [(False, False), (True, False), (True, True)],
    ids=["transformer", "with autoencoder", "whole"],
)
def test_sd_35_in_its_makers_names(tmp_path: Path, pictures: bool, words: bool) -> None:
    """Whatever the file has is not read from the base: its weights are gone there. Weights are the same to the bit; how
    a sum of products is rounded depends on where in memory they lie."""
    torch.manual_seed(1)
    folder = build_sd35(tmp_path / "sd3")
    path = save_sd3_file(folder, tmp_path / "sd3.safetensors", pictures=pictures, words=words)
    model = open_img2img(folder, device="cpu", dtype="float32")
    gone = ["transformer", *(["vae"] if pictures else [])]
    gone += ["text_encoder", "text_encoder_2", "text_encoder_3"] if words else []
    for part in gone:
        for weights in (folder / part).glob("*.safetensors"):
            weights.unlink()
    found = open_img2img(path, device="cpu", dtype="float32", base=folder)
    for name, part in model._pipe.components.items():
        if isinstance(part, torch.nn.Module):
            own, other = part.state_dict(), found._pipe.components[name].state_dict()
            assert own.keys() == other.keys()
            assert all(torch.equal(own[key], other[key]) for key in own)
    assert (paint(found) - paint(model)).abs().max() < 1e-5


@pytest.mark.parametrize("guided", [False, True], ids=["schnell", "dev"])
def test_flux_in_its_makers_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guided: bool) -> None:
    """Through diffusers' conversion, whose built-in width of 3072 is replaced: one block of that is over 1 GB."""
    torch.manual_seed(1)
    folder = build_flux(tmp_path / "flux", num_layers=2, num_single_layers=2, guidance_embeds=guided)
    path = save_flux_file(folder, tmp_path / "flux.safetensors")
    wanted = paint(open_img2img(folder, device="cpu", dtype="float32"))
    (folder / "transformer/diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ConfigError, match="FluxPipeline does not load"):  # a file of another width
        open_img2img(path, device="cpu", dtype="float32", base=folder)
    row = single_file_model.SINGLE_FILE_LOADABLE_CLASSES["FluxTransformer2DModel"]
    monkeypatch.setitem(row, "checkpoint_mapping_fn", narrowed(row["checkpoint_mapping_fn"], 32))
    assert torch.equal(paint(open_img2img(path, device="cpu", dtype="float32", base=folder)), wanted)


def test_a_lora_is_no_model(bare: Path, tmp_path: Path) -> None:
    save_file({"unet.down.lora_A.weight": torch.zeros(4, 8)}, tmp_path / "m.safetensors")
    with pytest.raises(ConfigError, match="does not load"):
        open_img2img(tmp_path / "m.safetensors", device="cpu", dtype="float32", base=bare)
