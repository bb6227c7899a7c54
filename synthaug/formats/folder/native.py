"""Our own folder: what `write=folder` lays out, and its reading.

dataset.json          format, version, categories, splits, the dataset's facts
labels/<id>.json      everything that is no array: the record of `formats.records`
images/<id>.png       the picture (`.npy` where it is float32)
<pass>/<id>.png|npy   one file per label pass
"""

from __future__ import annotations

from typing import Any, cast

from synthaug.contracts import DatasetInfo, Description
from synthaug.errors import InputError, Rejected, first_of
from synthaug.formats import facts, naming, records, strictjson
from synthaug.formats.facts import Json
from synthaug.formats.inputs import InputRoot
from synthaug.labels import Category
from synthaug.sample import Sample

DATASET = "dataset.json"
RECORDS = "labels"
FORMAT = "synthaug-folder"
VERSION = 1


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
        files = [self._records[sample_id], record.image, record.reference, *record.passes.values()]
        return records.describe(sample_id, record, tuple(path for path in files if path))

    def read(self, sample_id: str) -> Sample:
        """As `Reader.read`."""
        return records.unpack(sample_id, self._record(sample_id), self.categories, self._source.read)

    def _record(self, sample_id: str) -> records.Record:
        if sample_id not in self._records:
            raise InputError(f"no sample '{sample_id}' in {RECORDS}/")
        path = self._records[sample_id]
        return records.record_from(self._source.read(path), path)
