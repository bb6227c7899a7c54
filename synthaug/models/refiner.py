"""A refiner's folder: a diffusers UNet2DModel, its scheduler, and the few numbers that belong to it.

    refiner.json                                   what the network was trained for; SHA-256 of its weights
    unet/config.json                               UNet2DModel
    unet/diffusion_pytorch_model.safetensors
    scheduler/scheduler_config.json                FlowMatchEulerDiscreteScheduler
    README.md                                      the model card

Only these files are read, by these names, and the classes they may name are these two.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from synthaug import seeds
from synthaug.errors import ConfigError, InputError, SecurityError, printable
from synthaug.models import guards, rectified
from synthaug.models.pipelines import Output
from synthaug.models.plain import check_fields, check_safetensors, read_json
from synthaug.models.refiner_facts import FACTS as FACTS
from synthaug.models.refiner_facts import Facts as Facts
from synthaug.models.refiner_facts import facts_from

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
CONFIG = "unet/config.json"
SCHEDULER = "scheduler/scheduler_config.json"
STEPS = 8
"""Calls of the network where `refiner.json` says nothing else."""
NOISE = 6
"""Channels of noise that a picture may be given: three that the flow starts from, three for grain."""
_GRAIN = 0xA5A5_5A5A
"""Sets the stream of the guard's grain apart from that of the flow, under one seed."""


def to_files(unet: Any, facts: Facts) -> dict[str, bytes]:
    """The folder's files by name, without the card; weights in half precision.

    Args:
        unet: From `rectified.network`, or its state dict's owner; only read.
        facts: Its numbers; `weights` is filled in here.
    """
    from safetensors.torch import save

    tensors = {name: value.detach().to("cpu", torch.float16).contiguous() for name, value in unet.state_dict().items()}
    weights = save(tensors, metadata={"format": "pt"})
    rows = facts.rows() | {"weights": hashlib.sha256(weights).hexdigest()}
    config = {key: value for key, value in dict(unet.config).items() if not key.startswith("_")}
    config = {"_class_name": "UNet2DModel", **config}
    scheduler = {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "num_train_timesteps": rectified.TRAIN_STEPS,
        "shift": 1.0,
    }
    return {WEIGHTS: weights, CONFIG: _json(config), SCHEDULER: _json(scheduler), FACTS: _json(rows)}


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"


def read_facts(path: str | Path) -> Facts:
    """Checks a folder without loading it. Hashes the weights, about 10 ms.

    Raises:
        ConfigError: No refiner there.
        InputError: A file is missing, truncated, or not what `refiner.json` says.
        SecurityError: A file is not what its name says, or asks for other classes.
    """
    root = Path(path)
    if not (root / FACTS).is_file():
        nested = "; its folder model/ is one" if (root / "model" / FACTS).is_file() else ""
        other = "; this is a diffusers pipeline, which refine=img2img runs"
        raise ConfigError(
            f"model={printable(str(path))}: no {FACTS} in it; expected a folder that `synthaug train refiner` wrote"
            + (other if (root / "model_index.json").is_file() else nested)
        )
    for name, cls in ((CONFIG, "UNet2DModel"), (SCHEDULER, "FlowMatchEulerDiscreteScheduler")):
        _check_config(root, name, cls)
    facts = facts_from(read_json(root / FACTS, FACTS))
    if not (root / WEIGHTS).is_file():
        raise InputError(f"model={printable(str(path))}: {WEIGHTS} is missing; copy the whole folder")
    check_safetensors(root / WEIGHTS, WEIGHTS)
    found = hashlib.sha256((root / WEIGHTS).read_bytes()).hexdigest()
    if found != facts.weights:
        raise InputError(
            f"{WEIGHTS} has SHA-256 {found}, {FACTS} says {printable(facts.weights)}; copy the folder again"
        )
    return facts


