"""Colour pictures at the door: whatever the file, an sRGB or linear RGB picture in its labels' frame.

One documented path each, or a rejection with the way out:

- Orientation (EXIF). The labels' canvas decides: it has the stored size, the tag is dropped; it has the
  rotated size, the picture is turned; neither, rejected. Without a canvas a tag other than 1 is rejected,
  square pictures included. Where both sizes are equal (square, upside down) the stored pixels stand.
- 16 bits become 8 by round(v / 257). 1, 2 and 4 bits, grey and palettes become RGB.
- A colour profile that does not call itself sRGB is applied (relative colorimetric, to sRGB); a gAMA
  chunk is ignored, as viewers do. CMYK, YCCK, Lab, HSV and float TIFF are rejected.
- Float arrays (NPY, OpenEXR) are linear pictures; NaN, infinite and negative values are rejected.
- JPEG and WebP of several pictures (a preview behind the photo) give the first; animations are rejected.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from synthaug.errors import Rejected
from synthaug.formats import headers, npy, rasters
from synthaug.formats.inputs import InputRoot

# One import for every reader: what a file shows (here), and what it means as labels (`maps`).
from synthaug.formats.maps import UNKNOWN as UNKNOWN
from synthaug.formats.maps import Colour as Colour
from synthaug.formats.maps import Encoding as Encoding
from synthaug.formats.maps import colours_to_ids as colours_to_ids
from synthaug.formats.maps import decode_colours as decode_colours
from synthaug.formats.maps import decode_depth as decode_depth
from synthaug.formats.maps import decode_ids as decode_ids
from synthaug.formats.maps import decode_vectors as decode_vectors
from synthaug.formats.maps import invalid_share as invalid_share
from synthaug.formats.maps import planar as planar
from synthaug.formats.rasters import DEFAULT_BUDGET
from synthaug.formats.rasters import Budget as Budget
from synthaug.labels import Size
from synthaug.sample import Picture

Alpha = Literal["drop", "composite", "refuse", "keep"]
ALPHA: tuple[Alpha, ...] = ("drop", "composite", "refuse", "keep")
HEAD = 65536

_COLOUR_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "I;16B", "array")
_TURNS = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """A picture and, under `keep`, its coverage [H, W] float32 in [0, 1]; None where the file has none."""

    picture: Picture
    alpha: NDArray[np.float32] | None = None


def decode(
    data: bytes,
    *,
    alpha: Alpha = "composite",
    background: Sequence[int] = (0, 0, 0),
    canvas: Size | None = None,
    budget: Budget = DEFAULT_BUDGET,
) -> Decoded:
    """One picture from the bytes of a file.

    Args:
        data: PNG, JPEG, WebP, TIFF, BMP, NPY or OpenEXR, whole.
        alpha: `drop` takes the stored colours, those hidden under transparency included; `composite` lays
            them over `background` (straight alpha, blended in sRGB as viewers do); `refuse` rejects a
            picture that is transparent anywhere; `keep` takes the stored colours and the coverage.
        background: sRGB, 0 to 255.
        canvas: (height, width) of the labels, which the picture must have.
        budget: What the file may cost.

    Returns:
        The picture; its `source` is `data` where a plain 8-bit RGB PNG or a JPEG came through untouched.

    Raises:
        Rejected: Under `decode`, `budget`, `size` (not the canvas), `orientation`, `alpha`, `nonfinite`.
    """
    raster = rasters.read(data, budget)
    pixels, coverage = _colours(raster)
    header = raster.header
    turn = _turn(header.orientation, (pixels.shape[0], pixels.shape[1]), canvas)
    if turn:
        pixels = np.ascontiguousarray(_TURNS[turn](pixels))
        coverage = None if coverage is None else np.ascontiguousarray(_TURNS[turn](coverage))
    if pixels.dtype == np.float32:
        return _linear(pixels, coverage, alpha)
    whole = header.plain and coverage is None and len(data) == header.end
    pixels, kept = _apply_alpha(pixels, coverage, alpha, background)
    return Decoded(Picture(pixels, "srgb", data if whole else b""), kept)


def size_of(head: bytes) -> Size:
    """(height, width) as stored, from the first bytes of a file (`HEAD` of them nearly always reach).

    Raises:
        Rejected: Under `decode`: not a picture, or the header lies further back (see `size_at`).
    """
    kind = headers.kind_of(head)
    if kind == "exr":
        return rasters.exr_size(head)
    if kind == "npy":
        shape = npy.shape_of(head)
        found = (shape[0], shape[1]) if len(shape) in (2, 3) else None
    else:
        found = headers.peek(head)
    if found is None:
        raise Rejected("decode", f"{kind.upper()} that does not say its size in its first {len(head)} bytes")
    return found


def size_at(root: InputRoot, relpath: str) -> Size:
    """(height, width) of a file as stored: from its first 64 KiB, from all of it where that is too little."""
    head = root.head(relpath, HEAD)
    try:
        return size_of(head)
    except Rejected:
        if len(head) < HEAD:
            raise
    return size_of(root.read(relpath))


def _turn(orientation: int, size: Size, canvas: Size | None) -> int:
    """The orientation to undo, 0 for none."""
    height, width = size
    if canvas is None:
        if orientation != 1:
            raise Rejected(
                "orientation",
                f"picture with EXIF orientation {orientation} and labels that name no size: whether they "
                "belong to the stored or the turned picture is unknown. Save it upright, without the tag",
            )
        return 0
    if (height, width) == tuple(canvas):
        return 0
    if orientation >= 5 and (width, height) == tuple(canvas):
        return orientation
    raise Rejected("size", f"picture of {width}x{height} on a canvas of {canvas[1]}x{canvas[0]}; sizes are not adapted")


def _colours(raster: rasters.Raster) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """[H, W, 3] uint8 or float32, and the alpha channel of the same type where there is one."""
    header, image = raster.header, raster.image
    if raster.mode not in _COLOUR_MODES:
        raise Rejected("decode", f"picture of mode {raster.mode}; convert it to sRGB, 8 or 16 bits, first")
    if header.kind == "tiff" and header.orientation != 1:
        raise Rejected("orientation", "TIFF with a rotation tag; save it upright")
    array = raster.array
    if image is not None:
        if image.mode.startswith("I;16") and "transparency" in image.info:
            raise Rejected("decode", "16-bit PNG with a transparent colour; save it with an alpha channel")
        if image.mode in ("P", "PA", "1") or "transparency" in image.info:
            see_through = "transparency" in image.info or image.mode == "PA"
            image = image.convert("RGBA" if see_through else "RGB")
            array = np.asarray(image)
        array = _to_srgb(array, image.info.get("icc_profile"))
    if array.dtype == np.uint16:
        # 65535 = 255 * 257: the division is exact at both ends and rounds to the nearest level between.
        array = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return _split(array)


def _split(array: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Colour and alpha of [H, W], [H, W, 1..4]; greys become three equal channels."""
    if array.dtype == np.float16 or array.dtype == np.float64:
        array = array.astype(np.float32)
    if array.dtype not in (np.uint8, np.float32):
        raise Rejected("decode", f"picture of {array.dtype}, expected 8 or 16 bits, or floats")
    if array.ndim == 2:
        array = array[:, :, None]
    channels = array.shape[2]
    if channels > 4:
        raise Rejected("decode", f"picture of {channels} channels, expected grey or RGB, with or without alpha")
    coverage = np.ascontiguousarray(array[:, :, -1]) if channels in (2, 4) else None
    if channels == 4:
        return cv2.cvtColor(array, cv2.COLOR_RGBA2RGB), coverage
    return np.ascontiguousarray(array if channels == 3 else np.repeat(array[:, :, :1], 3, axis=2)), coverage


