"""WebDataset out: one tar per shard and split, readable by `webdataset`, `datasets` and any tar.

    <split>-<shard>.tar    members `<key>.png`, `<key>.json`, `<key>.instance.png`, `<key>.depth.npy`, ...
    dataset.json           classes, shards and their counts, the facts of the run; written last

The key is the sample's id, folders included: no id holds a dot, and both libraries take everything before
the first dot of the last component. Two underscores at the head of a component would make them pass the
member over as metadata; there the first is written `~5F`, which no id contains. Fields are those of
`formats.packed`; `json` is its row, where `objects.names` adds each instance's class by name, and `facts`
stays text, because a column needs one type. A float32 picture is the field `npy`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from synthaug.contracts import Encoded, File, Fragment
from synthaug.errors import SynthaugError
from synthaug.formats import packed, strictjson
from synthaug.formats.containers import stem_of
from synthaug.formats.declaration import declaration
from synthaug.formats.facts import Json
from synthaug.formats.loose import DepthFormat, ImageFormat, LooseWriter
from synthaug.formats.webdataset import tar
from synthaug.sample import Sample

MARKER = "synthaug-webdataset"
VERSION = 1
DATASET = "dataset.json"


class WebdatasetWriter(LooseWriter):
    """Writes tar shards. Shards keep the numbers of the plan, so a split may skip some: list them, or use dataset.json.

    `datasets` wants the same fields in every sample: where a run keeps some pictures' JPEG bytes and not
    others', write `image=png` for it.

    Args:
        reference: Store the reference picture too where it differs from the picture.
        image: `auto` writes an untouched picture's own bytes and PNG otherwise; `png`; `jpeg`.
        quality: Of JPEG, 1..100; colour is never subsampled.
        min_psnr: A JPEG must decode to the picture at least this well, dB; else the sample is rejected.
        passes: Label passes to store; None stores all.
        depth: `npy` is exact; `png16` takes a tenth of the space and rounds to whole millimetres, up to 65.535 m.
    """

    holds_linear = True

    def __init__(
        self,
        *,
        reference: bool = False,
        image: ImageFormat = "auto",
        quality: int = 95,
        min_psnr: float = 28.0,
        passes: Sequence[str] | None = None,
        depth: DepthFormat = "npy",
    ) -> None:
        super().__init__(image=image, quality=quality, min_psnr=min_psnr, passes=passes, depth=depth)
        self.reference = reference
        self._shard: list[Encoded] = []

    def reader(self) -> Mapping[str, Any]:
        return {"_target_": "synthaug.formats.webdataset.reader.WebdatasetReader"}

    def encode(self, sample: Sample) -> Encoded:
        done = packed.pack(self, sample, reference=self.reference, holds_floats=True)
        names = [sample.labels.category(instance).name for instance in sample.labels.instances]
        row = {**done.row, "objects": {**done.row["objects"], "names": names}}
        members = {**done.members, "json": strictjson.dumps(row)}
        return Encoded(sample.id, (), members, {"split": sample.split})

    def add(self, encoded: Encoded) -> None:
        self._shard.append(encoded)

    def close_shard(self, shard: str) -> Fragment:
        rows, self._shard = self._shard, []
        by_stem: dict[str, list[Encoded]] = {}
        for encoded in rows:
            by_stem.setdefault(stem_of(str(encoded.row["split"])), []).append(encoded)
        files: list[File] = []
        told: list[Json] = []
        for stem, samples in sorted(by_stem.items()):
            data = _archive(samples)
            files.append(File(f"{stem}-{shard}.tar", data))
            told.append({"file": files[-1].name, "split": str(samples[0].row["split"]), "samples": len(samples)})
        return Fragment(tuple(files), tuple(told))

    def finalise(self, fragments: Iterable[Fragment]) -> Sequence[File]:
        shards = [dict(row) for fragment in fragments for row in fragment.rows]
        told = declaration(MARKER, VERSION, self.dataset.categories, shards=shards, card=dict(self.dataset.card))
        return (File(DATASET, told),)


def key_of(sample_id: str) -> str:
    """The key of a sample in an archive."""
    return "/".join(f"~5F{part[1:]}" if part.startswith("__") else part for part in sample_id.split("/"))


def id_of(key: str) -> str:
    """The sample behind a key that `key_of` made."""
    return "/".join(f"_{part[3:]}" if part.startswith("~5F_") else part for part in key.split("/"))


def _archive(samples: Sequence[Encoded]) -> bytes:
    """The archive, its members found again and compared before it is handed on."""
    files = [
        (f"{key_of(encoded.sample_id)}.{field}", data)
        for encoded in samples
        for field, data in sorted(encoded.members.items())
    ]
    data = tar.write(files)
    view = memoryview(data)
    found = tar.members(lambda start, length: bytes(view[start : start + length]), len(data), "the archive just made")
    same = [(m.name, m.size) for m in found] == [(name, len(part)) for name, part in files]
    if not same:
        raise SynthaugError("an archive read back differs from what was written")
    return data
