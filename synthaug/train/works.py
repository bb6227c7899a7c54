"""What a training fits, as the loop sees it: one loss to go down, or a work that takes its own steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch

from synthaug.train import checkpoint
from synthaug.train.machine import Machine

_WEIGHT_DECAY = 0.01
_LARGEST_GRADIENT = 1.0


class Fitted(Protocol):
    """What every work has, whoever takes its steps."""

    @property
    def parameters(self) -> Mapping[str, torch.Tensor]:
        """What is trained; of a work with steps of its own, all that a checkpoint must hold."""
        ...

    def draw(self, step: int, places: Sequence[int]) -> Any:
        """These places of one step's batch, in host memory; called in a thread. A function of its arguments."""
        ...

    def files(self, mean: Mapping[str, torch.Tensor], state: checkpoint.State) -> dict[str, bytes]:
        """What is published of the running mean of the weights, in this order: samples, model, card."""
        ...


class Work(Fitted, Protocol):
    """What is fitted to one loss, by AdamW."""

    @property
    def network(self) -> Any:
        """The module that is called; of several processes, each has its own."""
        ...

    @property
    def parameters(self) -> Mapping[str, torch.nn.Parameter]:
        """What is trained of it."""
        ...

    def loss(self, network: Any, drawn: Any) -> torch.Tensor:
        """Mean over what was drawn."""
        ...


@runtime_checkable
class Stepping(Fitted, Protocol):
    """What takes its own steps: losses against each other, stages. It runs in one process."""

    @property
    def averaged(self) -> Mapping[str, torch.Tensor]:
        """Those of `parameters` whose running mean is kept."""
        ...

    @property
    def optimiser(self) -> checkpoint.Optimiser:
        """All that it steps with."""
        ...

    def step(self, drawn: Any, step: int, rate: float) -> torch.Tensor:
        """One step at this share of the highest learning rates; returns the loss that is plotted."""
        ...


class Descent:
    """Steps along the gradient of one loss, by AdamW, in one process or several."""

    def __init__(self, work: Work, lr: float, machine: Machine) -> None:
        self._work, self._lr, self._machine = work, lr, machine
        self._values = list(work.parameters.values())
        self.optimiser = torch.optim.AdamW(self._values, lr=lr, betas=(0.9, 0.99), weight_decay=_WEIGHT_DECAY)
        self._trained = machine.parallel.prepare(work.network) if machine.parallel else work.network

    def step(self, drawn: Any, step: int, rate: float) -> torch.Tensor:
        """As `Stepping.step`."""
        machine, half = self._machine, self._machine.autocast
        for group in self.optimiser.param_groups:
            group["lr"] = self._lr * rate
        self.optimiser.zero_grad()
        with torch.autocast(machine.device.type, half or torch.bfloat16, enabled=half is not None):
            loss = self._work.loss(self._trained, drawn)
        machine.parallel.backward(loss) if machine.parallel else loss.backward()
        torch.nn.utils.clip_grad_norm_(self._values, _LARGEST_GRADIENT)
        self.optimiser.step()
        return loss
