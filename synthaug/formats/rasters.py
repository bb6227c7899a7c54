"""From the bytes of a picture file to its stored numbers: gate, budget, decoder. No meaning yet.

The gate is `headers`: type by content, structure to the last byte, size before any allocation. Pillow
decodes, told which format it is, but for PNG that `plain_png` undoes faster; OpenCV only takes 16-bit colour
PNG, which Pillow cuts to 8 bits, after the same gate. OpenEXR comes from the `OpenEXR` package where it is installed.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synthaug.errors import ConfigError, Rejected
from synthaug.formats import headers, npy, plain_png
from synthaug.labels import Size

_LOADERS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP", "tiff": "TIFF", "bmp": "BMP"}
_IMAGE_ERRORS = (OSError, ValueError, SyntaxError, EOFError, TypeError, IndexError, KeyError, OverflowError, Warning)


@dataclass(frozen=True, slots=True)
class Budget:
    """What one file may cost, checked from its header before it is decoded.

    Attributes:
        pixels: Height times width.
        file_bytes: Length of the file.
        chunk_bytes: Of one text, profile or EXIF chunk.
        min_side: Pixels; shorter sides are refused.
        max_aspect: Long side over short side.
    """

    pixels: int = 64 * 2**20
    file_bytes: int = 256 * 2**20
    chunk_bytes: int = 4 * 2**20
    min_side: int = 4
    max_aspect: float = 64.0

    def check_size(self, size: Size) -> None:
        """Raises `Rejected` under `budget` for a picture of this size."""
        height, width = size
        if min(height, width) < self.min_side:
            raise Rejected("budget", f"picture of {width}x{height}, expected sides of at least {self.min_side} pixels")
        if height * width > self.pixels:
            raise Rejected("budget", f"picture of {width}x{height}, the limit is {self.pixels} pixels")
        if max(height, width) > self.max_aspect * min(height, width):
            raise Rejected("budget", f"picture of {width}x{height}: narrower than 1:{self.max_aspect:g}")


DEFAULT_BUDGET = Budget()


@dataclass(frozen=True, slots=True)
class Raster:
    """A decoded file.

    Attributes:
        header: Its facts.
        array: As stored: [H, W] or [H, W, C]; palette pictures as indices, sub-byte greys as 0..2^bits-1.
        mode: Pillow's word for the channels (`L`, `LA`, `RGB`, `RGBA`, `P`, `I;16`, `F`, ...), or `array`
            for NPY and EXR.
        image: The Pillow image, for what only it can do (palettes, transparency); None otherwise.
    """

    header: headers.Header
    array: NDArray[Any]
    mode: str
    image: Image.Image | None = None


def gate(data: bytes, budget: Budget) -> headers.Header:
    """Facts of a file that may be decoded.

    Raises:
        Rejected: Under `budget` or `decode`.
    """
    if len(data) > budget.file_bytes:
        raise Rejected("budget", f"file of {len(data)} bytes, the limit is {budget.file_bytes}")
    header = headers.scan(data)
    if header.kind in _LOADERS:
        budget.check_size(header.size)
    if header.ancillary > budget.chunk_bytes:
        raise Rejected("budget", f"text or profile of {header.ancillary} bytes, the limit is {budget.chunk_bytes}")
    if header.frames > 1:
        raise Rejected("decode", "animation or multi-page file; export the one picture that is meant")
    return header


def read(data: bytes, budget: Budget = DEFAULT_BUDGET) -> Raster:
    """Decodes one file to its stored numbers.

    Raises:
        Rejected: Under `budget` or `decode`.
    """
    header = gate(data, budget)
    if header.kind in ("npy", "exr"):
        array = npy.decode(data, max_bytes=16 * budget.pixels) if header.kind == "npy" else _read_exr(data, budget)
        if array.ndim not in (2, 3):
            raise Rejected("decode", f"array of shape {array.shape}, expected [H, W] or [H, W, channels]")
        budget.check_size((array.shape[0], array.shape[1]))
        return Raster(header, array, "array")
    if header.kind == "png" and (array := plain_png.decode(data, header)) is not None:
        grey = "I;16" if array.dtype == np.uint16 else "L"
        return Raster(header, array, {1: grey, 2: "LA", 3: "RGB", 4: "RGBA"}[header.channels])
    if header.kind == "png" and header.bits == 16 and header.channels > 1:
        return _read_deep_png(data, header)
    image = open_image(data[: header.end], header)
    return Raster(header, _unscaled(np.asarray(image), header), image.mode, image)


def open_image(data: bytes, header: headers.Header) -> Image.Image:
    """The loaded Pillow image of a file that passed `gate`.

    Raises:
        Rejected: Under `decode`: the decoder refused it, or its size is not what the header said.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=[_LOADERS[header.kind]])
        image.load()
    except _IMAGE_ERRORS as error:
        raise Rejected("decode", f"{header.kind.upper()} that cannot be decoded: {str(error)[:200]}") from error
    upright = header.size if header.kind != "tiff" or header.orientation < 5 else header.size[::-1]
    if (image.height, image.width) != upright:
        raise Rejected("decode", f"picture of {image.size}, its header says {header.size[1]}x{header.size[0]}")
    return image


