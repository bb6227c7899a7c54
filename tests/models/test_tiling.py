"""On the torus every network commutes with rolls, and a transformer that knows the border forgets it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import pytest
import torch
from torch import nn

from synthaug.errors import ConfigError, SynthaugError
from synthaug.metrics import features
from synthaug.metrics.texture import seam_energy
from synthaug.models import opening
from synthaug.models.snapshot import inspect
from synthaug.models.tiling import Torus, rolled
from tests.models import builders
from tests.models.families import build_sdxl
from tests.models.tiny import build_tiny_sd

torch.set_num_threads(1)


def rand(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


LAYERS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "plain": (lambda: nn.Conv2d(2, 3, 3, padding=1), 1),
    "tall": (lambda: nn.Conv2d(2, 2, (5, 1), padding=(2, 0)), 1),
    "halving": (lambda: nn.Conv2d(2, 2, 3, stride=2, padding=1), 2),
    "one-sided": (lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(2, 2, 3, stride=2)), 2),
    "same": (lambda: nn.Conv2d(2, 2, 4, padding="same"), 1),
    "wide": (lambda: nn.Conv2d(2, 4, 3, padding=3, dilation=3, groups=2), 1),
    "wider than the picture": (lambda: nn.Conv2d(2, 2, 31, padding=15), 1),
    "growing": (lambda: nn.ConvTranspose2d(2, 2, 4, stride=2, padding=1), 0.5),
    "growing by three": (lambda: nn.ConvTranspose2d(2, 2, 3, stride=3), 1 / 3),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", LAYERS)
def test_layers_commute_with_rolls(name: str) -> None:
    build, stride = LAYERS[name]
    torch.manual_seed(0)
    layer, picture = build(), rand(2, 2, 12, 8)
    with torch.no_grad():
        plain = layer(picture)
        with Torus():
            wrapped, moved = layer(picture), layer(picture.roll((4, -2), (2, 3)))
        assert torch.equal(layer(picture), plain), "it leaves nothing behind"
    assert wrapped.shape == plain.shape
    assert torch.allclose(moved, wrapped.roll((round(4 / stride), round(-2 / stride)), (2, 3)), atol=1e-5)
    if name != "growing by three":  # it does not overlap, so it wraps by itself
        assert not torch.allclose(wrapped, plain, atol=1e-2)


def test_inside_nothing_changes() -> None:
    layer, picture = nn.Conv2d(2, 2, 3, padding=1), rand(1, 2, 9, 9)
    with torch.no_grad(), Torus():
        wrapped = layer(picture)
    assert torch.equal(wrapped[..., 1:-1, 1:-1], layer(picture)[..., 1:-1, 1:-1])


def test_time_words_and_values_are_padded_as_ever() -> None:
    pad = nn.functional.pad
    film, words = rand(1, 2, 3, 4, 4), rand(1, 2, 3, 4)
    layer = nn.Conv3d(2, 2, 3, padding=1)
    with torch.no_grad(), Torus():
        shifted = layer(film)
        padded = pad(film, (1, 1, 1, 1, 2, 0))
        assert torch.equal(layer(film.roll((1, 2), (3, 4))), shifted.roll((1, 2), (3, 4)))
        assert torch.equal(pad(words, (0, 0, 0, 2)), torch.cat([words, torch.zeros(1, 2, 2, 4)], 2))
        assert pad(words, (1, 1, 1, 1), value=7.0)[0, 0, 0, 0] == 7
        assert torch.equal(pad(words, (-1, -1, -1, -1)), words[..., 1:-1, 1:-1])
    assert torch.equal(padded[:, :, :2], torch.zeros(1, 2, 2, 6, 6))
    assert torch.equal(padded[:, :, 2:, 0, 1:-1], film[:, :, :, -1])
    first = layer(torch.cat([torch.zeros_like(film[:, :, :1]), film], 2))
    assert torch.allclose(first[:, :, 1, 1:-1, 1:-1], shifted[:, :, 0, 1:-1, 1:-1], atol=1e-5), "time has a beginning"


def test_what_cannot_wrap_says_so() -> None:
    with Torus(), pytest.raises(SynthaugError, match="cannot be made to wrap"):
        nn.ConvTranspose2d(2, 2, 4, stride=2)(rand(1, 2, 8, 8))


BUILD = {"sd15": build_tiny_sd, "sdxl": build_sdxl, "amused": builders.build_amused}


@pytest.fixture(scope="module")
def pipes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, build in BUILD.items():
        with torch.random.fork_rng():
            torch.manual_seed(5)
            folder = build(tmp_path_factory.mktemp(name) / "m")
        found[name] = opening.open_pipe(inspect(folder), device="cpu", dtype="float32").pipe
    return found


def text_pipe(pipe: Any) -> Any:
    import diffusers

    name = type(pipe).__name__.replace("Img2Img", "")
    return getattr(diffusers, name).from_pipe(pipe)


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
@pytest.mark.parametrize("wraps", [True, False])
def test_rolled_noise_makes_a_rolled_picture(pipes: dict[str, Any], name: str, wraps: bool) -> None:
    """Denoiser, guidance and decoder together; not so without the torus."""
    pipe = pipes[name]
    made, scale = text_pipe(pipe), pipe.vae_scale_factor
    made.set_progress_bar_config(disable=True)

    def picture(latents: torch.Tensor) -> torch.Tensor:
        told = {"num_inference_steps": 4, "guidance_scale": 4.0, "height": 8 * scale, "width": 16 * scale}
        return made(["a b"], latents=latents, output_type="pt", **told).images

    noise = rand(1, 4, 8, 16)
    with torch.inference_mode(), Torus() if wraps else nullcontext():
        whole, moved = picture(noise), picture(noise.roll((2, -6), (2, 3)))
    error = (moved - whole.roll((2 * scale, -6 * scale), (2, 3))).abs().max()
    assert whole.std() > 0.05
    assert error < 1e-4 if wraps else error > 0.05


@pytest.mark.parametrize("name", BUILD)
@pytest.mark.parametrize("wraps", [True, False])
def test_a_rolled_picture_has_rolled_latents(pipes: dict[str, Any], name: str, wraps: bool) -> None:
    pipe = pipes[name]
    vae, scale = (pipe.vae if hasattr(pipe, "vae") else pipe.vqvae), pipe.vae_scale_factor
    picture = rand(1, 3, 8 * scale, 8 * scale)
    with torch.inference_mode(), Torus() if wraps else nullcontext():
        codes = [vae.encode(p) for p in (picture, picture.roll((3 * scale, -scale), (2, 3)))]
    whole, moved = (c.latent_dist.mean if hasattr(c, "latent_dist") else c.latents for c in codes)
    error = (moved - whole.roll((3, -1), (2, 3))).abs().max()
    assert error < 1e-4 if wraps else error > 0.01


def test_the_transformer_of_amused_knows_no_places(pipes: dict[str, Any]) -> None:
    net = pipes["amused"].transformer
    tokens = torch.arange(64).view(1, 8, 8) % net.config.codebook_size
    width = net.config.encoder_hidden_size
    told = {
        "encoder_hidden_states": rand(1, 4, width), "micro_conds": torch.ones(1, 5),
        "pooled_text_emb": rand(1, net.config.cond_embed_dim),
    }  # fmt: skip
    with torch.inference_mode(), Torus():
        whole, moved = net(tokens, **told), net(tokens.roll((2, 4), (1, 2)), **told)
    assert torch.allclose(moved, whole.roll((2, 4), (2, 3)), atol=1e-4)


def test_a_tiny_autoencoder_wraps() -> None:
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    torch.manual_seed(0)
    vae: Any = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1), num_decoder_blocks=(1, 1, 1, 1),
    ).eval()  # fmt: skip
    picture = torch.rand((1, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), Torus():
        whole, moved = (vae.decode(vae.encode(p).latents).sample for p in (picture, picture.roll(16, 3)))
    assert torch.allclose(moved, whole.roll(16, 3), atol=1e-5)


class Bordered(nn.Module):
    """Says what it is shown, and adds a ramp: it knows where pictures begin and end."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.seen: list[Any] = []

    def forward(self, hidden_states: Any) -> tuple[Any, ...]:
        self.seen.append(hidden_states)
        ramp = torch.linspace(-1, 1, 6)[:, None] + torch.linspace(-1, 1, 8)
        if self.form == "tokens":
            return (hidden_states + ramp.flatten()[:, None],)
        return ([one + ramp for one in hidden_states] if self.form == "list" else hidden_states + ramp,)


