"""A pipeline from one safetensors file, by diffusers' conversions: offline, its configurations from a base folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthaug.models.table import COMPONENTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch


def load(cls: Any, file: Path, base: Path, components: Mapping[str, str], dtype: torch.dtype) -> Any:
    """The file's networks; text encoders that it lacks come from the base, as files of FLUX.1 and SD 3.5 need it.

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

    encoders = _encoders(file, base, components, dtype)
    try:
        return cls.from_single_file(str(file), config=str(base), dtype=dtype, local_files_only=True, **encoders)
    except SingleFileComponentError as error:
        raise ValueError(str(error).splitlines()[0]) from error


def _encoders(file: Path, base: Path, components: Mapping[str, str], dtype: torch.dtype) -> dict[str, Any]:
    """Networks of transformers that the file has none of. Diffusers would look for them under another file name."""
    import torch
    import transformers
    from diffusers.loaders.single_file_utils import is_clip_model_in_single_file, is_t5_in_single_file
    from safetensors import safe_open

    with safe_open(str(file), "pt") as opened:
        keys = set(opened.keys())
    found: dict[str, Any] = {}
    for name, kind in components.items():
        cls = getattr(transformers, kind, None) if COMPONENTS[kind] == "transformers" else None
        if not (isinstance(cls, type) and issubclass(cls, torch.nn.Module)):
            continue
        t5 = kind == "T5EncoderModel" and is_t5_in_single_file(keys)
        if is_clip_model_in_single_file(cls, keys) or t5:
            continue
        if not list((base / name).glob("*.safetensors")):
            raise ValueError(f"its {name} is neither in the file nor, as safetensors, in the base")
        loader: Any = cls
        found[name] = loader.from_pretrained(str(base / name), dtype=dtype, use_safetensors=True, local_files_only=True)
    return found
