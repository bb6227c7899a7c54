"""What `train texture` fits: a family's model, whose steps are its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from synthaug import seeds
from synthaug.errors import ConfigError
from synthaug.models.texture.family import TextureModel
from synthaug.models.texture.saving import NAME, pack
from synthaug.train import show
from synthaug.train.checkpoint import State
from synthaug.train.machine import Machine
from synthaug.train.texture_card import card
from synthaug.train.tiles import Tiles

if TYPE_CHECKING:
    from synthaug.train.texture import Settings

_ROWS, _COLUMNS = 4, 6
_MOST_ROWS = 12


class Several:
    """Optimisers of disjoint parameters with one state between them: parameters are numbered on.

    Raises:
        ConfigError: An optimiser that is not of Adam's kind; the checkpoint knows no other moments.
    """

    def __init__(self, optimisers: Sequence[torch.optim.Optimizer]) -> None:
        for each in optimisers:
            if not isinstance(each, torch.optim.Adam | torch.optim.AdamW):
                raise ConfigError(f"{type(each).__name__}: expected Adam or AdamW")
        self._optimisers = optimisers
        self._rates = [[group["lr"] for group in each.param_groups] for each in optimisers]

    def set_rate(self, share: float) -> None:
        """Every learning rate to this share of its highest."""
        for each, rates in zip(self._optimisers, self._rates, strict=True):
            for group, rate in zip(each.param_groups, rates, strict=True):
                group["lr"] = rate * share

    def state_dict(self) -> dict[str, Any]:
        """As one optimiser has it."""
        state: dict[int, Any] = {}
        for first, each in self._numbered():
            state |= {first + number: moments for number, moments in each.state_dict()["state"].items()}
        return {"state": state, "param_groups": []}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Gives each its own."""
        state: dict[int, Any] = state_dict["state"]
        for first, each in self._numbered():
            known = each.state_dict()
            count = sum(len(group["params"]) for group in known["param_groups"])
            own = {n: state[first + n] for n in range(count) if first + n in state}
            each.load_state_dict({"state": own, "param_groups": known["param_groups"]})

    def _numbered(self) -> list[tuple[int, torch.optim.Optimizer]]:
        """Each, and the number of its first parameter."""
        found: list[tuple[int, torch.optim.Optimizer]] = []
        first = 0
        for each in self._optimisers:
            found.append((first, each))
            first += sum(len(group["params"]) for group in each.param_groups)
        return found


class TextureWork:
    """A family's model, as `fitting.Fit` wants its work.

    Args:
        settings: What to train, complete.
        family: Its class.
        tiles: Where batches come from.
        machine: Where it runs.

    Attributes:
        model: What is trained.
        optimiser: All that it steps with.

    Raises:
        ConfigError: Settings from which the family cannot be built, or several processes.
    """

    def __init__(self, settings: Settings, family: type[TextureModel], tiles: Tiles, machine: Machine) -> None:
        if machine.world > 1:
            raise ConfigError("train texture runs in one process; start it without a launcher (no WORLD_SIZE)")
        self._settings, self._tiles, self._machine = settings, tiles, machine
        own = settings.model or {}
        try:
            self.model = family(side=settings.side, classes=len(tiles.classes), **own)
        except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"model={own}: no {family.family} can be built from that: {error}") from error
        self.model = self.model.to(machine.device).train()
        self._optimisers = self.model.optimisers(settings.lr)
        self.optimiser = Several(self._optimisers)

    @property
    def parameters(self) -> Mapping[str, torch.Tensor]:
        """The whole state."""
        return self.model.state_dict()

    @property
    def averaged(self) -> Mapping[str, torch.Tensor]:
        """What the family samples with the mean of."""
        names = self.model.averaged
        return {name: value for name, value in self.model.state_dict().items() if name in names}

    def draw(self, step: int, places: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Tiles and labels: a function of its arguments and of the pictures."""
        pixels, labels = self._tiles.batch(step, places)
        return torch.from_numpy(pixels), torch.from_numpy(labels) if self._tiles.classes else None

    def step(self, drawn: tuple[torch.Tensor, torch.Tensor | None], step: int, rate: float) -> torch.Tensor:
        """One step of the family's. What layers draw for themselves (dropout) comes from this step's seed as well."""
        device, half = self._machine.device, self._machine.autocast
        images, labels = drawn[0].to(device), None if drawn[1] is None else drawn[1].to(device)
        self.optimiser.set_rate(rate)
        seed = seeds.fork(seeds.generator(self._settings.seed, f"train/{step}", 0, "noise"))
        torch.manual_seed(seed)
        rng, share = torch.Generator().manual_seed(seed ^ 1), step / self._settings.steps
        try:
            with torch.autocast(device.type, half or torch.bfloat16, enabled=half is not None):
                losses = self.model.fit(images, labels, self._optimisers, share, rng)
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"batch={self._settings.batch} tiles of {self._settings.side} pixels do not fit into the memory of"
                f" {device}; use a smaller batch, side or model. The last checkpoint is whole"
            ) from error
        return next(iter(losses.values()))

    def files(self, mean: Mapping[str, torch.Tensor], state: State) -> dict[str, bytes]:
        """A grid of samples, the model and its card."""
        facts = {
            "steps": state.step,
            "of": self._settings.steps,
            "textures": self._tiles.photos.count,
            "licence": self._settings.licence,
        }
        data = pack(self.model, self._tiles.classes, facts, mean)
        text = card(self._settings, self._tiles, state, self.model, len(data))
        sheet = show.grid(self._samples(mean))
        return {f"samples/{state.step:07d}.png": sheet, f"model/{NAME}": data, "model/README.md": text}

    def _samples(self, mean: Mapping[str, torch.Tensor]) -> list[np.ndarray]:
        """Columns of tiles; a row is a class where there are classes."""
        count = len(self._tiles.classes)
        rows = min(count, _MOST_ROWS) or _ROWS
        own = self.averaged
        held = {name: value.detach().clone() for name, value in own.items()}
        _copy(mean, own)
        self.model.eval()
        columns: list[np.ndarray] = []
        for column in range(_COLUMNS):
            streams = (seeds.generator(self._settings.seed, "show", row, f"column {column}") for row in range(rows))
            labels = torch.arange(rows) if count else None
            tiles = self.model.sample(labels, [seeds.fork(stream) for stream in streams], self._settings.side)
            columns.append((tiles.float().cpu().numpy() + 1) / 2)
        self.model.train()
        _copy(held, own)
        return columns


def _copy(source: Mapping[str, torch.Tensor], target: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, value in target.items():
            value.copy_(source[name])