def _check_config(root: Path, name: str, cls: str) -> None:
    if not (root / name).is_file():
        raise InputError(f"model={printable(str(root))}: {name} is missing; copy the whole folder")
    config = read_json(root / name, name)
    check_fields(config, name)
    said = cast("dict[str, Any]", config).get("_class_name") if isinstance(config, dict) else None
    if said != cls:
        raise SecurityError(f"{name} asks for the class '{printable(str(said))}', expected {cls}")


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of one picture.

    Attributes:
        seed: 63 bits, behind all noise of this picture.
        strength: In (0, 1]; share of the way to noise that the flow starts from.
        grain: In [0, 1]: quantile of the photos' grain that flat surfaces get.
    """

    seed: int
    strength: float
    grain: float


class Refiner:
    """A loaded refiner. Each picture depends on its own wish alone.

    On a CPU pictures go through one at a time, so that not even the last bit depends on the batch.

    Args:
        unet: The network, in the precision it computes in.
        facts: Its numbers.
    """

    def __init__(self, unet: Any, facts: Facts) -> None:
        self._unet = unet
        self.facts = facts

    @property
    def network(self) -> Any:
        """The UNet2DModel, without gradients."""
        return self._unet

    @property
    def multiple(self) -> int:
        """Sides of a picture are padded to a multiple of this many pixels."""
        return self.facts.shape.multiple

    def __call__(
        self,
        images: torch.Tensor,
        wishes: Sequence[Wish],
        *,
        steps: int,
        colour: float = 1.0,
        smooth: float = 1.0,
        maps: torch.Tensor | None = None,
        noise: torch.Tensor | None = None,
    ) -> Output:
        """Refines a micro-batch; a pass for each distinct strength.

        Args:
            images: [B, 3, H, W] float32 sRGB in [0, 1], any size.
            wishes: One per picture.
            steps: Calls of the network; 0 takes as many as it was made for.
            colour: 0 to 1, see `guards.keep_colour`.
            smooth: 0 to 1, see `guards.match_grain`.
            maps: [B, C, H, W] of `facts.maps.encode`; None where no picture has any.
            noise: [B, NOISE, H', W'] standard normal, H' and W' the padded sides; the first three channels are what
                the flow starts from, the others the grain. None draws both from the wishes' seeds.

        Returns:
            Pictures of the same size; NaN where a value was not finite, with the reason `nonfinite`.
        """
        steps = steps or self.facts.steps or STEPS
        if maps is None and self.facts.maps.channels:
            maps = images.new_zeros((len(images), self.facts.maps.channels, *images.shape[2:]), dtype=torch.float32)
        result = torch.empty_like(images, dtype=torch.float32)
        rows = list(range(len(wishes)))
        for order, kept in _turns(wishes, one_by_one=images.device.type == "cpu"):
            chosen = [wishes[row] for row in order]
            told, given = (None if one is None else one[order] for one in (maps, noise))
            done = self._refined(images[order].float(), chosen, steps, colour, smooth, told, given)
            for place in kept:
                result[order[place]] = done[place]
        alive = torch.isfinite(result).flatten(1).all(1).tolist()
        for row in rows:
            if not alive[row]:
                result[row] = torch.nan
        return Output(result, tuple("" if fine else "nonfinite" for fine in alive))

    def _refined(
        self,
        images: torch.Tensor,
        wishes: Sequence[Wish],
        steps: int,
        colour: float,
        smooth: float,
        maps: torch.Tensor | None,
        noise: torch.Tensor | None,
    ) -> torch.Tensor:
        added = rectified.sample(
            self._unet,
            images,
            [wish.seed for wish in wishes],
            spread=self.facts.spread,
            strength=wishes[0].strength,
            steps=steps,
            maps=maps,
            noise=None if noise is None else noise[:, :3],
        )
        refined = guards.keep_colour(images + added, images, colour)
        if smooth:
            levels = [self._level(wish.grain) for wish in wishes]
            refined = guards.match_grain(refined, images, levels, smooth, _grain(images, wishes, noise))
        # An infinity must not pass for a plain white.
        return torch.where(torch.isfinite(refined), refined.clamp(0, 1), torch.nan)

    def _level(self, quantile: float) -> float:
        grain = self.facts.grain
        place = quantile * (len(grain) - 1)
        low = min(int(place), len(grain) - 1)
        return grain[low] + (place - low) * (grain[min(low + 1, len(grain) - 1)] - grain[low])


def _grain(images: torch.Tensor, wishes: Sequence[Wish], noise: torch.Tensor | None) -> torch.Tensor:
    """Standard normal [B, 3, H, W]."""
    if noise is not None:
        return noise[:, 3:, : images.shape[2], : images.shape[3]]
    size = tuple(images.shape[1:])
    drawn = torch.stack([torch.from_numpy(seeds.normal(wish.seed ^ _GRAIN, size)) for wish in wishes])
    return drawn.to(images.device)


def _turns(wishes: Sequence[Wish], *, one_by_one: bool) -> list[tuple[list[int], list[int]]]:
    """The rows of each call, and the places in it whose results count.

    Batches keep their length, for on a device arithmetic follows the shape: where a row has another strength, the
    first of this one stands in.
    """
    rows = range(len(wishes))
    if one_by_one:
        return [([row], [0]) for row in rows]
    turns: list[tuple[list[int], list[int]]] = []
    for strength in sorted({wish.strength for wish in wishes}):
        own = [row for row in rows if wishes[row].strength == strength]
        turns.append(([row if row in own else own[0] for row in rows], own))
    return turns


def open_refiner(path: str | Path, *, device: str, dtype: str) -> Refiner:
    """Loads a folder that passed `read_facts`: offline, from safetensors alone.

    Args:
        path: The folder.
        device: `cpu`, `cuda:0`, ...
        dtype: `float32`, `bfloat16` or `float16`.

    Raises:
        ConfigError, InputError, SecurityError: As `read_facts`; `InputError` too for weights that do not fit.
    """
    from safetensors.torch import load

    facts = read_facts(path)
    unet = rectified.network(facts.shape)
    tensors = load((Path(path) / WEIGHTS).read_bytes())
    try:
        unet.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise InputError(f"{WEIGHTS} does not fit the network that {FACTS} describes: {error}") from error
    # Module.to itself: diffusers' own warns of mixed precision that this network has none of.
    move: Any = torch.nn.Module.to
    move(unet, device=device, dtype=getattr(torch, dtype), memory_format=torch.channels_last)
    return Refiner(unet.eval().requires_grad_(False), facts)
