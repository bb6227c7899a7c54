"""A teacher whose flow is known in closed form, and pupils that know or do not know it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from synthaug.models import distil, rectified
from synthaug.models.distil import Teacher

torch.set_num_threads(1)


class Decaying(torch.nn.Module):
    """Velocity `rate` * x: each Euler step of length h multiplies x by 1 - h * rate."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = torch.nn.Parameter(torch.tensor(rate))
        self.calls = 0

    def forward(self, inputs: torch.Tensor, times: torch.Tensor) -> Any:
        self.calls += 1
        return SimpleNamespace(sample=self.rate * inputs[:, :12])


def scene(count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.rand(count, 3, 32, 32), torch.randn(count, 12, 16, 16)


@pytest.mark.parametrize(("steps", "pupil"), [(8, 2), (6, 3), (4, 1)])
def test_windows_are_the_teachers_own_places(steps: int, pupil: int) -> None:
    condition, noise = scene()
    strength = torch.tensor([1.0, 0.5])
    teacher = Decaying(0.8)
    places, times = Teacher(teacher, steps, pupil).windows(condition, noise, strength)
    assert teacher.calls == steps
    assert len(places) == len(times) == pupil + 1
    for row, s in enumerate((1.0, 0.5)):
        for border in range(pupil + 1):
            assert float(times[border][row]) == pytest.approx(s * (1 - border / pupil))
            expected = s * noise[row] * (1 - 0.8 * s / steps) ** (border * steps // pupil)
            assert torch.allclose(places[border][row], expected, atol=1e-5)


def test_the_teachers_way_is_the_samplers() -> None:
    condition, _ = scene(1)
    torch.manual_seed(1)
    unet = rectified.network(rectified.Shape((8, 16))).eval()
    spread = rectified.Spread((0.001, 0.1), ((0.01, 0.02),) * 3)
    sampled = rectified.sample(unet, condition, [5], spread=spread, strength=0.7, steps=4)
    from synthaug import seeds

    noise = torch.from_numpy(seeds.normal(5, (12, 16, 16)))[None]
    places, _ = Teacher(unet, 4, 2).windows(condition, noise, torch.tensor([0.7]))
    end = torch.nn.functional.pixel_shuffle(places[-1], 2) * spread.at(condition)
    assert torch.allclose(sampled, rectified.from_opponent(end), atol=1e-5)


def test_a_pupil_that_lands_where_the_teacher_does_loses_nothing() -> None:
    condition, noise = scene()
    teacher = Teacher(Decaying(0.8), 8, 1)
    # From t = 1 in one step: x (1 - rate) = x (1 - 0.1)^8.
    knowing = Decaying(1 - 0.9**8)
    assert float(teacher.loss(knowing, condition, noise, torch.ones(2)).detach()) < 1e-9
    assert float(teacher.loss(Decaying(0.8), condition, noise, torch.ones(2)).detach()) > 1e-3


def test_gradients_reach_the_pupil_alone_in_one_call() -> None:
    condition, noise = scene()
    master, pupil = Decaying(0.8), Decaying(0.8)
    Teacher(master, 8, 2).loss(pupil, condition, noise, torch.ones(2)).backward()
    assert master.rate.grad is None
    assert pupil.rate.grad is not None
    assert pupil.calls == 1


def test_learns_two_steps_for_eight() -> None:
    condition, noise = scene()
    pupil = Decaying(0.8)
    teacher = Teacher(Decaying(0.8), 8, 2)
    optimiser = torch.optim.SGD(pupil.parameters(), lr=0.3)
    losses: list[float] = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = teacher.loss(pupil, condition, noise, torch.ones(2))
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.01 * losses[0]
    # Two steps of the pupil: (1 - r / 2)^2 = 0.9^8.
    assert float(pupil.rate.detach()) == pytest.approx(2 * (1 - 0.9**4), abs=1e-3)


def test_maps_reach_both() -> None:
    condition, noise = scene()
    shape = rectified.Shape((8,), 1, 2)
    torch.manual_seed(2)
    master, pupil = rectified.network(shape), rectified.network(shape)
    told = torch.rand(2, 2, 32, 32)
    teacher = Teacher(master, 2, 1)
    one, other = (teacher.loss(pupil, condition, noise, torch.ones(2), maps) for maps in (told, 0 * told))
    assert float(one.detach()) != float(other.detach())


def test_three_quarters_start_from_pure_noise() -> None:
    found = distil.strengths(torch.randn(20000, generator=torch.Generator().manual_seed(0)))
    assert float((found == 1).float().mean()) == pytest.approx(0.75, abs=0.01)
    rest = found[found < 1]
    assert 0.3 <= float(rest.min()) < 0.32
    assert float(rest.mean()) == pytest.approx(0.65, abs=0.01)
