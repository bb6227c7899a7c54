"""The stage around the model: its fields, its draws, and one run on a tiny pipeline."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synthaug import seeds
from synthaug.contracts import Painted
from synthaug.engine import blame
from synthaug.errors import ConfigError, SynthaugError
from synthaug.labels import Labels
from synthaug.refine.img2img import Img2Img
from tests.models.builders import build_karlo, build_klein
from tests.models.families import build_flux
from tests.models.tiny import build_tiny_controlnet
from tests.refine.guidance import scenes

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
        ({"tile": 100}, "tile=100"),
        ({"tile": 64, "overlap": 64}, "overlap=64"),
        ({"feather": -1.0}, "feather"),
        ({"prompt": "a {weather} street"}, "unknown placeholder {weather}"),
        ({"protect": {"clases": {}}}, "protect.clases"),
        ({"controls": {"dept": {"model": "m"}}}, "depth"),
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


@pytest.fixture(scope="module")
def tiny_net(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_controlnet(tmp_path_factory.mktemp("net") / "net", tiny_sd)


def painted(stage: Img2Img, labels: Labels, count: int = 2, seed: int = 0) -> tuple[torch.Tensor, Painted]:
    """Pictures, and what the stage made of them."""
    stage.load("cpu")
    images = torch.rand((count, 3, *labels.size), generator=torch.Generator().manual_seed(seed))
    draws = [stage.draw(rng(str(i)), labels, 0) for i in range(count)]
    with torch.inference_mode():
        return images, stage.paint(images.clone(), [labels] * count, draws)


FEW = {"prompt": "a b", "strength": 0.75, "steps": 4}


def test_what_must_not_be_touched_is_the_input_to_the_bit_and_the_rest_changes(tiny_sd: Path) -> None:
    labels = scenes.ball(sky=False)
    stage = Img2Img(model=str(tiny_sd), protect={"never_classes": ["car"], "classes": {"road": 0.9}}, **FEW)
    images, done = painted(stage, labels)
    never = torch.from_numpy(labels.passes["instance"] == 1)
    assert never.any()
    assert torch.equal(done.images[..., never], images[..., never])
    far = torch.from_numpy(labels.passes["instance"] == 2)
    assert ((done.images - images)[..., far].abs() > 1e-3).float().mean() > 0.9
    facts = done.facts[0]["protect"]
    assert facts["never"] == pytest.approx(never.float().mean().item(), abs=1e-6)
    assert set(facts) >= {"seam", "seam_before", "ring_change"}


def test_a_protected_picture_that_is_not_finite_is_rejected_as_that(
    tiny_sd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its seam is no number either, and must not be what the ledger says."""
    labels = scenes.ball(sky=False)
    stage = Img2Img(model=str(tiny_sd), protect={"never_classes": ["car"]}, **FEW)
    stage.load("cpu")
    loop = stage._loaded.loop  # pyright: ignore
    decoded = loop._decoded
    monkeypatch.setattr(
        loop, "_decoded", lambda latents: decoded(latents) * torch.tensor([1, torch.nan])[:, None, None, None]
    )
    images = torch.rand(2, 3, *labels.size)
    draws = [stage.draw(rng(name), labels, 0) for name in "ab"]
    with torch.inference_mode():
        done = stage.paint(images, [labels] * 2, draws)
    assert done.reasons == ("", "nonfinite")
    assert [blame.as_json(told, "facts") for told in done.facts] == list(done.facts)
    assert "seam" in done.facts[0]["protect"]
    assert "seam" not in done.facts[1]["protect"]


def test_guidance_changes_the_picture_and_is_told(tiny_sd: Path, tiny_net: Path) -> None:
    labels = scenes.ball(sky=False)
    _, plain = painted(Img2Img(model=str(tiny_sd), **FEW), labels)
    controls = {"depth": {"model": str(tiny_net), "weight": 0.8}, "edges": {"model": str(tiny_net), "end": 0.5}}
    stage = Img2Img(model=str(tiny_sd), controls=controls, **FEW)
    assert {"depth", "instance", "normals"} <= set(stage.wants)
    told = stage.identity()["controls"]
    assert [c["kind"] for c in told] == ["depth", "edges"]
    assert str(tiny_net) not in str(told), "a control counts by content"
    _, done = painted(stage, labels)
    assert not torch.equal(done.images, plain.images)
    assert [told["kind"] for told in done.facts[0]["guidance"]] == ["depth", "edges"]


def test_guided_and_protected_pictures_do_not_depend_on_their_batch(tiny_sd: Path, tiny_net: Path) -> None:
    one, other = scenes.ball(sky=False), scenes.ball((0.2, 0.1, 2.0), sky=False)
    stage = Img2Img(
        model=str(tiny_sd), controls={"depth": {"model": str(tiny_net)}}, protect={"classes": {"car": 0.4}}, **FEW
    )
    stage.load("cpu")
    images = torch.rand((3, 3, *one.size))
    draws = [stage.draw(rng(str(i)), one, 0) for i in range(3)]
    with torch.inference_mode():
        first = stage.paint(images.clone(), [one, other, one], draws).images
        again = stage.paint(images[[1, 1, 0]], [other, other, one], [draws[1], draws[1], draws[0]]).images
    assert torch.equal(first[1], again[0])
    assert torch.equal(first[0], again[2])


