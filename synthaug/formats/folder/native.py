"""The exact record of a sample: what `write=folder` stores beside the arrays, and reads back unchanged.

dataset.json          format, version, categories, splits, the dataset's facts
labels/<id>.json      everything that is no array
images/<id>.png       the picture (`.npy` where it is float32)
<pass>/<id>.png|npy   one file per label pass
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from synthaug.contracts import DatasetInfo, Description
from synthaug.errors import InputError, Rejected, first_of
from synthaug.formats import facts, naming, npy, passes, pictures, strictjson
from synthaug.formats.facts import Json
from synthaug.formats.inputs import InputRoot
from synthaug.labels import PASSES, Category, Labels, Size
from synthaug.sample import Picture, Sample

DATASET = "dataset.json"
RECORDS = "labels"
FORMAT = "synthaug-folder"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Record:
    """A parsed `labels/<id>.json`."""

    size: Size
    split: str
    image: str
    space: str
    reference: str
    passes: Mapping[str, str]
    facts: Json


def dataset_to(dataset: DatasetInfo) -> bytes:
    """The bytes of dataset.json."""
    return strictjson.dumps(
        {
            "format": FORMAT,
            "version": VERSION,
            "categories": [facts.category_to(category) for category in dataset.categories],
            "splits": list(dataset.splits),
            "card": dict(dataset.card),
        }
    )


def dataset_from(data: bytes) -> tuple[Category, ...]:
    """The categories of dataset.json.

    Raises:
        InputError: Another format, or a version that this release does not know.
    """
    parsed: Any = strictjson.loads(data, DATASET)
    if not isinstance(parsed, dict) or cast(Json, parsed).get("format") != FORMAT:
        raise InputError(f"{DATASET} is none that write=folder made; declare the passes with read.passes, or remove it")
    document = cast(Json, parsed)
    if document.get("version") != VERSION:
        raise InputError(f"{DATASET} has version {document.get('version')!r}, this release reads {VERSION}")
    try:
        return tuple(facts.category_from(row) for row in document["categories"])
    except (KeyError, TypeError, Rejected) as error:
        raise InputError(f"{DATASET}: categories are malformed: {error}") from error


def record_to(sample: Sample, image: str, reference: str, files: Mapping[str, str]) -> bytes:
    """The bytes of a record.

    Args:
        sample: The sample.
        image: Path of its picture below the output root.
        reference: Path of its reference, empty where none is stored.
        files: Paths of its label passes by name.
    """
    return strictjson.dumps(
        facts.sample_to(sample)
        | {
            "size": list(sample.labels.size),
            "split": sample.split,
            "image": image,
            "space": sample.image.space,
            "reference": reference,
            "passes": dict(files),
            "instances": [facts.full_instance_to(instance) for instance in sample.labels.instances],
            "trail": facts.trail_to(sample.trail),
        }
    )


def record_from(data: bytes, name: str) -> Record:
    """Parses a record. Raises `Rejected` under `label` when it is malformed."""
    try:
        document = cast(Json, strictjson.loads(data, name))
        height, width = document["size"]
        files = {str(k): str(v) for k, v in dict(document["passes"]).items() if k in PASSES}
        return Record(
            (int(height), int(width)), str(document["split"]), str(document["image"]), str(document["space"]),
            str(document["reference"]), files, document,
        )  # fmt: skip
    except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Rejected("label", f"{name}: malformed record: {error!r}") from error


def float_picture_to(picture: Picture) -> bytes:
    """A float32 picture as npy bytes."""
    return npy.encode(picture.pixels)


def float_picture_from(data: bytes, space: str, size: Size) -> Picture:
    """A float32 picture from npy bytes. Raises `Rejected` under `decode` when it is none."""
    array = npy.decode(data)
    if array.dtype != np.float32 or array.shape != (*size, 3) or space not in ("srgb", "linear"):
        raise Rejected("decode", f"npy of {array.dtype} {array.shape}, expected a float32 picture of {(*size, 3)}")
    return Picture(array, "linear" if space == "linear" else "srgb")


class NativeFolder:
    """Reading of a folder that `write=folder` made."""

    def __init__(self, source: InputRoot, split: str | None) -> None:
        self._source = source
        self.categories = dataset_from(source.read(DATASET))
        paths = source.listing(RECORDS, suffixes=(".json",))
        self._records = {path[len(RECORDS) + 1 : -len(".json")]: path for path in paths}
        strangers = [path for name, path in self._records.items() if facts.stored_id({"id": name}) is None]
        if strangers:
            raise InputError(f"{len(strangers)} records have names that are no sample ids:{first_of(strangers)}")
        if split is not None:
            wanted = naming.canonical_split(split)
            self._records = {k: path for k, path in self._records.items() if self._record(k).split in (split, wanted)}
        self.ids = tuple(self._records)

    def describe(self, sample_id: str) -> Description:
        """As `Reader.describe`."""
        record = self._record(sample_id)
        known = facts.sample_fields(record.facts)
        files = [self._records[sample_id], record.image, record.reference, *record.passes.values()]
        return Description(
            sample_id,
            record.size,
            tuple(record.passes),
            tuple(path for path in files if path),
            known["group"],
            known["view"],
            known["frame"],
            record.split,
            "linear" if record.space == "linear" else "srgb",
            tuple(sorted({int(row["class_id"]) for row in record.facts["instances"]})),
        )

    def read(self, sample_id: str) -> Sample:
        """As `Reader.read`."""
        record = self._record(sample_id)
        image = self._picture(record.image, record)
        reference = self._picture(record.reference, record) if record.reference else image
        arrays = {name: passes.decode_pass(name, self._source.read(path)) for name, path in record.passes.items()}
        told: Any = record.facts.get("camera")
        labels = Labels(
            record.size,
            self.categories,
            tuple(facts.instance_from(row) for row in record.facts["instances"]),
            arrays,
            None if told is None else facts.camera_from(told),
        )
        labels.check()
        trail = facts.trail_from(record.facts["trail"])
        known = facts.sample_fields(record.facts)
        return Sample(sample_id, image, labels, reference, split=record.split, trail=trail, **known)

    def _record(self, sample_id: str) -> Record:
        if sample_id not in self._records:
            raise InputError(f"no sample '{sample_id}' in {RECORDS}/")
        path = self._records[sample_id]
        return record_from(self._source.read(path), path)

    def _picture(self, path: str, record: Record) -> Picture:
        data = self._source.read(path)
        if path.endswith(".npy"):
            return float_picture_from(data, record.space, record.size)
        return pictures.decode(data, alpha="refuse", canvas=record.size).picture