@pytest.mark.parametrize("form", ["tokens", "maps", "list"])
def test_offsets_are_taken_back_and_average_what_knows_the_border(form: str) -> None:
    net, scheduler = Bordered(form), SimpleNamespace(step_index=None)
    shown: Any = {"tokens": rand(4, 48, 3), "maps": rand(4, 3, 6, 8), "list": [rand(3, 1, 6, 8)] * 4}[form]
    plain = net(shown)[0]
    said: list[Any] = []
    with rolled(net, scheduler, [11, 12], (6, 8)):
        for step in range(200):
            scheduler.step_index = step or None
            said.append(torch.stack(list(net(hidden_states=shown)[0] if form != "list" else net(shown)[0])))
    whole = torch.stack(list(shown))
    ramp = torch.stack(list(plain)) - whole
    left = torch.stack(said).mean(0) - whole
    assert left.std() < 0.15 * ramp.std()
    again = net(shown)[0]
    assert all(torch.equal(a, b) for a, b in zip(again, plain, strict=True)), "no hook is left"
    assert not torch.equal(net.seen[1][0], net.seen[2][0])
    assert torch.allclose(said[3][:2] - whole[:2], said[3][2:] - whole[2:], atol=1e-5), (
        "with guidance a batch comes twice"
    )


def test_offsets_belong_to_the_picture_and_the_step() -> None:
    net, scheduler, shown = Bordered("maps"), SimpleNamespace(step_index=3), rand(2, 1, 6, 8)
    with rolled(net, scheduler, [1, 2], (6, 8)):
        both = net(hidden_states=shown)[0]
    with rolled(net, scheduler, [2], (6, 8)):
        assert torch.equal(net(hidden_states=shown[1:])[0], both[1:])


