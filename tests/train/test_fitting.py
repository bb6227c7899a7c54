"""What every training shares: telling trainings apart, weights in a checkpoint, processes that share a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from synthaug.errors import ConfigError, InputError, SynthaugError
from synthaug.train import checkpoint, machine
from synthaug.train.fitting import Fit, Weights, differences
from synthaug.train.lora import Settings


def test_differences_are_told_in_a_few_words() -> None:
    many = [[f"photo{i:03d}.jpg" for i in range(100)]]
    more = [[*many[0][1:], "new\n.jpg"]]
    assert differences({"lr": 1e-3, "rank": 4, "photos": many}, {"lr": 1e-3, "rank": 8, "photos": more}) == [
        "photos: 1 new (new\\n.jpg) and 1 gone (photo000.jpg)",
        "rank was 4, is 8",
    ]
    assert differences({"photos": many}, {"photos": [many[0][::-1]]}) == ["photos are in another order"]
    assert differences({}, {"seed": 1}) == ["seed was None, is 1"]
    assert differences({"a": 1}, {"a": 1}) == []


def test_weights_are_put_back_only_where_all_fit() -> None:
    held = {"a": torch.zeros(2), "b": torch.zeros(3)}
    weights = Weights(held)
    given = {"a": torch.ones(2), "b": torch.full((3,), 2.0)}
    weights.load_state_dict(given)
    assert all(torch.equal(value, given[name]) for name, value in weights.state_dict().items())
    for wrong in ({"a": torch.ones(2)}, {**given, "b": torch.ones(4)}, {**given, "c": torch.ones(1)}):
        with pytest.raises(InputError, match="other tensors"):
            weights.load_state_dict(wrong)
    assert held["b"][0] == 2


def test_processes_share_a_batch_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Joined:
        device, process_index, num_processes = torch.device("cpu"), 1, 3

        def __init__(self, device: str) -> None:
            assert device == "auto"

    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setattr(machine, "accelerator", Joined)
    given: dict[str, Any] = {"data": "photos", "base": "base", "out": "out"}
    found = machine.Machine.of(Settings.of({**given, "batch": 6}))
    assert (found.rank, found.world) == (1, 3)
    with pytest.raises(ConfigError, match="batch=4: expected a multiple of 3"):
        machine.Machine.of(Settings.of({**given, "batch": 4}))


class Breaking:
    """Fits one number, whose gradient is no number from step 7 on, while its loss still is one."""

    def __init__(self) -> None:
        self.network = torch.nn.Linear(1, 1, bias=False)

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        return dict(self.network.named_parameters())

    def draw(self, step: int, places: Sequence[int]) -> int:
        return step

    def loss(self, network: Any, drawn: int) -> torch.Tensor:
        weight = network.weight.sum()
        return weight.square() if drawn < 7 else torch.sqrt(weight - weight) + 1  # 0 / 0 backward

    def files(self, mean: Mapping[str, torch.Tensor], state: checkpoint.State) -> dict[str, bytes]:
        return {}


def test_a_checkpoint_never_holds_weights_that_are_no_numbers(tmp_path: Path) -> None:
    given = {"data": "photos", "base": "base", "steps": 20, "save_every": 4, "show_every": 100, "device": "cpu"}
    settings = Settings.of({**given, "out": str(tmp_path / "out")})
    with pytest.raises(SynthaugError, match=r"(not finite|is nan) at step 8"):
        Fit(settings, {}, lambda machine: Breaking()).run()
    state = checkpoint.state_of((tmp_path / "out" / checkpoint.NAME).read_bytes())
    assert state.step == 4
