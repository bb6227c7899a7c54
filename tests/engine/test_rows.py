"""Which slots run on the device, and what comes of it: decided by names alone, so no GPU is needed here."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from synthaug.augment.geometric import Affine, Flip, Perspective
from synthaug.augment.lens import LensDistortion
from synthaug.augment.photometric import GaussianBlur, GaussianNoise, JpegArtifacts
from synthaug.augment.pointwise import BrightnessContrast, Gamma
from synthaug.contracts import Gate, Painted, Verdict
from synthaug.engine import bracket, device_row, rows, source
from synthaug.engine.appearance import Work
from synthaug.engine.pipeline import Bracket, Slot
from synthaug.errors import Rejected, SynthaugError
from synthaug.warp import device as warp_device
from tests.augment import on_device
from tests.engine import runs
from tests.fakes import FakeDeviceModel

torch.set_num_threads(1)
STAGES = {
    "D": lambda: on_device.Shade(),
    "n": lambda: GaussianNoise(),
    "b": lambda: GaussianBlur(),
    "t": lambda: Gamma(),
    "c": lambda: BrightnessContrast(),
    "J": lambda: JpegArtifacts(),
    "G": lambda: Flip(),
    "L": lambda: Linear(),
}
"""Device stage; natives that can do both (noise, blur, two tone curves); host only; a motion; linear light."""


class Linear(on_device.Shade):
    """A device stage in linear light."""

    takes = "linear"
    gives = "linear"


def slots(word: str) -> tuple[Slot, ...]:
    return tuple(Slot(f"{i}{letter}", STAGES[letter]()) for i, letter in enumerate(word))


def cut(word: str, device: str) -> str:
    """Rows as text: device rows in brackets, tone tables in angles."""
    marks = {"device": "[]", "pointwise": "<>", "geometry": "{}", "host": "  "}
    found = rows.rows(slots(word), device)
    assert [s.name for row in found for s in row.slots] == [s.name for s in slots(word)], "order and number"
    texts = (marks[r.kind][0] + "".join(s.name[-1] for s in r.slots) + marks[r.kind][1] for r in found)
    return "".join(texts).replace(" ", "")


@pytest.mark.parametrize(
    ("word", "host", "away"),
    [
        ("", "", ""),
        ("ntcb", "n<tc>b", "n<tc>b"),  # nothing but natives: they stay
        ("Dnt", "[D]n<t>", "[Dnt]"),
        ("ntD", "n<t>[D]", "[ntD]"),
        ("tcDbnD", "<tc>[D]bn[D]", "[tcDbnD]"),
        ("DJn", "[D]Jn", "[D]Jn"),  # a host stage stands between
        ("nDJnDt", "n[D]Jn[D]<t>", "[nD]J[nDt]"),
        ("DGn", "[D]{G}n", "[D]{G}n"),  # so does a motion
        ("DnGGt", "[D]n{GG}<t>", "[Dn]{GG}<t>"),
        ("nLn", "n[L]n", "[n][L][n]"),  # the engine converts between spaces, on the host
    ],
)
def test_natives_follow_a_neighbour_to_the_device_and_never_go_alone(word: str, host: str, away: str) -> None:
    for device in ("cpu", "cpu:0"):
        assert cut(word, device) == host
    for device in ("cuda:0", "meta", "mps"):
        assert cut(word, device) == away


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
@pytest.mark.parametrize("word", ["ntcb", "ntDcb", "JtDn", "GnD", "JnGt"])
def test_the_prefix_is_what_stands_before_the_first_device_row(word: str, device: str) -> None:
    all_rows, before = rows.rows(slots(word), device), rows.prefix(slots(word), device)
    assert [[s.name for s in r.slots] for r in before] == [[s.name for s in r.slots] for r in all_rows[: len(before)]]
    assert not any(row.away for row in before)
    assert len(before) == len(all_rows) or all_rows[len(before)].away
    assert not any(rows.on_device([s for r in before for s in r.slots], device))


def test_device_stages_stay_where_they_are_whatever_the_device() -> None:
    assert rows.on_device(slots("nDtJ"), "cpu") == [False, True, False, False]
    assert rows.on_device(slots("nDtJ"), "cuda:1") == [True, True, True, False]


def test_a_row_on_the_device_gives_what_the_host_gives() -> None:
    assert on_device.row_gap("cpu") <= 1


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A device by the name of `meta` whose work is done by the CPU; the slots of every row that went there, and
    `warp` for every picture that was resampled there."""
    went: list[list[str]] = []
    real, real_pixels = device_row.paint_device, warp_device.pixels

    def stand_in(row: Sequence[Slot], batch: Any, length: int, device: str, seed: int, *, last: bool, turn: Any) -> Any:
        if device == "meta":
            went.append([slot.name for slot in row])
        return real(row, batch, length, "cpu", seed, last=last, turn=turn)

    def pixels_stand_in(values: Any, warp: Any, border: Any, device: str) -> Any:
        assert device == "meta"
        went.append(["warp"])
        return real_pixels(values, warp, border, "cpu")

    monkeypatch.setattr(bracket, "paint_device", stand_in)
    monkeypatch.setattr(warp_device, "pixels", pixels_stand_in)
    return went


