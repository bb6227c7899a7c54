"""The device's versions give the host's values within 1/255, whoever is beside them in the batch."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from synthaug.augment import photometric_torch as device
from synthaug.augment.photometric import GaussianBlur
from synthaug.contracts import Appearance
from synthaug.labels import Labels
from tests.augment import on_device
from tests.augment.scenes import smooth

torch.set_num_threads(1)


@pytest.mark.parametrize("stage", on_device.STAGES, ids=lambda s: type(s).__name__)
def test_equals_the_host(stage: Appearance) -> None:
    assert on_device.photometric_gap(stage, "cpu") < 0.1 / 255


def test_these_stages_and_no_others_say_so() -> None:
    said = set()
    for path in (Path(__file__).parents[2] / "conf/augment").glob("*.yaml"):
        module, _, name = yaml.safe_load(path.read_text())["_target_"].rpartition(".")
        cls = getattr(importlib.import_module(module), name)
        if issubclass(cls, Appearance) and cls.also_on_device:
            said.add(cls)
    assert said == {type(stage) for stage in on_device.STAGES}


@pytest.mark.parametrize("stage", on_device.STAGES, ids=lambda s: type(s).__name__)
def test_the_batch_is_not_written_into(stage: Appearance) -> None:
    batch = torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(1))
    before = batch.clone()
    draws = [stage.draw(np.random.default_rng(i), Labels((20, 30)), 0) for i in range(2)]
    stage.paint(batch, [Labels((20, 30))] * 2, draws)
    assert torch.equal(batch, before)


def test_a_blur_wider_than_the_picture_mirrors_as_often_as_needed() -> None:
    image = smooth((9, 7)).transpose(2, 0, 1)
    host = GaussianBlur().paint(image[None].copy(), [Labels((9, 7))], [{"apply": True, "sigma": 4.0}])
    found = device.blurred(torch.from_numpy(image[None].copy()), [4.0]).numpy()
    assert np.abs(found - host).max() < 0.1 / 255


def test_a_picture_that_is_not_blurred_keeps_its_bits_beside_one_that_is() -> None:
    images = torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(1))
    assert torch.equal(device.blurred(images, [0.0, 3.0])[0], images[0])


def test_the_host_path_never_imports_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from synthaug.augment import photometric as p, pointwise as q\n"
        "from synthaug.labels import Labels\n"
        "for s in (p.HueSaturation(), p.GaussianNoise(), p.GaussianBlur(), p.Sharpen(), q.Gamma(), q.ToneCurve()):\n"
        "    d = s.draw(np.random.default_rng(1), Labels((8, 8)), 0)\n"
        "    s.paint(np.full((1, 3, 8, 8), 0.5, np.float32), [Labels((8, 8))], [d])\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
