"""A refiner's folder: what is written comes back; what was touched, or is something else, is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synthaug.errors import ConfigError, InputError, SecurityError
from synthaug.models import rectified, refiner
from synthaug.models.refiner import Facts, Wish, open_refiner, read_facts, to_files
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
        {"spread": {"knots": [0.1, 0.2], "levels": [[1, 1]]}},
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


def test_grain_is_a_quantile() -> None:
    loaded = refiner.Refiner(None, Facts((8,), 1, SPREAD, (0.0, 0.01, 0.03), ""))
    levels = [loaded._level(q) for q in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert np.allclose(levels, [0.0, 0.005, 0.01, 0.02, 0.03])
