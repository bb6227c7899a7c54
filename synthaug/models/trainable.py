"""Which bases low-rank adapters can be trained for, and of what size and where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthaug.errors import ConfigError, nearest, printable
from synthaug.models.snapshot import Snapshot, inspect
from synthaug.models.table import PIPELINES

if TYPE_CHECKING:
    from synthaug.models.pipelines import Img2ImgModel

PREDICTIONS = ("epsilon", "v_prediction", "sample")
"""What a denoiser may be trained to say: the noise, its velocity (Salimans & Ho, ICLR 2022), or the picture."""


@dataclass(frozen=True, slots=True)
class Rank:
    """How large adapters are, and where.

    Attributes:
        rank: Of each pair of matrices, from 1.
        alpha: What they add is multiplied by `alpha / rank`.
        targets: Ends of names of layers in the denoiser that get one.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]


def check_base(path: str | Path) -> Snapshot:
    """The checks of a base, before anything is loaded.

    Raises:
        ConfigError: No pipeline there, or one of a family that cannot be trained here; the others are named.
        InputError, SecurityError: As `snapshot.inspect`.
    """
    if not Path(path).is_dir():
        raise ConfigError(f"base={printable(str(path))}: no such folder; expected a diffusers pipeline folder")
    snapshot = inspect(path, word="base")
    if not snapshot.family.guided:
        able = sorted({family.name for family in PIPELINES.values() if family.guided})
        raise ConfigError(
            f"base={printable(str(path))} is {snapshot.family.name}; a LoRA can be trained for {' and '.join(able)}"
        )
    return snapshot


def check_denoiser(model: Img2ImgModel, rank: Rank) -> None:
    """The checks of a loaded base.

    Raises:
        ConfigError: Targets that the denoiser lacks, or a denoiser with inputs that nothing here could give.
    """
    pipe: Any = model._pipe
    unet, shown = pipe.unet, printable(str(model.snapshot.path))
    if fault := _fault(pipe):
        raise ConfigError(f"base={shown}: {fault}")
    names = [name for name, module in unet.named_modules() if hasattr(module, "weight")]
    layers = {name.rpartition(".")[2] for name in names if not name[-1].isdigit()}
    for target in rank.targets:
        if not any(name == target or name.endswith(f".{target}") for name in names):
            raise ConfigError(
                f"targets: the denoiser of {shown} has no layer '{printable(target)}'.{nearest(target, layers)}"
            )


def _fault(pipe: Any) -> str:
    """Why a base of the right family cannot be trained; empty where it can."""
    config, scheduler = pipe.unet.config, pipe.scheduler.config
    prediction = scheduler.get("prediction_type", "epsilon")
    if "beta_schedule" not in scheduler or prediction not in PREDICTIONS:
        kind = f"{type(pipe.scheduler).__name__} ({scheduler.get('prediction_type', 'no betas')})"
        return f"its scheduler is {kind}, expected one with betas and a prediction of {', '.join(PREDICTIONS)}"
    if config.in_channels != pipe.vae.config.latent_channels:
        return f"its denoiser takes {config.in_channels} channels (an inpainting model?), expected a plain one"
    if config.time_cond_proj_dim is not None:
        return "its denoiser was distilled with guidance as an input; train on the model that it was made from"
    if hasattr(pipe, "text_encoder_2"):
        told = 6 * config.addition_time_embed_dim + pipe.text_encoder_2.config.projection_dim
        if told != pipe.unet.add_embedding.linear_1.in_features:
            return "it is told other sizes than XL's base model (its refiner?); use the base model"
    return ""
