"""Words that roll with their tile, a writer that knows its torus, and caches that change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from synthaug.errors import ConfigError, InputError
from synthaug.models.texture.family import uniforms
from synthaug.models.texture.saving import NAME, open_texture_model, pack
from synthaug.models.texture.vq_transformer import VQTransformer, _known

torch.set_num_threads(1)
SIDE, CELLS, CODES = 16, 4, 12
SEEDS = [3, 2**62 + 1]
TINY = {"side": SIDE, "width": 8, "codes": CODES, "depth": 3, "hidden": 16, "layers": 2, "heads": 2}


def build(**more: Any) -> VQTransformer:
    """With a book of latents that there are, and a transformer that has opinions."""
    torch.manual_seed(0)
    net = VQTransformer(**{**TINY, **more})
    with torch.no_grad():
        latents = net.tokenizer._latents(torch.rand(1, 3, SIDE, SIDE) * 2 - 1)
        net.tokenizer.book.embedding.weight.copy_(latents[0].flatten(1).T[:CODES])
        for value in net.prior.parameters():
            value.add_(0.2 * torch.randn_like(value))
    return net.eval()


def words_of(batch: int = 2) -> Tensor:
    return torch.randint(CODES, (batch, CELLS**2), generator=torch.Generator().manual_seed(4))


def test_neighbours_are_those_of_the_torus_that_are_written() -> None:
    known, later = _known(4), 16
    assert known[0].tolist() == [later] * 8
    assert known[5].tolist() == [0, 1, 2, 4, later, later, later, later]
    assert known[7].tolist() == [2, 3, 0, 6, 4, later, later, later]  # at the end of a row: its first, and above it
    assert known[15].tolist() == [10, 11, 8, 14, 12, 2, 3, 0]  # the last one sees all of its neighbours
    own = torch.arange(16)[:, None]
    assert bool(((known < own) | (known == later)).all())


def test_a_word_is_given_those_before_it_and_no_other() -> None:
    net, words, look = build(), words_of(1), torch.zeros(1, 16)
    with torch.no_grad():
        before = net.prior(words, look)
        for place in (0, 1, 6, 11, 14, 15):
            other = words.clone()
            other[0, place] = (other[0, place] + 1) % CODES
            moved = (net.prior(other, look) != before).any(-1)[0]
            assert not bool(moved[: place + 1].any())
            assert bool(moved[place + 1 :].all())


def test_writing_from_the_cache_is_the_plain_computation() -> None:
    net, look = build(), torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    chances = uniforms(SEEDS, (CELLS**2,))
    with torch.no_grad():
        found = net.prior.write(look, chances)
        sums = net.prior(found, look).softmax(-1).cumsum(-1)
        assert torch.equal((sums < chances[..., None]).sum(-1), found)
        assert not torch.equal(found, net.prior.write(look.flip(0), chances))
    assert len(found.unique()) > 3


def test_rolling_a_tile_by_cells_rolls_its_words_and_back() -> None:
    net = build()
    images, grain = torch.rand(2, 3, SIDE, SIDE) * 2 - 1, torch.randn(2, 4, CELLS, CELLS)
    with torch.no_grad():
        words = net.tokenizer.words(images)
        assert len(words.unique()) > 2
        rolled = words.roll((1, -2), (1, 2))
        assert torch.equal(net.tokenizer.words(images.roll((4, -8), (2, 3))), rolled)
        tile, moved = net.tokenizer.decoded(words, grain), net.tokenizer.decoded(rolled, grain.roll((1, -2), (2, 3)))
    assert torch.allclose(tile.roll((4, -8), (2, 3)), moved, atol=1e-5)
    assert not torch.allclose(tile, moved, atol=1e-2)


def test_stages_train_one_part_each_and_words_do_not_die() -> None:
    torch.manual_seed(0)
    net = VQTransformer(**TINY, first=0.5)
    optimisers = net.optimisers(1e-2)
    rng = torch.Generator().manual_seed(0)
    # Tiles of two colours each, in halves: little to say, much to gain.
    images = torch.tensor([-0.6, 0.6]).repeat_interleave(SIDE // 2).expand(4, 3, SIDE, SIDE).clone()
    images[2:, 0] = 0.5

    def state(part: torch.nn.Module) -> list[Tensor]:
        return [value.detach().clone() for value in part.state_dict().values()]

    def same(one: list[Tensor], two: list[Tensor]) -> bool:
        return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))

    prior, told = state(net.prior), []
    for at in range(80):
        told.append(net.fit(images, None, optimisers, at / 160, rng))
    assert same(prior, state(net.prior))
    assert float(told[-1]["reconstruction"]) < 0.5 * float(told[0]["reconstruction"])
    assert float(told[-1]["bits"]) == pytest.approx(torch.log2(torch.tensor(CODES)).item())
    assert bool((net.tokenizer.used > 0.05).all())
    tokenizer = state(net.tokenizer)
    for at in range(80, 110):
        told.append(net.fit(images, None, optimisers, at / 160, rng))
    assert same(tokenizer, state(net.tokenizer))
    assert float(told[-1]["bits"]) < 0.6 * float(told[79]["bits"])
    assert all(one.keys() == {"loss", "reconstruction", "bits"} for one in told)


def test_colours_and_classes_come_from_looks() -> None:
    net = build(classes=2)
    images = torch.rand(4, 3, SIDE, SIDE) + torch.tensor([-1.0, -1.0, 0.0, 0.0]).view(4, 1, 1, 1)
    net.prior.looks.learn(images, torch.tensor([0, 0, 1, 1]), torch.Generator())
    tiles = net.sample(torch.tensor([0, 1]), SEEDS, SIDE)
    assert float(tiles[0].mean()) < -0.2 < 0.2 < float(tiles[1].mean())
    assert 0.1 < float(tiles[0].std()) < 0.4


def test_tiles_are_their_seeds_and_of_one_side() -> None:
    net = build()
    net.prior.looks.learn(torch.rand(4, 3, SIDE, SIDE), None, torch.Generator())
    both = net.sample(None, SEEDS, SIDE)
    assert both.shape == (2, 3, SIDE, SIDE)
    assert torch.allclose(both[1:], net.sample(None, SEEDS[1:], SIDE), atol=1e-5)
    with pytest.raises(InputError, match="makes tiles of 16 pixels"):
        net.sample(None, SEEDS, 2 * SIDE)


def test_a_file_keeps_both_parts_and_no_critic(tmp_path: Path) -> None:
    net = build()
    (tmp_path / NAME).write_bytes(pack(net))
    again = open_texture_model(tmp_path).model
    assert {name.split(".")[0] for name in net.saved()} == {"tokenizer", "prior"}
    assert torch.equal(again.sample(None, SEEDS, SIDE), net.sample(None, SEEDS, SIDE))


@pytest.mark.parametrize("wrong", [{"hidden": 15}, {"first": 1.0}])
def test_sizes_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        VQTransformer(**{**TINY, **wrong})
