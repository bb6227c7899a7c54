"""A refiner's folder: what is written comes back; what was touched, or is something else, is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synthaug import testing
from synthaug.errors import ConfigError, InputError, SecurityError
from synthaug.models import rectified, refiner
from synthaug.models.maps import MapSpec
from synthaug.models.refiner import Facts, Wish, open_refiner, read_facts, to_files
from synthaug.refine.restore import SHIPPED
from tests.models.tiny_refiner import SPREAD, build_tiny_refiner

torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build_tiny_refiner(tmp_path / "refiner")


def test_round_trip_and_diffusers_reads_it_too(folder: Path) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler, UNet2DModel

    ours = open_refiner(folder, device="cpu", dtype="float32")
    theirs = UNet2DModel.from_pretrained(
        str(folder), subfolder="unet", local_files_only=True, torch_dtype=torch.float32
    )
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(str(folder), subfolder="scheduler")
    assert scheduler.config.num_train_timesteps == rectified.TRAIN_STEPS
    inputs, times = torch.rand(1, 24, 16, 16), torch.tensor([300.0])
    with torch.inference_mode():
        assert torch.allclose(theirs(inputs, times).sample, ours._unet(inputs, times).sample, atol=1e-5)
    assert read_facts(folder) == ours.facts


def test_the_same_weights_give_the_same_bytes() -> None:
    torch.manual_seed(0)
    network = rectified.network(rectified.Shape((8,)))
    facts = Facts((8,), 1, SPREAD, (0.001, 0.002), "")
    assert to_files(network, facts) == to_files(network, facts)


def test_pictures_do_not_see_each_other(folder: Path) -> None:
    loaded = open_refiner(folder, device="cpu", dtype="float32")
    images = torch.rand(3, 3, 20, 30)
    wishes = [Wish(1, 1.0, 0.5), Wish(2, 0.4, 0.1), Wish(3, 1.0, 0.9)]
    together = loaded(images, wishes, steps=2)
    assert together.reasons == ("", "", "")
    for order in ([2, 1, 0], [1]):
        alone = loaded(images[order], [wishes[i] for i in order], steps=2)
        assert torch.equal(alone.images, together.images[order])


def test_half_precision_is_near(folder: Path) -> None:
    images = torch.rand(1, 3, 32, 32)
    full = open_refiner(folder, device="cpu", dtype="float32")(images, [Wish(1, 1.0, 0.5)], steps=2)
    half = open_refiner(folder, device="cpu", dtype="bfloat16")(images, [Wish(1, 1.0, 0.5)], steps=2)
    assert (full.images - half.images).abs().max() < 8 / 255


@pytest.mark.skipif(not SHIPPED.is_dir(), reason="this checkout comes without weights")
def test_the_shipped_one_in_half_precision_is_within_what_is_promised() -> None:
    """40 dB, and 99.9% of the values within 6 levels; promise D3 asks no more of another micro-batch."""
    pixels = torch.from_numpy(testing.planes(testing.make_sample(1, (96, 128))))[None]
    full, half = (
        open_refiner(SHIPPED, device="cpu", dtype=dtype)(pixels, [Wish(3, 1.0, 0.25)], steps=8).images
        for dtype in ("float32", "bfloat16")
    )
    apart = (255 * (full - half)).abs()
    assert apart.max() > 0
    assert 20 * torch.log10(255 / apart.square().mean().sqrt()) >= 40
    assert apart.flatten().quantile(0.999) <= 6


def test_values_that_are_not_finite_reject_their_picture_alone(folder: Path) -> None:
    loaded = open_refiner(folder, device="cpu", dtype="float32")
    images = torch.rand(2, 3, 16, 16)
    images[0, 0, 3, 3] = torch.inf
    done = loaded(images, [Wish(1, 1.0, 0.5)] * 2, steps=1)
    assert done.reasons == ("nonfinite", "")
    assert torch.isnan(done.images[0]).all()
    assert torch.isfinite(done.images[1]).all()


def test_missing_folder_and_missing_files(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no refiner\.json"):
        read_facts(tmp_path)
    with pytest.raises(ConfigError, match="its folder model/ is one"):
        read_facts(build_tiny_refiner(tmp_path / "out" / "model").parent)
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(ConfigError, match="which refine=img2img runs"):
        read_facts(tmp_path)
    (folder / refiner.WEIGHTS).unlink()
    with pytest.raises(InputError, match="is missing"):
        read_facts(folder)


def test_truncated_and_foreign_weights(folder: Path) -> None:
    path = folder / refiner.WEIGHTS
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(InputError, match="truncated"):
        read_facts(folder)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match="SHA-256"):
        read_facts(folder)
    path.write_bytes(b"\x80\x04" + b"pickle" * 20)
    with pytest.raises(SecurityError, match="not safetensors"):
        read_facts(folder)


@pytest.mark.security
@pytest.mark.parametrize(
    ("name", "change"),
    [
        (refiner.CONFIG, {"_class_name": "os.system"}),
        (refiner.CONFIG, {"auto_map": {"UNet2DModel": "evil.py"}}),
        (refiner.SCHEDULER, {"_class_name": "DDPMScheduler"}),
    ],
)
def test_other_classes_and_code_are_refused(folder: Path, name: str, change: dict[str, Any]) -> None:
    config = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(config | change))
    with pytest.raises(SecurityError):
        read_facts(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2}, {"grain": []}, {"grain": ["a"]}, {"grain": [float("1e9")]}, {"channels": None},
        {"spread": {"knots": [0.2, 0.1], "levels": [[1, 1]] * 3}},
        {"spread": {"knots": [0.1, 0.2], "levels": [[1, 1]]}}, {"steps": -1}, {"steps": 2000},
        {"maps": {"kinds": ["smell"], "classes": []}}, {"maps": {"kinds": ["classes"], "classes": []}}, {"maps": 3},
    ],
)  # fmt: skip
def test_numbers_that_training_never_writes(folder: Path, change: dict[str, Any]) -> None:
    facts = json.loads((folder / refiner.FACTS).read_text())
    (folder / refiner.FACTS).write_text(json.dumps(facts | change))
    with pytest.raises(InputError, match=r"refiner\.json"):
        read_facts(folder)


def test_weights_of_another_size(folder: Path) -> None:
    facts = json.loads((folder / refiner.FACTS).read_text())
    (folder / refiner.FACTS).write_text(json.dumps(facts | {"channels": [16, 16]}))
    with pytest.raises(InputError, match="does not fit"):
        open_refiner(folder, device="cpu", dtype="float32")


def test_maps_and_steps_are_written_only_where_there_are_any(folder: Path, tmp_path: Path) -> None:
    assert not {"maps", "steps"} & json.loads((folder / refiner.FACTS).read_text()).keys()
    told = build_tiny_refiner(tmp_path / "told", MapSpec(("depth", "classes"), ("road", "car")), 2)
    facts = read_facts(told)
    assert facts.maps == MapSpec(("depth", "classes"), ("road", "car"))
    assert facts.steps == 2
    assert facts.shape.extra == 5
    assert facts.digest != read_facts(folder).digest


def test_without_maps_a_picture_is_what_it_was_before_there_were_maps(folder: Path) -> None:
    """The flow by hand: condition and noise in, and nothing else."""
    from synthaug import seeds
    from synthaug.models import guards

    loaded = open_refiner(folder, device="cpu", dtype="float32")
    image = torch.rand(1, 3, 32, 64)
    x = torch.from_numpy(seeds.normal(7, (12, 16, 32)))[None]
    with torch.inference_mode():
        for now, after in ((1.0, 0.5), (0.5, 0.0)):
            folded = torch.nn.functional.pixel_unshuffle(image * 2 - 1, 2)
            x = x + (after - now) * loaded.network(torch.cat([x, folded], 1), torch.tensor([now * 1000])).sample
    added = rectified.from_opponent(torch.nn.functional.pixel_shuffle(x, 2) * SPREAD.at(image))
    expected = guards.keep_colour(image + added, image, 1.0).clamp(0, 1)
    assert torch.allclose(loaded(image, [Wish(7, 1.0, 0.5)], steps=2, smooth=0.0).images, expected, atol=1e-6)


def test_maps_change_the_picture_and_none_is_absent(tmp_path: Path) -> None:
    spec = MapSpec(("depth", "normals"))
    loaded = open_refiner(build_tiny_refiner(tmp_path / "told", spec), device="cpu", dtype="float32")
    images, wishes = torch.rand(2, 3, 20, 30), [Wish(1, 1.0, 0.5), Wish(2, 0.5, 0.5)]
    absent = torch.zeros(2, spec.channels, 20, 30)
    bare = loaded(images, wishes, steps=2).images
    assert torch.equal(bare, loaded(images, wishes, steps=2, maps=absent).images)
    told = torch.rand(absent.shape, generator=torch.Generator().manual_seed(3))
    # One picture with maps, one without: neither sees the other's.
    mixed = loaded(images, wishes, steps=2, maps=torch.stack([told[0], absent[1]])).images
    assert not torch.equal(mixed[0], bare[0])
    assert torch.equal(mixed[1], bare[1])
    alone = loaded(images[:1], wishes[:1], steps=2, maps=told[:1]).images
    assert torch.equal(alone[0], mixed[0])


def test_steps_of_its_own(folder: Path, tmp_path: Path) -> None:
    fast = open_refiner(build_tiny_refiner(tmp_path / "fast", steps=2), device="cpu", dtype="float32")
    slow = open_refiner(folder, device="cpu", dtype="float32")
    images, wishes = torch.rand(1, 3, 16, 16), [Wish(1, 1.0, 0.5)]
    own = [one(images, wishes, steps=0).images for one in (fast, slow)]
    assert torch.equal(own[0], slow(images, wishes, steps=2).images)
    assert torch.equal(own[1], slow(images, wishes, steps=refiner.STEPS).images)
    assert not torch.equal(own[0], own[1])


def test_grain_is_a_quantile() -> None:
    loaded = refiner.Refiner(None, Facts((8,), 1, SPREAD, (0.0, 0.01, 0.03), ""))
    levels = [loaded._level(q) for q in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert np.allclose(levels, [0.0, 0.005, 0.01, 0.02, 0.03])


def test_on_a_device_batches_keep_their_length_whatever_the_strengths() -> None:
    wishes = [Wish(seed, strength, 0.5) for seed, strength in enumerate((1.0, 0.7, 1.0, 0.5))]
    turns = refiner._turns(wishes, one_by_one=False)  # pyright: ignore[reportPrivateUsage]
    assert all(len(order) == len(wishes) for order, _ in turns)
    assert all(len({wishes[row].strength for row in order}) == 1 for order, _ in turns)
    assert sorted(order[place] for order, kept in turns for place in kept) == [0, 1, 2, 3]
    assert all(order[place] == place for order, kept in turns for place in kept)
