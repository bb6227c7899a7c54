"""Tone tables against painting: the same values, the same space, the same reference, in less time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from synthaug import testing
from synthaug.contracts import Draw, Pointwise
from synthaug.engine import appearance, bracket
from synthaug.engine.appearance import Work
from synthaug.engine.pipeline import Bracket, Slot
from synthaug.errors import Rejected
from synthaug.sample import Picture, Space
from tests.augment import on_device


class Lift(Pointwise):
    """Adds a third, in the space that it is told."""

    def __init__(self, takes: Space = "srgb", gives: Space = "srgb", *, renews: bool = False) -> None:
        self.takes, self.gives, self.renews_reference = takes, gives, renews  # type: ignore[misc]

    def draw(self, rng: np.random.Generator, labels: Any, attempt: int) -> Draw:
        return {"gain": float(rng.uniform(0.5, 0.9))}

    def curve(self, values: Any, draw: Draw) -> Any:
        return values * draw["gain"] + 1 / 3


SPACES: tuple[tuple[Space, Space], ...] = (
    ("srgb", "srgb"),
    ("linear", "linear"),
    ("linear", "srgb"),
    ("srgb", "linear"),
)


def painted(slots: Sequence[Slot], work: Work) -> Work:
    for slot in slots:
        work = appearance.paint_host(slot, work, 5)
    return work


@pytest.mark.parametrize("row", [(s,) for s in SPACES] + [(a, b) for a in SPACES for b in SPACES], ids=str)
@pytest.mark.parametrize("last", [False, True])
def test_a_table_gives_what_painting_gives(row: Sequence[tuple[Space, Space]], last: bool) -> None:
    slots = [Slot(f"s{i}", Lift(*spaces)) for i, spaces in enumerate(row)]
    work = on_device.works(1)[0]
    table, paint = appearance.paint_table(slots, work, 5, last=last).sample, painted(slots, work).sample
    if not last:
        assert table.image.space == paint.image.space == row[-1][1]
        assert np.abs(table.image.pixels - paint.image.pixels).max() < 1e-5
    ends = [appearance.rounded(s, hdr=False).image.pixels.astype(int) for s in (table, paint)]
    assert np.abs(ends[0] - ends[1]).max() <= 1
    assert (ends[0] != ends[1]).mean() < 1e-3
    assert table.trail == paint.trail


def test_a_table_in_linear_light_is_not_one_in_srgb() -> None:
    """The case is there: both give a picture, and they differ by many steps."""
    work = on_device.works(1)[0]
    ends = [
        appearance.rounded(appearance.paint_table([Slot("s", Lift(*s))], work, 5, last=True).sample, hdr=False)
        for s in SPACES[:2]
    ]
    assert np.abs(ends[0].image.pixels.astype(int) - ends[1].image.pixels).max() > 10


@pytest.mark.parametrize("renews", [False, True])
def test_a_table_renews_the_reference_as_painting_does(renews: bool) -> None:
    slot, work = Slot("s", Lift(renews=renews)), on_device.works(1)[0]
    for done in (appearance.paint_table([slot], work, 5, last=True), painted([slot], work)):
        assert (done.sample.reference is done.sample.image) == renews
    outcome = bracket.run(Bracket((slot,), ()), [work], on_device.settings("cpu"))[0]
    assert isinstance(outcome, Work)
    assert (outcome.sample.reference is outcome.sample.image) == renews


class Inverse(Lift):
    """One by value: black has none."""

    def curve(self, values: Any, draw: Draw) -> Any:
        with np.errstate(divide="ignore", invalid="ignore"):
            return 0.1 * values / values


def test_a_value_that_no_pixel_has_rejects_nobody() -> None:
    slot, work = Slot("s", Inverse()), on_device.works(1)[0]
    bright = replace(work, sample=replace(work.sample, image=Picture(np.maximum(work.sample.image.pixels, 1))))
    for last in (False, True):
        assert isinstance(appearance.paint_table([slot], bright, 5, last=last), Work)
    dark = work.sample.image.pixels.copy()
    dark[3, 4] = 0
    work = replace(work, sample=replace(work.sample, image=Picture(dark)))
    for paint in (
        lambda: appearance.paint_table([slot, Slot("t", Lift())], work, 5, last=True),
        lambda: painted([slot], work),
    ):
        with pytest.raises(Rejected, match="3 of 18432 values are not finite") as caught:
            paint()
        assert (caught.value.reason, caught.value.slot) == ("nonfinite", "s")


@pytest.mark.parametrize("spaces", SPACES, ids=str)
def test_the_contract_suite_compares_both_ways(spaces: tuple[Space, Space], monkeypatch: pytest.MonkeyPatch) -> None:
    testing.check(Lift(*spaces))

    class Neighbourly(Lift):
        """Looks at more than the value itself."""

        def curve(self, values: Any, draw: Draw) -> Any:
            return values - values.mean()

    with pytest.raises(AssertionError, match="not pointwise"):
        testing.check_pointwise(Neighbourly(*spaces))
    real = appearance.paint_table

    def darker(*args: Any, **more: Any) -> Work:
        done = real(*args, **more)
        image = Picture(done.sample.image.pixels * np.float32(0.99), done.sample.image.space)
        return replace(done, sample=replace(done.sample, image=image))

    monkeypatch.setattr(appearance, "paint_table", darker)
    with pytest.raises(AssertionError, match="differ from paint"):
        testing.check_pointwise(Lift(*spaces))
