"""Parquet with pictures in: what `write=huggingface` made, exactly; what others made, by habit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from synthaug.errors import InputError, Rejected, first_of, nearest
from synthaug.formats import habits, pictures
from synthaug.formats.classes import Unknown
from synthaug.formats.containers import ContainerReader, Place, checked_id, own_categories, split_of
from synthaug.formats.facts import Json
from synthaug.formats.huggingface import planes
from synthaug.formats.huggingface.features import MARKER, PLANES, VERSION
from synthaug.formats.huggingface.parquet import ParquetFile, Recent
from synthaug.formats.paths import source_id
from synthaug.labels import Category

_ROW = ("facts", "objects", "width", "height")


class HuggingfaceReader(ContainerReader):
    """Reads Parquet files with a column of pictures. Ids of our own files are their column `id`.

    Foreign files bring pictures, and boxes or masks from a column `objects` (see `formats.habits`). A sample is
    read with its row group, of which the last ones are kept; reading in order is what costs least.

    Args:
        root: Folder of the dataset; every `.parquet` file below it is read.
        image: Column of the pictures, for a foreign dataset.
        id_column: Column whose text becomes the ids of a foreign dataset; None numbers the rows of each file.
        names: Text file or data.yaml that fixes the classes of a foreign dataset; numbers count in it from 0.
        split: Read only this split; None reads all. It is what the file's name says before its number.
        boxes: What the four numbers of a foreign box are: `xywh` or `xyxy`, in pixels.
        classes: Class name by source name or number, for a foreign dataset: renames and merges.
        unknown: `refuse` labels that the names file does not know, or `ignore` and count them.
        clip: Cut boxes at the canvas that leave it by more than a pixel; they are rejected otherwise.
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
        boxes: habits.Boxes = "xywh",
        classes: Mapping[str | int, str] | None = None,
        unknown: Unknown = "refuse",
        clip: bool = False,
        alpha: pictures.Alpha = "composite",
        background: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        super().__init__(
            root=root, names=names, split=split, boxes=boxes, classes=classes, unknown=unknown, clip=clip, alpha=alpha,
            background=background,
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
        found: dict[str, Place] = {}
        twice: list[str] = []
        for path, table in self.tables.items():
            for needed in (self._image(), column):
                if needed is not None and needed not in table.columns:
                    raise InputError(f"{path} has no column '{needed}'.{nearest(needed, table.columns)}")
            for number, sample_id in enumerate(self._ids(path, table, column)):
                place = Place(path, number, split_of(path), table.columns, self._image())
                if found.setdefault(sample_id, place) is not place:
                    twice.append(f"{sample_id}: {found[sample_id].file} and {path}")
        if twice:
            raise InputError(f"{len(twice)} samples have the id of another one:{first_of(twice)}")
        return found

    def label_names(self) -> Sequence[str]:
        found = [_class_names(table.features.get("objects")) for table in self.tables.values()]
        return found[0] if found and all(names == found[0] for names in found) else ()

    def row(self, sample_id: str) -> Json:
        place = self.place(sample_id)
        wanted = ("facts",) if self.declared is not None else _ROW[1:]
        return self.tables[place.file].cells(place.number, wanted)

    def member(self, sample_id: str, field: str) -> bytes:
        place = self.place(sample_id)
        name, dot, suffix = field.partition(".")
        column = self._image() if not dot else name
        table = self.tables[place.file]
        pictured = [self._image()] if self.declared is None else [n for n in table.columns if n not in (*_ROW, "id")]
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


def _class_names(features: Any) -> tuple[str, ...]:
    """Names of the class numbers in the features of `objects`, wherever they stand; empty where there are none."""
    if isinstance(features, list):
        features = features[0] if features else None
    if not isinstance(features, dict):
        return ()
    if features.get("_type") == "ClassLabel":
        names: Any = features.get("names")
        return tuple(map(str, names)) if isinstance(names, list) else ()
    return next((names for inner in features.values() if (names := _class_names(inner))), ())
