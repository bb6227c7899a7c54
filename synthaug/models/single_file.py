"""A pipeline from one safetensors file, by diffusers' conversions: offline, its configurations from a base folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthaug.models.table import COMPONENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

_AUTOENCODERS = ("first_stage_model.", "vae.")
"""What names of its weights begin with, where a file of a whole pipeline has one."""


def load(cls: Any, file: Path, base: Path, components: Mapping[str, str], dtype: torch.dtype) -> Any:
    """The file's networks. Text encoders and an autoencoder that it lacks come from the base, as files of FLUX.1,
    SD 3.5 and Z-Image need it.

    A safety checker is not among them: diffusers leaves it out of pipelines from single files.

    Args:
        cls: The pipeline's class.
        file: Checked to be safetensors.
        base: Checked diffusers folder.
        components: Of the base, name to class.
        dtype: Of all networks.

    Raises:
        ValueError: A network is in neither of them, or the file is of another layout than the base.
    """
    from diffusers.loaders.single_file_utils import SingleFileComponentError

    beside = _beside(file, base, components, dtype)
    try:
        pipe = cls.from_single_file(str(file), config=str(base), dtype=dtype, local_files_only=True, **beside)
    except SingleFileComponentError as error:
        raise ValueError(str(error).splitlines()[0]) from error
    for part in pipe.components.values():
        if hasattr(part, "tie_weights"):  # SD 3's T5 has its embeddings once in the file, and under two names here
            part.tie_weights()
    return pipe


def _beside(file: Path, base: Path, components: Mapping[str, str], dtype: torch.dtype) -> dict[str, Any]:
    """Networks that the file has none of. Diffusers would look for encoders under another file name, and leave an
    autoencoder empty."""
    import diffusers
    import torch
    import transformers
    from safetensors import safe_open

    with safe_open(str(file), "pt") as opened:
        keys = set(opened.keys())
    found: dict[str, Any] = {}
    for name, kind in components.items():
        library = transformers if COMPONENTS[kind] == "transformers" else diffusers
        cls: Any = getattr(library, kind, None)
        if not (isinstance(cls, type) and issubclass(cls, torch.nn.Module)) or _holds(keys, cls):
            continue
        if not list((base / name).glob("*.safetensors")):
            raise ValueError(f"its {name} is neither in the file nor, as safetensors, in the base")
        loader: Any = cls
        found[name] = loader.from_pretrained(str(base / name), dtype=dtype, use_safetensors=True, local_files_only=True)
    return found


def _holds(keys: set[str], cls: Any) -> bool:
    """Whether a file with these weights has a network of this class; denoisers always come from the file."""
    from diffusers.loaders.single_file_utils import is_clip_model_in_single_file, is_t5_in_single_file

    if cls.__name__.startswith("Autoencoder"):
        return any(key.startswith(_AUTOENCODERS) for key in keys)
    if COMPONENTS[cls.__name__] != "transformers":
        return True
    return is_clip_model_in_single_file(cls, keys) or (cls.__name__ == "T5EncoderModel" and is_t5_in_single_file(keys))
