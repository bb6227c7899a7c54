"""Noise on surfaces in the stage: one anchor for a group, each frame from its own labels alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synthaug import seeds
from synthaug.contracts import Painted
from synthaug.engine import appearance
from synthaug.engine.appearance import Work
from synthaug.engine.pipeline import Slot
from synthaug.engine.plan import Entry
from synthaug.errors import ConfigError, Rejected
from synthaug.labels import Labels
from synthaug.models.pipelines import Extras, Request, open_img2img
from synthaug.refine import enlarged, sequence, small
from synthaug.refine.img2img import Img2Img
from synthaug.sample import Picture, Sample
from tests.models.families import build_flux
from tests.models.tiny import build_tiny_sd
from tests.refine.dots import CLASSES, FEW, NEAR, SMALL, dots
from tests.refine.guidance import scenes

torch.set_num_threads(1)
FORM: dict[str, Any] = {"channels": 4, "canvas": (128, 128), "factor": 8}
STEP = 8 * 4.0 / 150
"""Metres aside that move the wall by a latent place, 8 pixels."""


def work(name: str, group: str, labels: Labels, attempt: int = 0) -> Work:
    pixels = np.full((*labels.size, 3), 90, np.uint8)
    sample = Sample(name, Picture(pixels), labels, Picture(pixels), group=group)
    return Work(0, Entry(name, name, 0, labels.size, group, "train", ()), attempt, sample)


def drawn(stage: Img2Img, name: str, group: str, labels: Labels, attempt: int = 0) -> dict[str, Any]:
    return appearance.drawn(Slot("refine", stage), work(name, group, labels, attempt), labels, 7)


def test_frames_of_a_group_share_the_anchor_and_other_groups_have_theirs(tiny_sd: Path) -> None:
    """Whatever is in the frames: two of them may show other things."""
    stage = Img2Img(model=str(tiny_sd), sequence=True, small=SMALL, **FEW)
    one, other = drawn(stage, "g/0", "g", dots()), drawn(stage, "g/1", "g", dots(NEAR))
    assert one["seed"] == other["seed"]
    assert one["prompt"] == other["prompt"]
    assert drawn(stage, "h/0", "h", dots())["seed"] != one["seed"]
    alone = Img2Img(model=str(tiny_sd), **FEW)
    assert drawn(alone, "g/0", "g", dots())["seed"] != drawn(alone, "g/1", "g", dots())["seed"]


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.reshape(-1), other.reshape(-1))[0, 1])


def test_noise_is_white_normal_and_goes_with_the_wall() -> None:
    frames = [dots((), shift) for shift in (0.0, STEP)]
    one, other = (sequence.starting(f, sequence.Anchoring(), 5, **FORM) for f in frames)
    for noise, share in (one, other):
        assert noise.shape == (4, 16, 16)
        assert noise.dtype == np.float32
        assert abs(noise.mean()) < 5 / math.sqrt(noise.size)
        assert abs(noise.var() - 1) < 5 * math.sqrt(2 / noise.size)
        assert 0.05 < share < 0.5
    # The camera went to the right by one latent place: the wall goes to the left; 12 rows of the canvas show it.
    assert correlation(one[0][:, :12, 1:], other[0][:, :12, :-1]) > 0.5
    assert abs(correlation(one[0], other[0])) < 0.15
    assert abs(correlation(one[0][:, 12:, 1:], other[0][:, 12:, :-1])) < 0.25, "beyond the picture nothing is shared"


def test_what_a_still_camera_sees_again_has_the_same_noise_to_the_bit() -> None:
    """Where nothing moved; and another anchor has nothing in common."""
    before, after = dots(()), dots([(40, 40, 60, 60)])
    one, other = (sequence.starting(f, sequence.Anchoring(), 5, **FORM)[0] for f in (before, after))
    same = (one == other).all(0)
    assert same[:, 8:].all()
    assert not same[5:7, 5:7].any()
    assert abs(correlation(one, sequence.starting(before, sequence.Anchoring(), 6, **FORM)[0])) < 0.15


def starts(stage: Img2Img, labels: Sequence[Labels], names: str) -> tuple[Painted, list[torch.Tensor]]:
    """What was painted, and every starting noise that the loop was given."""
    seen: list[torch.Tensor] = []
    loop = stage._loaded.loop  # pyright: ignore
    inner = type(loop)._encoded

    def noted(job: Any, noise: Any) -> Any:
        found = inner(loop, job, noise)
        seen.append(found[1])
        return found

    loop._encoded = noted
    images = torch.stack([picture(name) for name in names])
    draws = [drawn(stage, name, "g", own) for name, own in zip(names, labels, strict=True)]
    try:
        with torch.inference_mode():
            return stage.paint(images, list(labels), draws), seen
    finally:
        del loop._encoded


def picture(name: str) -> torch.Tensor:
    return torch.rand((3, *scenes.SIZE), generator=torch.Generator().manual_seed(ord(name)))


@pytest.mark.parametrize("more", [{}, {"small": SMALL}])
def test_the_loop_starts_from_it_and_a_frame_does_not_depend_on_its_batch(tiny_sd: Path, more: dict[str, Any]) -> None:
    stage = Img2Img(model=str(tiny_sd), sequence={"cell": 2.5}, **more, **FEW)
    assert stage.scope == "group"
    assert {"depth", "position", "instance"} <= set(stage.wants)
    stage.load("cpu")
    # The box is 3.5 m away, so that 21 cm aside are 9 pixels.
    labels = [dots(NEAR), dots([(NEAR[0][0] - 9, NEAR[0][1], NEAR[0][2] - 9, NEAR[0][3])], 0.21), dots()]
    done, noise = starts(stage, labels, "abc")
    again, _ = starts(stage, [labels[1], labels[1], labels[0]], "bba")
    assert torch.equal(done.images[1], again.images[0])
    assert torch.equal(done.images[0], again.images[2])
    expected = sequence.starting(labels[1], sequence.Anchoring(), drawn(stage, "b", "g", labels[1])["seed"], **FORM)
    assert torch.equal(noise[0][1], torch.from_numpy(expected[0]))
    assert done.facts[1]["sequence"]["places_per_pixel"] == round(expected[1], 4)
    if more:
        # The window of one and the same thing, seen from a step aside: its noise comes along.
        assert correlation(noise[1][0].numpy(), noise[1][1].numpy()) > 0.3
        (window,), _ = small.find(labels[1], stage.small)  # pyright: ignore
        anchor = drawn(stage, "b", "g", labels[1])["seed"]
        form = {**FORM, "canvas": (64, 64)}
        own, _ = sequence.starting(enlarged.view(labels[1], window), sequence.Anchoring(), anchor, **form)
        assert torch.equal(noise[1][1], torch.from_numpy(own)), "the group's anchor, whichever ids share a window"


def test_given_noise_leaves_nothing_to_the_seed(tiny_sd: Path) -> None:
    """Neither the posterior of the autoencoder nor the loop draws any: frames differ by what they show alone."""
    model = open_img2img(tiny_sd, device="cpu", dtype="float32")
    images = torch.rand(1, 3, 64, 64)
    noise = torch.randn(1, 4, 8, 8)
    found = [
        model(images, [Request("a", "", 0.5, seed)], steps=4, guidance=1.0, extras=Extras(noise=given)).images
        for seed, given in ((1, noise), (2, noise), (1, None), (2, None), (1, noise.flip(-1)))
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[2], found[3])
    assert not torch.equal(found[0], found[4])


@pytest.mark.parametrize("scheduler", ["DDIM", "EulerDiscrete", "UniPCMultistep", "DPMSolverMultistep", "PNDM"])
def test_schedulers_without_noise_of_their_own_will_do(tmp_path: Path, scheduler: str) -> None:
    assert painted_with(tmp_path, scheduler).reasons == ("",)


@pytest.mark.parametrize("scheduler", ["EulerAncestralDiscrete", "LCM"])
def test_schedulers_that_draw_noise_in_every_step_are_refused_with_the_way_out(tmp_path: Path, scheduler: str) -> None:
    with pytest.raises(ConfigError, match=rf"{scheduler}Scheduler draws noise .*DDIM"):
        painted_with(tmp_path, scheduler)


def painted_with(tmp_path: Path, scheduler: str) -> Painted:
    model = build_tiny_sd(tmp_path / "m", scheduler=f"{scheduler}Scheduler")
    stage = Img2Img(model=str(model), sequence=True, **FEW)
    stage.load("cpu")
    with torch.inference_mode():
        return stage.paint(picture("a")[None], [dots()], [drawn(stage, "a", "g", dots())])


@pytest.mark.parametrize("labels", [replace(dots(), camera=None), scenes.ball(sky=False)])
def test_a_frame_without_the_pose_of_its_camera_is_rejected_as_that(tiny_sd: Path, labels: Labels) -> None:
    stage = Img2Img(model=str(tiny_sd), sequence=True, **FEW)
    stage.load("cpu")
    with pytest.raises(Rejected, match="camera with a pose") as refusal:
        stage.paint(picture("a")[None], [labels], [drawn(stage, "a", "g", labels)])
    assert refusal.value.reason == "sequence"


def test_the_sky_alone_will_do(tiny_sd: Path) -> None:
    sky = np.full(scenes.SIZE, np.nan, np.float32)
    labels = replace(dots(()), passes={"depth": sky})
    noise, _ = sequence.starting(labels, sequence.Anchoring(), 5, **FORM)
    assert np.isfinite(noise).all()


def test_a_scheduler_that_draws_noise_is_refused_when_planned(tiny_sd: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sequence with .*euler_a.*draws noise.*ddim"):
        Img2Img(model=str(tiny_sd), sequence=True, scheduler="euler_a").expect(CLASSES, ("depth",))
    own = build_tiny_sd(tmp_path / "a", scheduler="EulerAncestralDiscreteScheduler")
    with pytest.raises(ConfigError, match="sequence with EulerAncestralDiscreteScheduler"):
        Img2Img(model=str(own), sequence=True).expect(CLASSES, ("depth",))
    Img2Img(model=str(own), sequence=True, scheduler="euler").expect(CLASSES, ("depth",))


def test_what_the_plan_can_know_it_refuses(tiny_sd: Path, tmp_path: Path) -> None:
    stage = Img2Img(model=str(tiny_sd), sequence=True)
    with pytest.raises(ConfigError, match=r"depth or position; the input has instance.*sequence=false"):
        stage.expect(CLASSES, ("instance",))
    for name in ("depth", "position"):
        stage.expect(CLASSES, ("instance", name))
    other = Img2Img(model=str(build_flux(tmp_path / "flux")), sequence=True)
    with pytest.raises(ConfigError, match=r"sequence .* FLUX\.1 has no such knob.*Stable Diffusion XL"):
        other.expect(CLASSES, ("depth",))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cel": 1.0}, r"sequence\.cel: no such field.*cell"),
        ({"cell": 0.1}, r"sequence\.cell=0\.1: expected pixels, 0\.25 to 16"),
        ({"cell": "one"}, r"sequence\.cell=one"),
        ({"cell": True}, r"sequence\.cell=True"),
    ],
)
def test_bad_fields_are_refused_by_name(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Img2Img(model="m", sequence=given)


def test_off_is_off_and_on_has_its_defaults() -> None:
    assert sequence.parse(False) is None
    assert sequence.parse(True) == sequence.parse({}) == sequence.Anchoring(2.5)
    assert Img2Img(model="m").scope == "sample"
    assert seeds.normal(1, (1,)).dtype == np.float32
