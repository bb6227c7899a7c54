"""A model's file: the same tiles after a round trip, and nothing else is opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from synthaug.errors import ConfigError, InputError
from synthaug.models.texture.saving import NAME, open_texture_model, pack
from tests.models.texture.tiny import SIDE, TINY, build, steps

torch.set_num_threads(1)
SEEDS = [5, 11]


@pytest.mark.parametrize("name", TINY)
def test_the_same_tiles_after_a_round_trip(name: str, tmp_path: Path) -> None:
    model = build(name, classes=2)
    steps(model, 4)
    model.eval()
    facts = {"steps": 4, "licence": "CC0"}
    (tmp_path / NAME).write_bytes(pack(model, ("brick", "wood"), facts))
    torch.manual_seed(7)
    before = torch.get_rng_state()
    opened = open_texture_model(tmp_path)
    assert torch.equal(before, torch.get_rng_state())
    assert (opened.model.family, opened.classes, dict(opened.facts)) == (name, ("brick", "wood"), facts)
    assert not opened.model.training
    assert not any(value.requires_grad for value in opened.model.parameters())
    labels = torch.tensor([1, 0])
    assert torch.equal(opened.model.sample(labels, SEEDS, SIDE), model.sample(labels, SEEDS, SIDE))
    assert pack(opened.model, opened.classes, opened.facts) == (tmp_path / NAME).read_bytes()
    assert opened.number("wood") == 1
    with pytest.raises(InputError, match="class 'stone': this model has brick, wood"):
        opened.number("stone")


def test_means_take_the_place_of_parameters(tmp_path: Path) -> None:
    model = build("vae")
    (tmp_path / NAME).write_bytes(pack(model, mean={"ground.bias": torch.full_like(model.ground.bias, 0.25)}))
    assert bool((open_texture_model(tmp_path / NAME).model.ground.bias == 0.25).all())


def told(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return json.loads(header["__metadata__"]["synthaug.texture"])


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / NAME
    with pytest.raises(ConfigError, match=r"no model\.safetensors there"):
        open_texture_model(tmp_path)
    path.write_bytes(pack(build("vae")))
    tensors, facts = load_file(path), told(path)

    def written(**changes: Any) -> Path:
        some = changes.pop("tensors", tensors)
        save_file(some, path, metadata={"synthaug.texture": json.dumps({**facts, **changes})})
        return path

    for changes, match in (
        ({"family": "evil"}, "family evil"), ({"format": 2}, "format 2"), ({"config": 3}, "format 1"),
        ({"config": {**facts["config"], "code": "import os"}}, "vae has no code"),
        ({"config": {**facts["config"], "width": "x"}}, "no vae can be built"),
        ({"config": {**facts["config"], "width": 16}}, "does not fit vae"),
        ({"classes": ["a", "b"]}, "2 names for 0 classes"),
        ({"tensors": {**tensors, "more": torch.zeros(1)}}, "tensor more does not fit"),
        ({"tensors": {n: v for n, v in tensors.items() if n != "ground.bias"}}, r"ground\.bias does not fit"),
        ({"tensors": {**tensors, "ground.bias": tensors["ground.bias"] * torch.nan}}, "not finite"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=match):
            open_texture_model(written(**changes))
    save_file(tensors, path)
    with pytest.raises(InputError, match="not what `synthaug train texture`"):
        open_texture_model(path)
    for data in (b"", b"\x80\x04pickle", b"\xff" * 64, pack(build("vae"))[:4000]):
        path.write_bytes(data)
        with pytest.raises(InputError, match=NAME):
            open_texture_model(path)
