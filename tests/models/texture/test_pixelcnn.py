"""Raster order is kept, the wrap is seen, and sampling from caches is the plain computation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from synthaug.errors import ConfigError
from synthaug.models.texture.family import periodic, uniforms
from synthaug.models.texture.pixelcnn import PixelCNN
from synthaug.models.texture.saving import NAME, open_texture_model, pack

torch.set_num_threads(1)
SIDE = 16
SEEDS = [3, 2**62 + 1]


def build(classes: int = 0, side: int = SIDE, **more: int) -> PixelCNN:
    torch.manual_seed(0)
    net = PixelCNN(side=side, classes=classes, **{"channels": 6, "layers": 3, "levels": 8, "reach": 3, **more})
    with torch.no_grad():
        for value in net.parameters():
            value.add_(0.2 * torch.randn_like(value))
    return net.eval()


def step(
    net: PixelCNN, images: Tensor, labels: Tensor | None, optimisers: list[torch.optim.Optimizer], at: int
) -> float:
    return float(net.fit(images, labels, optimisers, 0.0, torch.Generator().manual_seed(at))["bits"])


def test_features_see_what_came_before_and_nothing_else() -> None:
    net, look = build(), torch.zeros(1, 6)
    known = torch.randn(1, 4, SIDE, SIDE, requires_grad=True)
    features = net.features(known, look)
    for y, x in ((0, 0), (0, 9), (5, 0), (7, 7), (9, 15), (14, 3), (15, 15)):
        (slope,) = torch.autograd.grad(features[0, :, y, x].square().sum(), known, retain_graph=True, allow_unused=True)
        seen = slope[0].abs().sum(0).flatten() > 0
        assert not bool(seen[y * SIDE + x :].any())
        assert bool(seen.any()) == bool(y or x)


@pytest.mark.parametrize(
    ("here", "there"),
    [
        pytest.param((15, 8), (0, 8), id="last-row-first-row"),
        pytest.param((13, 2), (0, 1), id="three-rows-away"),
        pytest.param((6, 15), (6, 0), id="end-of-row-its-beginning"),
        pytest.param((6, 0), (5, 15), id="beginning-of-row-the-end-above"),
        pytest.param((15, 15), (0, 0), id="corner"),
    ],
)
def test_a_pixel_sees_its_neighbours_across_the_wrap(here: tuple[int, int], there: tuple[int, int]) -> None:
    net = build()
    net.layers = net.layers[:1]  # little comes by way of others
    known = torch.randn(1, 4, SIDE, SIDE, requires_grad=True)
    features = net.features(known, torch.zeros(1, 6))
    (slope,) = torch.autograd.grad(features[0, :, here[0], here[1]].square().sum(), known)
    assert float(slope[0, :, there[0], there[1]].abs().sum()) > 0
    assert float(slope[0, :, 8, 12].abs().sum()) == 0


def test_green_is_given_red_and_blue_both() -> None:
    net = build()
    values = torch.randint(8, (1, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = net(values, torch.zeros(1, 6))[0, 4, 5]
        for channel in range(3):
            other = values.clone()
            other[0, channel, 4, 5] = (other[0, channel, 4, 5] + 3) % 8
            moved = (net(other, torch.zeros(1, 6))[0, 4, 5] != before).any(-1)
            assert moved.tolist() == [later > channel for later in range(3)]


@pytest.mark.parametrize("side", [SIDE, 24])
def test_sampling_from_caches_is_sampling_from_the_whole_network(side: int) -> None:
    net, chances = build(classes=2), uniforms(SEEDS, (side, side, 3))
    with torch.no_grad():
        look = net.looks(net.looks.draw(SEEDS, None), torch.tensor([1, 0]))
        found = net.drawn(look, chances)

    def sums(values: Tensor) -> Tensor:
        with torch.no_grad():
            return F.pad(net(values, look).softmax(-1).cumsum(-1), (1, 0)).movedim(3, 1)

    # All pixels of the finished tile at once: each is what its own distribution says, given those before it. Chances
    # are compared, not levels, since a chance may lie on the border of two.
    border = sums(found)
    chance = chances.movedim(-1, 1)
    assert bool((border.gather(-1, found[..., None])[..., 0] <= chance + 1e-5).all())
    assert bool((border.gather(-1, found[..., None] + 1)[..., 0] >= chance - 1e-5).all())
    # The first pixels by hand, from nothing.
    values = torch.zeros_like(found)
    for place in range(6):
        for channel in range(3):
            drawn = (sums(values)[:, channel, 0, place, 1:] < chance[:, channel, 0, place, None]).sum(-1)
            values[:, channel, 0, place] = drawn
    assert torch.equal(values[..., 0, :6], found[..., 0, :6])
    assert len(found.unique()) > 4


def test_tiles_do_not_depend_on_their_batch() -> None:
    net = build()
    net.looks.learn(torch.rand(4, 3, SIDE, SIDE) * 2 - 1, None, torch.Generator())
    both = net.sample(None, SEEDS, SIDE)
    assert torch.allclose(both[1:], net.sample(None, SEEDS[1:], SIDE), atol=1e-5)
    assert not torch.equal(both[0], both[1])


def test_levels_are_even_and_reach_black_and_white() -> None:
    net = build(levels=256)
    bytes_ = torch.arange(256).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert torch.equal(net.quantised(bytes_ / 127.5 - 1), bytes_)
    net = build(levels=5)
    assert net.pictures(torch.arange(5)).tolist() == [-1, -0.5, 0, 0.5, 1]
    images = torch.rand(2, 3, SIDE, SIDE) * 2 - 1
    assert float((net.pictures(net.quantised(images)) - images).abs().max()) <= 0.25 + 1e-6


def test_it_learns_structure_and_gets_colours_from_the_look() -> None:
    torch.manual_seed(0)
    net = PixelCNN(side=8, channels=16, layers=1, levels=5, reach=2)
    stripes = torch.tensor([-0.2, 0.2]).repeat(4).view(1, 1, 1, 8)
    images = stripes + torch.tensor([-0.5, 0.5]).view(2, 1, 1, 1) * torch.tensor([1.0, -1.0, 1.0]).view(1, 3, 1, 1)
    images = images.expand(2, 3, 8, 8)
    optimisers = net.optimisers(1e-2)
    bits = [step(net, images.roll(i, 3), None, optimisers, i) for i in range(50)]
    assert bits[0] > 1.5
    assert bits[-1] < 0.1
    tiles = net.eval().sample(None, range(12), 8)
    both = torch.cat([images, images.roll(1, 3)])
    gaps = (tiles[:, None] - both[None]).abs().mean((2, 3, 4))
    assert float(gaps.min(1).values.max()) < 0.15
    assert len(gaps.argmin(1).unique()) > 2


def test_a_file_keeps_network_and_looks(tmp_path: Path) -> None:
    net = build()
    net.looks.learn(torch.rand(4, 3, SIDE, SIDE), None, torch.Generator())
    (tmp_path / NAME).write_bytes(pack(net))
    again = open_texture_model(tmp_path).model
    assert again.config == net.config
    assert torch.equal(again.sample(None, SEEDS, SIDE), net.sample(None, SEEDS, SIDE))


@pytest.mark.parametrize("wrong", [{"levels": 1}, {"levels": 300}, {"reach": 0}, {"reach": 9}])
def test_sizes_that_cannot_be(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        PixelCNN(side=SIDE, **wrong)


def test_the_periodic_part_has_no_large_step_across_the_wrap() -> None:
    at = torch.arange(32) / 32
    waves = torch.cos(2 * torch.pi * (2 * at[:, None] + 3 * at[None]))[None, None]
    ramp = (2 * at[:, None] + 3 * at[None])[None, None]

    def ratio(maps: torch.Tensor, dim: int) -> float:
        each = (maps.roll(-1, dim) - maps).abs().movedim(dim, 0)
        return float(each[-1].mean() / each[:-1].mean())

    found = periodic(waves + ramp)
    for dim in (2, 3):
        assert ratio(waves + ramp, dim) > 3
        assert 0.2 < ratio(found, dim) < 1.5
    assert torch.allclose(found.mean(), (waves + ramp).mean(), atol=1e-5)
    # What repeats already stays.
    assert ratio(waves, 2) == pytest.approx(ratio(waves, 3), rel=0.05) == pytest.approx(1, abs=0.05)
    assert float((periodic(waves) - waves).abs().mean()) < 0.01
