"""What writers of loose files share: the picture's bytes, label passes beside it, and the look back.

Names derive from the sample's id alone. Whatever is written is decoded again before it is returned:
lossless files must give back every value, a JPEG the picture within a stated loss. A file that comes through
untouched was decoded by its reader a moment ago; of those, one in sixteen is decoded again, as its last bytes have it.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synthaug.contracts import Encoded, File, Fragment, Writer
from synthaug.errors import ConfigError, Rejected
from synthaug.formats import headers, naming, passes, pictures, png
from synthaug.labels import PASSES, Keypoint, Size
from synthaug.sample import Picture, Sample

ImageFormat = Literal["auto", "png", "jpeg"]
DepthFormat = Literal["npy", "png16"]

_TRUSTED, _TAIL = 16, 64
_SUFFIXES = {"png": ".png", "jpeg": ".jpg"}


class LooseWriter(Writer):
    """A writer of one picture file per sample. Shards leave rows, and `finalise` makes the whole of them.

    Args:
        image: `auto` writes an untouched picture's own PNG or JPEG bytes and PNG otherwise; `png` and
            `jpeg` keep such bytes only where they are of that kind.
        quality: Of JPEG, 1..100; colour is never subsampled (4:4:4).
        min_psnr: A JPEG must decode to the picture at least this well, dB; else the sample is rejected.
        passes: Label passes to store beside the images; None stores all that are true of the picture.
        depth: `npy` is exact; `png16` takes a tenth of the space and rounds to whole millimetres, up to 65.535 m.
    """

    def __init__(
        self,
        *,
        image: ImageFormat,
        quality: int,
        min_psnr: float,
        passes: Sequence[str] | None,
        depth: DepthFormat = "npy",
    ) -> None:
        naming.one_of("image", image, ("auto", "png", "jpeg"))
        if not 1 <= quality <= 100:
            raise ConfigError(f"quality={quality}: expected 1 to 100")
        if not 0.0 <= min_psnr < math.inf:
            raise ConfigError(f"min_psnr={min_psnr}: expected decibels from 0")
        naming.one_of("depth", depth, ("npy", "png16"))
        for name in passes or ():
            naming.one_of("passes", name, PASSES)
        self.image: ImageFormat = image
        self.quality = quality
        self.min_psnr = min_psnr
        self.passes = None if passes is None else tuple(passes)
        self.depth: DepthFormat = depth
        self._rows: list[Encoded] = []

    def add(self, encoded: Encoded) -> None:
        self._rows.append(encoded)

    def close_shard(self, shard: str) -> Fragment:
        rows, self._rows = self._rows, []
        return Fragment(rows=tuple({"id": encoded.sample_id, **encoded.row} for encoded in rows))

    def picture(self, picture: Picture, stem: str) -> File:
        """A picture as a verified file `stem` plus suffix.

        Raises:
            Rejected: Under `encode`: a float picture, or a JPEG below `min_psnr`.
        """
        suffix, data = encode_picture(picture, self.image, self.quality)
        if data is not picture.source or zlib.crc32(data[-_TAIL:]) % _TRUSTED == 0:
            self.verify_picture(data, picture)
        return File(stem + suffix, data)

    def verify_picture(self, data: bytes, picture: Picture) -> None:
        """Decodes a file and compares it with the picture that it stands for; raises as `picture`."""
        found = pictures.decode(data, alpha="refuse", canvas=picture.size).picture.pixels
        if np.array_equal(found, picture.pixels):
            return
        loss = psnr(found, picture.pixels)
        if headers.kind_of(data) != "jpeg" or loss < self.min_psnr:
            raise Rejected(
                "encode",
                f"the file decodes to the picture at {loss:.1f} dB, min_psnr={self.min_psnr:g}; raise quality, or "
                "write image=png",
            )

    def sidecars(self, sample: Sample) -> tuple[tuple[File, ...], dict[str, str]]:
        """Verified files of the label passes, `<pass>/<id>.<suffix>`, and their names by pass.

        Passes that no longer describe the picture are left out.
        """
        files: list[File] = []
        for name in PASSES:
            wanted = self.passes is None or name in self.passes
            if not wanted or name not in sample.labels.passes or name in sample.stale:
                continue
            array = sample.labels.passes[name]
            rounds = name == "depth" and self.depth == "png16"
            suffix, data = passes.encode_pass(name, array, "png16" if rounds else None)
            found = passes.decode_pass(name, data)
            if not same(found, array) and not (rounds and rounded(found, array)):
                raise Rejected("encode", f"pass '{name}' read back differs from the one written")
            files.append(File(f"{name}/{sample.id}{suffix}", data))
        return tuple(files), {file.name.partition("/")[0]: file.name for file in files}

    def passes_left_out(self, sample: Sample) -> int:
        """Label passes of a sample that `sidecars` does not store."""
        wanted = PASSES if self.passes is None else self.passes
        return sum(name not in wanted or name in sample.stale for name in sample.labels.passes)


def outside(points: Sequence[Keypoint], size: Size) -> int:
    """Keypoints that are somewhere, but not on the canvas, where formats of loose files have no place for them."""
    height, width = size
    return sum(bool(state) and not (0.0 <= x <= width and 0.0 <= y <= height) for x, y, state in points)


def encode_picture(picture: Picture, image: ImageFormat, quality: int) -> tuple[str, bytes]:
    """Suffix and bytes of an 8-bit picture; its own bytes where it came through untouched.

    Raises:
        Rejected: Under `encode`, for a float picture: 8 bits would not hold it.
    """
    if picture.source:
        kind = headers.kind_of(picture.source)
        if kind in _SUFFIXES and image in ("auto", kind):
            return _SUFFIXES[kind], picture.source
    if picture.pixels.dtype != np.uint8:
        raise Rejected(
            "encode", f"{picture.space} picture of {picture.pixels.dtype}; this format holds 8 bits, write=folder more"
        )
    if image == "jpeg":
        buffer = io.BytesIO()
        Image.fromarray(picture.pixels).save(buffer, "JPEG", quality=quality, subsampling=0)
        return ".jpg", buffer.getvalue()
    return ".png", png.encode(picture.pixels)


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two 8-bit pictures of one shape, dB; infinite where they are equal."""
    error = float(np.mean((a.astype(np.float32) - b.astype(np.float32)) ** 2))
    return 10 * math.log10(255**2 / error) if error else math.inf


def same(a: NDArray[np.generic], b: NDArray[np.generic]) -> bool:
    """Whether two arrays agree in dtype, shape and every value, NaN included."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return np.array_equal(a, b) or (a.dtype.kind == "f" and bool(((a == b) | ((a != a) & (b != b))).all()))


def rounded(found: NDArray[np.float32], depth: NDArray[np.float32]) -> bool:
    """Whether a depth read back is invalid where the other is, and else within half a step of it."""
    valid = np.isfinite(depth)
    error = np.abs(found[valid].astype(np.float64) - depth[valid])
    # Beside half a step, what float32 itself rounds at the far end of the range.
    return np.array_equal(np.isfinite(found), valid) and bool((error <= passes.DEPTH_UNIT / 2 + 4e-6).all())
