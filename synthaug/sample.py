"""The record that walks through the house: one picture, its labels, its reference, its trail."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import Rejected
from synthaug.labels import Labels, Size

Space = Literal["srgb", "linear"]
_DTYPES: tuple[np.dtype[Any], ...] = (np.dtype(np.uint8), np.dtype(np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """Pixels and what they mean.

    Attributes:
        pixels: [H, W, 3]; sRGB as uint8 (as read, as written) or float32 in [0, 1] (between stages),
            scene-linear as float32 >= 0. Read-only.
        space: `srgb` or `linear`.
        source: The encoded bytes that decode to exactly these pixels (a PNG or JPEG file as read),
            so that an untouched picture can be written without a second compression; else empty.
    """

    pixels: NDArray[Any]
    space: Space = "srgb"
    source: bytes = b""

    def __post_init__(self) -> None:
        pixels = self.pixels
        if pixels.ndim != 3 or pixels.shape[2] != 3:
            raise Rejected("decode", f"picture of shape {pixels.shape}, expected [height, width, 3]")
        if pixels.dtype not in _DTYPES or (self.space == "linear" and pixels.dtype == np.uint8):
            raise Rejected("decode", f"{self.space} picture of {pixels.dtype}, expected uint8 sRGB or float32")
        pixels.setflags(write=False)

    @property
    def size(self) -> Size:
        """(height, width)."""
        return self.pixels.shape[0], self.pixels.shape[1]


@dataclass(frozen=True, slots=True)
class Step:
    """One entry of the trail: enough to replay the stage on this sample.

    Attributes:
        slot: Name of the stage's slot.
        stage: Its class.
        attempt: 0 for the first try.
        draw: The numbers drawn, JSON.
        facts: What happened: label tallies of a warp, scores of a gate, the prompt used. JSON.
    """

    slot: str
    stage: str
    attempt: int
    draw: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One labelled picture on its way. Frozen: a stage returns pixels, the engine makes the next sample.

    Attributes:
        id: Escaped path of the source relative to the input's root (`escape_id`), plus the variant.
        image: The picture as it looks now.
        labels: What is true of it.
        reference: The last picture whose labels are exact by construction; gates compare with it.
        group: Samples of one group share a shard and a split (a sequence, the views of a scene).
        view: Name of the camera within the group.
        frame: Number within the sequence, from 0.
        split: `train`, `val`, ... as the reader or the plan says.
        trail: What was done to it, in order.
        stale: Passes that no longer describe the image (`albedo` after an Appearance); writers omit them.
    """

    id: str
    image: Picture
    labels: Labels
    reference: Picture
    group: str = ""
    view: str = ""
    frame: int = 0
    split: str = "train"
    trail: tuple[Step, ...] = ()
    stale: frozenset[str] = frozenset()


_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_RESERVED = frozenset({"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(1, 10))})
_LONGEST = 160


def escape_id(path: str, variant: int = 0) -> str:
    """A sample id, safe as a file name on every system, from a path without its suffix.

    Letters, digits, `_`, `-` and the separator `/` stay; every other byte of the UTF-8 form becomes
    `~XX`. A component over 160 bytes keeps its head and ends in `~h` and a hash, and variant n > 0 adds
    `~vn`. Distinct paths give distinct ids (h and v are no hex digits), and no id holds a dot, so it
    survives as a key in tar members and as a stem in every format.
    """
    parts = [_escape_component(part) for part in path.split("/")]
    suffix = f"~v{variant}" if variant else ""
    return "/".join(parts) + suffix


def _escape_component(text: str) -> str:
    raw = text.encode("utf-8", "surrogateescape")
    out = "".join(chr(b) if chr(b) in _PLAIN else f"~{b:02X}" for b in raw)
    if out[:1] == "-" or out.lower() in _RESERVED:
        out = f"~{ord(out[0]):02X}{out[1:]}"
    if not out:
        raise ValueError("an id component is empty")
    if len(out) > _LONGEST:
        out = out[: _LONGEST - 40].rstrip("~") + "~h" + hashlib.blake2b(raw, digest_size=16).hexdigest()
    return out