def pixels(outcomes: Sequence[Any]) -> np.ndarray:
    assert all(isinstance(o, Work) for o in outcomes), outcomes
    assert all(o.sample.image.pixels.dtype == np.uint8 for o in outcomes), "rounded at the bracket's end"
    return np.stack([o.sample.image.pixels for o in outcomes]).astype(int)


def test_the_bracket_takes_a_native_row_along_and_changes_no_more_than_a_step(pretended: list[list[str]]) -> None:
    row = Bracket((*slots("tnDcbG"),), ())
    here = bracket.run(row, on_device.works(), on_device.settings("cpu"))
    there = bracket.run(row, on_device.works(), on_device.settings("meta"))
    flipped = sum(o.sample.trail[5].draw["horizontal"] for o in there if isinstance(o, Work))
    assert flipped
    mirrored = [["warp"]] * (2 * flipped)
    assert pretended == [["0t", "1n", "2D", "3c", "4b"], *mirrored], "picture and reference, where anything moves"
    assert np.abs(pixels(here) - pixels(there)).max() <= 1
    for one, other in zip(here, there, strict=True):
        assert isinstance(one, Work)
        assert isinstance(other, Work)
        assert one.sample.trail == other.sample.trail
        assert one.sample.stale == other.sample.stale


def test_what_a_worker_begins_is_not_painted_twice(pretended: list[list[str]]) -> None:
    row, settings = Bracket(slots("JtnDc"), ()), on_device.settings("meta")
    whole = bracket.run(row, on_device.works(), settings)
    begun = bracket.run_prefix(row, on_device.works(), settings)
    assert [[s.slot for s in o.sample.trail] for o in begun if isinstance(o, Work)] == [["0J"]] * 3
    assert (pixels(bracket.run(row, on_device.works(), settings, begun)) == pixels(whole)).all()
    assert pretended == [["1t", "2n", "3D", "4c"]] * 2


def test_a_worker_cuts_rows_by_its_consumers_device() -> None:
    """A worker that sees no GPU must not paint what its consumer will paint there."""
    words = ("model._target_=tests.fakes.FakeDeviceModel", "+model.leak=false", "+model.poison='-'")
    made = source.pipeline(runs.RECIPE, words, plugins=[runs.PLUGIN])
    assert isinstance(made, source.Running)
    assert made.job.device == "cpu"
    made._device = "cuda:3"
    far = copy.copy(made)  # the same state that pickling sends
    assert far._job is None
    assert far.job.device == "cuda:3"
    assert far._settings(0).device == "cuda:3"


def tilted() -> tuple[Slot, ...]:
    """A row that blends pixels on both sides of a device stage: 8-bit pictures before, float ones behind."""
    tilt, shrink = Perspective(jitter=0.15), Affine(rotation=[5, 20], scale=[0.4, 0.9])
    row = (tilt, shrink, on_device.Shade(), LensDistortion(border="reflect"), Flip(horizontal=1.0))
    return tuple(Slot(f"s{i}", stage) for i, stage in enumerate(row))


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_geometries_beside_a_device_row_go_along(device: str) -> None:
    def away(word: str) -> str:
        return "".join("ga"[row.away] for row in rows.rows(slots(word), device) if row.kind == "geometry")

    for word, far in (("GD", "a"), ("DG", "a"), ("GGDG", "aa"), ("GJD", "g"), ("DnG", "a"), ("DJGt", "g"), ("G", "g")):
        assert away(word) == (far if device == "meta" else "g" * len(far)), word


