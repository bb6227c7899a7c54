"""What every training shares about where it runs and how fast it learns."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import torch

from synthaug.errors import ConfigError
from synthaug.models.opening import device_of

EVERY = 10
"""Losses are kept as means over so many steps."""
_WARM = 100


def rate_at(step: int, steps: int) -> float:
    """Share of the highest learning rate: 100 steps up, then level, and down to 1 % over the last quarter.

    Level in the middle (Hu et al., MiniCPM, 2024), so that a training can be made longer, or brought to its end
    sooner, and is still the one that its command describes.
    """
    up = min((step + 1) / _WARM, 1.0)
    return up * min(0.01 + 0.99 * (steps - step - 1) / max(steps // 4, 1), 1.0)


def accelerator(device: str) -> Any:
    """Several processes were launched: accelerate joins them. Raises `ConfigError` where it is not installed."""
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise ConfigError(
            "WORLD_SIZE is above 1, and several devices need accelerate: pip install accelerate, or start one process"
        ) from error
    # Without a GPU it joins nothing unless told that the CPU is meant.
    return Accelerator(cpu=device == "cpu" or not torch.cuda.is_available())


def precision_of(name: str, device: torch.device) -> torch.dtype | None:
    """The autocast type; None for full precision."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else None
    return torch.bfloat16 if name == "bfloat16" else None


class Common(Protocol):
    """Settings that every training has; see `conf/train`."""

    @property
    def out(self) -> str: ...
    @property
    def steps(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def crop(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def ema(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def device(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def save_every(self) -> int: ...
    @property
    def show_every(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a training runs.

    Attributes:
        device: Of this process.
        autocast: Half precision, or None.
        parallel: The `Accelerator` that joins several processes; None for one.
    """

    device: torch.device
    autocast: torch.dtype | None
    parallel: Any = None

    @staticmethod
    def of(settings: Common) -> Machine:
        """Raises `ConfigError` for a device that is not there, or a batch that processes cannot share evenly."""
        if settings.threads:
            torch.set_num_threads(settings.threads)
        cv2.setNumThreads(1)
        parallel = accelerator(settings.device) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else None
        device = parallel.device if parallel else torch.device(device_of(settings.device))
        machine = Machine(device, precision_of(settings.precision, device), parallel)
        if settings.batch % machine.world:
            raise ConfigError(f"batch={settings.batch}: expected a multiple of {machine.world}, as there are processes")
        return machine

    @property
    def rank(self) -> int:
        """Number of this process."""
        return int(self.parallel.process_index) if self.parallel else 0

    @property
    def world(self) -> int:
        """Number of processes."""
        return int(self.parallel.num_processes) if self.parallel else 1
