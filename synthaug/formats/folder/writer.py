"""Our own folder out: pictures, one file per label pass, and an exact record per sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from synthaug.contracts import Encoded, File, Fragment
from synthaug.formats import packed, records
from synthaug.formats.folder import native
from synthaug.formats.loose import ImageFormat, LooseWriter
from synthaug.sample import Sample


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
        files = [packed.picture_file(self, sample.image, f"images/{sample.id}")]
        if self.reference and packed.has_reference(sample):
            files.append(packed.picture_file(self, sample.reference, f"reference/{sample.id}"))
        sidecars, paths = self.sidecars(sample)
        record = records.record_to(sample, files[0].name, files[1].name if len(files) > 1 else "", paths)
        records.verify_record(record, sample)
        files += [*sidecars, File(f"{native.RECORDS}/{sample.id}.json", record)]
        left_out = {"label passes": self.passes_left_out(sample)}
        return Encoded(sample.id, tuple(files), row={"split": sample.split}, left_out=left_out)

    def finalise(self, fragments: Iterable[Fragment]) -> Sequence[File]:
        return (File(native.DATASET, native.dataset_to(self.dataset)),)