def test_motions_on_the_device_are_the_hosts_within_a_step(pretended: list[list[str]]) -> None:
    row = Bracket(tilted(), ())
    here = bracket.run(row, on_device.works(), on_device.settings("cpu"))
    assert pretended == []
    there = bracket.run(row, on_device.works(), on_device.settings("meta"))
    assert pretended.count(["warp"]) == 3 * (1 + 2), "before the device stage image and reference are one"
    apart = np.abs(pixels(here) - pixels(there))
    assert apart.max() <= 2, "one step of the first resampling, one of the last"
    assert (apart > 1).mean() < 0.001
    for one, other in zip(here, there, strict=True):
        assert isinstance(one, Work)
        assert isinstance(other, Work)
        assert one.sample.trail == other.sample.trail
        references = [w.sample.reference.pixels.astype(int) for w in (one, other)]
        assert np.abs(references[0] - references[1]).max() <= 2
        assert one.sample.labels.instances == other.sample.labels.instances
        for name, values in one.sample.labels.passes.items():
            assert np.array_equal(values, other.sample.labels.passes[name], equal_nan=values.dtype.kind == "f"), name


def test_a_moved_picture_does_not_depend_on_its_batch(pretended: list[list[str]]) -> None:
    row, settings = Bracket(tilted(), ()), on_device.settings("meta")
    together = pixels(bracket.run(row, on_device.works(3), settings))
    alone = [pixels(bracket.run(row, [work], settings))[0] for work in on_device.works(3)]
    assert (together == np.stack(alone)).all()


def test_a_worker_stops_before_a_motion_that_its_consumer_computes(pretended: list[list[str]]) -> None:
    row, settings = Bracket((Slot("j", JpegArtifacts()), *tilted()), ()), on_device.settings("meta")
    whole = bracket.run(row, on_device.works(), settings)
    pretended.clear()
    begun = bracket.run_prefix(row, on_device.works(), settings)
    assert pretended == []
    assert [[s.slot for s in o.sample.trail] for o in begun if isinstance(o, Work)] == [["j"]] * 3
    assert (pixels(bracket.run(row, on_device.works(), settings, begun)) == pixels(whole)).all()


def test_a_device_that_cannot_resample_ends_the_run_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lack of memory is no property of the sample."""

    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("out of memory, planted")

    monkeypatch.setattr(warp_device, "pixels", full)
    with pytest.raises(SynthaugError, match=r"resampling a picture of \(64, 96, 3\) failed on meta: out of memory"):
        bracket.run(Bracket(slots("GD"), ()), on_device.works(), on_device.settings("meta"))


class Choosy(on_device.Shade):
    """Raises where it meets the picture of sample 1, whose disc lies where no other's does."""

    def paint(self, images: Any, labels: Any, draws: Any) -> Any:
        wanted = on_device.works()[1].sample.labels.instances[0].box
        if any(view.instances[0].box == wanted for view in labels):
            raise Rejected("choosy", "not this one")
        return super().paint(images, labels, draws)


def test_a_rejection_raised_on_the_device_costs_its_own_picture_only(pretended: list[list[str]]) -> None:
    """It cannot say whose it is: the engine asks for each alone, in a batch as long as ever."""
    good = bracket.run(Bracket(slots("DbG"), ()), on_device.works(), on_device.settings("meta"))
    row = (Slot("0D", Choosy()), *slots("DbG")[1:])
    found = bracket.run(Bracket(row, ()), on_device.works(), on_device.settings("meta"))
    assert isinstance(found[1], Rejected)
    assert (found[1].reason, found[1].slot, found[1].sample_id) == ("choosy", "0D", "testing/1")
    assert (pixels([found[0], found[2]]) == pixels([good[0], good[2]])).all()


