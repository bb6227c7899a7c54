"""What readers of containers (tar, Parquet) share: our own rows read back exactly, foreign ones by habit.

From a foreign container come pictures, boxes and masks. Its label passes stay where they are: nothing in it
says their unit, axes or invalid values (`read=folder` lets a user declare them).
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from synthaug.contracts import Description, Reader
from synthaug.errors import ConfigError, InputError, Rejected, first_of, nearest, printable
from synthaug.formats import classes, habits, headers, naming, pictures, records, strays
from synthaug.formats.classes import Unknown
from synthaug.formats.facts import Json
from synthaug.formats.spans import SpanRoot
from synthaug.labels import Category, Labels, Size
from synthaug.sample import Picture, Sample, escape_id

_SHARD = re.compile(r"(?P<split>.*?)(?:-?[0-9]+)?(?:-of-[0-9]+)?(?:-[0-9a-f]{8,})?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sample lies.

    Attributes:
        file: Below the root.
        number: Of the sample in its file, from 0.
        split: As the file's name says it.
        fields: Members that are there, by field; see `formats.packed`.
        image: Field of the picture.
    """

    file: str
    number: int
    split: str
    fields: tuple[str, ...]
    image: str


class ContainerReader(Reader):
    """A reader of samples in container files. Building one opens nothing.

    Args:
        root: Folder of the dataset.
        names: Text file or data.yaml that fixes the classes of a foreign dataset.
        split: Read only this split; None reads all.
        objects: Where the objects of a foreign sample are.
        boxes: What four numbers mean in a foreign dataset; None goes by their column, see `formats.habits`.
        classes: Class name by source name, for a foreign dataset.
        unknown: What to do with labels that the names file does not know.
        clip: Cut boxes at the canvas that leave it by more than a pixel.
        unlabelled: Accept a foreign dataset without any label; it is refused otherwise.
        alpha: What to do with transparency.
        background: sRGB colour 0..255 behind transparent pixels under `composite`.
    """

    def __init__(
        self,
        *,
        root: str,
        names: str | None,
        split: str | None,
        objects: str,
        boxes: habits.Boxes | None,
        classes: Mapping[str | int, str] | None,
        unknown: Unknown,
        clip: bool,
        unlabelled: bool,
        alpha: pictures.Alpha,
        background: Sequence[int],
    ) -> None:
        if boxes is not None:
            naming.one_of("boxes", boxes, ("xywh", "xyxy"))
        naming.one_of("unknown", unknown, ("refuse", "ignore"))
        naming.one_of("alpha", alpha, pictures.ALPHA)
        if len(background) != 3 or not all(isinstance(v, int) and 0 <= v <= 255 for v in background):
            raise ConfigError(f"background={list(background)}: expected three whole numbers from 0 to 255")
        self.root = root
        self.names = names
        self.split = split
        self.objects = objects
        self.boxes: habits.Boxes | None = boxes
        self.renamed = _renamed(classes)
        self.unknown: Unknown = unknown
        self.clip = clip
        self.unlabelled = unlabelled
        self.alpha: pictures.Alpha = alpha
        self.background = (background[0], background[1], background[2])

    @property
    @abstractmethod
    def places(self) -> Mapping[str, Place]:
        """Every sample, in order. Raises `InputError` where the dataset is refused."""

    @property
    @abstractmethod
    def declared(self) -> tuple[Category, ...] | None:
        """The classes of a dataset of our own, None for a foreign one."""

    @abstractmethod
    def row(self, sample_id: str) -> Json:
        """The row of a sample: `facts`, or `objects`, `width` and `height` where they are there."""

    @abstractmethod
    def member(self, sample_id: str, field: str) -> bytes:
        """One member of a sample. Raises `Rejected` under `missing`."""

    def in_split(self, path: str) -> bool:
        """Whether a container file belongs to the wanted split."""
        return self.split is None or split_of(path) in (self.split, naming.canonical_split(self.split))

    @abstractmethod
    def found(self) -> str:
        """What a foreign dataset holds, for the message that nothing of it is a label."""

    def label_names(self, place: Place) -> habits.Names:
        """Names of class numbers in the file of a sample, where the file itself says them."""
        return {}

    @cached_property
    def source(self) -> SpanRoot:
        """The root, opened at first use."""
        return SpanRoot(self.root)

    def listed(self, suffix: str) -> list[str]:
        """Container files below the root in natural order, hidden folders (work in progress, caches) left out."""
        found = self.source.listing("", suffixes=(suffix,))
        return [path for path in found if not any(part.startswith(".") for part in path.split("/"))]

    def digests(self) -> Mapping[str, str]:
        return self.source.take_digests()

    def digest(self, file: str) -> str:
        return self.source.sha256(file)

    def stamp(self, file: str) -> tuple[int, ...]:
        return self.source.stamp(file)

    def ids(self) -> Sequence[str]:
        if self.declared is None and not self.unlabelled and not self.survey.labelled:
            broken = self.survey.broken
            spelt = f"the objects hold {printable(', '.join(self.survey.spelt)[:300])}" if self.survey.spelt else ""
            raise InputError(
                f"labels for 0 of {len(self.places)} images below {self.root}: {spelt or self.found()}; understood are "
                f"{habits.UNDERSTOOD}. Say where the objects are with read.objects=NAME (masks that are pictures: save "
                "them as files for read=folder), or accept pictures alone with read.unlabelled=true"
                + (f". {len(broken)} rows are broken:{first_of(broken, 3)}" if broken else "")
            )
        return tuple(self.places)

    def notes(self) -> Mapping[str, int]:
        """Counts of what is allowed but worth knowing."""
        told = {"images": len(self.places)}
        if self.declared is not None:
            return told
        told["labels of unknown categories"] = sum(self.classes.strangers.values())
        told["images without labels"] = len(self.places) - self.survey.labelled - len(self.survey.broken)
        told[f"boxes read as {self.boxes or 'xywh'}"] = sum(self.survey.boxes.values())
        if self.boxes is None:
            told["boxes read as xywh that would do as xyxy too (read.boxes says which)"] = self.survey.corners
        return told

    def categories(self) -> tuple[Category, ...]:
        return self.declared if self.declared is not None else self.classes.categories

    @cached_property
    def classes(self) -> habits.Classes:
        """The classes of a foreign dataset. Raises `InputError` where labels cannot be told."""
        if self.boxes is None:
            habits.refuse_unclear(self.survey, self.root)
        declared: dict[str, None] = {}
        bare: set[str] = set()
        for file, place in {place.file: place for place in self.places.values()}.items():
            named = [name for names in self.label_names(place).values() for name in names]
            declared |= dict.fromkeys(named)
            bare |= set() if named else {file}
        where = f"{self.root} ({', '.join(sorted(bare)[:3])}: no class names)" if declared and bare else self.root
        return habits.find_classes(self.survey, tuple(declared), self._fixed, self.renamed, self.unknown, where)

    @cached_property
    def survey(self) -> habits.Survey:
        """What the rows of a foreign dataset hold; looks at every row once."""
        survey = habits.Survey()
        for sample_id, place in self.places.items():
            try:
                survey.look(self.row(sample_id).get("objects"), self.label_names(place), self._fixed)
            except Rejected as error:  # rejected again, under its id, when the sample itself is read
                survey.broken.append(f"{sample_id}: {error}")
        return survey

    @cached_property
    def _fixed(self) -> tuple[str, ...]:
        return classes.load_names(self.source, self.names) if self.names else ()

    def describe(self, sample_id: str) -> Description:
        place = self.place(sample_id)
        if self.declared is not None:
            return records.describe(sample_id, self._record(sample_id), self.files_of(place))
        row = self.row(sample_id)
        size, linear = self._canvas(sample_id, row)
        found = habits.class_ids(self._objects(row), self.classes, self.label_names(place))
        return Description(
            sample_id, size, ("alpha",) if self.alpha == "keep" else (), self.files_of(place), split=place.split,
            space="linear" if linear else "srgb", classes=found,
        )  # fmt: skip

    def read(self, sample_id: str) -> Sample:
        place = self.place(sample_id)
        if self.declared is not None:
            record = self._record(sample_id)
            return records.unpack(sample_id, record, self.declared, lambda field: self.member(sample_id, field))
        row = self.row(sample_id)
        picture, arrays = self._decode(self.member(sample_id, place.image), _size(row))
        objects, names = self._objects(row), self.label_names(place)
        made = habits.instances(objects, picture.size, self.classes, names, self.boxes, self.clip)
        labels = Labels(picture.size, self.classes.categories, made, arrays)
        labels.check()
        lost = habits.strangers(objects, self.classes, names) if self.unknown == "ignore" else None
        trail = strays.of_labels(type(self).__name__, lost)
        return Sample(sample_id, picture, labels, picture, split=place.split, trail=trail)

    def place(self, sample_id: str) -> Place:
        """Where a sample lies."""
        if sample_id not in self.places:
            raise InputError(f"no sample '{sample_id}' below {self.root}.{nearest(sample_id, self.places)}")
        return self.places[sample_id]

    def files_of(self, place: Place) -> tuple[str, ...]:
        """Files that reading a sample opens."""
        return (place.file,)

    def _record(self, sample_id: str) -> records.Record:
        told = self.row(sample_id).get("facts")
        where = f"{self.place(sample_id).file}, sample {sample_id}"
        if not isinstance(told, str):
            raise Rejected("label", f"{where}: facts are missing, and the dataset says that synthaug wrote it")
        return records.record_from(told.encode("utf-8"), where)

    def _objects(self, row: Json) -> Any:
        """The objects of a row; none where the dataset was accepted as pictures alone."""
        return None if self.unlabelled and not self.survey.labelled else row.get("objects")

    def _canvas(self, sample_id: str, row: Json) -> tuple[Size, bool]:
        data = self.member(sample_id, self.place(sample_id).image)
        stored = pictures.size_of(data)
        told = _size(row)
        if told not in (None, stored, stored[::-1]):
            raise Rejected("size", f"the row says {told[1]}x{told[0]}, its picture is {stored[1]}x{stored[0]}")
        return told or stored, headers.kind_of(data[:32]) in ("exr", "npy")

    def _decode(self, data: bytes, canvas: Size | None) -> tuple[Picture, dict[str, Any]]:
        decoded = pictures.decode(data, alpha=self.alpha, background=self.background, canvas=canvas)
        if self.alpha != "keep":
            return decoded.picture, {}
        coverage = np.ones(decoded.picture.size, np.float32) if decoded.alpha is None else decoded.alpha
        return decoded.picture, {"alpha": coverage}


def stem_of(split: str) -> str:
    """A split as the head of its files' names: no separator, nothing that a shard pattern would read."""
    return escape_id(split.replace("/", "_") or "_")


def split_of(path: str) -> str:
    """The split of a file: what stands before the number in its name, else a folder that is named like one."""
    folder, _, name = naming.stem_of(path).rpartition("/")
    found = _SHARD.fullmatch(name)
    word = found["split"].rstrip("-") if found else name
    if word and (word.lower() in naming.SPLITS or name != word):
        return naming.canonical_split(word)
    tail = re.split(r"[-_. ]", word)[-1]
    if tail.lower() in naming.SPLITS:  # `pets_val.tar`
        return naming.canonical_split(tail)
    above = [part for part in folder.split("/") if part.lower() in naming.SPLITS]
    return naming.canonical_split(above[-1]) if above else "train"


def _size(row: Json) -> Size | None:
    height, width = row.get("height"), row.get("width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0 else None


def _renamed(value: Mapping[str | int, str] | None) -> dict[str, str]:
    return classes.text_map("classes", value)
