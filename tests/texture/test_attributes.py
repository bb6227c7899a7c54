"""What instances say of their own surface goes before what is configured for their class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthaug.errors import Rejected
from synthaug.labels import Instance
from synthaug.texture import attributes
from tests.texture.staged import Stage, plain
from tests.texture.surfaces_on import drawn, library, loaded, painted


def saying(**facts: Any) -> Instance:
    return Instance(3, 1, (0.0, 0.0, 4.0, 4.0), attributes=facts)


def test_what_is_said_is_read_and_silence_is_none() -> None:
    assert attributes.coat(saying()) is None
    assert attributes.coat(saying(coat=1)) == 1.0
    assert attributes.coat(saying(coat=2.5)) == 2.5
    assert attributes.metres_per_uv(saying()) is None
    assert attributes.metres_per_uv(saying(metres_per_uv=[1, 0.5])) == (1.0, 0.5)


@pytest.mark.parametrize("value", [0.99, 2.6, True, "1.5", [1.5], float("nan")])
def test_a_coat_that_is_no_index_is_rejected(value: Any) -> None:
    with pytest.raises(Rejected, match=r"instance 3: attribute coat=.*expected the index of refraction") as caught:
        attributes.coat(saying(coat=value))
    assert caught.value.reason == "label"


@pytest.mark.parametrize("value", [1.0, [1.0], [1.0, 0.0], [1.0, True], [1.0, float("inf")], "ab"])
def test_lengths_that_are_none_are_rejected(value: Any) -> None:
    with pytest.raises(Rejected, match=r"instance 3: attribute metres_per_uv=.*expected two lengths in metres"):
        attributes.metres_per_uv(saying(metres_per_uv=value))


def test_the_coat_of_an_instance_goes_before_that_of_its_class(tmp_path: Path) -> None:
    folder, staged = library(tmp_path / "lib"), Stage(48)
    image, labels = staged.render(plain), staged.labels(plain)
    told = replace(labels, instances=tuple(replace(i, attributes={"coat": 1.5}) for i in labels.instances))
    bare = replace(labels, instances=tuple(replace(i, attributes={"coat": 1}) for i in labels.instances))
    draws = drawn(loaded(folder), labels)
    by_class = {"board": 1.5, "ball": 1.5}
    coated = painted(loaded(folder, coat=by_class), image, labels, draws)[0]
    assert np.array_equal(painted(loaded(folder), image, told, draws)[0], coated)
    assert np.array_equal(
        painted(loaded(folder, coat=by_class), image, bare, draws)[0], painted(loaded(folder), image, labels, draws)[0]
    )
    assert np.abs(coated - painted(loaded(folder), image, labels, draws)[0]).max() > 0.01
    broken = replace(labels, instances=tuple(replace(i, attributes={"coat": 9}) for i in labels.instances))
    with pytest.raises(Rejected, match="attribute coat=9"):
        painted(loaded(folder), image, broken, draws)