def test_large_pictures_in_tiles(tiny_sd: Path, tiny_net: Path) -> None:
    labels = scenes.ball(sky=False)  # 96 x 128, padded to 128 x 128
    tiled = {"tile": 64, "overlap": 16, "controls": {"depth": {"model": str(tiny_net)}}}
    images, done = painted(Img2Img(model=str(tiny_sd), **FEW, **tiled), labels)
    assert done.images.shape == images.shape
    assert torch.isfinite(done.images).all()


def test_the_words_follow_the_labels_and_stand_in_the_draw(tiny_sd: Path) -> None:
    stage = Img2Img(model=str(tiny_sd), prompt="{classes} {light}", words={"light": ["x", "y"]}, phrases={"car": "b"})
    said = {stage.draw(rng(str(i)), scenes.ball(sky=False), 0)["prompt"] for i in range(20)}
    assert said == {"road and b x", "road and b y"}


def test_new_lists_leave_the_noise_as_it_was(tiny_sd: Path) -> None:
    plain = Img2Img(model=str(tiny_sd)).draw(rng("a"), LABELS, 0)
    listed = Img2Img(model=str(tiny_sd), prompt=["a", "b"]).draw(rng("a"), LABELS, 0)
    assert plain["seed"] == listed["seed"]


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"protect": {"never_classes": ["cart"]}}, "no class 'cart'.*car"),
        ({"phrases": {"rod": "x"}}, "no class 'rod'.*road"),
        ({"controls": {"depth": {"model": "m"}}}, "depth"),
    ],
)
def test_what_the_dataset_does_not_have_is_refused_at_plan_time(
    tiny_sd: Path, fields: dict[str, object], match: str
) -> None:
    stage = Img2Img(model=str(tiny_sd), **fields)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match=match):
        stage.expect(scenes.CATEGORIES, ("instance", "semantic"))


def test_a_family_without_our_loop_is_refused_by_name(tmp_path: Path) -> None:
    stage = Img2Img(model=str(build_flux(tmp_path / "flux")), protect={"classes": {"car": 0.5}})
    with pytest.raises(ConfigError, match=r"(?s)protect .*FLUX\.1 has no such knob.*Stable Diffusion XL"):
        stage.expect(scenes.CATEGORIES, ("instance", "semantic"))


@pytest.mark.parametrize("rules", [{"never_classes": ["car"]}, {"classes": {"car": 0}, "keypoint_radius": 2}])
def test_never_touched_regions_need_no_loop_of_ours(tmp_path: Path, rules: Mapping[str, Any]) -> None:
    """Editors least of all hold still what they are not asked about."""
    labels = scenes.ball(sky=False)
    stage = Img2Img(model=str(build_klein(tmp_path / "klein")), prompt="a", strength=None, steps=2, protect=rules)
    stage.expect(labels.categories, tuple(labels.passes))
    images, done = painted(stage, labels)
    never = torch.from_numpy(labels.passes["instance"] == 1)
    assert torch.equal(done.images[..., never], images[..., never])
    assert not torch.equal(done.images[..., ~never], images[..., ~never])
    assert "seam" in done.facts[0]["protect"]


def test_words_are_refused_at_plan_time_where_none_are_heard(tmp_path: Path) -> None:
    labels, told = scenes.ball(sky=False), ("instance", "semantic")
    model = str(build_karlo(tmp_path / "karlo"))
    spoken = Img2Img(model=model, prompt=["", "{classes} in a hall"], strength=None, steps=3)
    with pytest.raises(ConfigError, match=r"prompt \(words\) is set, but unCLIP \(Karlo\) has no such knob.*FLUX\.1"):
        spoken.expect(labels.categories, told)
    with pytest.raises(ConfigError, match="steps=1"):
        Img2Img(model=model, strength=None, steps=1).expect(labels.categories, told)
    stage = Img2Img(model=model, strength=None, steps=3, protect={"never_classes": ["car"]})
    stage.expect(labels.categories, told)
    images, done = painted(stage, labels)
    never = torch.from_numpy(labels.passes["instance"] == 1)
    assert done.images.shape == images.shape
    assert torch.equal(done.images[..., never], images[..., never])
    assert not torch.equal(done.images[..., ~never], images[..., ~never])


def test_a_controlnet_of_another_family_is_refused(tiny_sd: Path, tiny_net: Path, tmp_path: Path) -> None:
    other = tmp_path / "net"
    shutil.copytree(tiny_net, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "cross_attention_dim": 2048}))
    stage = Img2Img(model=str(tiny_sd), controls={"depth": {"model": str(other)}})
    with pytest.raises(ConfigError, match=r"2048 channels, the model has 16"):
        stage.load("cpu")


@pytest.mark.parametrize("speed", [{}, {"cache": {"every": 3}}, {"cache": {"every": 1}}])
def test_a_repair_leaves_a_step_cache_the_steps_that_it_needs(speed: Mapping[str, Any]) -> None:
    stage = Img2Img(model="m", steps=30, strength=0.4, strength_decay=0.5, speed=speed)
    runs = [int(30 * stage.draw(rng("a", k), LABELS, k)["strength"]) for k in range(8)]
    assert runs[0] == 12
    assert runs[-1] == (8 if speed.get("cache", {}).get("every", 1) > 1 else 1)
