"""Photos as prompts: IP-Adapter (Ye et al., 2023) for the families of our own loop.

An image encoder sees a photo, the adapter makes a few tokens of it, and the denoiser looks at them beside the words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import ConfigError, InputError, SecurityError, first_of, nearest, printable
from synthaug.models import weightfiles
from synthaug.models.embeddings import EmbeddingCache
from synthaug.models.hashes import digest_of
from synthaug.models.plain import read_json
from synthaug.models.snapshot import contents, refuse_adapters

if TYPE_CHECKING:
    from torch import Tensor

ENCODER = "CLIPVisionModelWithProjection"
_PARTS = ("image_proj", "ip_adapter")
_KEPT = 64
"""Photos whose embeddings are kept; one takes 4 KB, or 1.3 MB for adapters that look at patches."""
_LONGEST = 4
"""A photo is cut to this many times its shorter side before it is scaled; the encoder sees its middle square."""

Read = Callable[[str], NDArray[np.uint8]]
"""From a photo's name to its pixels [H, W, 3] in sRGB."""


@dataclass(frozen=True, slots=True)
class ImagePrompt:
    """An adapter, and the photos that it is shown.

    Attributes:
        adapter: safetensors file of an IP-Adapter (plain, Light or Plus) for this model's family, or a folder with one.
        encoder: Folder of the CLIP image encoder that it was trained with.
        photos: Folder of real photos; one is drawn for each sample.
        weight: How much is made of the photo, 0 to 2; 0 leaves the adapter out.
        limit: Photos used at most, 1 to 10000, evenly over the folder.
    """

    adapter: str
    encoder: str
    photos: str
    weight: float = 0.6
    limit: int = 256

    def __post_init__(self) -> None:
        for name, value in (("adapter", self.adapter), ("encoder", self.encoder), ("photos", self.photos)):
            if not isinstance(cast(Any, value), str) or not value:
                raise ConfigError(
                    f"image_prompt.{name}={value}: expected a path; adapter, encoder and photos are needed"
                )
        weight: Any = self.weight
        if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 <= weight <= 2:
            raise ConfigError(f"image_prompt.weight={weight}: expected 0 to 2")
        if type(cast(Any, self.limit)) is not int or not 1 <= self.limit <= 10_000:
            raise ConfigError(f"image_prompt.limit={self.limit}: expected a whole number, 1 to 10000")

    @staticmethod
    def parse(given: Mapping[str, Any] | None) -> ImagePrompt | None:
        """From configuration; None for nothing. Raises `ConfigError` for an unknown field or a value out of range."""
        if given is None or given == {}:
            return None
        if not isinstance(cast(Any, given), Mapping):
            raise ConfigError(f"image_prompt={given}: expected {{adapter: FILE, encoder: DIR, photos: DIR}}")
        known = [f.name for f in fields(ImagePrompt)]
        unknown = sorted(map(str, given.keys() - set(known)))
        if unknown:
            raise ConfigError(f"image_prompt.{printable(unknown[0])}: no such field.{nearest(unknown[0], known)}")
        return ImagePrompt(**{"adapter": "", "encoder": "", "photos": "", **given})

    def identity(self) -> dict[str, Any]:
        """SHA-256 of adapter and encoder, and the weight; the photos are told by whoever lists them.

        Raises:
            ConfigError, InputError, SecurityError: As `weightfiles.digest`; no folder of a CLIP image encoder.
        """
        return {
            "adapter": weightfiles.digest(self.adapter, "image_prompt.adapter"),
            "encoder": digest_of(_encoder_files(self.encoder)),
            "weight": self.weight,
        }


@dataclass(frozen=True, slots=True)
class Seen:
    """One photo, encoded: for it and against it, each [1, 1, C], or [1, 1, patches, C] for Plus."""

    toward: Tensor
    against: Tensor


class Viewer:
    """Encodes photos, each on its own and once.

    Args:
        pipe: A pipeline with an adapter in it, as `install` leaves it.
        read: From a photo's name to its pixels.

    Attributes:
        encodes: How often the image encoder was run.
    """

    def __init__(self, pipe: Any, read: Read) -> None:
        from diffusers.models.embeddings import ImageProjection
        from transformers import CLIPImageProcessorPil

        self._pipe, self._read = pipe, read
        side = int(pipe.image_encoder.config.image_size)
        self._scaled: Any = CLIPImageProcessorPil(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        )
        self._patches = not isinstance(pipe.unet.encoder_hid_proj.image_projection_layers[0], ImageProjection)
        self._kept: EmbeddingCache[Seen] = EmbeddingCache(self._encode, _KEPT)

    @property
    def encodes(self) -> int:
        """How often the image encoder was run."""
        return self._kept.encodes

    def __call__(self, names: Iterable[str]) -> list[Seen]:
        """One for each photo named, in order. Raises what `read` raises."""
        return self._kept(names)

    def _encode(self, name: str) -> Seen:
        return self.see(self._read(name))

    def see(self, pixels: NDArray[np.uint8]) -> Seen:
        """One photo [H, W, 3], from 1x1 up; about 10 ms of a GPU, 0.3 s of a CPU for ViT-H."""
        import torch

        # Scaling an endless strip would take endless memory, and only its middle is looked at.
        height, width = pixels.shape[:2]
        longest = _LONGEST * min(height, width)
        top, left = max(height - longest, 0) // 2, max(width - longest, 0) // 2
        middle = pixels[top : top + longest, left : left + longest]
        image = self._scaled(middle, return_tensors="pt", input_data_format="channels_last").pixel_values
        with torch.inference_mode():
            toward, against = self._pipe.encode_image(image, self._pipe.device, 1, self._patches)
        return Seen(toward[None], against[None])


