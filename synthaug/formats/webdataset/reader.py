"""WebDataset in: tar shards, read member by member through an index of offsets; nothing is ever extracted."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from synthaug.errors import InputError, Rejected, SecurityError, first_of, printable
from synthaug.formats import habits, naming, pictures, strictjson
from synthaug.formats.classes import Unknown
from synthaug.formats.containers import ContainerReader, Place, split_of
from synthaug.formats.declaration import checked_id, own_categories
from synthaug.formats.facts import Json
from synthaug.formats.paths import source_id
from synthaug.formats.spans import Stamp
from synthaug.formats.webdataset import tar
from synthaug.formats.webdataset.writer import DATASET, MARKER, VERSION, id_of
from synthaug.labels import Category

PICKLES = frozenset({"pyd", "pkl", "pickle", "pth", "pt", "ckpt", "dill", "joblib"})
"""Suffixes under which other tools run code. They are not read here, and not let through either."""
_PICTURES = ("png", "jpg", "jpeg", "jpe", "jfif", "webp", "tif", "tiff", "bmp")
_HEADS = ("image", "rgb", "img", "color", "colour")
_LOOKED_AT = 100
"""Samples whose keys are named where no labels were found."""
_META = re.compile(r"__[^/]*__(?:/|$)")


@dataclass(frozen=True, slots=True)
class Archive:
    """One shard: what it was when it was indexed, and (start, size) by field by key."""

    stamp: Stamp
    samples: Mapping[str, Mapping[str, tuple[int, int]]]


class WebdatasetReader(ContainerReader):
    """Reads tar shards. Members of one key belong together wherever they stand in their archive.

    What `write=webdataset` made is read back exactly, by its `dataset.json`. Foreign archives bring pictures, and
    boxes or masks from their `json`: from its key `objects`, else from its top (see `formats.habits`). Refused are
    links, devices, names that climb out, pickles, duplicates, and packed archives (unpack a `.tar.gz` first).

    Args:
        root: Folder of the dataset; every `.tar` file below it is read.
        image: Field of the picture in foreign archives (`jpg`, `rgb.png`); None takes the usual ones.
        dangling: `refuse` foreign keys without a picture, or `ignore` and count them.
        names: Text file or data.yaml that fixes the classes of foreign archives; numbers count in it from 0.
        split: Read only this split; None reads all. It is what the file's name says before its number.
        objects: Key of the objects in the `json` of foreign archives.
        boxes: What the four numbers of a foreign box are: `xywh` or `xyxy`, in pixels. None takes `xywh` where they
            stand in `bbox` or `bboxes`, and refuses the dataset where they stand in `boxes`.
        classes: Class name by source name or number, for foreign archives: renames and merges.
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
        image: str | None = None,
        dangling: naming.Dangling = "refuse",
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
        naming.one_of("dangling", dangling, ("refuse", "ignore"))
        self.image = image
        self.dangling: naming.Dangling = dangling

    def files(self) -> tuple[str, ...]:
        return (DATASET,) if self.declared is not None else ()

    def notes(self) -> Mapping[str, int]:
        return {**super().notes(), "keys without a picture": self._found[1]}

    @cached_property
    def declared(self) -> tuple[Category, ...] | None:
        return own_categories(self._dataset, MARKER, VERSION, DATASET)

    @cached_property
    def archives(self) -> Mapping[str, Archive]:
        """The shards by path, in natural order."""
        listed = self.listed(".tar")
        if self.declared is not None:
            told = {str(row["file"]) for row in self._dataset.get("shards", ())}
            lost, strange = sorted(told - set(listed)), sorted(set(listed) - told)
            if lost or strange:
                raise InputError(
                    f"{self.root}: {DATASET} and archives disagree: {len(lost)} missing, {len(strange)} not listed; "
                    f"restore the folder as it was written:{first_of([*lost, *strange])}"
                )
        wanted = [path for path in listed if self.in_split(path)]
        if not wanted:
            of = "" if self.split is None else f" for split '{self.split}'"
            raise InputError(f"no .tar file{of} below {self.root}. Found:{first_of(listed) or ' none'}")
        return {path: self._index(path) for path in wanted}

    @property
    def places(self) -> Mapping[str, Place]:
        return self._found[0]

    def row(self, sample_id: str) -> Json:
        document = self._document(sample_id)
        if self.declared is not None or not document:
            return document
        return document | {"objects": habits.objects_in(document, self.objects)}

    def found(self) -> str:
        members = Counter(field for place in self.places.values() for field in place.fields)
        told = f"members are {', '.join(f'.{name} ({count})' for name, count in members.most_common(20))}"
        if "json" not in members:
            return printable(f"there is no member .json, {told}")
        keys: dict[str, None] = {}
        for sample_id in [name for name, place in self.places.items() if "json" in place.fields][:_LOOKED_AT]:
            with contextlib.suppress(Rejected):  # told by the survey of the same rows
                keys |= dict.fromkeys(self._document(sample_id))
        return printable(f"no .json has objects under '{self.objects}', its keys are {', '.join(keys)[:300]}; {told}")

    def _document(self, sample_id: str) -> Json:
        """The `json` of a sample, empty where it has none."""
        place = self.place(sample_id)
        if "json" not in place.fields:
            return {}
        try:
            parsed: Any = strictjson.loads(self.member(sample_id, "json"), f"{place.file}, {sample_id}.json")
        except InputError as error:
            raise Rejected("label", str(error)) from error
        return cast(Json, parsed) if isinstance(parsed, dict) else {self.objects: parsed}

    def member(self, sample_id: str, field: str) -> bytes:
        place = self.place(sample_id)
        archive = self.archives[place.file]
        found = archive.samples[self._keys[sample_id]].get(field)
        if found is None:
            raise Rejected("missing", f"{place.file}: {sample_id} has no member .{field}")
        return self.source.span(place.file, *found, archive.stamp)

    @cached_property
    def _dataset(self) -> Any:
        if not self.source.exists(DATASET):
            return {}
        parsed: Any = strictjson.loads(self.source.read(DATASET), DATASET)
        return parsed if isinstance(parsed, dict) else {}

    @cached_property
    def _found(self) -> tuple[Mapping[str, Place], int]:
        """Samples by id, and how many keys have no picture."""
        found: dict[str, Place] = {}
        twice: list[str] = []
        blind: list[str] = []
        for path, archive in self.archives.items():
            for number, (key, fields) in enumerate(archive.samples.items()):
                image = self._image(fields, f"{path}: {key}")
                if not image and self.declared is None:
                    blind.append(f"{path}: {key} ({', '.join(fields)})")
                    continue
                sample_id = self._id(key, path)
                place = Place(path, number, split_of(path), tuple(fields), image)
                if found.setdefault(sample_id, place) is not place:
                    twice.append(f"{sample_id}: {found[sample_id].file} and {path}")
        if twice:
            raise InputError(f"{len(twice)} samples have the id of another one:{first_of(twice)}")
        if (blind and self.dangling == "refuse") or not found:
            raise InputError(
                f"{self.root}: {len(blind)} keys have no picture; name its field with read.image=..., or leave such "
                f"keys out with dangling=ignore:{first_of(blind)}"
            )
        return found, len(blind)

    @cached_property
    def _keys(self) -> Mapping[str, str]:
        """Key by sample id."""
        return {self._id(key, path): key for path, archive in self.archives.items() for key in archive.samples}

    def _id(self, key: str, path: str) -> str:
        return checked_id(id_of(key), path) if self.declared is not None else source_id(id_of(key))

    def _image(self, fields: Mapping[str, Any], where: str) -> str:
        """The field of the picture, empty where there is none."""
        if self.image is not None or self.declared is not None:
            return self.image if self.image is not None and self.image in fields else ""
        usual = [*_PICTURES, *(f"{head}.{suffix}" for head in _HEADS for suffix in _PICTURES)]
        known = [field for field in usual if field in fields]
        others = [field for field in fields if field.rpartition(".")[2] in _PICTURES]
        if not known and len(others) > 1:
            raise InputError(f"{where} has several pictures: {', '.join(others)}; name one with read.image=...")
        return (known or others or [""])[0]

    def _index(self, path: str) -> Archive:
        stamp = self.source.stamp(path)
        samples: dict[str, dict[str, tuple[int, int]]] = {}
        with self.source.opened(path, stamp) as file:

            def fetch(start: int, length: int) -> bytes:
                file.seek(start)
                return file.read(length)

            for member in tar.members(fetch, stamp[0], path):
                key, field = split_name(member.name)
                if set(field.split(".")) & PICKLES:
                    raise SecurityError(
                        f"{path}: member '{printable(member.name[:120])}' is a pickle, which runs code in tools "
                        "that load it; store arrays as npy and facts as json"
                    )
                if not key:
                    continue
                if field in samples.setdefault(key, {}):
                    raise InputError(f"{path}: member '{printable(member.name[:120])}' occurs twice")
                samples[key][field] = (member.start, member.size)
        return Archive(stamp, samples)


def split_name(name: str) -> tuple[str, str]:
    """Key and field of a member, as `webdataset` splits them; an empty key where it is metadata or hidden."""
    folder, slash, base = name.rpartition("/")
    head, _, field = base.partition(".")
    hidden = not head or not field or _META.match(name) or base.startswith("__")
    return ("" if hidden else folder + slash + head), field.lower()
