"""The stage around the model: its fields, its draws, and one run on a tiny pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from synthaug import seeds
from synthaug.contracts import Painted
from synthaug.errors import ConfigError, SynthaugError
from synthaug.labels import Labels
from synthaug.refine.img2img import Img2Img

torch.set_num_threads(1)
LABELS = Labels((40, 56))


def rng(name: str, attempt: int = 0) -> np.random.Generator:
    return seeds.generator(0, name, 0, "refine", attempt)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"strength": 0.0}, "strength=0"),
        ({"strength": 1.5}, "strength=1.5"),
        ({"steps": 0}, "steps=0"),
        ({"steps": 3, "strength": 0.3}, "no step at all"),
        ({"guidance": -1.0}, "guidance"),
        ({"strength_decay": 0.0}, "strength_decay"),
        ({"dtype": "float8"}, "dtype"),
    ],
)
def test_fields_out_of_range(fields: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Img2Img(model="m", **fields)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("steps", [1, 3, 10, 30, 49, 97])
def test_a_repair_lowers_the_strength_but_never_to_no_step(steps: int) -> None:
    stage = Img2Img(model="m", steps=steps, strength=1.0, strength_decay=0.5)
    strengths = [stage.draw(rng("a", k), LABELS, k)["strength"] for k in range(12)]
    assert strengths == sorted(strengths, reverse=True)
    assert strengths[0] == 1.0
    assert all(1 <= int(steps * s) <= steps and s <= 1 for s in strengths)


def test_building_loads_nothing() -> None:
    stage = Img2Img(model="does/not/exist")
    with pytest.raises(SynthaugError, match="before load"):
        stage.paint(torch.zeros(1, 3, 8, 8), [LABELS], [{"strength": 0.5, "seed": 1}])
    with pytest.raises(ConfigError, match="no such folder"):
        stage.identity()


def test_paints_independently_of_the_batch(tiny_sd: Path) -> None:
    stage = Img2Img(model=str(tiny_sd), prompt="a b", negative_prompt="c", strength=0.5, steps=4)
    assert len(stage.identity()["weights"]) == 64
    stage.load("cpu")
    images = torch.rand(3, 3, 40, 56)
    draws = [stage.draw(rng(name), LABELS, 0) for name in "abc"]
    with torch.inference_mode():
        painted = stage.paint(images.clone(), [LABELS] * 3, draws)
        shuffled = stage.paint(images[[2, 0, 0]], [LABELS] * 3, [draws[2], draws[0], draws[0]])
    assert isinstance(painted, Painted)
    assert painted.reasons == ("", "", "")
    assert painted.images.shape == images.shape
    assert painted.images.dtype == torch.float32
    assert torch.equal(shuffled.images[0], painted.images[2])
    assert torch.equal(shuffled.images[1], painted.images[0])
    assert not torch.equal(painted.images, images)
