"""Groups of frames of two sizes: flow cannot follow one motion, and nobody is left to find out later."""

from __future__ import annotations

from pathlib import Path

import pytest

from synthaug.augment.framing import Resize
from synthaug.augment.geometric import Flip, Perspective
from synthaug.augment.pointwise import Gamma
from synthaug.contracts import Description, Stage
from synthaug.engine import groups, local
from synthaug.engine.configure import compose
from synthaug.engine.pipeline import Pipeline, Slot
from synthaug.errors import ConfigError
from tests.augment.test_scope import PLUGINS, RECIPE

SHARED = Perspective(scope="group")


def check(
    stages: tuple[Stage, ...], *frames: tuple[str, str, tuple[int, int]], passes: tuple[str, ...] = ("flow",)
) -> None:
    described = [Description(f"f{i}", size, passes, group=g, view=v) for i, (g, v, size) in enumerate(frames)]
    groups.refuse_uneven(Pipeline(tuple(Slot(f"s{i}", s) for i, s in enumerate(stages))), described)


UNEVEN = (("walk", "", (32, 48)), ("walk", "", (32, 56)))


def test_frames_of_two_sizes_are_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"1 groups bring flow .* s1\.scope=sample .*\n  - walk: 48x32, 56x32"):
        check((Gamma(), SHARED), *UNEVEN)
    with pytest.raises(ConfigError, match=r"walk/left: 48x32, 56x32"):
        check((Resize(height=8, width=8),), ("walk", "left", (32, 48)), ("walk", "left", (32, 56)))


def test_what_keeps_its_word_is_let_through() -> None:
    check((SHARED,), ("walk", "", (32, 48)), ("walk", "", (32, 48)), ("run", "", (32, 56)))
    check((SHARED,), ("walk", "left", (32, 48)), ("walk", "right", (32, 56)))
    check((SHARED,), *UNEVEN, passes=("depth",))
    check((Flip(),), *UNEVEN)
    check((SHARED, Flip()), *UNEVEN)
    check((Gamma(scope="group"),), *UNEVEN)


def test_a_run_is_refused_before_anything_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.fakes import FakeReader

    monkeypatch.setattr(FakeReader, "_size", lambda self, number: (32, 48 + 8 * (number % 2)))
    words = [f"write.root={tmp_path / 'out'}", "engine.workers=0", "engine.progress=none"]
    with pytest.raises(ConfigError, match="3 groups bring flow"):
        local.run(compose(RECIPE, [*words, "move.scope=group"], plugins=PLUGINS))
    assert local.run(compose(RECIPE, words, plugins=PLUGINS)) == 0
