"""Folders of real photos that a model is shown, one for each sample."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import ConfigError, InputError, Rejected, first_of, printable
from synthaug.formats import pictures
from synthaug.formats.inputs import InputRoot

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class Photos:
    """The photos of a folder that can be read.

    Attributes:
        root: The folder.
        files: SHA-256 by name, in natural order.
        skipped: What is wrong with photos that are not used, by name.
    """

    root: InputRoot
    files: Mapping[str, str]
    skipped: Mapping[str, str]

    def draw(self, rng: np.random.Generator) -> str:
        """The name of one photo, each as likely."""
        names = list(self.files)
        return names[int(rng.integers(len(names)))]

    def read(self, name: str) -> NDArray[np.uint8]:
        """One photo [H, W, 3] sRGB, upright.

        Raises:
            InputError: It is gone, or no longer what it was when the folder was looked at.
        """
        try:
            data = self.root.read(name)
        except Rejected as rejected:
            raise InputError(f"image_prompt.photos={self.root.root}: {printable(name)}: {rejected}") from rejected
        if hashlib.sha256(data).hexdigest() != self.files[name]:
            raise InputError(
                f"image_prompt.photos={self.root.root}: {printable(name)} has changed since the run was planned;"
                " start a new run"
            )
        return decode(data)

    def identity(self) -> dict[str, object]:
        """Names and contents of the photos used, as one hash, and how many: for a run's fingerprint."""
        whole = hashlib.sha256()
        for name, digest in self.files.items():
            whole.update(f"{len(name)}:{name}={digest}\n".encode())
        return {"sha256": whole.hexdigest(), "used": len(self.files), "skipped": len(self.skipped)}


def find(folder: str, limit: int) -> Photos:
    """Reads and decodes the photos of a folder, and of folders below it, once: about 10 ms each.

    Args:
        folder: Of photos; other files in it are passed over.
        limit: Photos looked at, at most, evenly over the sorted names; from 1.

    Raises:
        ConfigError: No photo that can be read: what is wrong with the first of them.
        InputError, SecurityError: No such folder, or links in it.
    """
    root = InputRoot(folder)
    names = root.listing(suffixes=SUFFIXES)
    if len(names) > limit:
        names = [names[int(i)] for i in np.linspace(0, len(names) - 1, limit)]
    files: dict[str, str] = {}
    skipped: dict[str, str] = {}
    for name in names:
        try:
            data = root.read(name)
            decode(data)
            files[name] = hashlib.sha256(data).hexdigest()
        except Rejected as rejected:
            skipped[name] = str(rejected)
    if not files:
        told = first_of((f"{name}: {fault}" for name, fault in skipped.items()), 3) if skipped else ""
        raise ConfigError(
            f"image_prompt.photos={folder}: {len(names)} pictures, none of which can be read; expected photos"
            f" ({', '.join(SUFFIXES)}){told}"
        )
    return Photos(root, files, skipped)


def decode(data: bytes) -> NDArray[np.uint8]:
    """A photo [H, W, 3] sRGB from its file, turned upright where its camera says so. Raises `Rejected`."""
    try:
        picture = pictures.decode(data).picture
    except Rejected as rejected:
        if rejected.reason != "orientation":
            raise
        picture = _turned(data)
    if picture.pixels.dtype != np.uint8:
        raise Rejected("decode", "a linear picture, expected a photo in sRGB")
    return picture.pixels


def _turned(data: bytes) -> pictures.Picture:
    """By the canvas that it has when turned; one that is upside down or mirrored stays as it is stored."""
    height, width = pictures.size_of(data)
    try:
        return pictures.decode(data, canvas=(width, height)).picture
    except Rejected as rejected:
        if rejected.reason != "size":
            raise
    return pictures.decode(data, canvas=(height, width)).picture
