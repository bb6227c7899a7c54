"""Tiny autoencoders (TAESD and its kin) in place of a pipeline's own: many times cheaper, a little less faithful.

At few denoising steps the autoencoder is most of the work: for SD-Turbo at 512 pixels and two steps 69% of all FLOPs,
against 14% with a tiny one. What that costs the picture is measured (`cost_db`), not assumed.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthaug.errors import ConfigError, printable
from synthaug.models.snapshot import inspect_part

if TYPE_CHECKING:
    import torch

CLASSES = ("AutoencoderTiny",)


@dataclass(frozen=True, slots=True)
class Cost:
    """Fidelity of a picture that only goes in and out of an autoencoder: PSNR in dB, higher is better.

    Attributes:
        own_db: The pipeline's own autoencoder against the picture.
        tiny_db: The tiny one against the picture.
        apart_db: The two against each other.
    """

    own_db: float
    tiny_db: float
    apart_db: float

    @property
    def lost_db(self) -> float:
        """What the tiny one costs."""
        return self.own_db - self.tiny_db

    def facts(self) -> dict[str, float]:
        """As JSON, to two decimals."""
        return {name: round(value, 2) for name, value in (*asdict(self).items(), ("lost_db", self.lost_db))}


def digest(path: str | Path) -> str:
    """SHA-256 of what computes. Raises as `snapshot.inspect_part`."""
    return inspect_part(path, CLASSES)[1]


def open_tiny_vae(path: str | Path, *, device: str, dtype: torch.dtype, like: Any) -> Any:
    """Loads a checked AutoencoderTiny for a pipeline.

    Args:
        path: Folder with `config.json` and safetensors.
        like: The pipeline's own autoencoder, whose latents it must share.

    Raises:
        ConfigError: No such folder, or latents of another kind; whether it was trained for the same ones, no file
            says: see `cost_db`.
        InputError, SecurityError: As `snapshot.inspect_part`.
    """
    config, _ = inspect_part(path, CLASSES)
    _check(config, like, printable(str(path)))
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    try:
        tiny: Any = AutoencoderTiny.from_pretrained(str(path), use_safetensors=True, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ConfigError(f"speed.vae={printable(str(path))} does not load: {error}") from error
    return tiny.to(device, dtype).eval().requires_grad_(False)


def _check(config: dict[str, Any], own: Any, shown: str) -> None:
    kind = type(own).__name__
    if kind not in ("AutoencoderKL", *CLASSES):
        raise ConfigError(f"speed.vae={shown}: this pipeline has {kind}; AutoencoderTiny stands in for AutoencoderKL")
    channels = int(config.get("latent_channels", 4)), int(own.config.latent_channels)
    blocks = config.get("encoder_block_out_channels") or [64] * 4
    factor = 2 ** (len(blocks) - 1), 2 ** (len(own.config.block_out_channels) - 1)
    if channels[0] != channels[1] or factor[0] != factor[1]:
        raise ConfigError(
            f"speed.vae={shown}: latents of {channels[0]} channels at 1/{factor[0]} of the size, the pipeline's have"
            f" {channels[1]} at 1/{factor[1]}; use the tiny autoencoder of this family"
        )


def cost_db(own: Any, tiny: Any, images: torch.Tensor) -> Cost:
    """Measures what a tiny autoencoder costs on pictures of one's own. No noise is drawn.

    Args:
        own: The autoencoder of the pipeline.
        tiny: The tiny one.
        images: [B, 3, H, W] in [0, 1], sides of multiples of 8; a few dozen crops tell enough.
    """
    import torch

    with torch.inference_mode():
        first, second = (there_and_back(vae, images) for vae in (own, tiny))
        seen = images.to(first)
        return Cost(_psnr(first, seen), _psnr(second, seen), _psnr(first, second))


def there_and_back(vae: Any, images: torch.Tensor) -> torch.Tensor:
    """[B, 3, H, W] in [0, 1] as an autoencoder gives them back, in float32; no noise is drawn."""
    import torch

    coded = vae.encode(images.to(vae.device, vae.dtype) * 2 - 1)
    latents = coded.latent_dist.mode() if hasattr(coded, "latent_dist") else coded.latents
    return (vae.decode(latents, return_dict=False)[0].to(torch.float32) / 2 + 0.5).clamp(0, 1)


def _psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    error = float((one - other).pow(2).mean())
    return 99.0 if error == 0 else min(99.0, -10 * math.log10(error))
