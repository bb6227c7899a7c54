"""The laws that every family of texture models keeps, and that rolled noise gives rolled tiles where all wraps."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import nn

from synthaug.errors import ConfigError, InputError
from synthaug.models.texture import family
from synthaug.models.texture.aae import AAE
from synthaug.models.texture.bands import Bands
from synthaug.models.texture.critic import Critic, hinge
from synthaug.models.texture.ddpm import DDPM
from synthaug.models.texture.diffusing import Diffusion
from synthaug.models.texture.latent_diffusion import LatentDiffusion
from synthaug.models.texture.statistics import Statistics
from synthaug.models.texture.table import FAMILIES, family_of
from synthaug.models.texture.vae import VAE, divergence
from tests.models.texture.tiny import SIDE, TINY, build, steps

torch.set_num_threads(1)
SEEDS = [5, 2**62 + 11, 7]


@pytest.mark.parametrize("name", TINY)
def test_a_tile_is_a_function_of_its_seed(name: str) -> None:
    model = build(name)
    tiles = model.sample(None, SEEDS, SIDE)
    assert tiles.shape == (3, 3, SIDE, SIDE)
    assert float(tiles.abs().max()) <= 1
    assert not tiles.requires_grad
    alone = torch.cat([model.sample(None, [seed], SIDE) for seed in SEEDS])
    assert torch.allclose(tiles, alone, atol=1e-4)
    assert torch.allclose(tiles.flip(0), model.sample(None, SEEDS[::-1], SIDE), atol=1e-4)
    assert float((tiles[0] - tiles[1]).abs().max()) > 1e-3
    before = torch.get_rng_state()
    model.sample(None, SEEDS, SIDE)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", TINY)
def test_classes_are_asked_for_by_number(name: str) -> None:
    model = build(name, classes=3)
    one, two = (model.sample(torch.tensor([label] * 2), SEEDS[:2], SIDE) for label in (0, 2))
    assert float((one - two).abs().max()) > 1e-4
    # None draws them by the seeds.
    tiles, again = model.sample(None, SEEDS, SIDE), model.sample(None, SEEDS[:1], SIDE)
    assert torch.allclose(tiles[:1], again, atol=1e-4)
    for labels in (torch.tensor([0, 1]), torch.tensor([0, 3, 1]), torch.tensor([-1, 0, 0])):
        with pytest.raises(InputError, match="expected 3 of 0 to 2"):
            model.sample(labels, SEEDS, SIDE)
    with pytest.raises(InputError, match="without classes"):
        build(name).sample(torch.zeros(3, dtype=torch.long), SEEDS, SIDE)


@pytest.mark.parametrize("name", TINY)
def test_larger_tiles_from_the_same_model(name: str) -> None:
    model = build(name)
    if model.any_side:
        assert model.sample(None, SEEDS[:1], 2 * SIDE).shape == (1, 3, 2 * SIDE, 2 * SIDE)
    else:
        with pytest.raises(InputError, match=f"makes tiles of {SIDE} pixels"):
            model.sample(None, SEEDS[:1], 2 * SIDE)
    with pytest.raises(InputError, match=rf"side=10: {name} makes tiles with a multiple of"):
        model.sample(None, SEEDS, 10)


@pytest.mark.parametrize("name", TINY)
def test_steps_move_every_saved_parameter_and_say_the_same_losses(name: str) -> None:
    model = build(name)
    before = {n: value.detach().clone() for n, value in model.named_parameters()}
    told = steps(model, 24)
    assert all(one.keys() == told[0].keys() for one in told)
    assert all(
        value.ndim == 0 and not value.requires_grad and value.isfinite() for one in told for value in one.values()
    )
    still = {n for n, value in model.named_parameters() if n in model.saved() and torch.equal(value, before[n])}
    assert not {n for n in still if "embed" not in n}


@pytest.mark.parametrize("name", TINY)
def test_a_step_is_a_function_of_its_arguments(name: str) -> None:
    runs = []
    for _ in range(2):
        model = build(name, classes=2)
        torch.manual_seed(len(runs))
        steps(model, 4)
        runs.append({n: v.clone() for n, v in model.state_dict().items()})
    assert all(torch.equal(value, runs[1][n]) for n, value in runs[0].items())


@pytest.mark.parametrize("name", TINY)
def test_the_configuration_is_json_and_builds_the_same_network(name: str) -> None:
    model = build(name)
    config = json.loads(json.dumps(model.config))
    assert set(config) == set(inspect.signature(type(model)).parameters)
    again = type(model)(**config)
    assert {n: v.shape for n, v in again.state_dict().items()} == {n: v.shape for n, v in model.state_dict().items()}
    assert not set(model.saved()) & {n for n in model.state_dict() if n.split(".")[0] in model.training_only}
    assert model.averaged <= set(dict(model.named_parameters()))


@pytest.mark.parametrize("name", TINY)
def test_sizes_that_cannot_be(name: str) -> None:
    for wrong in ({"side": 12}, {"side": 0}, {"classes": -1}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            family_of(name)(**{"side": SIDE, "classes": 0, **TINY[name], **wrong})


def commutes(
    network: Callable[[list[torch.Tensor]], torch.Tensor], maps: list[torch.Tensor], by: tuple[int, int]
) -> None:
    """What goes in, rolled, gives what comes out, rolled; `by` counts places of the finest of all these maps."""

    def rolled(some: torch.Tensor, frame: int) -> torch.Tensor:
        return torch.roll(some, tuple(places * some.shape[2] // frame for places in by), (2, 3))

    with torch.no_grad():
        plain = network(maps)
        frame = max(one.shape[2] for one in (plain, *maps))
        moved = network([rolled(one, frame) for one in maps])
    assert torch.allclose(rolled(plain, frame), moved, atol=2e-5)
    assert not torch.allclose(plain, moved, atol=1e-3)


def test_rolled_noise_rolls_the_tile() -> None:
    vae = cast(VAE, build("vae", side=32))
    style, *noises = (torch.randn(shape) for shape in vae._shapes(1, 32))
    told = torch.randn_like(style)
    commutes(lambda maps: vae._decode(style, told, maps, None)[0], noises, (8, -16))
    aae = cast(AAE, build("aae", side=32))
    code, finer = torch.randn(1, 4), [torch.randn(1, *shape) for shape in aae._shapes(32)]
    commutes(lambda maps: aae.decoder(code, -code, maps), finer, (8, -16))
    ddpm = cast(DDPM, build("ddpm", side=32))
    noise, told = torch.randn(1, 12, 16, 16), torch.randn(1, ddpm.diffusion.told)
    commutes(lambda maps: ddpm.bands.back(ddpm.diffusion.sample(maps[0], told, 3)), [noise], (8, -16))
    latent = cast(LatentDiffusion, build("latent_diffusion", side=32))
    noise, told = torch.randn(1, 2, 8, 8), torch.randn(1, latent.diffusion.told)
    commutes(lambda maps: latent.unfold(latent.autoencoder.decode(maps[0]).sample), [noise], (4, -8))
    commutes(lambda maps: latent.diffusion.sample(maps[0], told, 3), [noise], (2, -4))
    pixels, critic = torch.randn(1, 3, 32, 32), Critic(4).eval()
    commutes(lambda maps: latent.autoencoder.encode(latent.fold(maps[0])).latents, [pixels], (4, -8))
    commutes(lambda maps: critic(maps[0]), [pixels], (8, -16))


def test_what_cannot_wrap_is_refused() -> None:
    with pytest.raises(ConfigError, match="transposed"):
        family.wrapping(nn.Sequential(nn.ConvTranspose2d(1, 1, 2)))
    with pytest.raises(ConfigError, match="pads by hand"):
        family.wrapping(nn.Sequential(nn.Conv2d(1, 1, 3)))
    folding = family.wrapping(nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.Conv2d(4, 4, 1)))
    assert folding(torch.zeros(1, 3, 4, 4)).shape == (1, 4, 2, 2)


def test_the_divergence_is_that_of_gaussians() -> None:
    rng = torch.Generator().manual_seed(0)
    mean, prior = (torch.randn(2, 5, generator=rng) for _ in range(2))
    spread, width = (torch.rand(2, 5, generator=rng) + 0.2 for _ in range(2))
    normal = torch.distributions.Normal
    wanted = torch.distributions.kl_divergence(normal(mean, spread), normal(prior, width)).sum(1)
    assert torch.allclose(divergence(mean, spread, prior, width), wanted, atol=1e-5)


def test_a_critic_of_wrapping_patches_and_its_hinge() -> None:
    torch.manual_seed(0)
    assert Critic(4, classes=3)(torch.randn(2, 3, 32, 32), torch.tensor([0, 2])).shape == (2, 1, 4, 4)
    assert float(hinge(torch.tensor([2.0]), torch.tensor([-3.0]))) == 0
    assert float(hinge(torch.tensor([0.5]), torch.tensor([1.0]))) == 2.5


def test_diffusion_starts_in_pure_noise_and_finds_a_known_velocity() -> None:
    torch.manual_seed(0)
    diffusion = Diffusion(3, [8, 16], 1)
    last, told = torch.tensor([999]), torch.zeros(4, 32)
    clean, noise = torch.ones(1, 3, 8, 8), torch.randn(1, 3, 8, 8)
    assert torch.allclose(diffusion.schedule.add_noise(clean, noise, last), noise, atol=1e-6)

    class Knows(nn.Module):
        """Every tile is grey 0.3: the velocity towards it in closed form."""

        def forward(self, noisy: torch.Tensor, times: torch.Tensor, class_labels: Any = None) -> Any:
            alpha = diffusion.schedule.alphas_cumprod[times].sqrt().reshape(-1, 1, 1, 1)
            sigma = (1 - alpha**2).sqrt()
            velocity = (alpha * noisy - 0.3) / sigma.clamp(min=1e-4)
            return type("Out", (), {"sample": velocity})()

    diffusion.network = Knows()
    for value in diffusion.look.parameters():
        nn.init.zeros_(value)
    found = diffusion.sample(noise, told[:1], 20)
    assert float((found - 0.3).abs().max()) < 0.02
    # What is known better than the network knows it is kept; what is right already stays.
    assert torch.allclose(diffusion.sample(noise, told[:1], 20, lambda maps: maps), found, atol=1e-4)
    halves = diffusion.sample(noise, told[:1], 20, lambda maps: torch.full_like(maps, 0.5))
    assert float((halves - 0.5).abs().max()) < 0.02
    assert float(diffusion.loss(torch.full((4, 3, 8, 8), 0.3), told, torch.Generator().manual_seed(0)).detach()) < 1e-3


def test_noise_is_the_seed_s_own() -> None:
    both = family.normals([3, 9], (2, 4))
    assert torch.equal(both[1:], family.normals([9], (2, 4)))
    flat = family.uniforms([3, 9], (500,))
    assert torch.equal(flat[:1], family.uniforms([3], (500,)))
    assert 0 <= float(flat.min()) < 0.05 < 0.95 < float(flat.max()) < 1


def test_a_step_clips_its_gradient() -> None:
    value = nn.Parameter(torch.zeros(3))
    optimiser = torch.optim.SGD([value], lr=1.0)
    family.descend((value * 100).sum(), optimiser)
    assert float(value.detach().norm()) == pytest.approx(1, rel=1e-4)


def test_unknown_families_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'ddpm'"):
        family_of("ddmp")
    assert set(TINY) <= set(FAMILIES)


def test_statistics_know_a_texture_wherever_it_stands() -> None:
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(2, 3, 32, 32, generator=rng)
    stripes = torch.sign(torch.sin(torch.arange(32) * torch.pi / 4 + 0.1)).expand(1, 3, 32, 32) * 0.5
    ours = Statistics()
    assert float(ours.distance(noise, torch.roll(noise, (8, -16), (2, 3))).max()) < 1e-4
    assert float(ours.distance(stripes, stripes.transpose(2, 3))) > 0.3
    # Two fields of the same noise are nearer to each other than to stripes, to darker noise, to coarser noise.
    same = float(ours.distance(noise[:1], noise[1:]))
    coarse = nn.functional.interpolate(noise[1:, :, ::2, ::2], scale_factor=2.0)
    for other in (stripes, noise[1:] - 0.5, noise[1:] * 0.5, coarse):
        assert float(ours.distance(other, noise[:1])) > 1.5 * same
    assert "bank" not in ours.state_dict()
    assert torch.equal(ours.bank, Statistics().bank)


def test_bands_are_an_orthonormal_basis_in_units_of_their_spread() -> None:
    rng = torch.Generator().manual_seed(0)
    bands = Bands(4)
    images = torch.randn(6, 3, 16, 16, generator=rng).cumsum(3) / 8
    assert torch.allclose(bands(images).square().sum(), images.square().sum(), rtol=1e-4)
    for _ in range(400):
        bands.learn(images)
    maps = bands(images)
    assert maps.shape == (6, 48, 4, 4)
    assert torch.allclose(maps.mean((0, 2, 3)), torch.zeros(48), atol=0.02)
    assert torch.allclose(maps.std((0, 2, 3)), torch.ones(48), atol=0.05)
    assert torch.allclose(bands.back(maps), images, atol=1e-4)
