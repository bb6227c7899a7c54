"""Labels of containers that others made: `objects` by the habit of the hubs, whatever the spelling.

Either a mapping of lists or a list of mappings. Boxes are `bbox`, `bboxes` or `boxes`; classes `names`, `categories`,
`category`, `category_id`, `label` or `labels`, as text or as numbers from 0; masks `masks` or `segmentation`,
as COCO spells them; `iscrowd` is the ignore flag. Keypoints are not read, since nothing names them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from synthaug import rle
from synthaug.errors import Rejected
from synthaug.formats.classes import Unknown, number_classes, refuse_unknown
from synthaug.formats.coco.annotation import is_number, mask_of
from synthaug.formats.facts import Json
from synthaug.formats.paths import natural_key
from synthaug.formats.shapes import fit_box
from synthaug.labels import Category, Instance, Size

Boxes = Literal["xywh", "xyxy"]

_BOXES = ("bbox", "bboxes", "boxes")
_CLASSES = ("names", "categories", "category", "category_id", "labels", "label")
_MASKS = ("masks", "segmentation", "segmentations")
_IDS = ("ids", "id")
_MOST = 10_000
"""Instances of one picture."""


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of a foreign container.

    Attributes:
        categories: Class id = index + 1.
        ids: Class id by the source's word.
        names: The source's word by number, where something names its numbers.
        strangers: Labels of unknown classes, by word.
    """

    categories: tuple[Category, ...]
    ids: Mapping[str, int]
    names: Sequence[str]
    strangers: Mapping[str, int]

    def word(self, value: Any) -> str:
        """A label in the source's words."""
        return word_of(value, self.names)


def word_of(value: Any, names: Sequence[str]) -> str:
    """A label as text: its name, where its number has one."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names):
        return names[value]
    return str(value)


def find_classes(
    every: Iterable[Any],
    declared: Sequence[str],
    fixed: Sequence[str],
    renamed: Mapping[str, str],
    unknown: Unknown,
    where: str,
) -> Classes:
    """The classes that occur.

    Args:
        every: `objects` of every sample; broken ones are passed over here and rejected when read.
        declared: Names by number, as the container says them; empty where it says none.
        fixed: Names from a names file; where numbers have no names, they count in it from 0.
        renamed: Class name by source word.
        unknown: What to do with labels that `fixed` does not know.
        where: The dataset, for messages.

    Raises:
        InputError: Unknown classes, and they are refused.
    """
    names = tuple(declared) or tuple(fixed)
    counts: Counter[str] = Counter()
    for found in every:
        try:
            counts.update(word_of(value, names) for value in _column(rows_of(found), _CLASSES) if value is not None)
        except Rejected:
            continue
    words = [*declared, *sorted((w for w in counts if w not in set(declared)), key=natural_key)]
    table, ids, _ = number_classes(words, renamed, fixed)
    strangers = {word: count for word, count in sorted(counts.items()) if word not in ids}
    refuse_unknown(strangers, table, unknown, where)
    return Classes(tuple(Category(name) for name in table), ids, names, strangers)


def rows_of(found: Any) -> list[Json]:
    """One mapping per instance. Raises `Rejected` under `label`."""
    if found is None:
        return []
    if isinstance(found, Mapping):
        columns = {str(k): v for k, v in cast("Mapping[Any, Any]", found).items() if isinstance(v, list | tuple)}
        known = {k: v for k, v in columns.items() if k in (*_BOXES, *_CLASSES, *_MASKS, *_IDS, "iscrowd")}
        lengths = {len(v) for v in known.values()}
        if len(lengths) > 1:
            told = ", ".join(f"{k} {len(v)}" for k, v in known.items())
            raise Rejected("label", f"objects have columns of different lengths: {told}")
        count = lengths.pop() if lengths else 0
        _few(count)
        return [{k: v[place] for k, v in known.items()} for place in range(count)]
    if isinstance(found, list) and all(isinstance(row, dict) for row in cast("list[Any]", found)):
        rows = cast("list[Json]", found)
        _few(len(rows))
        return rows
    raise Rejected("label", f"objects are a {type(found).__name__}, expected lists by name or a list of objects")


def instances(found: Any, size: Size, classes: Classes, boxes: Boxes, clip: bool) -> tuple[Instance, ...]:
    """The instances of one sample, numbered from 1; unknown classes are left out, `find_classes` has counted them.

    Raises:
        Rejected: Under `label`.
    """
    rows = rows_of(found)
    labels = _column(rows, _CLASSES)
    made: list[Instance] = []
    for number, (row, label) in enumerate(zip(rows, labels, strict=True), start=1):
        where = f"object {number}"
        class_id = classes.ids.get(classes.word(label))
        if class_id is None:
            continue
        mask = _mask(_first(row, _MASKS), size, where)
        if mask is not None:
            box = rle.box(mask)
        else:
            box = fit_box(_corners(_first(row, _BOXES), boxes, where), size, clip=clip, where=where)
        told = _first(row, _IDS)
        attributes: Json = {"source_id": told} if isinstance(told, int | str) else {}
        ignore = bool(row.get("iscrowd"))
        made.append(Instance(len(made) + 1, class_id, box, mask, attributes=attributes, ignore=ignore))
    return tuple(made)


def strangers(found: Any, classes: Classes) -> Counter[str]:
    """Labels of unknown classes in one sample, by word. Raises `Rejected` under `label`."""
    words = (classes.word(value) for value in _column(rows_of(found), _CLASSES))
    return Counter(word for word in words if word not in classes.ids)


def class_ids(found: Any, classes: Classes) -> tuple[int, ...]:
    """Class ids that occur, ascending. Raises `Rejected` under `label`."""
    words = (classes.word(value) for value in _column(rows_of(found), _CLASSES))
    return tuple(sorted({classes.ids[word] for word in words if word in classes.ids}))


def _column(rows: Sequence[Json], names: Sequence[str]) -> list[Any]:
    return [_first(row, names) for row in rows]


def _first(row: Json, names: Sequence[str]) -> Any:
    return next((row[name] for name in names if name in row), None)


def _corners(value: Any, boxes: Boxes, where: str) -> tuple[float, float, float, float]:
    numbers = cast("list[Any]", value) if isinstance(value, list | tuple) else []
    if len(numbers) != 4 or not all(is_number(v) for v in numbers):
        raise Rejected("label", f"{where}: box {str(value)[:80]}; expected four numbers, or a mask")
    a, b, c, d = (float(v) for v in numbers)
    return (a, b, a + c, b + d) if boxes == "xywh" else (a, b, c, d)


def _mask(value: Any, size: Size, where: str) -> rle.RLE | None:
    if value is None or value == "":
        return None
    return mask_of({"size": list(size), "counts": value} if isinstance(value, str) else value, size, where)


def _few(count: int) -> None:
    if count > _MOST:
        raise Rejected("label", f"{count} objects in one picture, the most is {_MOST}")