def test_a_gate_on_the_device_may_raise_too() -> None:
    class ChoosyGate(Gate):
        place = "device"

        def judge(self, images: Any, references: Any, labels: Any) -> Any:
            wanted = on_device.works()[1].sample.labels.instances[0].box
            if any(view.instances[0].box == wanted for view in labels):
                raise Rejected("choosy", "not this one")
            return [Verdict()] * len(labels)

    found = bracket.run(Bracket((), (Slot("g", ChoosyGate()),)), on_device.works(), on_device.settings("cpu"))
    assert [isinstance(o, Work) for o in found] == [True, False, True]
    assert isinstance(found[1], Rejected)
    assert (found[1].reason, found[1].slot, found[1].sample_id) == ("choosy", "g", "testing/1")


def test_a_broken_picture_is_out_and_its_neighbours_are_not(pretended: list[list[str]]) -> None:
    """The stages after it get a black picture in its place: an index made of NaN would end the whole batch."""

    class Broken(on_device.Shade):
        def paint(self, images: Any, labels: Any, draws: Any) -> Any:
            done = super().paint(images, labels, draws)
            done[1, 0, 3, 4] = torch.nan
            return Painted(done, ("", "", "refused", ""))

    whole = (Slot("a", on_device.Shade()), Slot("b", GaussianBlur()), Slot("c", BrightnessContrast()))
    row = (Slot("a", Broken()), *whole[1:])
    good = bracket.run(Bracket(whole, ()), on_device.works(), on_device.settings("meta"))
    found = bracket.run(Bracket(row, ()), on_device.works(), on_device.settings("meta"))
    assert isinstance(found[1], Rejected)
    assert (found[1].reason, found[1].slot, found[1].sample_id) == ("nonfinite", "a", "testing/1")
    assert "1 of 18432 values" in found[1].message
    assert isinstance(found[2], Rejected)
    assert (found[2].reason, found[2].slot) == ("refused", "a")
    assert (pixels(found[:1]) == pixels(good[:1])).all()


def test_a_stage_that_resizes_on_the_device_loses_every_picture(pretended: list[list[str]]) -> None:
    class Halving(on_device.Shade):
        def paint(self, images: Any, labels: Any, draws: Any) -> Any:
            return images[..., ::2]

    row = (Slot("a", Halving()), Slot("b", GaussianBlur()))
    found = bracket.run(Bracket(row, ()), on_device.works(), on_device.settings("meta"))
    assert [o.reason for o in found if isinstance(o, Rejected)] == ["size"] * 3


def test_what_a_device_stage_gives_too_much_of_is_clipped_before_the_next() -> None:
    """As on the host, where every stage hands on values within [0, 1]."""
    seen: list[tuple[float, float]] = []

    class Loud(on_device.Shade):
        def paint(self, images: Any, labels: Any, draws: Any) -> Any:
            return images * 4 - 1

    class Witness(on_device.Shade):
        def paint(self, images: Any, labels: Any, draws: Any) -> Any:
            seen.append((float(images.min()), float(images.max())))
            return images

    row = (Slot("a", Loud()), Slot("b", Witness()))
    device_row.paint_device(row, on_device.works(), 4, "cpu", 5)
    assert seen == [(0.0, 1.0)]


def test_rounding_on_the_device_is_the_engines_rounding() -> None:
    row = slots("Dn")
    apart = [device_row.paint_device(row, on_device.works(), 4, "cpu", 5, last=last) for last in (False, True)]
    for raw, rounded in zip(*apart, strict=True):
        assert isinstance(raw, Work)
        assert isinstance(rounded, Work)
        assert raw.sample.image.pixels.dtype == np.float32
        expected = bracket.appearance.rounded(raw.sample, hdr=False).image.pixels
        assert np.array_equal(rounded.sample.image.pixels, expected)


def test_a_padded_tail_changes_nothing() -> None:
    row = (Slot("m", FakeDeviceModel(strength=0.1)), *slots("nbt"))
    found = [pixels(device_row.paint_device(row, on_device.works(n), 4, "cpu", 5, last=True)) for n in (1, 2, 4)]
    for short, long in pairwise(found):
        assert (long[: len(short)] == short).all()
