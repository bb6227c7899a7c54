"""Schedulers by name: against diffusers' own pipeline, and against a denoiser that knows the answer."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synthaug.errors import ConfigError
from synthaug.models import schedulers
from synthaug.models.pipelines import Extras, Img2ImgModel, Request, open_img2img
from synthaug.models.schedulers import KINDS, Scheduler
from synthaug.refine.differential import DifferentialBlend, free_from
from tests.models.families import build_flux, build_sd3

torch.set_num_threads(1)
DIFFUSION = [name for name, kind in KINDS.items() if not kind.flow]
FLOW = [name for name, kind in KINDS.items() if kind.flow]
CHOICES = [
    *({"name": name} for name in DIFFUSION),
    *({"name": name, "trailing": True} for name in DIFFUSION if KINDS[name].spaced),
    *({"name": name, "karras": True} for name in DIFFUSION if KINDS[name].karras),
]
STEPS = 8


@pytest.fixture(scope="module")
def model(tiny_sd: Path) -> Img2ImgModel:
    return open_img2img(tiny_sd, device="cpu", dtype="float32")


@pytest.fixture
def pipe(model: Img2ImgModel) -> Any:
    """With its own scheduler put back afterwards."""
    found: Any = model._pipe  # pyright: ignore[reportPrivateUsage]
    own = found.scheduler
    yield found
    found.scheduler = own


def install(pipe: Any, choice: dict[str, Any], steps: int = STEPS) -> Scheduler:
    scheduler = Scheduler.parse(choice)
    assert scheduler is not None
    schedulers.install(pipe, scheduler, steps)
    return scheduler


def told(choice: dict[str, Any]) -> str:
    return "-".join(str(value) if key == "name" else key for key, value in choice.items())


def pictures(count: int = 2) -> torch.Tensor:
    return torch.rand((count, 3, 64, 64), generator=torch.Generator().manual_seed(0))


def requests(count: int = 2, strength: float = 0.55) -> list[Request]:
    return [Request("a b", "z", strength, 10 + i) for i in range(count)]


@pytest.mark.parametrize("choice", CHOICES, ids=told)
def test_pictures_are_those_of_diffusers_own_pipeline(model: Img2ImgModel, pipe: Any, choice: dict[str, Any]) -> None:
    plain = model(pictures(), requests(), steps=STEPS, guidance=4.0).images
    install(pipe, choice)
    assert type(pipe.scheduler).__name__ == KINDS[choice["name"]].cls
    ours = model(pictures(), requests(), steps=STEPS, guidance=4.0).images
    theirs = model._run(pictures(), requests(), 0.55, STEPS, 4.0)[0]  # pyright: ignore[reportPrivateUsage]
    assert (ours - theirs).abs().max() < 1e-4
    if choice != {"name": "ddim"}:
        assert not torch.equal(plain, ours)


@pytest.mark.parametrize("name", DIFFUSION)
def test_a_picture_depends_on_its_own_noise_alone(model: Img2ImgModel, pipe: Any, name: str) -> None:
    install(pipe, {"name": name})
    first = model(pictures(), requests(), steps=STEPS, guidance=1.0).images
    other = model(pictures().flip(0), requests()[::-1], steps=STEPS, guidance=1.0).images
    assert torch.equal(first, other.flip(0))


@pytest.mark.parametrize("choice", CHOICES, ids=told)
def test_a_denoiser_that_knows_the_picture_gets_it_back(pipe: Any, choice: dict[str, Any]) -> None:
    """Midway into the schedule, as img2img enters it; some stop at the least noise that they were trained on."""
    install(pipe, choice)
    scheduler = pipe.scheduler
    draw = torch.Generator().manual_seed(1)
    answer, start = (torch.randn((1, 4, 16, 16), generator=draw) for _ in range(2))
    first = (STEPS - int(STEPS * 0.55)) * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    timesteps = scheduler.timesteps[first:]
    levels = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).log().numpy() / 2
    more = {"generator": draw} if "generator" in inspect.signature(scheduler.step).parameters else {}
    latents = scheduler.add_noise(answer, start, timesteps[:1])
    for timestep in timesteps:
        sigma = float(np.exp(np.interp(float(timestep), np.arange(len(levels)), levels)))
        clean, noisy = 1 / (1 + sigma**2) ** 0.5, sigma / (1 + sigma**2) ** 0.5
        epsilon = (scheduler.scale_model_input(latents, timestep) - clean * answer) / noisy
        latents = scheduler.step(epsilon, timestep, latents, return_dict=False, **more)[0]
    assert (latents - answer).abs().mean() < (0.06 if choice["name"] == "pndm" else 0.03)


@pytest.mark.parametrize("name", DIFFUSION)
def test_places_that_are_held_back_keep_their_latents(
    model: Img2ImgModel, pipe: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a scheduler looks twice in a step."""
    install(pipe, {"name": name})
    assert model.loop is not None
    seen: list[torch.Tensor] = []
    decoded = model.loop._decoded  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(model.loop, "_decoded", lambda latents: (seen.append(latents.clone()), decoded(latents))[1])
    for free in (0.0, 0.5):
        strength = np.zeros((1, 1, 8, 8), np.float32)
        strength[..., 4:] = free

        def hold(original: Any, noised: Any, steps: int, strength: Any = strength) -> DifferentialBlend:
            return DifferentialBlend(torch.from_numpy(free_from(strength, steps)), original, noised, steps)

        model(pictures(1), requests(1), steps=STEPS, guidance=1.0, extras=Extras(hold=hold))
    none, half = seen
    assert torch.isfinite(half).all()
    assert torch.equal(half[..., :4], none[..., :4])
    assert (half[..., 4:] != none[..., 4:]).any()


