"""From a checked snapshot to a diffusers pipeline in memory: offline, from safetensors, by classes of our table."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthaug.errors import ConfigError, printable
from synthaug.models import single_file
from synthaug.models.families import Runner
from synthaug.models.snapshot import Snapshot, inspect_part
from synthaug.models.table import COMPONENTS, MOVED

if TYPE_CHECKING:
    import torch

_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DIFFUSERS_DISABLE_REMOTE_CODE": "1",
}


_NEED_TORCHVISION = frozenset({"PixtralProcessor", "Qwen2VLProcessor"})
_SUCCESSORS = {"CLIPFeatureExtractor": "CLIPImageProcessor"}
"""Of classes that folders of old name and transformers has no more."""
_LONGEST = 500
"""Characters of a loader's error that are shown."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A pipeline on its device, and the prior before it, where the family has one."""

    pipe: Any
    prior: Any = None


def open_pipe(snapshot: Snapshot, *, device: str, dtype: str) -> Opened:
    """Loads what `snapshot.inspect` has passed.

    Args:
        device: `cpu`, `cuda:0`, ...
        dtype: `float32`, `bfloat16` or `float16`.

    Raises:
        ConfigError: It does not load: incomplete, of another layout, or a library that it needs is not installed; or
            a precision that this device lacks for it.
    """
    if snapshot.family.fixed and device == "cpu" and dtype != "float32":
        raise ConfigError(
            f"dtype={dtype}: between its networks {snapshot.family.name} enlarges pictures in a way that torch has in"
            " float32 alone on a CPU; set dtype=float32, or a GPU as device"
        )
    for name, value in _OFFLINE.items():
        os.environ[name] = value
    import torch

    quiet()  # before the pipelines: their import already complains of processors that it does not need
    wanted = getattr(torch, dtype)
    with _named(snapshot):
        if snapshot.file is None:
            pipe = _folder(snapshot, wanted)
        else:
            cls = _class(snapshot.family.img2img)
            pipe = single_file.load(cls, snapshot.file, snapshot.path, snapshot.components, wanted)
        prior = _prior(snapshot, wanted) if snapshot.family.runner is Runner.PRIOR else None
        for one in (pipe, prior):
            if one is not None:
                _settle(one, wanted)
    for one in (pipe, prior):  # not among those: memory that does not suffice is no fault of the model
        if one is not None:
            one.to(device)
    return Opened(pipe, prior)


def device_of(name: str) -> str:
    """As torch names it; `auto` is a GPU where there is one. Raises `ConfigError` for a device that is not there."""
    import torch

    if name == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device={printable(name)}: {printable(str(error))[:_LONGEST]}; use cpu or auto") from error
    return name


