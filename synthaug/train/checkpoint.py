"""Everything a training needs to go on, in one safetensors file: it is there whole, or not at all."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from synthaug.errors import ConfigError, InputError

NAME = "checkpoint.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


class Optimiser(Protocol):
    """One of torch, or several that number their parameters on."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


@dataclass(slots=True)
class State:
    """What a training knows beside tensors.

    Attributes:
        step: Steps done.
        losses: Mean loss of every `EVERY` steps.
        identity: Hash of the settings and photos that must stay as they are.
        numbers: What was measured at the start (spread, grain), JSON.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list[float])
    identity: str = ""
    numbers: dict[str, Any] = field(default_factory=dict[str, Any])


def identity_of(value: object) -> str:
    """SHA-256 of settings and photos as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def pack(state: State, network: Any, average: Any, optimiser: Optimiser) -> bytes:
    """The file's bytes."""
    from safetensors.torch import save

    tensors: dict[str, torch.Tensor] = {}
    for prefix, module in (("network", network), ("average", average)):
        tensors |= {f"{prefix}.{name}": value for name, value in module.state_dict().items()}
    for number, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": moments[name] for name in _MOMENTS}
    facts = {"step": state.step, "losses": state.losses, "identity": state.identity, "numbers": state.numbers}
    # Channels-last strides and shared memory are the network's business, not the file's.
    plain = {name: value.detach().to("cpu").contiguous().clone() for name, value in tensors.items()}
    return save(plain, metadata={"state": json.dumps(facts)})


def state_of(data: bytes) -> State:
    """What the file says beside tensors, from its header alone. Raises `InputError` for anything else."""
    try:
        length = int.from_bytes(data[:8], "little")
        facts: Any = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["state"])
        return State(int(facts["step"]), list(facts["losses"]), str(facts["identity"]), dict(facts["numbers"]))
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> InputError:
    return InputError(f"{NAME} cannot be read ({error}); remove it to start anew")


def unpack(data: bytes, identity: str, network: Any, average: Any, optimiser: Optimiser) -> State:
    """Puts tensors back where they were.

    Raises:
        InputError: Not a file of `pack`.
        ConfigError: It belongs to other settings or photos.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    state = state_of(data)
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise _unreadable(error) from error
    if state.identity != identity:
        raise ConfigError(
            f"{NAME} belongs to a training with other settings or photos; choose another out=, or go on with the same"
        )
    for prefix, module in (("network", network), ("average", average)):
        module.load_state_dict(_below(tensors, prefix))
    known = optimiser.state_dict()
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in _below(tensors, "optimiser").items():
        number, moment = name.split(".")
        moments.setdefault(int(number), {"step": torch.tensor(float(state.step))})[moment] = value
    optimiser.load_state_dict({"state": moments, "param_groups": known["param_groups"]})
    return state


def _below(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}