def _read_deep_png(data: bytes, header: headers.Header) -> Raster:
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.dtype != np.uint16 or found.ndim != 3 or found.shape[:2] != header.size:
        raise Rejected("decode", "16-bit PNG that cannot be decoded")
    order = cv2.COLOR_BGR2RGB if found.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    array = cv2.cvtColor(found, order)
    return Raster(header, array, "RGB" if array.shape[2] == 3 else "RGBA")


def _unscaled(array: NDArray[Any], header: headers.Header) -> NDArray[Any]:
    """Undoes Pillow's stretch of 2- and 4-bit greys to 0..255."""
    if header.palette or header.channels != 1 or header.bits not in (2, 4) or array.dtype != np.uint8:
        return array
    return array // np.uint8(255 // (2**header.bits - 1))


def _read_exr(data: bytes, budget: Budget) -> NDArray[Any]:
    """Channels of the first part, in the order R, G, B(, A), else by name; [H, W] where there is one."""
    try:
        import OpenEXR  # pyright: ignore[reportMissingTypeStubs] - optional, and without types
    except ImportError as error:
        raise ConfigError("OpenEXR files need the package OpenEXR: pip install synthaug[exr]") from error
    budget.check_size(exr_size(data))
    try:
        opened: Any = OpenEXR.File(io.BytesIO(data), separate_channels=True)
        found: dict[str, NDArray[Any]] = {name: c.pixels for name, c in opened.parts[0].channels.items()}
    except Exception as error:  # the binding raises RuntimeError and whatever its C++ throws
        raise Rejected("decode", f"EXR that cannot be decoded: {str(error)[:200]}") from error
    names = sorted(found, key=lambda n: ("RGBA".find(n) if n in "RGBA" else 4, n))
    planes = [found[name] for name in names]
    if not planes or any(p.shape != planes[0].shape or p.ndim != 2 for p in planes):
        raise Rejected("decode", "EXR without channels of one size")
    return planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)


def exr_size(head: bytes) -> Size:
    """(height, width) of the data window (OpenEXR file layout). Raises `Rejected` under `decode`."""
    at = head.find(b"dataWindow\x00box2i\x00\x10\x00\x00\x00", 8)
    if at < 0 or len(head) < at + 37:
        raise Rejected("decode", "EXR without a data window in its first bytes")
    x0, y0, x1, y1 = np.frombuffer(head, dtype="<i4", count=4, offset=at + 21).tolist()
    if x1 < x0 or y1 < y0:
        raise Rejected("decode", "EXR with an empty data window")
    return y1 - y0 + 1, x1 - x0 + 1
