"""The loop of a training, whatever is fitted: batches by step number, AdamW, a running mean, checkpoints, progress."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from synthaug.engine.lock import RunLock
from synthaug.engine.progress import clock
from synthaug.engine.publish import Output
from synthaug.engine.stopping import Stopping, stopping
from synthaug.errors import ConfigError, InputError, Interrupted, SynthaugError, printable
from synthaug.train import checkpoint, show
from synthaug.train.machine import EVERY, Common, Machine, rate_at
from synthaug.train.works import Descent, Stepping, Work

_AHEAD = 2
_TELL_EVERY = 15.0
_LONGEST = 72


class Fit:
    """One training, on one device or several.

    Args:
        settings: How.
        kept: What must stay as it is for a checkpoint to be gone on from, JSON.
        build: Makes the work, once the output is known to be ours.
    """

    def __init__(self, settings: Common, kept: Mapping[str, Any], build: Callable[[Machine], Work | Stepping]) -> None:
        self._settings, self._build = settings, build
        self._kept: dict[str, Any] = json.loads(json.dumps(kept))  # tuples as the lists that a checkpoint gives back
        self._machine = Machine.of(settings)
        self.main = self._machine.rank == 0
        self._output = Output(Path(settings.out))

    def run(self) -> None:
        """Trains to the last step.

        Raises:
            ConfigError: Output that cannot be used, other settings than the checkpoint's, too little memory.
            InputError: A checkpoint that cannot be read.
            Interrupted: Stopped by a signal, after a checkpoint.
            SynthaugError: The loss is no longer finite.
        """
        if self.main:
            self._output.preflight()
        try:
            with RunLock(self._output.root) if self.main else nullcontext(), stopping() as stop:
                if self.main:
                    self._output.sweep()
                torch.manual_seed(self._settings.seed)
                self._start(self._build(self._machine))
                with stop.between_samples():
                    self._steps(stop)
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"batch={self._settings.batch} crops of {self._settings.crop} pixels do not fit into the memory of"
                f" {self._machine.device}; use a smaller batch or crop, or checkpointing=true. The last checkpoint is"
                " whole"
            ) from error

    def _start(self, work: Work | Stepping) -> None:
        self._work = work
        if isinstance(work, Stepping):
            self._optimiser, self._averaged, self._advance = work.optimiser, work.averaged, work.step
        else:
            descent = Descent(work, self._settings.lr, self._machine)
            self._optimiser, self._averaged, self._advance = descent.optimiser, work.parameters, descent.step
        self._mean = {name: value.detach().clone() for name, value in self._averaged.items()}
        self._state = self._resumed()
        self._recent: list[Any] = list(self._state.numbers.pop("recent", []))

    def _resumed(self) -> checkpoint.State:
        identity = checkpoint.identity_of(self._kept)
        found = self._output.read(checkpoint.NAME)
        if found is None:
            return checkpoint.State(identity=identity, numbers={"kept": self._kept})
        before = checkpoint.state_of(found)
        if before.identity != identity:
            changes = "; ".join(differences(before.numbers.get("kept", {}), self._kept))
            raise ConfigError(
                f"{checkpoint.NAME} in {self._output.root} belongs to another training: {changes}. Choose another"
                " out=, or go on with the same"
            )
        weights, mean = Weights(self._work.parameters), Weights(self._mean)
        state = checkpoint.unpack(found, identity, weights, mean, self._optimiser)
        self._tell(f"going on after step {state.step}")
        return state

    def _steps(self, stop: Stopping) -> None:
        settings, state = self._settings, self._state
        start, first, told = time.monotonic(), state.step, time.monotonic()
        for drawn in self._batches(state.step):
            self._recent.append(self._step(drawn, state.step))
            state.step += 1
            if len(self._recent) == EVERY or state.step == settings.steps:
                self._note()
            if time.monotonic() - told > _TELL_EVERY:
                told = time.monotonic()
                rate = (state.step - first) / (told - start)
                left = clock((settings.steps - state.step) / rate)
                self._tell(f"{state.step}/{settings.steps}  loss {show.recent(state.losses)}  {rate:.2f}/s  ETA {left}")
            if self._asked(stop):
                self._save()
                raise Interrupted(f"stopped after step {state.step}; run the same command again to go on")
            if state.step % settings.save_every == 0:
                self._save()
            if state.step % settings.show_every == 0:
                self._show()
        self._save()
        self._show()

    def _note(self) -> None:
        """Losses wait on the device until here, so that a step waits for nothing."""
        mean = sum(map(float, self._recent)) / len(self._recent)
        self._recent.clear()
        self._refuse(not math.isfinite(mean), f"the loss is {mean}")
        self._state.losses.append(mean)

    def _refuse(self, broken: bool, what: str) -> None:
        """Raises `SynthaugError` where training has come to numbers that are none."""
        if broken:
            raise SynthaugError(
                f"{what} at step {self._state.step}; use a smaller lr or precision=float32. The last checkpoint is from"
                " before it, and the same command goes on from there"
            )

    def _asked(self, stop: Stopping) -> bool:
        """Whether to stop. Of several processes each may hear of it at another step, so they agree now and then."""
        parallel = self._machine.parallel
        if parallel is None:
            return stop.asked.is_set()
        if self._state.step % EVERY:
            return False
        heard = torch.tensor(float(stop.asked.is_set()), device=self._machine.device)
        return float(parallel.reduce(heard, "sum")) > 0

    def _batches(self, first: int) -> Iterator[Any]:
        """Batches of this process, drawn by a thread that stays a little ahead."""
        places = range(self._machine.rank, self._settings.batch, self._machine.world)
        with ThreadPoolExecutor(1) as pool:
            waiting: list[Future[Any]] = []
            for step in range(first, self._settings.steps + _AHEAD):
                if step < self._settings.steps:
                    waiting.append(pool.submit(self._work.draw, step, places))
                if step >= first + _AHEAD and waiting:
                    yield waiting.pop(0).result()

    def _step(self, drawn: Any, step: int) -> torch.Tensor:
        loss = self._advance(drawn, step, rate_at(step, self._settings.steps))
        decay = min(self._settings.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean, value in zip(self._mean.values(), self._averaged.values(), strict=True):
                mean.lerp_(value, 1 - decay)
        return loss.detach()

    def _save(self) -> None:
        if not self.main:
            return
        state = self._state
        recent = [float(loss) for loss in self._recent]
        values = self._work.parameters.values()
        broken = next((loss for loss in recent if not math.isfinite(loss)), None)
        self._refuse(broken is not None, f"the loss is {broken}")
        self._refuse(not all(bool(torch.isfinite(v).all()) for v in values), "a weight is not finite")
        numbers = {**state.numbers, "recent": recent}
        whole = checkpoint.State(state.step, state.losses, state.identity, numbers)
        weights, mean = Weights(self._work.parameters), Weights(self._mean)
        self._output.publish_file(checkpoint.NAME, checkpoint.pack(whole, weights, mean, self._optimiser))

    def _show(self) -> None:
        """Publishes the work so far, and the plot."""
        if self.main:
            self._output.publish_file("loss.png", show.plot(self._state.losses, EVERY))
            for name, data in self._work.files(self._mean, self._state).items():
                self._output.publish_file(name, data)

    def _tell(self, text: str) -> None:
        if self.main:
            print(text, file=sys.stderr, flush=True)


class Weights:
    """Named tensors, with the two calls that a checkpoint makes of a network."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._tensors = tensors

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The tensors."""
        return dict(self._tensors)

    def load_state_dict(self, found: Mapping[str, torch.Tensor]) -> None:
        """Copies values in place. Raises `InputError` where names or shapes differ."""
        for name, value in self._tensors.items():
            if name not in found or found[name].shape != value.shape or len(found) != len(self._tensors):
                raise InputError(f"{checkpoint.NAME} holds other tensors ({name}); remove it to start anew")
        with torch.no_grad():
            for name, value in self._tensors.items():
                value.copy_(found[name])


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What changed between two descriptions of a training, a few words each; JSON."""
    return [
        _change(name, before.get(name), now.get(name))
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def _change(name: str, was: Any, now: Any) -> str:
    said = printable(str(was)), printable(str(now))
    if max(map(len, said)) <= _LONGEST:
        return f"{name} was {said[0]}, is {said[1]}"
    old, new = _leaves(was), _leaves(now)
    gone, come = [x for x in old if x not in new], [x for x in new if x not in old]
    if not gone and not come:
        return f"{name} are in another order"
    told = [
        f"{len(some)} {word} ({printable(next(iter(some)))})" for word, some in (("new", come), ("gone", gone)) if some
    ]
    return f"{name}: {' and '.join(told)}"


def _leaves(value: Any) -> dict[str, None]:
    """Texts in nested lists and mappings, in order."""
    if isinstance(value, Mapping):
        value = [f"{key}: {each}" for key, each in value.items()]
    if not isinstance(value, list):
        return {str(value): None}
    return {leaf: None for each in value for leaf in _leaves(each)}
