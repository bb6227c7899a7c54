"""Picture files for tests, made on the spot: every kind that is read, and a few that nobody should write."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from synthaug.formats import npy, pictures, png

RNG = np.random.default_rng(11)
RGB = np.clip(np.cumsum(RNG.normal(0, 6, (24, 37, 3)), axis=1) + 128, 0, 255).astype(np.uint8)
GREY = np.ascontiguousarray(RGB[:, :, 0])


def saved(array: NDArray[Any] | Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixels(data: bytes, **options: Any) -> NDArray[Any]:
    return pictures.decode(data, **options).picture.pixels


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def with_chunk(data: bytes, name: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    return data[:33] + chunk(name, body) + data[33:]


def seeds() -> dict[str, bytes]:
    """Small files of every kind that is read."""
    rgba = np.dstack([RGB, GREY])
    palette = Image.fromarray(RGB).quantize(16)
    animated = np.linspace(0, 65535, 24 * 37).astype(np.uint16).reshape(24, 37)
    return {
        "png rgb": saved(RGB, "PNG"),
        "png own": png.encode(RGB),
        "png own 16": png.encode(animated),
        "png grey": saved(GREY, "PNG"),
        "png rgba": saved(rgba, "PNG"),
        "png palette": saved(palette, "PNG"),
        "png 1 bit": saved(Image.fromarray(GREY > 128), "PNG"),
        "png exif": saved(RGB, "PNG", exif=exif(1)),
        "png text": saved(RGB, "PNG", pnginfo=text_chunk("hello")),
        "jpeg": saved(RGB, "JPEG", quality=95),
        "jpeg 444": saved(RGB, "JPEG", quality=60, subsampling=0),
        "jpeg progressive": saved(RGB, "JPEG", progressive=True),
        "jpeg grey": saved(GREY, "JPEG"),
        "jpeg exif": saved(RGB, "JPEG", exif=exif(1)),
        "jpeg restart": saved(RGB, "JPEG", restart_marker_blocks=1),
        "webp lossy": saved(RGB, "WEBP"),
        "webp lossless": saved(rgba, "WEBP", lossless=True),
        "tiff": saved(RGB, "TIFF"),
        "tiff deflate": saved(RGB, "TIFF", compression="tiff_adobe_deflate"),
        "bmp": saved(RGB, "BMP"),
        "bmp grey": saved(GREY, "BMP"),
        "bmp palette": saved(palette, "BMP"),
        "bmp alpha": cv2.imencode(".bmp", cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA))[1].tobytes(),
        "npy": npy.encode(RGB),
    }


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    return block


def text_chunk(text: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", text)
    return info


def made_png(width: int, height: int, rows: int) -> bytes:
    """A black PNG of sound structure that holds `rows` bytes, whatever its header promises."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(bytes(min(2**20, rows - at))) for at in range(0, rows, 2**20)) + packer.flush()
    return png.SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def squeezed(zeros: int) -> bytes:
    packer = zlib.compressobj(1)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(zeros >> 20)) + packer.flush()
