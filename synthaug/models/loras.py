"""LoRA stacks: low-rank changes of a model's weights, added up once, after loading.

LoRA: Hu et al., ICLR 2022. A change is weight * alpha / rank * up @ down, summed over the stack in float32 and
rounded once to what the model holds. So a stack costs nothing while the model runs, and how pictures are batched
matters as little as before. Formats are read by diffusers' own converters. peft is not used: it would take the
settings of its adapters, names of Python modules among them, from the metadata of the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from synthaug.errors import ConfigError, first_of, nearest, printable
from synthaug.models import weightfiles

if TYPE_CHECKING:
    from torch import Tensor

MOST = 4.0
"""Largest weight, either way."""
_PARTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3")
_OTHERS = {
    "dora_scale": "DoRA", "lora_magnitude_vector": "DoRA", "hada_": "LoHa", "lokr_": "LoKr", "oft_": "OFT",
    "lora_B.bias": "LoRA with biases", "lora_controlnet": "a control LoRA",
}  # fmt: skip
_METADATA = "lora_adapter_metadata"
_FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])\.weight")


@dataclass(frozen=True, slots=True)
class Lora:
    """One LoRA of a stack.

    Attributes:
        name: As the user calls it.
        path: safetensors file, or a folder with one.
        weight: How much of it, -4 to 4; 0 leaves the model as it is, to the bit.
    """

    name: str
    path: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(cast(Any, self.path), str) or not self.path:
            raise ConfigError(f"{self.told}: no path; name a safetensors file or a folder with one")
        number = isinstance(cast(Any, self.weight), int | float) and not isinstance(cast(Any, self.weight), bool)
        if not number or not -MOST <= self.weight <= MOST:
            raise ConfigError(f"{self.told} weight={self.weight}: expected {-MOST:g} to {MOST:g}")

    @property
    def told(self) -> str:
        """Who it is, in messages."""
        return f"LoRA '{printable(self.name)}'"

    def digest(self) -> str:
        """SHA-256 of its file. Raises as `weightfiles.digest`."""
        return weightfiles.digest(self.path, self.told)


def parse(given: Mapping[str, Any] | None) -> tuple[Lora, ...]:
    """A stack from configuration, `{grain: {path: FILE, weight: 0.8}}`, ordered by name; entries of None are skipped.

    Raises:
        ConfigError: No mapping, an unknown field, no path, or a weight out of range.
    """
    if not isinstance(cast(Any, given), Mapping | None):
        raise ConfigError(f"loras={given}: expected {{NAME: {{path: FILE, weight: 0.8}}}}")
    stack: list[Lora] = []
    for name, values in sorted((given or {}).items(), key=lambda item: str(item[0])):
        if values is None:
            continue
        if not isinstance(values, Mapping):
            raise ConfigError(f"loras.{printable(str(name))}={values}: expected {{path: FILE, weight: 0.8}}")
        fields = dict(cast("Mapping[str, Any]", values))
        unknown = sorted(map(str, fields.keys() - {"path", "weight"}))
        if unknown:
            told = f"loras.{printable(str(name))}.{printable(unknown[0])}"
            raise ConfigError(f"{told}: no such field.{nearest(unknown[0], ('path', 'weight'))}")
        stack.append(Lora(str(name), fields.get("path", ""), fields.get("weight", 1.0)))
    return tuple(stack)


@dataclass(frozen=True, slots=True)
class _Change:
    """What one LoRA does to one layer."""

    part: str
    module: str
    down: Tensor
    up: Tensor
    scale: float


def merge(pipe: Any, stack: Sequence[Lora]) -> int:
    """Adds a stack to the weights of a loaded pipeline, in place; all of it is checked before any weight changes.

    Seconds for a model of billions of weights. A LoRA of weight 0 is checked and then left out.

    Returns:
        How many layers were changed.

    Raises:
        ConfigError: A LoRA for another base, or of a kind that is not plain LoRA.
        InputError, SecurityError: A file that is broken or no safetensors.
    """
    import torch

    layers: dict[tuple[str, str], list[tuple[float, _Change]]] = {}
    for lora in stack:
        for change in _changes(pipe, lora):
            if lora.weight:
                layers.setdefault((change.part, change.module), []).append((lora.weight, change))
    with torch.no_grad():
        for (part, module), changes in layers.items():
            weight = getattr(pipe, part).get_submodule(module).weight
            total = weight.to(torch.float32)
            for share, change in changes:
                up, down = (side.to(weight.device, torch.float32).flatten(1) for side in (change.up, change.down))
                total = total + (share * change.scale) * (up @ down).view(weight.shape)
            weight.data.copy_(total)
    return len(layers)


def _changes(pipe: Any, lora: Lora) -> list[_Change]:
    raw = weightfiles.read(lora.path, lora.told)
    shown = f"{lora.told} ({printable(lora.path)})"
    for key in raw:
        kind = next((kind for mark, kind in _OTHERS.items() if mark in key), None)
        if kind:
            raise ConfigError(f"{shown} is {kind} (it holds {printable(key)}), and only plain LoRA is read")
    tensors, alphas = _converted(pipe, raw, shown)
    scale_of = _Scales(weightfiles.notes(lora.path, lora.told, _METADATA), alphas, shown)
    sides: dict[tuple[str, str], dict[str, Tensor]] = {}
    strange: list[str] = []
    for key, tensor in tensors.items():
        part, _, rest = key.partition(".")
        match = _FACTOR.fullmatch(rest)
        if match is None or part not in _PARTS:
            strange.append(key)
        else:
            sides.setdefault((part, match["module"]), {})[match["side"]] = tensor
    strange += [f"{part}.{module}" for (part, module), pair in sides.items() if len(pair) != 2]
    if strange or not sides:
        raise ConfigError(f"{shown} holds no pairs of LoRA matrices that are known here:{first_of(strange or raw, 3)}")
    changes = [
        _Change(part, module, pair["A"], pair["B"], scale_of(part, module, len(pair["A"])))
        for (part, module), pair in sides.items()
    ]
    _check_fit(pipe, changes, shown)
    return changes


def _converted(pipe: Any, raw: dict[str, Tensor], shown: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors under the names of the pipeline's own layers, and alphas by part and layer where the file tells them."""
    if not hasattr(pipe, "lora_state_dict"):
        raise ConfigError(f"{shown}: {type(pipe).__name__} takes no LoRA")
    more = {"unet_config": pipe.unet.config} if hasattr(pipe, "unet") else {}
    try:
        found = pipe.lora_state_dict(dict(raw), return_alphas=True, **more)
        tensors, alphas = found if isinstance(found, tuple) else (found, None)
        plain = {key.removesuffix(".alpha"): alpha for key, alpha in (alphas or {}).items()}
        # Some alphas are under their layer's name, others under that of its first matrix.
        of_matrices = _named(pipe, {key: alpha for key, alpha in plain.items() if key.endswith(".down.weight")})
        plain |= {key.removesuffix(".lora_A.weight"): alpha for key, alpha in of_matrices.items()}
        return _named(pipe, tensors), plain
    except (ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise ConfigError(f"{shown} is in no format that diffusers reads for {type(pipe).__name__}: {error}") from error


def _named(pipe: Any, entries: Mapping[str, Any]) -> dict[str, Any]:
    """Entries by part under the names that layers have today, as diffusers renames them when it loads adapters."""
    from diffusers.utils import state_dict_utils

    named: dict[str, Any] = {}
    for part in dict.fromkeys(key.partition(".")[0] for key in entries):
        own: Any = {key.partition(".")[2]: value for key, value in entries.items() if key.partition(".")[0] == part}
        if part.startswith("text_encoder"):
            own = state_dict_utils.convert_state_dict_to_peft(state_dict_utils.convert_state_dict_to_diffusers(own))
            if not hasattr(getattr(pipe, part, None), "text_model"):
                own = {key.removeprefix("text_model."): value for key, value in own.items()}
        elif not any(".lora_A." in key for key in own):
            own = state_dict_utils.convert_unet_state_dict_to_peft(own)
        named |= {f"{part}.{key}": value for key, value in own.items()}
    return named


class _Scales:
    """alpha / rank by layer: from the file's own numbers, or from the settings that diffusers writes beside them."""

    def __init__(self, settings: Mapping[str, Any], alphas: Mapping[str, float], shown: str) -> None:
        self._settings, self._alphas, self._shown = settings, alphas, shown

    def __call__(self, part: str, module: str, rank: int) -> float:
        if any(self._settings.get(f"{part}.{kind}") for kind in ("use_dora", "lora_bias")):
            raise ConfigError(f"{self._shown} is DoRA or has biases, and only plain LoRA is read")
        alpha = self._alpha(part, module)
        if alpha is None:
            return 1.0
        number = isinstance(alpha, int | float) and not isinstance(alpha, bool) and math.isfinite(alpha)
        if not number:
            raise ConfigError(f"{self._shown}: alpha of {part}.{module} is {alpha}, expected a number")
        return float(alpha) / (math.sqrt(rank) if self._settings.get(f"{part}.use_rslora") else rank)

    def _alpha(self, part: str, module: str) -> Any:
        if (found := self._alphas.get(f"{part}.{module}")) is not None:
            return found
        pattern: Any = self._settings.get(f"{part}.alpha_pattern") or {}
        for key, alpha in pattern.items():
            if module == key.lstrip("^") or module.endswith(f".{key}"):
                return alpha
        return self._settings.get(f"{part}.lora_alpha")


def _check_fit(pipe: Any, changes: Sequence[_Change], shown: str) -> None:
    """Every change has its layer, and the matrices its widths."""
    faults: list[str] = []
    modules = {part: dict(getattr(pipe, part).named_modules()) for part in _PARTS if getattr(pipe, part, None)}
    for change in changes:
        weight = getattr(modules.get(change.part, {}).get(change.module), "weight", None)
        name, (down, up) = f"{change.part}.{change.module}", (tuple(change.down.shape), tuple(change.up.shape))
        if weight is None:
            faults.append(f"{name}: {type(pipe).__name__} has no such layer")
        elif down[0] != math.prod(up[1:]) or (up[0], math.prod(down[1:])) != (len(weight), weight[0].numel()):
            faults.append(
                f"{name}: {math.prod(down[1:])} to {up[0]} channels at rank {down[0]} in the file,"
                f" {weight[0].numel()} to {len(weight)} in the model"
            )
    if faults:
        raise ConfigError(
            f"{shown} was made for another base: {len(faults)} of its {len(changes)} layers do not fit this"
            f" model:{first_of(faults, 3)}\nUse a LoRA that was trained on this model's family."
        )
