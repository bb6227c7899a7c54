"""The native stages and the resampling on CUDA against the host: the comparisons of the CPU's own tests."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from synthaug.augment.geometric import Perspective
from synthaug.augment.lens import LensDistortion
from synthaug.augment.photometric import GaussianBlur
from synthaug.contracts import Appearance
from synthaug.engine import bracket
from synthaug.engine.appearance import Work
from synthaug.engine.pipeline import Bracket, Slot
from synthaug.warp import motion
from synthaug.warp.resample import picture
from tests.augment import on_device
from tests.augment.scenes import smooth

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
CUDA = "cuda:0"
SIZE = (128, 160)


@pytest.mark.parametrize("stage", on_device.STAGES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("tf32", [False, True])
def test_photometric_stages(stage: Appearance, tf32: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever precision the process has chosen for its own products."""
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", tf32)
    assert on_device.photometric_gap(stage, CUDA) < 0.1 / 255


@pytest.mark.parametrize("border", ["constant", "reflect"])
def test_motions_of_every_kind(border: str) -> None:
    pixels = (smooth(SIZE) * 255).round().astype(np.uint8)
    assert min(on_device.quality(pixels, on_device.warps(SIZE, 3), CUDA, border)) >= 50


def test_whole_pixel_motions_are_exact() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    motions = [motion.hflip(SIZE), motion.vflip(SIZE), motion.crop(SIZE, (-5, 3, SIZE[1] - 5, SIZE[0] + 3))]
    for found, warp in zip(on_device.moved(noise, motions, CUDA), motions, strict=True):
        assert (found == picture(noise, warp)).all()


def test_a_row_stays_on_the_device_and_gives_what_the_host_gives() -> None:
    assert on_device.row_gap(CUDA) <= 1


@pytest.mark.parametrize("word", ["before", "behind", "both"])
def test_motions_beside_a_device_stage_are_the_hosts_within_two_steps(word: str) -> None:
    tilt, bend = Slot("tilt", Perspective(jitter=0.15)), Slot("bend", LensDistortion())
    row = {"before": (tilt, bend), "behind": (), "both": (tilt,)}[word]
    row = (*row, Slot("shade", on_device.Shade()), *(() if word == "before" else (bend, Slot("blur", GaussianBlur()))))
    here, there = (bracket.run(Bracket(row, ()), on_device.works(), on_device.settings(d)) for d in ("cpu", CUDA))
    for one, other in zip(here, there, strict=True):
        assert isinstance(one, Work)
        assert isinstance(other, Work)
        assert one.sample.trail == other.sample.trail
        apart = np.abs(one.sample.image.pixels.astype(int) - other.sample.image.pixels.astype(int))
        assert apart.max() <= 2, "one step of the first resampling, one of the last"


def test_two_runs_give_the_same_bytes() -> None:
    row = Bracket(on_device.slots(), ())
    first, again = (bracket.run(row, on_device.works(), on_device.settings(CUDA)) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert isinstance(one, Work)
        assert isinstance(other, Work)
        assert np.array_equal(one.sample.image.pixels, other.sample.image.pixels)
