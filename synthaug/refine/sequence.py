"""Starting noise that sticks to surfaces, so that the frames of a sequence are painted alike.

A picture's bytes may depend on its own sample alone, so no frame waits for another: `warped_noise.of_surfaces` needs
only what the frame's own depth and camera say. All frames of a group share one number, the anchor, which names the
noise of a place on a surface; how that is spread over its pixels follows from a number that is the camera's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug import seeds
from synthaug.errors import ConfigError, nearest
from synthaug.labels import Labels, Size
from synthaug.refine.warped_noise import of_surfaces, reduced

Float32 = NDArray[np.float32]

PASSES = ("depth", "position", "instance")
"""What is read, where it is present."""


@dataclass(frozen=True, slots=True)
class Anchoring:
    """How noise is tied to surfaces.

    Attributes:
        cell: Side in pixels of the cubes that space is cut into, 0.25 to 16 (see `warped_noise.of_surfaces`).
    """

    cell: float = 2.5


def parse(given: bool | Mapping[str, Any]) -> Anchoring | None:
    """From configuration: `false`, `true`, or fields. Raises `ConfigError` naming the field."""
    if isinstance(given, bool):
        return Anchoring() if given else None
    known = [f.name for f in fields(Anchoring)]
    for name in given:
        if name not in known:
            raise ConfigError(f"sequence.{name}: no such field.{nearest(str(name), known)}")
    cell = given.get("cell", Anchoring().cell)
    if isinstance(cell, bool) or not isinstance(cell, int | float) or not 0.25 <= cell <= 16:
        raise ConfigError(f"sequence.cell={cell}: expected pixels, 0.25 to 16")
    return Anchoring(float(cell))


def check(passes: Collection[str]) -> None:
    """Holds the input's passes against what noise on surfaces is made of; a camera's pose, only reading tells.

    Raises:
        ConfigError: There is neither `depth` nor `position`.
    """
    if not {"depth", "position"} & set(passes):
        raise ConfigError(
            "sequence: noise that sticks to surfaces is made from the pass depth or position; the input has "
            f"{', '.join(sorted(passes)) or 'no pass'}. Render one of them, or say sequence=false"
        )


def starting(
    labels: Labels, rules: Anchoring, anchor: int, *, channels: int, canvas: Size, factor: int
) -> tuple[Float32, float]:
    """The noise that the denoising of one frame starts from; exactly white and normal.

    Drawn for the pixels and summed to the model's grid, so that it moves by parts of a latent place. What lies
    beyond the picture is fresh. Two frames of one camera at one place have the same noise wherever nothing moved.

    Args:
        labels: With `depth` or `position`, and a camera with a pose.
        anchor: 63 bits, the group's.
        channels: Of the latent.
        canvas: (height, width) in pixels that the model works on, multiples of `factor`, at least the picture.
        factor: Pixels per place of the latent, along one side.

    Returns:
        [channels, height / factor, width / factor], and places per pixel. About 0.25 s for 640x380.

    Raises:
        Rejected: Under `sequence`, where depth, a camera or its pose is missing.
    """
    # Of the camera and not of the frame: labels carry no frame number, and what stands still should stay as it was.
    view = "" if labels.camera is None else repr((labels.camera.intrinsics, labels.camera.extrinsics))
    own = seeds.generator(anchor, view, 0, "sequence")
    noise, share = of_surfaces(labels, channels, anchor, seeds.fork(own), rules.cell)
    whole = own.standard_normal((channels, *canvas), dtype=np.float32)
    whole[:, : labels.size[0], : labels.size[1]] = noise
    return reduced(whole, factor), share
