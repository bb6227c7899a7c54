"""The model card: what the weights are, what they were trained on, and the command that makes them again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import synthaug
from synthaug.errors import printable
from synthaug.train.checkpoint import State
from synthaug.train.maps import Maps
from synthaug.train.photos import Photos

if TYPE_CHECKING:
    from synthaug.train.refiner import Settings


def card(settings: Settings, photos: Photos, state: State, size: int, maps: Maps | None = None) -> bytes:
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
        *used(settings, photos),
        *_beside(settings, maps),
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
    return ("\n".join(lines + left_out(settings, photos)) + "\n").encode()


def used(settings: Any, photos: Photos, what: str = "Photos") -> list[str]:
    """How many photos, of which folders, under which licence; `settings` of any training."""
    counts = zip(settings.data, photos.names, photos.held_out, strict=True)
    return [
        f"- {what}: {photos.count:,}, licence: {printable(settings.licence)}",
        *(f"  - `{Path(folder).name}`: {len(n):,} used, {len(held):,} held out" for folder, n, held in counts),
    ]


def left_out(settings: Any, photos: Photos) -> list[str]:
    """Photos that were held out, and those that could not be used."""
    lines: list[str] = []
    for folder, held in zip(settings.data, photos.held_out, strict=True):
        if held:
            lines += ["", f"## Held out of `{Path(folder).name}`", "", *(f"- {printable(name)}" for name in held)]
    if photos.broken:
        lines += ["", "## Not used", "", *(f"- {printable(n)}: {printable(f)}" for n, f in photos.broken.items())]
    return lines


def _beside(settings: Settings, maps: Maps | None) -> list[str]:
    """What else it was shown, and what it was fitted to."""
    lines: list[str] = []
    if maps is not None:
        counts = ", ".join(f"{kind} of {maps.count(kind):,} photos" for kind in maps.spec.kinds)
        lines.append(f"- Takes maps: {counts}, each withheld in {settings.map_dropout:.0%} of the crops")
    if settings.classes:
        lines.append(f"- Classes: {', '.join(map(printable, settings.classes))}")
    if settings.distil:
        lines.append(
            f"- Distilled from another refiner: made for {settings.distil_steps} steps, in place of"
            f" {settings.teacher_steps} of its teacher"
        )
    return lines


def command(settings: Any, kind: str = "refiner") -> str:
    """The command with every setting that is not a default; of folders and files, the last name alone."""
    words = ["synthaug", "train", kind]
    for each in fields(settings):
        value: Any = getattr(settings, each.name)
        if each.name == "data":
            value = tuple(Path(folder).name for folder in settings.data)
        elif each.name in ("out", "base"):
            value = Path(value).name
        elif value == each.default or (each.name == "maps" and not value):
            continue
        elif each.name == "distil":
            value = Path(settings.distil).name
        elif each.name == "captions":
            value = tuple(Path(where).name for where in settings.captions)
        elif each.name == "prompt":
            file = str(value).startswith("@")
            value = f"@{Path(value[1:]).name}" if file else json.dumps(value, ensure_ascii=False)  # JSON is YAML
        elif each.name == "maps":
            value = "{" + ", ".join(f"{kind}: {_names(folders)}" for kind, folders in settings.maps.items()) + "}"
        text = "[" + ",".join(map(str, value)) + "]" if isinstance(value, tuple) else str(value)
        words.append(f"{each.name}={text}")
    return shlex.join(words)


def _names(folders: Sequence[str]) -> str:
    names = [Path(folder).name or "''" for folder in folders]
    return names[0] if len(names) == 1 else "[" + ", ".join(names) + "]"
