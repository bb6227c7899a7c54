"""The model card: what the weights are, what they were trained on, and the command that makes them again."""

from __future__ import annotations

import shlex
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import synthaug
from synthaug.errors import printable
from synthaug.train.checkpoint import State
from synthaug.train.photos import Photos

if TYPE_CHECKING:
    from synthaug.train.refiner import Settings


def card(settings: Settings, photos: Photos, state: State, size: int) -> bytes:
    """README.md of a refiner's folder."""
    loss = sum(state.losses[-50:]) / max(len(state.losses[-50:]), 1)
    lines = [
        "---",
        "library_name: diffusers",
        "tags: [sim-to-real, image-to-image, rectified-flow]",
        f"license: other  # {printable(settings.licence)}",
        "---",
        "# Refiner trained from unlabelled photos",
        "",
        "A conditional rectified flow (diffusers `UNet2DModel`) that adds to a render the texture, grain and softness"
        " of the photos below. Made by synthaug; load it with the stage `restore`.",
        "",
        f"- Network: channels {list(settings.channels)}, {settings.layers} block(s) per level, {size:,} bytes in fp16",
        f"- Trained: {state.step:,} of {settings.steps:,} steps of {settings.batch} crops of {settings.crop} pixels;"
        f" mean loss of the last steps {loss:.4f}",
        f"- Photos: {photos.count:,}, licence: {printable(settings.licence)}",
        *(
            f"  - `{Path(folder).name}`: {len(names):,} used, {len(held):,} held out"
            for folder, names, held in zip(settings.data, photos.names, photos.held_out, strict=True)
        ),
        f"- synthaug {synthaug.__version__}",
        "",
        "## Made by",
        "",
        f"    {command(settings)}",
        "",
        "## Meant for",
        "",
        "Making renders look more like the photos it has seen. It knows no other cameras, seasons or places, invents"
        " detail, and must not be used where invented detail would be taken for evidence. Check labels with a gate.",
    ]
    for folder, held in zip(settings.data, photos.held_out, strict=True):
        if held:
            lines += ["", f"## Held out of `{Path(folder).name}`", "", *(f"- {printable(name)}" for name in held)]
    if photos.broken:
        lines += ["", "## Not used", "", *(f"- {printable(n)}: {printable(f)}" for n, f in photos.broken.items())]
    return ("\n".join(lines) + "\n").encode()


def command(settings: Settings) -> str:
    """The command with every setting that is not a default; of folders, the last name alone."""
    words = ["synthaug", "train", "refiner"]
    for each in fields(settings):
        value: Any = getattr(settings, each.name)
        if each.name == "data":
            value = tuple(Path(folder).name for folder in settings.data)
        elif each.name == "out":
            value = Path(settings.out).name
        elif value == each.default:
            continue
        text = "[" + ",".join(map(str, value)) + "]" if isinstance(value, tuple) else str(value)
        words.append(f"{each.name}={text}")
    return shlex.join(words)
