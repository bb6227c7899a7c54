"""Words for tiles, and tiles of words: each a function of its prompt and seed, whatever is made beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from synthaug.engine import targets, vet
from synthaug.errors import ConfigError, InputError
from synthaug.metrics.texture import seam_energy
from synthaug.texture import materials
from synthaug.texture.prompted import Prompts, Wish, checked_prompt, paint
from tests.models.tiny import build_tiny_sd, edit_weights

PROMPTS = Prompts("{surface}, seamless", "text", {"wood": ["oak", "pine", "walnut"], "metal": ["steel"]})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from synthaug.models.tile_model import open_tiles

    return open_tiles(build_tiny_sd(tmp_path_factory.mktemp("m") / "sd"), device="cpu", dtype="float32")


def wish(**more: Any) -> Wish:
    return Wish(**{"size": (64, 128), "steps": 3, "guidance": 3.0, **more})


def made(model: Any, prompts: Sequence[str], seeds: Sequence[int], asked: Wish, start: Any = None) -> list[Any]:
    tiles = list(paint(model, prompts, seeds, asked, start))
    assert [tile.seed for tile in tiles] == list(seeds)
    return [tile.pixels for tile in tiles]


def test_a_surface_is_drawn_by_the_seed_of_the_tile() -> None:
    words = [PROMPTS.words("wood", seed) for seed in range(60)]
    assert set(words) == {"oak, seamless", "pine, seamless", "walnut, seamless"}
    assert min(words.count(word) for word in set(words)) > 8
    assert words == [PROMPTS.words("wood", seed) for seed in range(60)]
    assert PROMPTS.words("metal", 3) == "steel, seamless"
    assert PROMPTS.words("felt", 3) == "felt surface, seamless", "by its own name"


def test_every_material_that_names_suggest_has_words() -> None:
    found, _ = vet.read_yaml(targets.find_conf() / "texture" / "synthesize" / "prompts.yaml")
    known = cast("dict[str, str]", materials._HINTS)  # pyright: ignore[reportPrivateUsage]
    assert set(known) == set(found["surfaces"])
    assert all(rows and all(isinstance(row, str) for row in rows) for rows in found["surfaces"].values())
    prompts = Prompts(found["template"], found["negative"], found["surfaces"])
    assert all("{" not in prompts.words(material, 1) for material in known)


def test_own_words() -> None:
    assert checked_prompt(" old  {material} ", "wood") == "old wood"
    assert checked_prompt("moss", "") == "moss"
    for text in ("{x}", "{", "{0}", "   "):
        with pytest.raises(ConfigError, match="prompt="):
            checked_prompt(text, "wood")


def test_tiles_are_tiles(model: Any) -> None:
    for tile in made(model, ["a", "b"], [3, 4], wish()):
        assert tile.shape == (64, 128, 3)
        assert tile.dtype == np.float32
        assert np.array_equal(tile.clip(0, 1), tile)
        assert tile.std() > 0.02
        assert seam_energy(tile) <= 1.05


def test_a_tile_depends_on_its_words_and_seed_alone(model: Any) -> None:
    first, second, third = made(model, ["a", "b", "a"], [3, 4, 5], wish(batch=2))
    assert np.array_equal(made(model, ["a"], [3], wish(batch=2))[0], first)
    assert np.array_equal(made(model, ["a", "b"], [5, 4], wish(batch=2))[0], third)
    assert not np.array_equal(first, third)
    assert not np.array_equal(made(model, ["c"], [4], wish(batch=2))[0], second)
    assert not np.array_equal(made(model, ["b"], [4], wish(batch=2, negative="c"))[0], second)
    one = made(model, ["a", "b", "a"], [3, 4, 5], wish())
    assert all(np.abs(a - b).max() < 1e-4 for a, b in zip(one, (first, second, third), strict=True))


def test_a_tile_to_start_from_is_scaled_and_counts(model: Any) -> None:
    start = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    (tile,) = made(model, ["a"], [3], wish(strength=0.5), start)
    (other,) = made(model, ["a"], [3], wish(strength=0.5), 255 - start)
    assert tile.shape == (64, 128, 3)
    assert not np.array_equal(tile, other)
    with pytest.raises(InputError, match="exemplar"):
        made(model, ["a"], [3], wish(strength=0.5), start[:, :, 0])


def test_what_cannot_be_is_refused(model: Any) -> None:
    with pytest.raises(ConfigError, match="give one, or no strength"):
        made(model, ["a"], [3], wish(strength=0.5))
    with pytest.raises(ConfigError, match="strength=null"):
        made(model, ["a"], [3], wish(), np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ConfigError, match="multiples of 64"):
        made(model, ["a"], [3], wish(size=(64, 65)))


def test_what_is_not_finite_has_a_reason_and_no_pixels(tmp_path: Path) -> None:
    from synthaug.models.tile_model import open_tiles

    folder = build_tiny_sd(tmp_path / "m")
    edit_weights(folder / "unet" / "diffusion_pytorch_model.safetensors", **{"conv_out.bias": float("nan")})
    (tile,) = paint(open_tiles(folder, device="cpu", dtype="float32"), ["a"], [1], wish())
    assert (tile.seed, tile.pixels, tile.reason) == (1, None, "nonfinite")
