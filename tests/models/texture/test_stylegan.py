"""Stages meet without a jump, styles stay at their resolutions, nobody can tell where a tile is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from synthaug.errors import ConfigError, InputError
from synthaug.models.texture.looks import look_of
from synthaug.models.texture.saving import NAME, open_texture_model, pack
from synthaug.models.texture.stylegan import StyleGAN, _at, _jittered
from synthaug.models.texture.styles import Modulated, doubled

torch.set_num_threads(1)
SIDE = 32
SEEDS = [3, 2**62 + 1]


def build(classes: int = 0, **more: Any) -> StyleGAN:
    torch.manual_seed(0)
    net = StyleGAN(**{"side": SIDE, "classes": classes, "widths": [8, 8, 6, 4], "style": 8, **more})
    with torch.no_grad():
        for value in net.parameters():
            value.add_(0.2 * torch.randn_like(value))
    labels = torch.arange(4) % classes if classes else None
    colours = torch.rand(4, 3, 1, 1) - 0.5
    net.looks.learn(colours + 0.5 * torch.rand(4, 3, SIDE, SIDE), labels, torch.Generator())
    return net.eval()


def noise_of(net: StyleGAN, batch: int = 2, doublings: int = 3) -> tuple[list[Tensor], list[Tensor]]:
    styles = [net.mapping(*torch.randn(2, batch, net.style))] * (doublings + 1)
    return styles, [torch.randn(batch, *shape) for shape in net.generator.shapes(doublings, 1)]


def test_each_stage_is_as_long_as_all_before_it() -> None:
    net = StyleGAN(side=64, widths=[4])
    assert [net.stage(at)[0] for at in (0, 0.124, 0.125, 0.249, 0.25, 0.499, 0.5, 0.999)] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert net.stage(0.0) == (1, 1.0)
    assert [net.stage(start)[1] for start in (0.125, 0.25, 0.5)] == [0, 0, 0]
    shown = [net.stage(0.5 + 0.5 * i / 100)[1] for i in range(100)]
    assert shown == sorted(shown)
    assert shown[20] == pytest.approx(0.5)
    assert shown[41:] == [1.0] * 59
    assert StyleGAN(side=40, widths=[4]).stage(0.0) == (1, 1.0)


def test_a_new_resolution_begins_as_the_one_before() -> None:
    net = build()
    with torch.no_grad():
        styles, noise = noise_of(net)
        *coarse, fine = net.generator(styles, noise, 0.0)
        assert torch.equal(fine, doubled(coarse[-1]))
        assert [picture.shape[-1] for picture in (*coarse, fine)] == [4, 8, 16, 32]
        real = _at(torch.rand(2, 3, SIDE, SIDE), 0, 0.0)
        assert torch.allclose(real, doubled(F.avg_pool2d(real, 2)), atol=0.2)
        look = look_of(fine)
        judged, _ = net.discriminator(fine, look, None, 3, 0.0)
        assert torch.allclose(judged, net.discriminator(F.avg_pool2d(fine, 2), look, None, 2, 1.0)[0], atol=1e-5)
        assert not torch.allclose(judged, net.discriminator(fine, -look, None, 3, 0.0)[0], atol=1e-3)


def test_a_fine_style_leaves_what_is_coarser_alone() -> None:
    net = build()
    plain = net.pyramid(None, SEEDS, SIDE, SEEDS, 16)
    for crossover, kept in ((4, 0), (8, 1), (16, 2), (32, 3), (64, 4)):
        mixed = net.pyramid(None, SEEDS, SIDE, [8, 9], crossover)
        assert [torch.equal(a, b) for a, b in zip(plain, mixed, strict=True)] == [level < kept for level in range(4)]
    # The style of a seed is the same in both roles; colours are surface.
    tiles = net.sample(None, SEEDS, SIDE)
    assert torch.equal(tiles, net.sample(None, SEEDS, SIDE, fine=SEEDS, crossover=8))
    mixed, other = net.sample(None, SEEDS, SIDE, fine=[8, 9]), net.sample(None, [8, 9], SIDE)
    gaps = [float((mixed - tile).mean((2, 3)).abs().mean()) for tile in (tiles, other)]
    assert gaps[1] < 0.6 * gaps[0]
    with pytest.raises(InputError, match="1 fine seeds for 2 tiles"):
        net.sample(None, SEEDS, SIDE, fine=[1])


def test_rolled_noise_gives_rolled_tiles_that_are_judged_alike() -> None:
    net = build()
    with torch.no_grad():
        styles, noise = noise_of(net)
        rolled = [part.roll((part.shape[-1] // 4, -part.shape[-1] // 2), (2, 3)) for part in noise]
        one, two = net.generator(styles, noise, 1.0)[-1], net.generator(styles, rolled, 1.0)[-1]
        assert torch.allclose(one.roll((8, -16), (2, 3)), two, atol=1e-5)
        assert not torch.allclose(one, two, atol=0.1)
        look = look_of(one)
        assert torch.allclose(*(net.discriminator(tile, look, None, 3, 1.0)[0] for tile in (one, two)), atol=1e-5)


@pytest.mark.parametrize("kernel", [1, 3])
def test_modulation_is_a_convolution_with_weights_of_each_tile(kernel: int) -> None:
    torch.manual_seed(0)
    layer = Modulated(5, 7, 4, kernel)
    maps, style = torch.randn(3, 5, 8, 8), torch.randn(3, 4)
    with torch.no_grad():
        found = layer(maps, style)
        weights = layer.weight * layer.scale * layer.style(style)[:, None, :, None, None]
        weights = weights / weights.square().sum((2, 3, 4), keepdim=True).add(1e-8).sqrt()
        padded = F.pad(maps, (kernel // 2,) * 4, mode="circular")
        expected = torch.cat([F.conv2d(padded[i : i + 1], weights[i]) for i in range(3)]) + layer.bias[:, None, None]
    assert torch.allclose(found, expected, atol=1e-5)


def test_tiles_do_not_depend_on_their_batch_and_may_be_larger() -> None:
    net = build(classes=2)
    labels = torch.tensor([0, 1])
    both = net.sample(labels, SEEDS, SIDE)
    assert torch.allclose(both[1:], net.sample(labels[1:], SEEDS[1:], SIDE), atol=1e-5)
    assert not torch.allclose(both, net.sample(labels.flip(0), SEEDS, SIDE), atol=1e-3)
    assert net.sample(labels, SEEDS, 3 * SIDE // 2).shape[-1] == 3 * SIDE // 2


def test_jitter_moves_whole_tiles_and_nothing_else() -> None:
    tiles = torch.rand(2, 3, 8, 8)
    assert _jittered(tiles, 0.0, torch.Generator()) is tiles
    grey = tiles.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    moved = _jittered(grey, 0.3, torch.Generator().manual_seed(1))
    assert torch.allclose(moved[:, 0], moved[:, 2], atol=1e-6)
    # Brightness and contrast are a straight line of each tile's own.
    for own, was in zip(moved[:, 0].flatten(1), grey[:, 0].flatten(1), strict=True):
        line = torch.stack([was, torch.ones_like(was)], 1)
        fit = torch.linalg.lstsq(line, own[:, None]).solution
        assert torch.allclose(line @ fit, own[:, None], atol=1e-5)


def test_its_structure_moves_towards_that_of_the_tiles() -> None:
    torch.manual_seed(0)
    net = StyleGAN(side=8, widths=[16], style=8)
    stripes = torch.tensor([-0.5, -0.5, 0.5, 0.5]).repeat(2).expand(4, 3, 8, 8)
    optimisers = net.optimisers(1e-2)

    def upright() -> float:
        """Of all steps between neighbours, the share of those to the right."""
        tiles = net.sample(None, range(16), 8)
        down, right = (float((tiles - tiles.roll(1, dim)).abs().mean()) for dim in (2, 3))
        return right / (down + right)

    for at in range(50):
        rng = torch.Generator().manual_seed(at)
        roll = int(torch.randint(4, (), generator=rng))
        told = net.fit(stripes.roll(roll, 3), None, optimisers, at / 50, rng)
        assert set(told) == {"generator", "discriminator", "real", "fake"}
        assert all(value.isfinite() for value in told.values())
    assert upright() > 0.7


def test_a_file_keeps_the_generator_alone(tmp_path: Path) -> None:
    net = build()
    (tmp_path / NAME).write_bytes(pack(net))
    again = open_texture_model(tmp_path).model
    assert torch.equal(again.sample(None, SEEDS, SIDE), net.sample(None, SEEDS, SIDE))
    assert not any(name.startswith("discriminator") for name in (*net.saved(), *net.averaged))
    # The other network has nothing to say in sampling.
    assert {name.split(".")[0] for name in net.saved()} == {"mapping", "generator", "looks"}


def test_sizes_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="4 to 7 times a power of two"):
        StyleGAN(side=72)
    with pytest.raises(InputError, match="multiple of 8"):
        build().sample(None, SEEDS, 36)