def _to_srgb(array: NDArray[Any], profile: bytes | None) -> NDArray[Any]:
    """Applies the picture's own profile unless it is sRGB by name."""
    if not profile:
        return array
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(opened).lower():
            return array
        grey = array.ndim == 2 or array.shape[2] == 2
        mode = "L" if grey else "RGB"
        colour = array if array.ndim == 2 else array[:, :, : 1 if grey else 3].squeeze()
        source = Image.fromarray(np.ascontiguousarray(colour), mode)
        done = ImageCms.profileToProfile(
            source, opened, ImageCms.createProfile("sRGB"), ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        raise Rejected("decode", f"colour profile that cannot be applied ({error}); convert to sRGB") from error
    if done is None:
        raise Rejected("decode", "colour profile that cannot be applied; convert the file to sRGB")
    rgb = np.asarray(done)
    return rgb if array.ndim == 2 or array.shape[2] in (1, 3) else np.dstack([rgb, array[:, :, -1]])


def _apply_alpha(
    pixels: NDArray[np.uint8], coverage: NDArray[np.uint8] | None, alpha: Alpha, background: Sequence[int]
) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None]:
    if coverage is None or alpha == "drop":
        return pixels, None
    if alpha == "keep":
        return pixels, coverage.astype(np.float32) / np.float32(255)
    if int(coverage.min()) == 255:
        return pixels, None
    if alpha == "refuse":
        share = float((coverage < 255).mean())
        raise Rejected("alpha", f"{share:.1%} of the picture is transparent; choose alpha=composite, drop or keep")
    weight = coverage.astype(np.uint32)[:, :, None]
    behind = np.array(background, dtype=np.uint32)
    return ((pixels * weight + behind * (255 - weight) + 127) // 255).astype(np.uint8), None


def _linear(pixels: NDArray[np.float32], coverage: NDArray[Any] | None, alpha: Alpha) -> Decoded:
    if not np.isfinite(pixels).all() or float(pixels.min()) < 0:
        raise Rejected("nonfinite", "linear picture with NaN, infinite or negative values")
    if coverage is not None and alpha in ("refuse", "composite") and float(coverage.min()) < 1:
        raise Rejected("alpha", "linear picture that is transparent; choose alpha=drop or keep, or render it opaque")
    return Decoded(Picture(pixels, "linear"), coverage if alpha == "keep" else None)