def test_reference_tokens_are_rolled_along_or_refused() -> None:
    net, scheduler = Bordered("maps"), SimpleNamespace(step_index=1)
    net.forward = lambda hidden_states: (hidden_states,)  # type: ignore[method-assign]
    tokens = rand(1, 96, 3)
    seen: list[torch.Tensor] = []
    with rolled(net, scheduler, [5], (6, 8)):
        net.register_forward_pre_hook(lambda _m, _a, k: seen.append(k["hidden_states"]), with_kwargs=True)
        assert torch.equal(net(hidden_states=tokens)[0], tokens)
        for other in (tokens[:, :70], torch.cat([tokens, tokens], 1)):
            with pytest.raises(ConfigError, match=r"(70|192) tokens for a tile of 6x8"):
                net(hidden_states=other)
    first, second = (seen[0][0, i * 48 : i * 48 + 48] - tokens[0, i * 48 : i * 48 + 48] for i in range(2))
    assert first.abs().sum() > 0
    assert second.abs().sum() > 0


@pytest.mark.slow
def test_a_trained_autoencoder_keeps_real_tiles_seamless(data_root: Path) -> None:
    """taef2's own weights on tiles that nobody here made: the seam comes from padding, and goes with it."""
    weights, network = data_root / "models" / "taef2", features._network()  # pyright: ignore[reportPrivateUsage]
    network.load_state_dict(plain(weights / "taef2_encoder.safetensors"))
    decoder = taef2_decoder()
    decoder.load_state_dict(plain(weights / "taef2_decoder.safetensors"))
    for name, low in (("marble_1", 1.1), ("wood_1", 1.8)):
        picture: Any = cv2.imread(str(data_root / "textures" / "miniworld" / f"{name}.png"), cv2.IMREAD_COLOR_RGB)
        picture = cv2.resize(picture, (256, 256), interpolation=cv2.INTER_AREA)
        tile = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
        seams: list[float] = []
        for wraps in (True, False):
            with torch.inference_mode(), Torus() if wraps else nullcontext():
                whole, moved = (decoder(network(t)).clamp(0, 1) for t in (tile, tile.roll((64, -24), (2, 3))))
            error = (moved - whole.roll((64, -24), (2, 3))).abs().max()
            assert error < 1e-4 if wraps else error > 0.05
            seams.append(seam_energy(whole[0].permute(1, 2, 0).numpy()))
        assert seams[0] < 1.1 * seam_energy(picture)
        assert seams[1] > low * seam_energy(picture), "without the torus"


def plain(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return {name: value.float() for name, value in load_file(path).items()}


class Softened(nn.Module):
    """What taef2 does to latents before it decodes them."""

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.tanh(latents / 3) * 3


def taef2_decoder() -> nn.Module:
    block, conv = features._Block, features._conv  # pyright: ignore[reportPrivateUsage]
    layers: list[nn.Module] = [Softened(), conv(32, 64), nn.ReLU()]
    for pooled in (True, False, False):
        layers += [block(64, pooled=pooled) for _ in range(3)]
        layers += [nn.Upsample(scale_factor=2), conv(64, 64, bias=False)]
    return nn.Sequential(*layers, block(64, pooled=False), conv(64, 3))
