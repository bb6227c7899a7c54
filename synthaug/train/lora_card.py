"""The model card of adapters: base, photos, words, and the command that makes them again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import synthaug
from synthaug.errors import printable
from synthaug.models.snapshot import Snapshot
from synthaug.train.card import command, left_out, used
from synthaug.train.checkpoint import State
from synthaug.train.lora_crops import SaidCrops

if TYPE_CHECKING:
    from synthaug.train.lora import Settings

_TOLD = 20


def card(settings: Settings, crops: SaidCrops, state: State, base: Snapshot, size: int) -> bytes:
    """README.md of a folder of adapters."""
    loss = sum(state.losses[-50:]) / max(len(state.losses[-50:]), 1)
    templates = crops.words.templates.texts
    captions = sum(map(len, crops.words.captions))
    lines = [
        "---",
        "library_name: diffusers",
        "tags: [sim-to-real, image-to-image, lora]",
        f"license: other  # photos: {printable(settings.licence)}; the base model's own licence holds as well",
        "---",
        f"# LoRA for {base.family.name}",
        "",
        "Low-rank adapters that let a diffusion model paint in the manner of the photos below. Made by synthaug; load"
        " them with the stage `img2img`, or with `load_lora_weights` of diffusers.",
        "",
        f"- Base: `{printable(Path(settings.base).name)}`, {base.pipeline}, SHA-256 of its files {base.digest}",
        f"- Adapters: rank {settings.rank}, alpha {settings.alpha:g} (multiplied in), in"
        f" {', '.join(map(printable, settings.targets))} of the denoiser; {size:,} bytes. Text encoders are the base's",
        f"- Trained: {state.step:,} of {settings.steps:,} steps of {settings.batch} crops of {settings.crop} pixels;"
        f" mean loss of the last steps {loss:.4f}",
        *used(settings, crops.photos),
        f"- Said of them: {captions:,} captions of their own, in" if captions else "- Said of them:",
        *(f"  - `{printable(text)}`" for text in templates[:_TOLD]),
        *([f"  - and {len(templates) - _TOLD:,} more"] if len(templates) > _TOLD else []),
        f"- synthaug {synthaug.__version__}",
        "",
        "## Made by",
        "",
        f"    {command(settings, 'lora')}",
        "",
        "## Meant for",
        "",
        "Making renders look more like these photos, at the strength and with the protection that the stage is given."
        " It may move, add and remove things as its base may: check labels with a gate. What it was trained on may show"
        " in what it paints.",
    ]
    return ("\n".join(lines + left_out(settings, crops.photos)) + "\n").encode()
