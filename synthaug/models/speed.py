"""Ways to run a loaded pipeline faster: each changes bytes, so each is a field of the configuration.

What they give is measured by `benchmarks/gpu_networks.py` and `benchmarks/gpu_end_to_end.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from synthaug.errors import ConfigError, nearest
from synthaug.models import fp8, graphs, tiny_vae
from synthaug.models.deep_cache import StepCache, cache_denoiser

COMPILE = ("", "regional", "whole")
_CACHED = ("UNet2DConditionModel", "FluxTransformer2DModel", "Flux2Transformer2DModel", "QwenImageTransformer2DModel")
_BLOCKS = ("BasicTransformerBlock", "ResnetBlock2D")
"""Repeated blocks of UNets beside those that diffusers names: half of a small UNet's work is in its convolutions."""
_DENOISERS = ("unet", "transformer", "decoder", "super_res_first", "super_res_last")
"""Components by name; one for most families, three for Karlo's unCLIP."""
_SHAPES = 64


@dataclass(frozen=True, slots=True)
class Speed:
    """What is done to a pipeline once it is loaded. The default does nothing that changes a byte.

    Attributes:
        channels_last: Lays out pictures and convolutions channels last; pays on CUDA in half precision.
        compile: `regional` compiles the repeated blocks (seconds to a minute, once per shape), `whole` the network.
        graphs: Replays CUDA graphs; pays at small batches. CUDA alone.
        vae: Folder of an AutoencoderTiny that takes the place of the pipeline's own; empty for none.
        fp8: Large linear layers in 8 bits; CUDA of capability 8.9, bfloat16 and `compile` alone.
        cache: Step cache, or None.
    """

    channels_last: bool = False
    compile: str = ""
    graphs: bool = False
    vae: str = ""
    fp8: bool = False
    cache: StepCache | None = None

    def __post_init__(self) -> None:
        if self.compile not in COMPILE:
            raise ConfigError(f"speed.compile={self.compile!r}: expected regional, whole or empty")
        if self.fp8 and not self.compile:
            raise ConfigError("speed.fp8 without speed.compile runs slower than without it; set compile: regional")
        frozen = "graphs" if self.graphs else "compile: whole" if self.compile == "whole" else ""
        if self.cache is not None and frozen:
            raise ConfigError(
                f"speed.cache with {frozen}: a network recorded as one cannot skip its blocks; use compile: regional"
            )

    @staticmethod
    def parse(given: Mapping[str, Any] | None) -> Speed:
        """From the mapping of a configuration; None or empty for the default.

        Raises:
            ConfigError: An unknown field, a wrong type, a value out of range, fields that exclude each other.
        """
        values = dict(given or {})
        _check_names(values, [field.name for field in fields(Speed)], "speed")
        for name in ("channels_last", "graphs", "fp8"):
            if not isinstance(values.get(name, False), bool):
                raise ConfigError(f"speed.{name}={values[name]!r}: expected true or false")
        for name in ("compile", "vae"):
            values[name] = values.get(name) or ""
            if not isinstance(values[name], str):
                raise ConfigError(f"speed.{name}={values[name]!r}: expected a text")
        values["cache"] = _cache(values.get("cache"))
        return Speed(**values)

    def check(
        self, *, components: Mapping[str, str], steps: int, strength: float, dtype: str, device: str = ""
    ) -> None:
        """Refuses at plan time what could only fail later. Nothing is loaded.

        Args:
            components: Component name to class, as `Snapshot.components`.
            steps: Denoising steps at strength 1.
            strength: Share of them that runs.
            dtype: Of the networks.
            device: As torch names it; empty where it is not known yet.

        Raises:
            ConfigError: With what was expected.
        """
        if self.fp8 and dtype != "bfloat16":
            raise ConfigError(f"speed.fp8 with dtype={dtype}: expected bfloat16")
        if self.cache is not None:
            self.cache.check(min(int(steps * strength), steps))
            net = components.get("unet") or components.get("transformer", "a decoder of pixels")
            if net not in _CACHED:
                raise ConfigError(f"speed.cache: {net} offers no place for a cache; {', '.join(_CACHED)} do")
        if self.vae and "vae" not in components:
            raise ConfigError("speed.vae: this family has no autoencoder that a tiny one could stand in for")
        if self.vae:
            tiny_vae.digest(self.vae)
        if device:
            self.refuse_device(device)

    def refuse_device(self, device: str) -> None:
        """Raises `ConfigError` for what `device` cannot do."""
        if self.graphs:
            graphs.refuse_device(device)
        if self.fp8:
            fp8.refuse_device(device)

    def identity(self) -> dict[str, Any]:
        """Everything that decides bytes, as JSON; the tiny autoencoder by its content. Reads its files once."""
        return {**asdict(self), "vae": tiny_vae.digest(self.vae) if self.vae else ""}