def install(pipe: Any, prompt: ImagePrompt, *, device: str, read: Read) -> Viewer:
    """Loads the adapter into a pipeline; every call of its denoiser then needs embeddings of photos.

    Args:
        pipe: Of Stable Diffusion 1, 2 or XL.
        device: Where the pipeline is.
        read: From a photo's name to its pixels [H, W, 3] uint8.

    Raises:
        ConfigError: An adapter for another family, of another kind, or for another encoder.
        InputError, SecurityError: Files that are broken or no plain data.
    """
    state = _adapter(prompt)
    shown = f"image_prompt.adapter={printable(prompt.adapter)}"
    _check_fit(pipe, state["ip_adapter"], shown)
    encoder = _open_encoder(prompt.encoder, pipe.dtype).to(device)
    pipe.register_modules(image_encoder=encoder)
    if getattr(pipe, "feature_extractor", None) is None:
        from transformers import CLIPImageProcessorPil

        pipe.register_modules(feature_extractor=CLIPImageProcessorPil())
    try:
        # Not by way of empty tensors: a part that is missing would then be noticed late, and not by name.
        pipe.load_ip_adapter(state, subfolder="", weight_name="", image_encoder_folder=None, low_cpu_mem_usage=False)
    except (ValueError, KeyError, IndexError, RuntimeError) as error:
        raise ConfigError(f"{shown} does not load: {error}") from error
    for part in (encoder, pipe.unet):
        part.eval().requires_grad_(False)
    pipe.set_ip_adapter_scale(prompt.weight)
    viewer = Viewer(pipe, read)
    _try(pipe, viewer, shown, prompt)
    return viewer


def _adapter(prompt: ImagePrompt) -> dict[str, dict[str, Tensor]]:
    """The tensors of both halves of an adapter."""
    shown = f"image_prompt.adapter={printable(prompt.adapter)}"
    state: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
    strange: list[str] = []
    for key, tensor in weightfiles.read(prompt.adapter, "image_prompt.adapter").items():
        part, _, rest = key.partition(".")
        state.get(part, {})[rest] = tensor
        strange += [] if part in _PARTS else [key]
    if strange or not all(state.values()):
        raise ConfigError(
            f"{shown} is no IP-Adapter: expected image_proj.* and ip_adapter.*, found:{first_of(strange, 3)}"
        )
    if any("lora" in key for key in state["ip_adapter"]):
        raise ConfigError(f"{shown} is a FaceID adapter, which needs a face recogniser; use a plain one")
    return state


def _check_fit(pipe: Any, tensors: Mapping[str, Tensor], shown: str) -> None:
    """Every cross-attention of the denoiser has its key projection, and the widths are its own."""
    unet = getattr(pipe, "unet", None)
    if unet is None or not hasattr(pipe, "load_ip_adapter"):
        raise ConfigError(f"{shown}: {type(pipe).__name__} takes no image prompt; Stable Diffusion 1, 2 and XL do")
    cross = [name.removesuffix(".processor") for name in unet.attn_processors if name.endswith("attn2.processor")]
    wanted = sorted(tuple(unet.get_submodule(name).to_k.weight.shape) for name in cross)
    found = sorted(tuple(value.shape) for key, value in tensors.items() if key.endswith("to_k_ip.weight"))
    if found != wanted:
        told = [f"{len(rows)} layers from {sorted({row[-1] for row in rows})} channels" for rows in (found, wanted)]
        raise ConfigError(f"{shown} was made for another base: it has {told[0]}, the model has {told[1]}")


def _try(pipe: Any, viewer: Viewer, shown: str, prompt: ImagePrompt) -> None:
    """One grey square through encoder and adapter: whether they were made for each other."""
    seen = viewer.see(np.full((8, 8, 3), 128, np.uint8))
    try:
        pipe.unet.encoder_hid_proj([seen.toward])
    except RuntimeError as error:
        raise ConfigError(
            f"{shown} was made for another image encoder than {printable(prompt.encoder)}, which gives"
            f" {seen.toward.shape[-1]} channels: {error}"
        ) from error


def _encoder_files(path: str) -> dict[str, str]:
    """SHA-256 by name of the encoder's folder, checked to be one."""
    shown = f"image_prompt.encoder={printable(path)}"
    root = Path(path)
    files = contents(root) if root.is_dir() else {}
    if "config.json" not in files or not any(name.endswith(".safetensors") for name in files):
        raise ConfigError(f"{shown}: expected a folder with config.json and safetensors weights")
    refuse_adapters(files)
    config: Any = read_json(root / "config.json", "config.json")
    named = cast("Sequence[Any]", config.get("architectures") or ()) if isinstance(config, dict) else ()
    if list(named) != [ENCODER]:
        raise SecurityError(f"{shown}/config.json asks for {printable(str(list(named)))}; expected {ENCODER}")
    return files


def _open_encoder(path: str, dtype: Any) -> Any:
    import transformers

    _encoder_files(path)
    try:
        return getattr(transformers, ENCODER).from_pretrained(
            path, dtype=dtype, use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"image_prompt.encoder={printable(path)} does not load: {error}") from error
