"""Our own folder out: pictures, one file per label pass, and an exact record per sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from synthaug.contracts import Encoded, File, Fragment
from synthaug.errors import Rejected
from synthaug.formats import facts, npy
from synthaug.formats.folder import native
from synthaug.formats.loose import ImageFormat, LooseWriter
from synthaug.sample import Picture, Sample


class FolderWriter(LooseWriter):
    """Writes everything that a sample is; `read=folder` gives it back. The layout is in `formats.folder.native`.

    A float picture (linear, HDR) is stored as npy, an 8-bit one as `image` says. Passes that no longer
    describe the picture (`stale`) are left out.

    Args:
        reference: Store the reference picture too where it differs from the picture; without it, reading
            takes the picture as its own reference.
        image: `auto` writes an untouched picture's own bytes and PNG otherwise; `png`; `jpeg`.
        quality: Of JPEG, 1..100; colour is never subsampled.
        min_psnr: A JPEG must decode to the picture at least this well, dB; else the sample is rejected.
        passes: Label passes to store; None stores all. Leaving out `instance` leaves out the masks it holds.
    """

    def __init__(
        self,
        *,
        reference: bool = False,
        image: ImageFormat = "auto",
        quality: int = 95,
        min_psnr: float = 28.0,
        passes: Sequence[str] | None = None,
    ) -> None:
        super().__init__(image=image, quality=quality, min_psnr=min_psnr, passes=passes)
        self.reference = reference

    def reader(self) -> Mapping[str, Any]:
        return {"_target_": "synthaug.formats.folder.reader.FolderReader"}

    def encode(self, sample: Sample) -> Encoded:
        image = self._stored(sample.image, f"images/{sample.id}")
        files = [image]
        if self.reference and not np.array_equal(sample.reference.pixels, sample.image.pixels):
            if sample.reference.space != sample.image.space:
                raise Rejected("encode", "picture and reference differ in colour space; write with reference=false")
            files.append(self._stored(sample.reference, f"reference/{sample.id}"))
        sidecars, paths = self.sidecars(sample)
        reference = files[1].name if len(files) > 1 else ""
        record = native.record_to(sample, image.name, reference, paths)
        self._verify(record, sample)
        name = f"{native.RECORDS}/{sample.id}.json"
        return Encoded(sample.id, (*files, *sidecars, File(name, record)), row={"split": sample.split})

    def finalise(self, fragments: Iterable[Fragment]) -> Sequence[File]:
        return (File(native.DATASET, native.dataset_to(self.dataset)),)

    def _stored(self, picture: Picture, stem: str) -> File:
        if picture.pixels.dtype == np.uint8:
            return self.picture(picture, stem)
        data = native.float_picture_to(picture)
        if not np.array_equal(npy.decode(data), picture.pixels):
            raise Rejected("encode", "float picture read back differs from the one written (NaN?)")
        return File(f"{stem}.npy", data)

    def _verify(self, data: bytes, sample: Sample) -> None:
        """Reads the record back and compares every instance and the camera."""
        record = native.record_from(data, "written record")
        camera = record.facts.get("camera")
        same = (
            tuple(facts.instance_from(row) for row in record.facts["instances"]) == sample.labels.instances
            and (None if camera is None else facts.camera_from(camera)) == sample.labels.camera
            and record.size == tuple(sample.labels.size)
        )
        if not same:
            raise Rejected("encode", "the record read back differs from the sample (a value that JSON cannot hold?)")
