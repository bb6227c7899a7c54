"""The card of a texture model: what it is, what it learnt from, and the command that makes it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import synthaug
from synthaug.errors import printable
from synthaug.models.texture.family import TextureModel
from synthaug.train.card import command, left_out, used
from synthaug.train.checkpoint import State
from synthaug.train.tiles import Tiles

if TYPE_CHECKING:
    from synthaug.train.texture import Settings


def card(settings: Settings, tiles: Tiles, state: State, model: TextureModel, size: int) -> bytes:
    """README.md beside the model's file."""
    count = sum(value.numel() for value in model.saved().values())
    loss = sum(state.losses[-50:]) / max(len(state.losses[-50:]), 1)
    classes = ", ".join(map(printable, tiles.classes)) or "none"
    lines = [
        "---",
        "library_name: synthaug",
        "tags: [texture, unconditional-image-generation]",
        f"license: other  # {printable(settings.licence)}",
        "---",
        f"# Texture model: {model.family}",
        "",
        f"Makes tiles of {settings.side} pixels that wrap. Made by synthaug; open it with"
        " `synthaug.models.texture.saving.open_texture_model`.",
        "",
        f"- Network: {count:,} numbers, {size:,} bytes; settings {model.config}",
        f"- Trained: {state.step:,} of {settings.steps:,} steps of {settings.batch} tiles; mean loss of the last"
        f" steps {loss:.4f}",
        f"- Classes: {classes}",
        *used(settings, tiles.photos, "Textures"),
        f"- synthaug {synthaug.__version__}",
        "",
        "## Made by",
        "",
        f"    {command(settings, 'texture')}",
        "",
        "## Meant for",
        "",
        "Surfaces of rendered objects. It makes what looks like the textures below and knows no others; compare its"
        " tiles with them (`metrics.texture.nearest_distances`) before you call them new.",
    ]
    return ("\n".join(lines + left_out(settings, tiles.photos)) + "\n").encode()
