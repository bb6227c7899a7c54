"""Light from all around: a procedural room, or a Radiance .hdr file, both white-balanced and normalised.

Azimuth 0 is the middle column and -y of the world; it grows to the right in the map, which is clockwise seen
from above. Row 0 is straight up.

The file format is that of G. Ward, "Real Pixels" (Graphics Gems II, 1991): shared-exponent pixels, run-length
coded by channel.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import InputError
from synthaug.render.scene import Float32, Float64, Rgb, Sky

LARGEST_FILE = 256 * 2**20
LARGEST_SIDE = 16384


@dataclass(frozen=True, slots=True)
class Lamp:
    """A window or a lamp of the room: a soft-edged rectangle on the sphere.

    Attributes:
        azimuth, elevation: Of its centre, degrees.
        width, height: In degrees.
        radiance: Linear RGB added to the walls; negative takes light away (whoever holds the camera).
        softness: Width of its edge, degrees.
    """

    azimuth: float
    elevation: float
    width: float
    height: float
    radiance: Rgb
    softness: float = 3.0

    def light(self, azimuth: Float64, elevation: Float64) -> Float64:
        """[H, W, 3] radiance at directions in degrees."""
        across = np.abs((azimuth - self.azimuth + 180) % 360 - 180) * np.cos(np.radians(self.elevation))
        along = np.abs(elevation - self.elevation)
        cover = _edge(self.width / 2 - across, self.softness) * _edge(self.height / 2 - along, self.softness)
        return cover[..., None] * np.asarray(self.radiance)


def _edge(inside: Float64, softness: float) -> Float64:
    return 1 / (1 + np.exp(np.clip(-4 * inside / softness, -60, 60)))


@dataclass(frozen=True, slots=True)
class Room(Sky):
    """Walls and a ceiling that return light, windows and lamps, and a dim spot overhead where the camera is.

    Attributes:
        ceiling: Linear radiance straight up.
        wall: Linear radiance at the horizon and below.
        lamps: Windows and lamps.
        shade: How much of the light from within 25 degrees of the zenith the camera and its holder take, 0 to 1.
    """

    ceiling: Rgb
    wall: Rgb
    lamps: tuple[Lamp, ...]
    shade: float = 0.6

    def paint(self) -> Float32:
        height, width = 128, 256
        rows, columns = np.mgrid[:height, :width]
        elevation = 90 - (rows + 0.5) * 180 / height
        azimuth = (columns + 0.5) * 360 / width - 180
        rise = np.clip(elevation / 60, 0, 1)[..., None]
        radiance = np.asarray(self.wall) * (1 - rise) + np.asarray(self.ceiling) * rise
        for lamp in self.lamps:
            radiance = radiance + lamp.light(azimuth, elevation)
        radiance = radiance * (1 - self.shade * _edge(elevation - 65, 12.0))[..., None]
        return balanced(np.maximum(radiance, 0.0).astype(np.float32))


@dataclass(frozen=True, slots=True)
class HdrFile(Sky):
    """A Radiance .hdr map from disk.

    Attributes:
        path: Where it lies; its bytes are part of what a run depends on (`digest`).
        turn: Rotation about the vertical, degrees.
    """

    path: str
    turn: float = 0.0

    def paint(self) -> Float32:
        radiance = read_hdr(_bytes_of(self.path), self.path)
        return balanced(np.roll(radiance, round(self.turn / 360 * radiance.shape[1]), axis=1))

    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(_bytes_of(self.path)).hexdigest()


def balanced(radiance: Float32) -> Float32:
    """White-balanced by the median of each channel, and scaled so that a white floor has radiance 1.

    Args:
        radiance: [H, W, 3] latitude-longitude map.

    Raises:
        InputError: The map is black, or gives no light from above.
    """
    height = radiance.shape[0]
    median = np.median(radiance.reshape(-1, 3), axis=0)
    if not (np.isfinite(radiance).all() and (median > 0).all()):
        raise InputError("environment map with a channel whose median is zero or with non-finite pixels; use another")
    grey = radiance * (median.mean() / median)
    zenith = (np.arange(height) + 0.5) * np.pi / height
    weight = np.maximum(np.cos(zenith), 0) * np.sin(zenith)
    irradiance = float((grey.mean(axis=(1, 2)) * weight).sum() / weight.sum())
    if irradiance <= 0:
        raise InputError("environment map without light from above the horizon; use another")
    return (grey / irradiance).astype(np.float32)


def read_hdr(data: bytes, name: str = "environment map") -> Float32:
    """Decodes a Radiance picture (32-bit_rle_rgbe, rows from the top) to linear [H, W, 3] float32.

    Raises:
        InputError: Not such a file, cut short, or larger than 16384 pixels a side.
    """
    match = re.search(rb"\n\n-Y (\d{1,6}) \+X (\d{1,6})\n", data[:65536])
    if not data.startswith(b"#?") or match is None or b"32-bit_rle_xyze" in data[: match.start()]:
        raise InputError(f"{name}: not a Radiance .hdr file in RGBE with rows from the top (-Y h +X w)")
    height, width = int(match[1]), int(match[2])
    if not (0 < height <= LARGEST_SIDE and 0 < width <= LARGEST_SIDE):
        raise InputError(f"{name}: {width}x{height} pixels, expected at most {LARGEST_SIDE} a side")
    pixels = _scanlines(memoryview(data)[match.end() :], height, width, name).astype(np.float64)
    scale = np.where(pixels[..., 3] > 0, np.exp2(pixels[..., 3] - 136), 0.0)
    return (pixels[..., :3] * scale[..., None]).astype(np.float32)


def _scanlines(body: memoryview, height: int, width: int, name: str) -> NDArray[np.uint8]:
    """[H, W, 4] RGBE bytes of flat or run-length coded rows."""
    coded = 8 <= width < 32768 and bytes(body[:4]) == bytes([2, 2, width >> 8, width & 255])
    if not coded:
        if len(body) < height * width * 4:
            raise InputError(f"{name}: {len(body)} bytes of pixels, expected {height * width * 4}")
        return np.frombuffer(body, np.uint8, height * width * 4).reshape(height, width, 4)
    rows = np.empty((height, 4, width), dtype=np.uint8)
    at = 0
    for row in rows:
        if bytes(body[at : at + 4]) != bytes([2, 2, width >> 8, width & 255]):
            raise InputError(f"{name}: cut short or damaged in its run-length coding")
        at += 4
        for channel in row:
            at = _runs(body, at, channel, name)
    return rows.transpose(0, 2, 1)


def _runs(body: memoryview, at: int, out: NDArray[np.uint8], name: str) -> int:
    """Fills one channel of one row; returns the place after it."""
    x = 0
    while x < len(out):
        count = body[at] if at < len(body) else 0
        run = count > 128
        length = count - 128 if run else count
        end = at + 2 if run else at + 1 + length
        if length == 0 or x + length > len(out) or end > len(body):
            raise InputError(f"{name}: cut short or damaged in its run-length coding")
        out[x : x + length] = body[at + 1] if run else np.frombuffer(body[at + 1 : end], np.uint8)
        x, at = x + length, end
    return at


def _bytes_of(path: str) -> bytes:
    file = Path(path)
    if not file.is_file():
        raise InputError(f"environment map {path} is not a file; leave read.environment empty for the built-in room")
    if file.stat().st_size > LARGEST_FILE:
        raise InputError(f"environment map {path} has {file.stat().st_size} bytes, at most {LARGEST_FILE} are read")
    return file.read_bytes()
