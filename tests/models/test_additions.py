"""Everything that can be added to a model, together: configuration, plan, identity, one loaded pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synthaug.errors import ConfigError, SynthaugError
from synthaug.models import additions
from synthaug.models.additions import Additions
from synthaug.models.families import FLUX, KNOBS, SD, SD3
from synthaug.models.latent import Job
from synthaug.models.noise import SampleNoise
from synthaug.models.pipelines import Img2ImgModel, open_img2img
from tests.models.tiny_additions import adapter_tensors, build_encoder, lora_tensors, save

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def given(tiny_sd: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("additions")
    pipe: Any = open_img2img(tiny_sd, device="cpu", dtype="float32")._pipe  # pyright: ignore[reportPrivateUsage]
    return {
        "loras": {"grain": {"path": str(save(root / "grain.safetensors", lora_tensors(pipe))), "weight": 0.5}},
        "scheduler": {"name": "lcm"},
        "image_prompt": {
            "adapter": str(save(root / "ip.safetensors", adapter_tensors(pipe.unet))),
            "encoder": str(build_encoder(root / "encoder")),
            "photos": "photos",
        },
        "embeddings": {"<dust>": str(save(root / "dust.safetensors", {"emb_params": torch.ones(2, 16)}))},
    }


def read(name: str) -> Any:
    return np.random.default_rng(len(name)).integers(0, 256, (20, 30, 3), np.uint8)


def opened(folder: Path, asked: Additions) -> tuple[Img2ImgModel, Any]:
    model = open_img2img(folder, device="cpu", dtype="float32")
    pipe: Any = model._pipe  # pyright: ignore[reportPrivateUsage]
    return model, additions.apply(pipe, asked, steps=4, read=read)


def run(model: Img2ImgModel, viewer: Any, order: list[int]) -> torch.Tensor:
    assert model.loop is not None
    images = torch.rand((3, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    prompts = ["a <dust>", "b", "<dust> c"]
    photos = viewer([("a", "bb", "ccc")[i] for i in order]) if viewer is not None else ()
    noise = SampleNoise([10 + i for i in order])
    job = Job(images[order], [prompts[i] for i in order], [""] * len(order), 0.5, 4, 3.0, photos=photos)
    with torch.inference_mode(), noise:
        return model.loop(job, noise)


def test_all_of_it_at_once_changes_the_picture_and_no_picture_its_neighbours(
    tiny_sd: Path, given: dict[str, Any]
) -> None:
    model, viewer = opened(tiny_sd, Additions.parse(**given))
    first = run(model, viewer, [0, 1])
    assert torch.isfinite(first).all()
    other = run(model, viewer, [2, 1])
    assert torch.equal(first[1], other[1])
    for left_out in given:
        fewer, eyes = opened(tiny_sd, Additions.parse(**{k: v for k, v in given.items() if k != left_out}))
        assert not torch.equal(run(fewer, eyes, [0, 1])[0], first[0]), f"{left_out} does nothing"


def test_nothing_changes_nothing(tiny_sd: Path) -> None:
    asked = Additions.parse()
    assert asked == Additions()
    assert asked.knobs == ()
    assert asked.identity() == {}
    model, viewer = opened(tiny_sd, asked)
    assert viewer is None
    plain = open_img2img(tiny_sd, device="cpu", dtype="float32")
    assert torch.equal(run(model, None, [0, 1]), run(plain, None, [0, 1]))


def test_knobs_are_those_of_the_table(given: dict[str, Any]) -> None:
    asked = Additions.parse(**given)
    assert asked.knobs == ("loras", "scheduler", "image_prompt", "embeddings")
    assert set(asked.knobs) <= set(KNOBS)


def test_identity_is_by_content_and_weight_not_by_path(given: dict[str, Any], tmp_path: Path) -> None:
    before = Additions.parse(**given).identity()
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(Path(given["loras"]["grain"]["path"]).read_bytes())
    assert Additions.parse(**{**given, "loras": {"x": {"path": str(moved), "weight": 0.5}}}).identity() == before
    for field, other in (
        ("loras", {"x": {"path": str(moved), "weight": 0.6}}),
        ("scheduler", {"name": "lcm", "trailing": None} | {"name": "tcd"}),
        ("image_prompt", {**given["image_prompt"], "weight": 0.5}),
        ("embeddings", {"<rust>": given["embeddings"]["<dust>"]}),
    ):
        assert Additions.parse(**{**given, field: other}).identity() != before, field


def test_the_plan_refuses_what_does_not_fit(given: dict[str, Any]) -> None:
    asked = Additions.parse(**given)
    asked.check(SD, ["a <dust> road"])
    with pytest.raises(ConfigError, match="<dust> in no prompt"):
        asked.check(SD, ["a road"])
    with pytest.raises(ConfigError, match=r"lcm does not fit FLUX\.1, which takes flow_euler"):
        asked.check(FLUX, ["<dust>"])
    with pytest.raises(ConfigError, match="image_prompt is there for Stable Diffusion 1, 2 and XL, not for Stable"):
        Additions.parse(image_prompt=given["image_prompt"]).check(SD3, [])


def test_photos_need_a_reader(tiny_sd: Path, given: dict[str, Any]) -> None:
    pipe: Any = open_img2img(tiny_sd, device="cpu", dtype="float32")._pipe  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(SynthaugError, match="reads its photos"):
        additions.apply(pipe, Additions.parse(image_prompt=given["image_prompt"]), steps=4)