def prepare(pipe: Any, speed: Speed, *, device: str) -> dict[str, Any]:
    """Changes an opened pipeline in place. Call it once, after weights, adapters and scheduler are in.

    Whatever `speed` says, its networks are taken out of the reach of torch function modes: `noise.SampleNoise` then
    listens to the pipeline around them alone, which saves a call of Python per operation and changes no byte.

    Args:
        pipe: On its device, in its dtype.
        device: As torch names it.

    Returns:
        Facts: layers in fp8, and the autoencoder's class.

    Raises:
        ConfigError: The device or a network cannot do what is asked.
    """
    speed.refuse_device(device)
    found = [getattr(pipe, name) for name in _DENOISERS if getattr(pipe, name, None) is not None]
    if not found:
        raise ConfigError(f"speed: {type(pipe).__name__} has no denoiser that could be prepared")
    facts: dict[str, Any] = {}
    if speed.vae:
        own = pipe.vae
        pipe.vae = tiny_vae.open_tiny_vae(speed.vae, device=device, dtype=own.dtype, like=own)
    if speed.cache is not None:
        cache_denoiser(found[0], pipe.scheduler, speed.cache)
    facts["fp8_layers"] = sum(prepare_net(net, speed, device=device) for net in found)
    vae = getattr(pipe, "vae", None)
    if vae is not None:
        facts["vae"] = type(vae).__name__
        _prepare_vae(vae, speed, device)
    return facts


def prepare_net(net: Any, speed: Speed, *, device: str) -> int:
    """The same for a network beside the pipeline, such as a ControlNet: layout, fp8, compilation, graphs.

    Returns:
        Layers that now run in fp8.
    """
    layers = fp8.convert(net) if speed.fp8 else 0
    if speed.channels_last:
        _lay_out(net)
    if speed.compile == "regional":
        _compile_blocks(net)
    net.forward = _unheard(_compiled(net.forward) if speed.compile == "whole" else net.forward)
    if speed.graphs:
        net.forward = graphs.Graphed(net.forward, device)
    return layers


def _prepare_vae(vae: Any, speed: Speed, device: str) -> None:
    """Encoder and decoder; the autoencoder around them is thin."""
    import torch

    if speed.channels_last:
        _lay_out(vae)
    # One that is lifted to float32 for every call has other weights each time: a recording would read freed memory.
    lifted = bool(getattr(vae.config, "force_upcast", False)) and vae.dtype == torch.float16
    for part in (getattr(vae, "encoder", None), getattr(vae, "decoder", None)):
        if part is None:
            continue
        part.forward = _unheard(_compiled(part.forward) if speed.compile else part.forward)
        if speed.graphs and not lifted:
            part.forward = graphs.Graphed(part.forward, device)


def _lay_out(net: Any) -> None:
    import torch

    if any(parameter.ndim == 5 for parameter in net.parameters()):
        return  # three-dimensional convolutions have another layout
    net.to(memory_format=torch.channels_last)


def _compile_blocks(net: Any) -> None:
    """Regional compilation: as `compile_repeated_blocks` of diffusers, and the residual blocks of UNets with them."""
    wanted = {*_BLOCKS, *(getattr(net, "_repeated_blocks", None) or ())}
    found = [module for module in net.modules() if type(module).__name__ in wanted]
    if not found:
        raise ConfigError(f"speed.compile=regional: {type(net).__name__} has no repeated blocks; use whole")
    for module in found:
        module.forward = _compiled(module.forward)


def _compiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    """For fixed shapes: micro-batches have one length, so shapes are few, and static ones run faster."""
    import torch

    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _SHAPES)
    return torch.compile(forward, dynamic=False)


def _unheard(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The call with torch function modes switched off: a compiled network would be compiled anew for each of them."""
    import torch

    @functools.wraps(forward)
    def quiet(*args: Any, **kwargs: Any) -> Any:
        with torch._C.DisableTorchFunction():
            return forward(*args, **kwargs)

    return quiet


def _cache(given: Any) -> StepCache | None:
    if not given:
        return None
    if not isinstance(given, Mapping):
        raise ConfigError(f"speed.cache={given!r}: expected a mapping such as {{every: 2, from_step: 0}}")
    _check_names(given, ["every", "from_step"], "speed.cache")
    ranges = {"every": (1, 10), "from_step": (0, 1000)}
    for name, (low, high) in ranges.items():
        value = given.get(name, low)
        if type(value) is not int or not low <= value <= high:
            raise ConfigError(f"speed.cache.{name}={value!r}: expected a whole number, {low} to {high}")
    return StepCache(**given)


def _check_names(given: Mapping[str, Any], known: list[str], where: str) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(f"{where}.{name}: no such field.{nearest(str(name), known)}")