@pytest.mark.parametrize("build", [build_flux, build_sd3], ids=["flux", "sd3"])
@pytest.mark.parametrize("name", FLOW)
def test_flow_matching_has_its_own(tmp_path: Path, build: Any, name: str) -> None:
    model = open_img2img(build(tmp_path / "m"), device="cpu", dtype="float32")
    family = model.snapshot.family
    scheduler = install(model._pipe, {"name": name})  # pyright: ignore[reportPrivateUsage]
    scheduler.check(family.name, flow=family.flow)
    first = model(pictures(), requests(), steps=4, guidance=1.0)
    assert first.reasons == ("", "")
    other = model(pictures()[[0, 0]], [requests()[0]] * 2, steps=4, guidance=1.0)
    assert torch.equal(first.images[0], other.images[0])
    with pytest.raises(ConfigError, match=rf"scheduler=euler does not fit {family.name}, which takes flow_euler"):
        Scheduler("euler").check(family.name, flow=family.flow)


def test_one_of_flow_matching_does_not_fit_diffusion() -> None:
    with pytest.raises(ConfigError, match=r"flow_euler does not fit Stable Diffusion 1/2, which takes ddim, .*tcd$"):
        Scheduler("flow_euler").check("Stable Diffusion 1/2", flow=False)


@pytest.mark.parametrize(("name", "steps"), [("lcm", 60), ("tcd", 60), ("euler", 0)])
def test_steps_that_a_scheduler_cannot_run_are_refused(pipe: Any, name: str, steps: int) -> None:
    with pytest.raises(ConfigError, match=rf"scheduler={name} with steps={steps}"):
        install(pipe, {"name": name}, steps)


def test_noise_levels_stay_those_of_the_model(pipe: Any) -> None:
    own = dict(pipe.scheduler.config)
    install(pipe, {"name": "euler", "karras": True})
    for key in ("beta_start", "beta_end", "beta_schedule", "num_train_timesteps"):
        assert pipe.scheduler.config[key] == own[key]
    assert pipe.scheduler.config["use_karras_sigmas"] is True


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("eular", "Did you mean 'euler"),
        ({"name": "euler", "karas": True}, "Did you mean 'karras'"),
        ({"karras": True}, "expected a name"),
        ({"name": "ddim", "karras": True}, "ddim has no such choice; those that do: euler"),
        ({"name": "lcm", "trailing": True}, "lcm has no such choice"),
        ({"name": "euler", "karras": 1}, "expected true or false"),
        (3, "expected a name"),
    ],
)
def test_configuration_that_is_none_is_refused(given: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Scheduler.parse(given)


@pytest.mark.parametrize("given", [None, "", {}])
def test_nothing_keeps_the_models_own(given: Any) -> None:
    assert Scheduler.parse(given) is None
