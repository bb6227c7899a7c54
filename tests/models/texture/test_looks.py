"""A look says all of colours and contrast, on the torus, and is drawn from those that were seen."""

from __future__ import annotations

import pytest
import torch

from synthaug.models.texture.looks import Looks, alike, levelled, look_of, toned

torch.set_num_threads(1)
SIDE = 16


def test_a_look_says_all_of_colours_and_contrast() -> None:
    base = torch.rand(3, 3, SIDE, SIDE) * 2 - 1
    images = torch.stack([base[0] * 0.7 + 0.2, base[1].mean(0).expand(3, -1, -1) * 0.9, torch.full_like(base[2], 0.4)])
    looks = look_of(images)
    structure = levelled(images, looks)
    assert torch.allclose(toned(structure, looks), images, atol=1e-5)
    pixels = structure[0].flatten(1)
    assert torch.allclose(pixels @ pixels.T / pixels.shape[1], torch.eye(3), atol=0.02)
    assert float(structure[:, 1:][1].abs().max()) < 1e-3  # grey has lightness alone
    # Other maps take on means and covariances, grey and flat ones too.
    maps = torch.randn(3, 3, SIDE, SIDE) * 3 + 1
    made = alike(maps, looks)
    assert torch.allclose(alike(maps.roll((3, -5), (2, 3)), looks), made.roll((3, -5), (2, 3)), atol=1e-4)
    for own, given in zip(made.flatten(2), images.flatten(2), strict=True):
        assert torch.allclose(own.mean(1), given.mean(1), atol=1e-3)
        assert torch.allclose(torch.cov(own), torch.cov(given), atol=5e-3)
    assert float((made[1, 0] - made[1, 2]).abs().max()) < 1e-3
    assert float(made[2].std()) < 1e-3


def test_looks_are_those_of_the_torus_and_of_their_class() -> None:
    images = torch.rand(4, 3, SIDE, SIDE) * 2 - 1
    looks = look_of(images)
    assert torch.allclose(looks, look_of(images.roll((5, -3), (2, 3))), atol=1e-5)
    assert not torch.allclose(looks, look_of(images.transpose(2, 3)), atol=1e-3)
    known = Looks(8, classes=3)
    dark = torch.cat([images[:2] / 2 - 0.5, images[2:] / 2 + 0.5])
    known.learn(dark, torch.tensor([0, 0, 2, 2]), torch.Generator())
    drawn = known.draw(range(20), torch.tensor([0, 2] * 10))
    assert bool((drawn[::2, :3] < 0).all())
    assert bool((drawn[1::2, :3] > 0).all())
    assert torch.equal(drawn[3:4], known.draw([3], torch.tensor([2])))
    # A class that no tile had: any look will do.
    assert bool(known.draw([1], torch.tensor([1])).abs().sum() > 0.1)
    assert {"seen", "labels", "count"} <= set(known.state_dict())


def test_noise_is_brought_to_the_bands_and_values_of_a_tile() -> None:
    torch.manual_seed(0)
    at = torch.arange(64)[:, None].expand(-1, 64) / 64
    spikes = (torch.cos(2 * torch.pi * 8 * at) > 0.8).float() + 0.05 * torch.randn(64, 64)
    slant = torch.cos(2 * torch.pi * 4 * (at + at.T)) + 0.05 * torch.randn(64, 64)
    images = torch.stack([one[None] * torch.tensor([0.5, 0.4, 0.3])[:, None, None] - 0.3 for one in (spikes, slant)])
    wanted = look_of(images)
    noise = torch.randn(2, 3, 64, 64)
    without, found = look_of(alike(noise, wanted, ranks=False)), look_of(alike(noise, wanted))
    before = (look_of(noise) - wanted)[:, 9:].abs().mean(1)
    bands, values = slice(9, -8), slice(-8, None)
    assert bool(((without - wanted)[:, bands].abs().mean(1) < 0.4 * before).all())
    assert bool(((found - wanted)[:, bands].abs().mean(1) < 0.75 * before).all())
    assert float((found - wanted)[:, values].abs().mean()) < 0.7 * float((without - wanted)[:, values].abs().mean())
    # Structure comes out along the lines of the tile: what changes downwards alone, and what runs across.
    down, across = (
        (found := alike(noise, wanted)).diff(dim=2).abs().mean((1, 2, 3)),
        found.diff(dim=3).abs().mean((1, 2, 3)),
    )
    assert float(down[0]) > 2 * float(across[0])
    assert 0.6 < float(down[1] / across[1]) < 1.6


