"""COCO instances and keypoints in: boxes, polygons, three spellings of RLE, and our own sidecar passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

from synthaug import rle
from synthaug.contracts import Description
from synthaug.errors import InputError, Rejected
from synthaug.formats import classes, facts, naming, passes, pictures, strays
from synthaug.formats.classes import Unknown, number_classes, refuse_unknown, text_map
from synthaug.formats.coco import companion, index
from synthaug.formats.coco.annotation import attributes_of, corners, keypoints_of, mask_of
from synthaug.formats.facts import Json
from synthaug.formats.reading import LooseReader
from synthaug.formats.shapes import fit_box
from synthaug.labels import PASSES, Category, Instance, Labels, Size
from synthaug.sample import Sample

HALF_PIXEL = 0.5


@dataclass(frozen=True, slots=True)
class _Table:
    """The checked dataset: classes, class id by source category id, rows by sample id, counts for notes."""

    categories: tuple[Category, ...]
    class_ids: Mapping[str, int]
    rows: Mapping[str, index.Row]
    counts: Mapping[str, int]
    documents: tuple[str, ...]


class CocoReader(LooseReader):
    """Reads COCO JSON. Category ids may be any; classes are numbered from 1 in ascending order of them.

    `iscrowd` becomes the ignore flag. A mask is kept run by run as each instance's own; its box is the
    tight box of the mask, and a source box that is another one (an amodal box) is kept in the
    attribute `coco_bbox`. Source ids are kept in `coco_id` and `coco_category_id`. Keypoints of
    `person_keypoints_*.json` beside `instances_*.json` are put to the annotations of the same ids.

    Args:
        root: Folder of the dataset.
        images: Folder that `file_name` is relative to; None takes the usual one that has the files.
        labels: The JSON file, or the folder of several, one per split.
        names: Text file or data.yaml that fixes the classes and their order; None takes the JSON's.
        split: Read only this split's file.
        join: `name`: `file_name` is the path of the image. `suffix`: the image is the only file whose
            stem ends with `_` and the stem of `file_name`; for lists that have lost a prefix. That proves
            something only where the folder is complete, so a row without any file refuses the whole.
        dangling: `refuse` rows that belong to nothing, or `ignore` and count them; under
            `join=suffix` that includes rows that share an id, a name or a file.
        unlabelled: Accept files without any annotation; they are refused otherwise.
        classes: Class name by source name or id; renames, merges, and admits unknown ids.
        unknown: `refuse` category ids that are declared nowhere, or `ignore` and count their labels.
        clip: Cut boxes at the canvas that leave it by more than a pixel; they are rejected otherwise.
        sidecars: Read the label passes that `write=coco` stored beside the images.
        half_pixel: Keypoints of the source are pixel indices (Detectron2's rule): add 0.5 px.
        alpha: What to do with transparency: see `formats.pictures.decode`.
        background: sRGB colour 0..255 behind transparent pixels under `composite`.
    """

    def __init__(
        self,
        *,
        root: str,
        images: str | None = None,
        labels: str | None = None,
        names: str | None = None,
        split: str | None = None,
        join: index.Join = "name",
        dangling: naming.Dangling = "refuse",
        unlabelled: bool = False,
        classes: Mapping[str | int, str] | None = None,
        unknown: Unknown = "refuse",
        clip: bool = False,
        sidecars: bool = True,
        half_pixel: bool = False,
        alpha: pictures.Alpha = "composite",
        background: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        super().__init__(
            root=root, images=images, labels=labels, names=names, split=split, dangling=dangling,
            unlabelled=unlabelled, alpha=alpha, background=background,
        )  # fmt: skip
        naming.one_of("join", join, ("name", "suffix"))
        naming.one_of("unknown", unknown, ("refuse", "ignore"))
        self.join: index.Join = join
        self.classes = text_map("classes", classes)
        self.unknown: Unknown = unknown
        self.clip = clip
        self.sidecars = sidecars
        self.half_pixel = half_pixel

    def categories(self) -> tuple[Category, ...]:
        return self._table.categories

    def ids(self) -> Sequence[str]:
        return tuple(self._table.rows)

    def files(self) -> tuple[str, ...]:
        return self._table.documents

    def notes(self) -> Mapping[str, int]:
        return self._table.counts

    def describe(self, sample_id: str) -> Description:
        row = self._row(sample_id)
        size, space = self.canvas(row.file, _declared(row.image))
        sidecars = self._sidecars(row)
        known, _ = facts.sample_fields(row.image.get("synthaug", {}))
        return Description(
            sample_id, size, (*sidecars, *self.extra_passes()), (row.file, *sidecars.values()), known["group"],
            known["view"], known["frame"], row.split, space,
            classes=tuple(sorted({self._table.class_ids[str(a.get("category_id"))] for a in self._kept(row)})),
        )  # fmt: skip

    def read(self, sample_id: str) -> Sample:
        row = self._row(sample_id)
        picture, arrays = self.decode(row.file, _declared(row.image))
        size = picture.size
        for name, path in self._sidecars(row).items():
            arrays[name] = passes.decode_pass(name, self.source.read(path))
        instances = [
            self._instance(annotation, number, size, "instance" in arrays)
            for number, annotation in enumerate(self._kept(row), start=1)
        ]
        own: Any = row.image.get("synthaug", {})
        known, attributes = facts.sample_fields(own)
        labels = Labels(
            size, self._table.categories, tuple(sorted(instances, key=lambda i: i.id)), arrays,
            facts.camera_from(own["camera"]) if "camera" in own else None, attributes,
        )  # fmt: skip
        labels.check()
        trail = strays.of_labels(type(self).__name__, self._strays(row))
        return Sample(sample_id, picture, labels, picture, split=row.split, trail=trail, **known)

    @cached_property
    def _table(self) -> _Table:
        documents = index.find_documents(self.source, self.labels, self.split)
        keypoints = companion.beside(self.source, documents, self.labels)
        read = (*(document.path for document in documents), *keypoints.values())
        rows: dict[str, index.Row] = {}
        counts: Counter[str] = Counter(companion.unread(self.source, documents, self.labels, read))
        declared: dict[str, Json] = {}
        for document in documents:
            content = index.load(self.source, document.path)
            if document.path in keypoints:
                path = keypoints[document.path]
                counts.update(companion.add_keypoints(self.source, path, content, document.path, self.dangling))
            _declare(content["categories"], declared, document.path)
            names = [row["file_name"] for row in content["images"] if isinstance(row.get("file_name"), str)]
            folder = index.find_images(self.source, self.images, document, names)
            found, left_out = index.rows_of(
                self.source, document, content, folder, join=self.join, dangling=self.dangling
            )
            twice = rows.keys() & found.keys()
            if twice:
                raise InputError(
                    f"{document.path}: {len(twice)} samples are in another split too, such as {min(twice)}"
                )
            rows |= found
            counts.update(left_out)
        categories, class_ids = self._classes(declared)
        strangers = Counter(
            str(a.get("category_id")) for row in rows.values() for a in row.annotations
            if str(a.get("category_id")) not in class_ids
        )  # fmt: skip
        where = ", ".join(document.path for document in documents)
        refuse_unknown(strangers, [category.name for category in categories], self.unknown, where)
        labelled = sum(bool(row.annotations) for row in rows.values())
        self.refuse_unlabelled(
            labelled, len(rows), f"{where} has no annotation of theirs; name another file with read.labels=FILE.json"
        )
        counts["images"] = len(rows)
        counts["images without labels"] = len(rows) - labelled
        counts["labels of unknown categories"] = sum(strangers.values())
        return _Table(categories, class_ids, rows, counts, read)

    def _classes(self, declared: Mapping[str, Json]) -> tuple[tuple[Category, ...], dict[str, int]]:
        """Classes, and class id by category id as text."""
        spelt = {str(row["name"]) for row in declared.values()}
        words = [*declared, *(word for word in self.classes if word not in declared and word not in spelt)]
        renamed: dict[str, str] = {}
        by_name: dict[str, Json] = {}
        for word in words:
            name = str(declared[word]["name"]) if word in declared else word
            renamed[word] = self.classes.get(word, self.classes.get(name, name))
            if word in declared:
                row, known = declared[word], by_name.get(renamed[word], {})
                _refuse_unlike(known, row, self.root)
                by_name[renamed[word]] = (
                    known if known.get("keypoints") else (row if row.get("keypoints") else known or row)
                )
        fixed = classes.load_names(self.source, self.names) if self.names else ()
        names, class_ids, _ = number_classes(words, renamed, fixed)
        return tuple(_category(name, by_name.get(name, {})) for name in names), class_ids

    def _row(self, sample_id: str) -> index.Row:
        if sample_id not in self._table.rows:
            raise InputError(f"no sample '{sample_id}' in {', '.join(self._table.documents)}")
        return self._table.rows[sample_id]

    def _kept(self, row: index.Row) -> list[Mapping[str, Any]]:
        return [a for a in row.annotations if str(a.get("category_id")) in self._table.class_ids]

    def _strays(self, row: index.Row) -> Counter[str] | None:
        words = (str(a.get("category_id")) for a in row.annotations)
        return Counter(w for w in words if w not in self._table.class_ids) if self.unknown == "ignore" else None

    def _sidecars(self, row: index.Row) -> dict[str, str]:
        """Paths of stored passes by name."""
        own: Any = row.image.get("synthaug")
        stored: Any = cast(Json, own).get("passes", {}) if isinstance(own, dict) and self.sidecars else {}
        if not isinstance(stored, dict) or not all(isinstance(path, str) for path in cast(Json, stored).values()):
            raise Rejected("label", "synthaug.passes must map pass names to paths")
        return {name: path for name, path in cast("dict[str, str]", stored).items() if name in PASSES}

    def _instance(self, annotation: Mapping[str, Any], number: int, size: Size, has_pass: bool) -> Instance:
        where = f"annotation {annotation.get('id', number)}"
        class_id = self._table.class_ids[str(annotation.get("category_id"))]
        mask = mask_of(annotation.get("segmentation"), size, where)
        bbox = annotation.get("bbox")
        box = rle.box(mask) if mask is not None else fit_box(corners(bbox, where), size, clip=self.clip, where=where)
        shift = HALF_PIXEL if self.half_pixel else 0.0
        points = keypoints_of(annotation.get("keypoints"), shift, where)
        own: Any = annotation.get("synthaug")
        if isinstance(own, dict):
            in_pass = bool(cast(Json, own).get("in_pass", False)) and has_pass
            return facts.instance_from(
                own, class_id=class_id, box=box, mask=None if in_pass else mask, keypoints=points
            )
        attributes = attributes_of(annotation, box, mask is not None)
        ignore = bool(annotation.get("iscrowd", 0)) or bool(annotation.get("ignore", 0))
        return Instance(number, class_id, box, mask, points, attributes=attributes, ignore=ignore)


def _declare(rows: Sequence[Json], declared: dict[str, Json], path: str) -> None:
    """Adds the categories of a file; a second file must say the same."""
    seen: set[str] = set()
    for row in sorted(rows, key=lambda r: (isinstance(r.get("id"), str), r.get("id") or 0)):
        key = str(row.get("id"))
        if not isinstance(row.get("name"), str) or key in seen or row.get("id") is None:
            raise InputError(f"{path}: category {str(row)[:200]} has no name, or an id that occurs twice")
        if key in declared and declared[key]["name"] != row["name"]:
            raise InputError(f"{path}: category {key} is '{row['name']}' here and '{declared[key]['name']}' elsewhere")
        _refuse_unlike(declared.get(key, {}), row, path)
        seen.add(key)
        if key not in declared or (row.get("keypoints") and not declared[key].get("keypoints")):
            declared[key] = row


def _refuse_unlike(known: Json, row: Json, where: str) -> None:
    """Refuses keypoints that go by other names, or stand in another order, than those of the same class elsewhere."""
    if known.get("keypoints") and row.get("keypoints") and known["keypoints"] != row["keypoints"]:
        raise InputError(
            f"{where}: category {row.get('id')} ('{row['name']}') has keypoints {str(row['keypoints'])[:80]}, another "
            f"row of this class {str(known['keypoints'])[:80]}; correct one, or read each split or class apart"
        )


def _category(name: str, row: Json) -> Category:
    """A class from its row, whose skeleton counts from 1. Raises `InputError` for facts that no class can have."""
    own: Any = row.get("synthaug") or {}
    try:
        if not isinstance(own, dict):
            raise TypeError(f"synthaug is {str(own)[:80]!r}, expected an object")
        keypoints = _listed(row, "keypoints")
        skeleton = tuple((a - 1, b - 1) for a, b in _listed(row, "skeleton"))
        mirror = _listed(own, "mirror") if "mirror" in own else None
        plain = facts.checked_category(Category(name, keypoints, skeleton, mirror or ()))
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"category '{name}': {error}. Correct the file: keypoints are names, skeleton pairs of their numbers from "
            "1, synthaug.mirror the partner of each keypoint by its number from 0"
        ) from error
    return plain if mirror is not None else replace(plain, mirror=classes.mirror_of(keypoints))


def _listed(row: Any, key: str) -> tuple[Any, ...]:
    """A list of a row; none, where it is absent or null."""
    found: Any = row.get(key)
    if found is not None and not isinstance(found, list):
        raise TypeError(f"{key} is {str(found)[:80]!r}, expected a list")
    return tuple(cast("list[Any]", found or ()))


def _declared(image: Mapping[str, Any]) -> Size | None:
    """The canvas as the JSON says it; None where it says nothing or zero."""
    height, width = image.get("height"), image.get("width")
    return (height, width) if isinstance(height, int) and isinstance(width, int) and height and width else None
