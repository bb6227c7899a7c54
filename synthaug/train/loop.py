"""The training loop: batches by step number, AdamW, a running mean of the weights, checkpoints."""

from __future__ import annotations

import copy
import math
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from synthaug import seeds
from synthaug.engine.lock import RunLock
from synthaug.engine.progress import clock
from synthaug.engine.publish import Output
from synthaug.engine.stopping import Stopping, stopping
from synthaug.errors import ConfigError, Interrupted, SynthaugError
from synthaug.models import rectified
from synthaug.models.refiner import Facts, Refiner, Wish, to_files
from synthaug.train import checkpoint, show
from synthaug.train.card import card
from synthaug.train.measure import measure
from synthaug.train.photos import Crops

if TYPE_CHECKING:
    from synthaug.train.refiner import Settings

EVERY = 10
"""Losses are kept as means over so many steps."""
_AHEAD = 2
_TELL_EVERY = 15.0
_SHOWN = 6
_WARM = 100
_WEIGHT_DECAY = 0.01
_LARGEST_GRADIENT = 1.0


class Loop:
    """One training, on one device or several.

    Args:
        settings: What to train.
        crops: Where pairs come from.

    Attributes:
        main: Whether this process writes; of several, the first one does.
    """

    def __init__(self, settings: Settings, crops: Crops) -> None:
        self._settings, self._crops = settings, crops
        if settings.threads:
            torch.set_num_threads(settings.threads)
        cv2.setNumThreads(1)
        self._parallel = _accelerator() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else None
        self._rank = self._parallel.process_index if self._parallel else 0
        self._world = self._parallel.num_processes if self._parallel else 1
        self.main = self._rank == 0
        self._device = self._parallel.device if self._parallel else _device(settings.device)
        self._autocast = _precision(settings.precision, self._device)
        torch.manual_seed(settings.seed)
        shape = rectified.Shape(settings.channels, settings.layers)
        network = rectified.network(shape).to(self._device).to(memory_format=torch.channels_last)
        if settings.checkpointing:
            network.enable_gradient_checkpointing()
        self._network = network
        self._average = copy.deepcopy(network).eval().requires_grad_(False)
        self._optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.lr, betas=(0.9, 0.99), weight_decay=_WEIGHT_DECAY
        )
        self._output = Output(Path(settings.out))
        self._state = checkpoint.State()

    def run(self) -> None:
        """Trains to the last step. Raises as `train`."""
        if self.main:
            self._output.preflight()
        try:
            with RunLock(self._output.root) if self.main else nullcontext(), stopping() as stop:
                if self.main:
                    self._output.sweep()
                self._resume()
                self._trained = self._parallel.prepare(self._network) if self._parallel else self._network
                with stop.between_samples():
                    self._steps(stop)
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"batch={self._settings.batch} crops of {self._settings.crop} pixels do not fit into the memory of"
                f" {self._device}; use a smaller batch, or checkpointing=true. The last checkpoint is whole"
            ) from error

    def _resume(self) -> None:
        kept = {**self._settings.kept(), "photos": self._crops.photos.names}
        identity = checkpoint.identity_of(kept)
        found = self._output.read(checkpoint.NAME)
        if found is not None:
            state = checkpoint.unpack(found, identity, self._network, self._average, self._optimiser)
            self._state = state
            self._tell(f"going on after step {state.step}")
        else:
            self._state = checkpoint.State(identity=identity, numbers=measure(self._crops))
        self._facts = Facts(
            channels=self._settings.channels,
            layers=self._settings.layers,
            spread=rectified.Spread(
                tuple(self._state.numbers["knots"]), tuple(tuple(row) for row in self._state.numbers["levels"])
            ),
            grain=tuple(self._state.numbers["grain"]),
            weights="",
        )

    def _steps(self, stop: Stopping) -> None:
        settings, state = self._settings, self._state
        start, first, told = time.monotonic(), state.step, time.monotonic()
        recent: list[float] = []
        for photos, conditions in self._batches(state.step):
            recent.append(self._step(photos, conditions, state.step))
            state.step += 1
            if len(recent) == EVERY or state.step == settings.steps:
                mean = sum(recent) / len(recent)
                if not math.isfinite(mean):
                    raise SynthaugError(
                        f"the loss is {mean} at step {state.step}; use a smaller lr or precision=float32. The last"
                        " checkpoint is from before it, and the same command goes on from there"
                    )
                state.losses.append(mean)
                recent.clear()
            if time.monotonic() - told > _TELL_EVERY:
                told = time.monotonic()
                rate = (state.step - first) / (told - start)
                left = clock((settings.steps - state.step) / rate)
                self._tell(f"{state.step}/{settings.steps}  loss {_recent(state.losses)}  {rate:.2f}/s  ETA {left}")
            if stop.asked.is_set():
                self._save()
                raise Interrupted(f"stopped after step {state.step}; run the same command again to go on")
            if state.step % settings.save_every == 0:
                self._save()
            if state.step % settings.show_every == 0:
                self._show()
        self._save()
        self._show()

    def _batches(self, first: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches of this process, drawn by a thread that stays a little ahead."""
        places = range(self._rank, self._settings.batch, self._world)
        with ThreadPoolExecutor(1) as pool:
            waiting: list[Future[Any]] = []
            for step in range(first, self._settings.steps + _AHEAD):
                if step < self._settings.steps:
                    waiting.append(pool.submit(self._crops.batch, step, places))
                if step >= first + _AHEAD and waiting:
                    photos, conditions = waiting.pop(0).result()
                    yield torch.from_numpy(photos).to(self._device), torch.from_numpy(conditions).to(self._device)

    def _step(self, photos: torch.Tensor, conditions: torch.Tensor, step: int) -> float:
        places = range(self._rank, self._settings.batch, self._world)
        drawn = [_noise(self._settings.seed, step, place, self._settings.crop) for place in places]
        noise = torch.from_numpy(np.stack([each[0] for each in drawn])).to(self._device)
        times = rectified.logit_normal(torch.tensor([each[1] for each in drawn])).to(self._device)
        target = rectified.difference(photos, conditions) / self._facts.spread.at(conditions)
        for group in self._optimiser.param_groups:
            group["lr"] = self._settings.lr * rate_at(step, self._settings.steps)
        self._optimiser.zero_grad()
        with torch.autocast(self._device.type, self._autocast or torch.bfloat16, enabled=self._autocast is not None):
            loss = rectified.flow_loss(self._trained, target, conditions, noise, times)
        self._parallel.backward(loss) if self._parallel else loss.backward()
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), _LARGEST_GRADIENT)
        self._optimiser.step()
        decay = min(self._settings.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, value in zip(self._average.parameters(), self._network.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
        return float(loss.detach())

    def _save(self) -> None:
        if self.main:
            self._output.publish_file(
                checkpoint.NAME, checkpoint.pack(self._state, self._network, self._average, self._optimiser)
            )

    def _show(self) -> None:
        """Publishes the model so far, a grid of samples and the plot."""
        if not self.main:
            return
        state, settings = self._state, self._settings
        photos, conditions = self._crops.batch(-1, range(_SHOWN))
        refiner = Refiner(self._average, self._facts)
        wishes = [Wish(seeds.fork(seeds.generator(settings.seed, "show", i, "noise")), 1.0, 0.5) for i in range(_SHOWN)]
        refined = refiner(torch.from_numpy(conditions).to(self._device), wishes, steps=8).images.cpu().numpy()
        self._output.publish_file(f"samples/{state.step:07d}.png", show.grid([conditions, refined, photos]))
        self._output.publish_file("loss.png", show.plot(state.losses, EVERY))
        files = to_files(self._average, self._facts)
        files["README.md"] = card(
            settings, self._crops.photos, state, len(files["unet/diffusion_pytorch_model.safetensors"])
        )
        # Numbers and weights name each other by hash; a kill between two files is noticed when loading.
        for name, data in files.items():
            self._output.publish_file(f"model/{name}", data)

    def _tell(self, text: str) -> None:
        if self.main:
            print(text, file=sys.stderr, flush=True)


def rate_at(step: int, steps: int) -> float:
    """Share of the highest learning rate: 100 steps up, then level, and down to 1 % over the last quarter.

    Level in the middle (Hu et al., MiniCPM, 2024), so that a training can be made longer, or brought to its end
    sooner, and is still the one that its command describes.
    """
    up = min((step + 1) / _WARM, 1.0)
    return up * min(0.01 + 0.99 * (steps - step - 1) / max(steps // 4, 1), 1.0)


def _noise(seed: int, step: int, place: int, crop: int) -> tuple[Any, float]:
    rng = seeds.generator(seed, f"train/{step}", place, "noise")
    side = crop // rectified.FOLD
    return rng.standard_normal((3 * rectified.FOLD**2, side, side), dtype=np.float32), float(rng.standard_normal())


def _recent(losses: list[float]) -> str:
    last = losses[-20:]
    return f"{sum(last) / len(last):.4f}" if last else "-"


def _accelerator() -> Any:
    """Several processes were launched: accelerate joins them."""
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise ConfigError(
            "WORLD_SIZE is above 1, and several devices need accelerate: pip install accelerate, or start one process"
        ) from error
    return Accelerator()


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device={name}: {error}; use cpu or auto") from error
    return device


def _precision(name: str, device: torch.device) -> torch.dtype | None:
    """The autocast type; None for full precision."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else None
    return torch.bfloat16 if name == "bfloat16" else None