def patterned(kind: str) -> torch.Tensor:
    """[4, 3, 32, 32] tiles, coloured but for the grey ones."""
    at = torch.arange(32)[:, None].expand(32, 32)
    waves = torch.stack([torch.cos(2 * torch.pi * (k * at + (3 - k) * at.T) / 32) for k in range(1, 5)])[:, None]
    if kind == "grey":
        return (0.4 * waves + 0.1).expand(-1, 3, -1, -1)
    if kind == "flat":
        return torch.tensor([0.3, -0.2, 0.1])[None, :, None, None].expand(4, -1, 32, 32)
    marks = (waves > 0.8).float() if kind == "marks" else waves
    other = 0.2 * torch.roll(waves, 5, 3).square()
    return torch.cat([0.5 * marks - 0.2, 0.3 * marks + other, other - 0.4 * marks], 1)


@pytest.mark.parametrize("kind", ["waves", "marks", "grey", "flat"])
@pytest.mark.parametrize("ranks", [False, True])
def test_a_tile_s_own_look_and_structure_make_the_tile(kind: str, ranks: bool) -> None:
    images = patterned(kind)
    look = look_of(images)
    made = alike(levelled(images, look), look, ranks=ranks)
    assert float((made - images).square().mean().sqrt()) < 2 / 127.5
    # The scale of the structure does not matter, nor where the tile begins or which others are made with it.
    structure = 3 * levelled(images, look) + 0.2
    assert float((alike(structure, look, ranks=ranks) - made).square().mean().sqrt()) < 2 / 127.5
    structure, other = structure + 0.05 * torch.randn_like(structure), look.flip(0)
    found = alike(structure, other, ranks=ranks)
    moved = alike(structure.roll((3, 5), (2, 3)), other, ranks=ranks).roll((-3, -5), (2, 3))
    alone = torch.cat([alike(structure[i : i + 1], other[i : i + 1], ranks=ranks) for i in range(4)])
    assert torch.allclose(moved, found, atol=5e-3)
    assert torch.allclose(alone, found, atol=5e-3)


@pytest.mark.parametrize("shape", [(9, 9), (8, 12), (10, 7), (64, 64)])
def test_bands_share_all_of_the_contrast(shape: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *shape) * 2 - 1
    bands = (look_of(images)[:, 9:-8].exp() - 0.01).square().sum(1)
    light = levelled(images, look_of(images))[:, 0]
    assert torch.allclose(bands, light.var((1, 2), correction=0), atol=1e-3)


def test_looks_of_inference_serve_training_and_what_is_not_finite_stays_so() -> None:
    with torch.inference_mode():
        look_of(torch.rand(1, 3, 22, 22))
    maps = torch.randn(1, 3, 22, 22, requires_grad=True)
    alike(maps, look_of(torch.rand(1, 3, 22, 22)), ranks=False).sum().backward()
    broken = torch.full((1, 3, SIDE, SIDE), torch.nan)
    assert not bool(look_of(broken).isfinite().all())
    assert not bool(alike(broken, look_of(torch.rand(1, 3, SIDE, SIDE))).isfinite().all())


def test_a_blurred_look_of_grey_is_grey() -> None:
    images = patterned("grey")
    known = Looks(8)
    look = known.learn(images, None, torch.Generator().manual_seed(0))
    made = alike(torch.randn(4, 3, 32, 32), look)
    assert float((made - made.mean((2, 3), keepdim=True)).diff(dim=1).abs().max()) < 4e-3


def test_looks_are_exact_where_a_training_computes_in_half() -> None:
    images, maps = torch.rand(2, 3, SIDE, SIDE) * 2 - 1, torch.randn(2, 3, SIDE, SIDE).bfloat16()
    look = look_of(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(look_of(images), look)
        assert torch.equal(levelled(images, look), levelled(images, look))
        found = alike(maps, look)
    assert found.dtype == torch.float32
    assert torch.equal(found, alike(maps.float(), look))


def test_gradients_pass_to_the_maps() -> None:
    wanted = look_of(torch.rand(2, 3, SIDE, SIDE) * 2 - 1)
    maps = torch.randn(2, 3, SIDE, SIDE, requires_grad=True)
    alike(maps, wanted, ranks=False)[:, :, 0, 0].sum().backward()
    assert maps.grad is not None
    assert bool(maps.grad.isfinite().all())
    assert float(maps.grad.abs().sum()) > 0


def test_the_last_looks_are_kept() -> None:
    known = Looks(8, kept=4)
    for level in (-0.8, -0.4, 0.0, 0.4, 0.8):
        known.learn(torch.full((2, 3, SIDE, SIDE), level), None, torch.Generator())
    assert sorted({round(float(value), 1) for value in known.seen[:, 0]}) == [0.4, 0.8]
