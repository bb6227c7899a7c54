"""Parquet with pictures in: what `write=huggingface` made, exactly; what others made, by habit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from synthaug.errors import InputError, Rejected, first_of, nearest, printable
from synthaug.formats import habits, pictures
from synthaug.formats.classes import Unknown
from synthaug.formats.containers import ContainerReader, Place, split_of
from synthaug.formats.declaration import checked_id, own_categories
from synthaug.formats.facts import Json
from synthaug.formats.huggingface import planes
from synthaug.formats.huggingface.features import MARKER, PLANES, VERSION
from synthaug.formats.huggingface.parquet import ParquetFile, Recent
from synthaug.formats.paths import source_id
from synthaug.labels import Category

_SIZE = ("width", "height")
_PLAIN = ("id", "facts", "objects", *_SIZE)
"""Columns of our own files that hold no member."""


class HuggingfaceReader(ContainerReader):
    """Reads Parquet files with a column of pictures. Ids of our own files are their column `id`.

    Foreign files bring pictures, and boxes or masks from a column of objects (see `formats.habits`). Numbers of
    classes are named by each file for itself (`ClassLabel`), and classes of one name are one class. A sample is read
    with its row group, of which the last ones are kept; reading in order is what costs least.

    Args:
        root: Folder of the dataset; every `.parquet` file below it is read.
        image: Column of the pictures, for a foreign dataset.
        id_column: Column whose text becomes the ids of a foreign dataset; None numbers the rows of each file.
        names: Text file or data.yaml that fixes the classes of a foreign dataset; numbers count in it from 0.
        split: Read only this split; None reads all. It is what the file's name says before its number.
        objects: Column of the objects, for a foreign dataset.
        boxes: What the four numbers of a foreign box are: `xywh` or `xyxy`, in pixels. None takes `xywh` where they
            stand in `bbox` or `bboxes`, and refuses the dataset where they stand in `boxes`.
        classes: Class name by source name or number, for a foreign dataset: renames and merges.
        unknown: `refuse` labels that the names file does not know, or `ignore` and count them.
        clip: Cut boxes at the canvas that leave it by more than a pixel; they are rejected otherwise.
        unlabelled: Accept a foreign dataset in which no image has labels that are understood; it is refused otherwise.
        alpha: What to do with transparency: see `formats.pictures.decode`.
        background: sRGB colour 0..255 behind transparent pixels under `composite`.
    """

    def __init__(
        self,
        *,
        root: str,
        image: str = "image",
        id_column: str | None = None,
        names: str | None = None,
        split: str | None = None,
        objects: str = "objects",
        boxes: habits.Boxes | None = None,
        classes: Mapping[str | int, str] | None = None,
        unknown: Unknown = "refuse",
        clip: bool = False,
        unlabelled: bool = False,
        alpha: pictures.Alpha = "composite",
        background: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        super().__init__(
            root=root, names=names, split=split, objects=objects, boxes=boxes, classes=classes, unknown=unknown,
            clip=clip, unlabelled=unlabelled, alpha=alpha, background=background,
        )  # fmt: skip
        self.image = image
        self.id_column = id_column

    @cached_property
    def tables(self) -> Mapping[str, ParquetFile]:
        """The files by path, in natural order."""
        listed = self.listed(".parquet")
        wanted = [path for path in listed if self.in_split(path)]
        if not wanted:
            of = "" if self.split is None else f" for split '{self.split}'"
            raise InputError(f"no .parquet file{of} below {self.root}. Found:{first_of(listed) or ' none'}")
        recent = Recent()
        return {path: ParquetFile(self.source, path, recent) for path in wanted}

    @cached_property
    def declared(self) -> tuple[Category, ...] | None:
        found = {path: own_categories(table.declaration, MARKER, VERSION, path) for path, table in self.tables.items()}
        first = next(iter(found.values()))
        others = [path for path, categories in found.items() if categories != first]
        if others:
            raise InputError(
                f"files below {self.root} differ in their classes, or only some are synthaug's; read one dataset at a "
                f"time. They differ from {next(iter(found))}:{first_of(others)}"
            )
        return first

    @cached_property
    def places(self) -> Mapping[str, Place]:
        column = "id" if self.declared is not None else self.id_column
        told = self.objects if self.declared is None and self.objects != "objects" else None
        found: dict[str, Place] = {}
        twice: list[str] = []
        for path, table in self.tables.items():
            for needed in (self._image(), column, told):
                if needed is not None and needed not in table.columns:
                    raise InputError(f"{path} has no column '{needed}'.{nearest(needed, table.columns)}")
            for number, sample_id in enumerate(self._ids(path, table, column)):
                place = Place(path, number, split_of(path), table.columns, self._image())
                if found.setdefault(sample_id, place) is not place:
                    twice.append(f"{sample_id}: {found[sample_id].file} and {path}")
        if twice:
            raise InputError(f"{len(twice)} samples have the id of another one:{first_of(twice)}")
        return found

    def label_names(self, place: Place) -> habits.Names:
        return self._named[place.file]

    @cached_property
    def _named(self) -> Mapping[str, habits.Names]:
        return {path: class_names(table.features.get(self.objects)) for path, table in self.tables.items()}

    def found(self) -> str:
        columns: dict[str, None] = {}
        for table in self.tables.values():
            kinds = {name: table.features.get(name) for name in table.columns}
            told = {name: kind["_type"] for name, kind in kinds.items() if isinstance(kind, dict) and "_type" in kind}
            columns |= dict.fromkeys(f"{name} ({told[name]})" if name in told else name for name in table.columns)
        lacking = any(self.objects not in table.columns for table in self.tables.values())
        head = f"there is no column '{self.objects}'" if lacking else f"column '{self.objects}' is empty in every row"
        return f"{head}, the columns are {printable(', '.join(columns)[:300])}"

    def row(self, sample_id: str) -> Json:
        place = self.place(sample_id)
        table = self.tables[place.file]
        if self.declared is not None:
            return table.cells(place.number, ("facts",))
        row = table.cells(place.number, (self.objects, *_SIZE))
        return {"objects": row.get(self.objects), **{name: row[name] for name in _SIZE if name in row}}

    def member(self, sample_id: str, field: str) -> bytes:
        place = self.place(sample_id)
        name, dot, suffix = field.partition(".")
        column = self._image() if not dot else name
        table = self.tables[place.file]
        pictured = [self._image()] if self.declared is None else [n for n in table.columns if n not in _PLAIN]
        cell: Any = table.cells(place.number, pictured).get(column)
        data = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(data, bytes):
            outside = f"; it names the file {cell.get('path')!r} instead" if isinstance(cell, dict) else ""
            raise Rejected("missing", f"{place.file}, row {place.number}: column '{column}' holds no bytes{outside}")
        return planes.to_npy(data) if name in PLANES and suffix == "npy" else data

    def _image(self) -> str:
        return "image" if self.declared is not None else self.image

    def _ids(self, path: str, table: ParquetFile, column: str | None) -> Sequence[str]:
        if column is None:
            stem = path.removesuffix(".parquet")
            return [source_id(f"{stem}/{number:06d}") for number in range(table.rows)]
        told = [str(value) for value in table.column(column)]
        if self.declared is not None:
            return [checked_id(text, path) for text in told]
        if any(not part for text in told for part in text.split("/")):
            raise InputError(f"{path}: column '{column}' holds an empty id, or one with an empty part between slashes")
        return [source_id(text) for text in told]


def class_names(features: Any) -> habits.Names:
    """Names of class numbers in the features of objects, by the column of classes that is read; empty without."""
    columns = _inside(features)
    if not isinstance(columns, dict):
        return {}
    column = next((name for name in habits.CLASSES if name in columns), None)
    kind = None if column is None else _inside(columns[column])
    names: Any = kind.get("names") if isinstance(kind, dict) and kind.get("_type") == "ClassLabel" else None
    return {column: tuple(map(str, names))} if column is not None and isinstance(names, list) else {}


def _inside(features: Any) -> Any:
    """What lists hold, however deep: in a list of one, or a mapping of `feature` with a `_type` such as Sequence."""
    while True:
        if isinstance(features, list) and len(features) == 1:
            features = features[0]
        elif isinstance(features, dict) and "feature" in features and isinstance(features.get("_type"), str):
            features = features["feature"]
        else:
            return features
