"""What a folder of real photos looks like, as a few plain arrays.

Every picture, photo or render, is measured at the same canonical size (256 pixels at most, area means), so
that statistics of a phone's photo and of a small render can be compared.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug.errors import ConfigError, InputError, Rejected
from synthaug.formats import pictures
from synthaug.formats.inputs import InputRoot
from synthaug.refine.colour import Float32, lab_from_srgb

CANONICAL = 256
BINS = 32
"""Frequencies kept per axis, in half cycles per picture."""
OPPONENT = np.array([[0.299, 0.587, 0.114], [0.701, -0.587, -0.114], [-0.299, -0.587, 0.886]], np.float32)
"""sRGB to luma, red minus luma, blue minus luma."""
RADIUS: Float32 = np.hypot(*np.meshgrid(np.arange(BINS), np.arange(BINS))).astype(np.float32)
"""[32, 32] frequency of each cosine (down, across), in half cycles per picture."""
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
_MAGIC = b"synthaug look statistics 1\n"
_CACHED: OrderedDict[str, Statistics] = OrderedDict()
_MOST_CACHED = 8


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """Measures of P photos.

    Attributes:
        means: [P, 3] mean L*a*b*.
        covariances: [P, 3, 3] of L*a*b*.
        amplitudes: [P, 3, 32] by opponent channel (`OPPONENT`) and by 0 to 31 half cycles per picture: the mean
            itself, then the root mean square of the cosines of that frequency in any direction.
        digest: SHA-256 over the photos' contents, as the maker of the statistics says.
        skipped: Photos that could not be read.
        files: SHA-256 by name below the folder, where they were measured just now; not stored.
    """

    means: Float32
    covariances: Float32
    amplitudes: Float32
    digest: str
    skipped: int = 0
    files: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def count(self) -> int:
        """How many photos were measured."""
        return len(self.means)

    def of(self, index: int) -> tuple[Float32, Float32, Float32]:
        """Mean, covariance and amplitudes of one photo; of their average under -1."""
        if index >= 0:
            return self.means[index], self.covariances[index], self.amplitudes[index]
        return self.means.mean(0), self.covariances.mean(0), self.amplitudes.mean(0)

    def to_bytes(self) -> bytes:
        """One line of JSON, then little-endian float32 arrays: no pickle, the same bytes every time."""
        head = json.dumps({"count": self.count, "digest": self.digest, "skipped": self.skipped}, sort_keys=True)
        arrays = (self.means, self.covariances, self.amplitudes)
        return _MAGIC + head.encode() + b"\n" + b"".join(np.ascontiguousarray(a, "<f4").tobytes() for a in arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> Statistics:
        """Reads what `to_bytes` wrote. Raises `InputError` for anything else."""
        head, _, body = data.removeprefix(_MAGIC).partition(b"\n")
        try:
            facts: Any = json.loads(head) if data.startswith(_MAGIC) else {}
            count, digest, skipped = int(facts["count"]), str(facts["digest"]), int(facts["skipped"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError("look statistics: not a file that Statistics.to_bytes wrote") from error
        shapes = ((count, 3), (count, 3, 3), (count, 3, BINS))
        if count < 1 or len(body) != 4 * sum(int(np.prod(shape)) for shape in shapes):
            raise InputError(
                f"look statistics: {len(body)} bytes of arrays do not fit {count} photos; the file is"
                " truncated or altered"
            )
        arrays: list[Float32] = []
        at = 0
        for shape in shapes:
            size = 4 * int(np.prod(shape))
            arrays.append(np.frombuffer(body[at : at + size], "<f4").reshape(shape).astype(np.float32))
            at += size
        if not all(np.isfinite(array).all() for array in arrays):
            raise InputError("look statistics: values that are not finite")
        means, covariances, amplitudes = arrays
        return cls(means, covariances, amplitudes, digest, skipped)


def fit(photos: str | Path, limit: int = 256) -> Statistics:
    """Measures a folder of photos, about 5 ms each; remembered per process by content.

    Args:
        photos: Folder; pictures in folders below it count too.
        limit: At most so many photos, evenly over the sorted names.

    Raises:
        ConfigError: No photo in it that can be read.
        InputError: No such folder.
    """
    root = InputRoot(photos)
    names = root.listing(suffixes=_SUFFIXES)
    if len(names) > limit:
        names = [names[int(i)] for i in np.linspace(0, len(names) - 1, limit)]
    if not names:
        raise ConfigError(f"photos={photos}: no picture in it; expected {', '.join(_SUFFIXES)}")
    whole, files = hashlib.sha256(), dict[str, str]()
    for name in names:
        one = hashlib.sha256(_bytes(root, name))
        whole.update(one.digest())
        files[name] = one.hexdigest()
    digest = whole.hexdigest()
    if digest not in _CACHED:
        _CACHED[digest] = _measured(root, names, digest)
        while len(_CACHED) > _MOST_CACHED:
            _CACHED.popitem(last=False)
    return replace(_CACHED[digest], files=files)


def _bytes(root: InputRoot, name: str) -> bytes:
    """The file, or nothing where it cannot be read: it counts as skipped, not as an error."""
    try:
        return root.read(name)
    except Rejected:
        return b""


def _measured(root: InputRoot, names: list[str], digest: str) -> Statistics:
    rows: list[tuple[Float32, Float32, Float32]] = []
    first = ""
    for name in names:
        try:
            data = _bytes(root, name)
            # The stored size as canvas: a photo's orientation does not matter here, its tag is dropped.
            picture = pictures.decode(data, canvas=pictures.size_of(data)).picture
            if picture.space != "srgb":
                raise Rejected("decode", "a linear picture, expected a photo in sRGB")
        except Rejected as rejected:
            first = first or f"{name}: {rejected}"
            continue
        planes = np.ascontiguousarray(picture.pixels.transpose(2, 0, 1), np.float32) / np.float32(255)
        rows.append(measure(planes))
    if not rows:
        raise ConfigError(f"photos={root.root}: none of {len(names)} pictures can be read; the first says: {first}")
    means, covariances, amplitudes = (np.stack(column) for column in zip(*rows, strict=True))
    return Statistics(means, covariances, amplitudes, digest, len(names) - len(rows))


def measure(planes: Float32) -> tuple[Float32, Float32, Float32]:
    """Mean and covariance in L*a*b* of [3, H, W] sRGB, and amplitudes [3, 32] as `Statistics` has them."""
    small = thumbnail(planes)
    lab = lab_from_srgb(small.reshape(3, -1)).astype(np.float64)
    mean = lab.mean(axis=1)
    away = lab - mean[:, None]
    covariance = away @ away.T / away.shape[1]
    return mean.astype(np.float32), covariance.astype(np.float32), amplitudes_of(cosines(small))


def amplitudes_of(waves: Float32) -> Float32:
    """[3, 32, 32] cosines to [3, 32]: rings of equal frequency, smoothed over their neighbours.

    One coefficient of one photo is chance; copying it, as Fourier domain adaptation does, paints its blotches
    onto the render. What the photo's camera and light have in common is the spectrum behind it.
    """
    ring = np.rint(RADIUS).astype(np.intp).ravel()
    inside = ring < BINS
    counts = np.bincount(ring[inside], minlength=BINS)
    power = np.stack(
        [np.bincount(ring[inside], weights=w.ravel()[inside] ** 2, minlength=BINS) / counts for w in waves]
    )
    # The mean has a ring of its own, and takes no part in the smoothing.
    padded = np.concatenate([power[:, 1:2], power[:, 1:], power[:, -1:]], axis=1)
    smooth = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    return np.concatenate([waves[:, :1, 0], np.sqrt(smooth)], axis=1).astype(np.float32)


def thumbnail(planes: Float32) -> Float32:
    """[3, h, w] by area means, the longer side at most 256 pixels."""
    height, width = planes.shape[1:]
    scale = CANONICAL / max(height, width)
    if scale >= 1:
        return planes
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.stack([cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in planes])


def cosines(planes: Float32) -> Float32:
    """Amplitudes [3, 32, 32] by opponent channel of the cosines that make up the mirrored picture (DCT-II).

    The Fourier transform of the mirrored picture is real up to a known phase, so a sign is all its phase,
    and there is no jump at a border that would spread over the spectrum.
    """
    down, across = basis(planes.shape[1]), basis(planes.shape[2])
    norm = np.full(BINS, 2.0, np.float32)
    norm[0] = 1
    scale = norm[:, None] * norm / np.float32(planes.shape[1] * planes.shape[2])
    waves = (down @ planes @ across.T) * scale
    return np.einsum("oc,cij->oij", OPPONENT, waves)


@lru_cache(maxsize=64)
def basis(side: int) -> NDArray[np.float32]:
    """[32, side] cosines of 0 to 31 half cycles; what a short side cannot hold is 0."""
    place = (np.arange(side) + 0.5) / side
    order = np.arange(BINS)[:, None]
    return np.where(order < side, np.cos(np.pi * order * place), 0.0).astype(np.float32)