def open_control_net(path: str | Path, cls: str, pipe: Any) -> Any:
    """Loads a ControlNet of a family of transformers, onto the device and dtype of its pipeline.

    Args:
        path: Folder with `config.json` and safetensors weights.
        cls: That its `config.json` must name.
        pipe: Of the family.

    Raises:
        ConfigError: No such folder, or made for another width of latents or words.
        InputError, SecurityError: As `snapshot.inspect_part`.
    """
    import diffusers

    config, _ = inspect_part(path, (cls,))
    own = pipe.transformer.config
    for field in ("in_channels", "joint_attention_dim", "num_attention_heads", "attention_head_dim"):
        if config.get(field) != own.get(field):
            raise ConfigError(
                f"ControlNet {path}: {field} is {config.get(field)}, of the model {own.get(field)}: they are of two"
                " families"
            )
    try:
        net = getattr(diffusers, cls).from_pretrained(
            str(path), torch_dtype=pipe.transformer.dtype, use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ConfigError(f"ControlNet {path} does not load: {error}") from error
    return net.to(pipe.device).eval().requires_grad_(False)


@contextmanager
def _named(snapshot: Snapshot) -> Iterator[None]:
    """Errors of the loaders, with the model's name."""
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"model={snapshot.shown}: {snapshot.pipeline} needs a library that is not installed: {error}"
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        seeing = sorted(_NEED_TORCHVISION & set(snapshot.components.values()))
        if seeing and importlib.util.find_spec("torchvision") is None:
            raise ConfigError(
                f"model={snapshot.shown}: its {seeing[0]} needs torchvision, which is not installed; pip install"
                " torchvision, of the release that belongs to your torch"
            ) from error
        text = str(error)
        raise ConfigError(f"model={snapshot.shown}: {snapshot.pipeline} does not load: {text[:_LONGEST]}") from error


def _class(name: str) -> Any:
    import diffusers

    return getattr(diffusers, name)


def _folder(snapshot: Snapshot, dtype: torch.dtype) -> Any:
    if not MOVED.keys().isdisjoint(snapshot.components.values()):
        parts = {name: (COMPONENTS[kind], kind) for name, kind in snapshot.components.items()}
        return _class(snapshot.family.img2img)(**_parts(parts, snapshot.path, dtype))
    return _class(snapshot.family.img2img).from_pretrained(
        str(snapshot.path), dtype=dtype, use_safetensors=True, local_files_only=True, variant=variant(snapshot.path)
    )


def _prior(snapshot: Snapshot, dtype: torch.dtype) -> Any:
    """Component by component: the combined pipelines of diffusers look for their parts on the network."""
    parts = _parts(snapshot.prior, snapshot.prior_path, dtype)
    return _class("KandinskyV22PriorPipeline")(**{name.removeprefix("prior_"): part for name, part in parts.items()})


def _parts(wanted: Mapping[str, tuple[str, str]], root: Path, dtype: torch.dtype) -> dict[str, Any]:
    """Components by name, each from its own folder; library and class of each are those of our table."""
    import diffusers
    import transformers
    from diffusers.pipelines.deprecated import unclip

    homes = {"diffusers": diffusers, "transformers": transformers, "unclip": unclip}
    parts: dict[str, Any] = {}
    for name, (library, cls) in wanted.items():
        loader: Any = getattr(homes[library], _SUCCESSORS.get(cls, cls))
        told: dict[str, Any] = {"local_files_only": True}
        if issubclass(loader, _module()):
            told |= {"dtype": dtype, "use_safetensors": True, "variant": _weights_variant([root / name])}
        parts[name] = loader.from_pretrained(str(root / name), **told)
    return parts


def _module() -> type:
    import torch

    return torch.nn.Module


def _settle(pipe: Any, dtype: torch.dtype) -> None:
    from diffusers.image_processor import VaeImageProcessor

    if pipe.dtype != dtype:
        pipe.to(dtype)
    empty = [name for name, part in pipe.components.items() if isinstance(part, _module()) and _unfilled(part)]
    if empty:
        raise ValueError(f"weights of {', '.join(empty)} are missing in it")
    pipe.set_progress_bar_config(disable=True)
    if hasattr(pipe, "movq"):  # its pipeline resizes to (width, height) what has its size already
        pipe.image_processor.register_to_config(do_resize=False)
    if not hasattr(pipe, "image_processor"):  # Karlo's pipeline works on pixels
        pipe.image_processor = VaeImageProcessor(vae_scale_factor=1)
    for part in pipe.components.values():
        if isinstance(part, _module()):
            part.eval().requires_grad_(False)


def _unfilled(part: Any) -> bool:
    """Whether a network has weights that no file has filled."""
    return any(weights.is_meta for weights in part.parameters())


def quiet() -> None:
    """Silences the loaders: their bars and hints would run through our own progress bar."""
    import diffusers.utils.logging as diffusers_log
    import transformers.utils.logging as transformers_log

    for log in (diffusers_log, transformers_log):
        log.disable_progress_bar()
        log.set_verbosity_error()


def variant(path: Path) -> str | None:
    """`fp16` where a folder holds half-precision weights alone, as most downloads of SDXL do."""
    return _weights_variant([folder for folder in path.iterdir() if folder.is_dir()])


def _weights_variant(folders: list[Path]) -> str | None:
    weights = [file.name for folder in folders for file in folder.glob("*.safetensors")]
    return "fp16" if weights and all(".fp16" in name for name in weights) else None
