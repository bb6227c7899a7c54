"""A map file from outside as the array that a library keeps: one rule for each oddity, or a rejection that names it.

Albedo: sRGB [H, W, 3] uint8; grey becomes RGB, 16 bits become 8, linear floats become sRGB; a partly transparent
picture keeps its stored colours and gives an `opacity` map. Other maps keep 8 or 16 bits. What is larger than the
limit is reduced by area averages, which keeps tiles tileable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.errors import Rejected
from synthaug.formats import pictures, rasters
from synthaug.labels import Size
from synthaug.texture.entry import Kind
from synthaug.texture.suffixes import Claim
from synthaug.transfer import linear_from_srgb, srgb_from_linear

Alpha = Literal["keep", "drop", "refuse"]
ALPHA: tuple[Alpha, ...] = ("keep", "drop", "refuse")
Map = NDArray[Any]
"""uint8 or uint16."""
SMALLEST = 16
"""Pixels of the shorter side."""
_GREY_ENOUGH = 4.0
"""Mean difference of the channels of a grey map stored as RGB, in steps of 8 bits: JPEG leaves some."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is done with what does not fit.

    Attributes:
        largest: Pixels of the longer side; larger maps are reduced.
        alpha: `keep` makes a map of it, `drop` takes the stored colours, `refuse` rejects.
    """

    largest: int = 4096
    alpha: Alpha = "keep"


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """An albedo, its opacity where it has one, its size in the file, and what was changed, in words."""

    pixels: NDArray[np.uint8]
    opacity: NDArray[np.uint8] | None
    stored: Size
    notes: tuple[str, ...]


def albedo(data: bytes, limits: Limits) -> Surface:
    """The albedo behind the bytes of a picture file.

    Raises:
        Rejected: Under `decode`, `orientation`, `budget`, `nonfinite`, `size` or `alpha`.
    """
    notes: list[str] = []
    decoded = pictures.decode(data, alpha="keep")
    pixels = decoded.picture.pixels
    stored = (pixels.shape[0], pixels.shape[1])
    _check_sides(pixels)
    if pixels.dtype != np.uint8:
        notes.append("linear, made sRGB")
        pixels = np.rint(srgb_from_linear(pixels) * 255).astype(np.uint8)
    opacity = None if decoded.alpha is None else np.rint(decoded.alpha * 255).astype(np.uint8)
    header = rasters.gate(data, rasters.DEFAULT_BUDGET)
    if header.bits == 16:
        notes.append("16 bits, made 8")
    if header.channels < 3 and not header.palette:
        notes.append("grey, made RGB")
    if opacity is not None:
        opacity = _judged(opacity, limits.alpha, notes)
    if max(pixels.shape[:2]) > limits.largest:
        notes.append(f"reduced from {pixels.shape[1]}x{pixels.shape[0]}")
        linear = _reduced(linear_from_srgb(pixels.astype(np.float32) / 255), limits.largest)
        pixels = np.rint(srgb_from_linear(linear) * 255).astype(np.uint8)
        opacity = None if opacity is None else _reduced(opacity, limits.largest).astype(np.uint8)
    return Surface(np.ascontiguousarray(pixels, dtype=np.uint8), opacity, stored, tuple(notes))


def data_map(data: bytes, claim: Claim, shape: Size, limits: Limits) -> tuple[Map, tuple[str, ...]]:
    """A normal, height, roughness, occlusion, metalness or opacity map, and what was changed.

    Args:
        data: The file.
        claim: What its name says.
        shape: (height, width) of the albedo, before any reduction; the map must have the same proportions.
        limits: What does not fit.

    Raises:
        Rejected: As `albedo`, and under `channels` (a grey map that is coloured) or `normal` (no normals).
    """
    stored = _stored(data)
    _check_sides(stored)
    height, width = stored.shape[:2]
    if height * shape[1] != width * shape[0]:
        raise Rejected(
            "size", f"{width}x{height}, but its albedo is {shape[1]}x{shape[0]}: expected the same proportions"
        )
    notes: list[str] = []
    array = _normals(stored, claim.downward, notes) if claim.kind == "normal" else _grey(stored, claim.kind)
    if claim.inverted:
        notes.append("gloss, made roughness")
        array = (np.iinfo(array.dtype).max - array).astype(array.dtype)
    if max(array.shape[:2]) > limits.largest:
        notes.append(f"reduced from {width}x{height}")
        array = _reduced(array, limits.largest)
    return array, tuple(notes)


def _judged(opacity: NDArray[np.uint8], alpha: Alpha, notes: list[str]) -> NDArray[np.uint8] | None:
    """What becomes of an alpha channel."""
    low, high = int(opacity.min()), int(opacity.max())
    if low == 255:
        return None
    share = float((opacity < 255).mean())
    if alpha == "refuse":
        raise Rejected("alpha", f"{share:.1%} of it is transparent; say alpha=keep or alpha=drop")
    if alpha == "drop":
        notes.append(f"transparency of {share:.1%} dropped")
        return None
    if high == 0:
        raise Rejected("alpha", "transparent everywhere; say alpha=drop to take the colours below")
    notes.append(f"{share:.1%} transparent, kept as opacity map")
    return opacity


def _stored(data: bytes) -> NDArray[Any]:
    """Numbers as stored, 8 or 16 bits, [H, W, 1 to 3]; alpha is left off, palettes are looked up."""
    header = rasters.gate(data, rasters.DEFAULT_BUDGET)
    if header.kind in ("npy", "exr"):
        raise Rejected("decode", "a map of floats, whose range is not known; save it as 16-bit PNG, 0 to 1")
    if header.bits != 16:
        return pictures.decode(data, alpha="drop").picture.pixels
    array = rasters.read(data).array
    if array.ndim == 2:
        array = array[:, :, None]
    if array.dtype != np.uint16:
        raise Rejected("decode", f"a map of {array.dtype}, expected 8 or 16 bits")
    return array[:, :, :1] if array.shape[2] == 2 else array[:, :, :3]


def _grey(array: NDArray[Any], kind: Kind) -> Map:
    step = 257 if array.dtype == np.uint16 else 1
    first = array[:, :, 0]
    for channel in range(1, array.shape[2]):
        gap = float(np.abs(first.astype(np.int32) - array[:, :, channel]).mean()) / step
        if gap > _GREY_ENOUGH:
            raise Rejected(
                "channels",
                f"a {kind} map whose channels differ by {gap:.0f}/255 on average; if it packs several maps, split"
                " them, if it is no map of that kind, rename it",
            )
    return np.ascontiguousarray(first)


def _normals(array: NDArray[Any], downward: bool, notes: list[str]) -> Map:
    if array.shape[2] != 3:
        raise Rejected("normal", "grey; a normal map has three channels. If it is a bump map, name it _height")
    top = int(np.iinfo(array.dtype).max)
    vectors = array.reshape(-1, 3).astype(np.float32) * np.float32(2 / top) - 1
    length = float(np.linalg.norm(vectors, axis=1).mean())
    if not 0.8 <= length <= 1.2 or float(vectors[:, 2].mean()) < 0.3:
        raise Rejected(
            "normal",
            f"vectors of mean length {length:.2f} with mean z {float(vectors[:, 2].mean()):.2f}; a normal map in"
            " tangent space has length 1 and points up (mostly blue)",
        )
    array = np.array(array, order="C")
    if downward:
        notes.append("green points down (DirectX), turned up")
        array[:, :, 1] = top - array[:, :, 1]
    return array


def _check_sides(pixels: NDArray[Any]) -> None:
    height, width = pixels.shape[:2]
    if min(height, width) < SMALLEST:
        raise Rejected("size", f"{width}x{height}, expected sides of {SMALLEST} pixels or more")


def _reduced(array: NDArray[Any], largest: int) -> NDArray[Any]:
    height, width = array.shape[:2]
    scale = largest / max(height, width)
    size = (max(SMALLEST, round(width * scale)), max(SMALLEST, round(height * scale)))
    return cv2.resize(array, size, interpolation=cv2.INTER_AREA)
