"""Labels of containers that others made: `objects` by the habit of the hubs, whatever the spelling.

Either a mapping of lists or a list of mappings. Boxes are `bbox`, `bboxes` or `boxes`; classes `names`, `categories`,
`category`, `category_id`, `labels` or `label`, as text or as numbers from 0; masks `masks` or `segmentation`,
as COCO spells them; `iscrowd` is the ignore flag. Keypoints are not read, since nothing names them.

What four numbers mean follows from the name where one meaning is the habit: under `bbox` and `bboxes` a corner and a
size (COCO). Under `boxes` both meanings are common, and the user has to say which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from synthaug import rle
from synthaug.errors import InputError, Rejected, printable
from synthaug.formats.classes import Unknown, number_classes, refuse_unknown
from synthaug.formats.coco.annotation import is_number, mask_of
from synthaug.formats.facts import Json
from synthaug.formats.paths import natural_key
from synthaug.formats.shapes import fit_box
from synthaug.labels import Category, Instance, Size

Boxes = Literal["xywh", "xyxy"]
Names = Mapping[str, Sequence[str]]
"""Names of class numbers from 0, by the column of `objects` that holds the numbers."""

CLASSES = ("names", "categories", "category", "category_id", "labels", "label")
"""Columns of classes; the first that is there is read."""
_BOXES = ("bbox", "bboxes", "boxes")
_UNCLEAR = "boxes"
_MASKS = ("masks", "segmentation", "segmentations")
_IDS = ("ids", "id")
_KNOWN = (*_BOXES, *CLASSES, *_MASKS, *_IDS, "iscrowd")
UNDERSTOOD = f"boxes in {', '.join(_BOXES)}, masks in {', '.join(_MASKS)}, classes in {', '.join(CLASSES)}"
_MOST = 10_000
"""Instances of one picture."""


@dataclass
class Survey:
    """What all rows of a foreign dataset hold.

    Attributes:
        words: Labels by the source's word.
        numbers: Words among them that are numbers without a name.
        labelled: Rows with an object that has a class, and a box or a mask.
        broken: Why rows could not be looked at.
        spelt: Columns of objects, by the number of rows that have them.
        boxes: Boxes that are read as such, by their column.
        corners: Those of them whose last two numbers are beyond the first two, as those of two corners are.
    """

    words: Counter[str] = field(default_factory=lambda: Counter[str]())
    numbers: set[str] = field(default_factory=lambda: set[str]())
    labelled: int = 0
    broken: list[str] = field(default_factory=lambda: list[str]())
    spelt: Counter[str] = field(default_factory=lambda: Counter[str]())
    boxes: Counter[str] = field(default_factory=lambda: Counter[str]())
    corners: int = 0

    def look(self, found: Any, names: Names, fixed: Sequence[str]) -> None:
        """Counts one row. Raises `Rejected` under `label` where it is broken."""
        self.spelt.update(columns_of(found))
        held = 0
        for row in rows_of(found):
            word, unnamed = _word(row, names, fixed)
            if word is None:
                continue
            self.words[word] += 1
            if unnamed:
                self.numbers.add(word)
            column, box = _spelt(row, _BOXES)
            masked = _first(row, _MASKS) not in (None, "")
            held += masked or box is not None
            if not masked and box is not None:
                self.boxes[column] += 1
                self.corners += _like_corners(box)
        self.labelled += held > 0


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of a foreign container.

    Attributes:
        categories: Class id = index + 1.
        ids: Class id by the source's word.
        fixed: The source's word by number, for numbers that their own container does not name.
        strangers: Labels of unknown classes, by word.
    """

    categories: tuple[Category, ...]
    ids: Mapping[str, int]
    fixed: Sequence[str]
    strangers: Mapping[str, int]


def find_classes(
    survey: Survey,
    declared: Sequence[str],
    fixed: Sequence[str],
    renamed: Mapping[str, str],
    unknown: Unknown,
    where: str,
) -> Classes:
    """The classes that occur.

    Args:
        survey: Of every sample.
        declared: Names of class numbers, as the containers say them; empty where they say none. Beside them a
            number without a name is unknown: nothing says which of the names it means.
        fixed: Names from a names file; where numbers have no names, they count in it from 0.
        renamed: Class name by source word.
        unknown: What to do with labels that neither `fixed` nor `declared` knows.
        where: The dataset, for messages.

    Raises:
        InputError: Unknown classes, and they are refused.
    """
    twofold = sorted(survey.numbers & set(declared))
    if twofold:
        raise InputError(
            f"{where}: some labels are numbers without a name, and classes of the dataset are called "
            f"{_listed(twofold)}; fix the classes with read.names=FILE, or name every number where it is stored"
        )
    unnamed = survey.numbers - renamed.keys() if declared else set[str]()
    others = survey.words.keys() - set(declared) - unnamed
    table, ids, _ = number_classes([*declared, *sorted(others, key=natural_key)], renamed, fixed)
    strangers = {word: count for word, count in sorted(survey.words.items()) if word not in ids}
    refuse_unknown(strangers, table, unknown, where)
    return Classes(tuple(Category(name) for name in table), ids, fixed, strangers)


def refuse_unclear(survey: Survey, where: str) -> None:
    """Refuses boxes whose name leaves open what their numbers mean. Raises `InputError`."""
    count = survey.boxes[_UNCLEAR]
    if count:
        raise InputError(
            f"{where}: {count} boxes stand in '{_UNCLEAR}', where some write two corners and others a corner and a "
            "size; say which with read.boxes=xyxy or read.boxes=xywh"
        )


def objects_in(row: Json, name: str) -> Any:
    """The objects of a JSON document: under `name`, or the document itself where boxes or masks stand in it."""
    if name in row:
        return row[name]
    return row if any(isinstance(row.get(key), list) for key in (*_BOXES, *_MASKS)) else None


def columns_of(found: Any) -> tuple[str, ...]:
    """How objects spell what they hold."""
    if isinstance(found, Mapping):
        return tuple(map(str, cast("Mapping[Any, Any]", found)))
    rows = cast("list[Any]", found) if isinstance(found, list) else []
    return tuple(dict.fromkeys(str(key) for row in rows if isinstance(row, dict) for key in cast("Json", row)))


def rows_of(found: Any) -> list[Json]:
    """One mapping per instance. Raises `Rejected` under `label`."""
    if found is None:
        return []
    if isinstance(found, Mapping):
        columns = {str(k): v for k, v in cast("Mapping[Any, Any]", found).items() if isinstance(v, list | tuple)}
        known = {k: v for k, v in columns.items() if k in _KNOWN}
        if not known and any(columns.values()):
            raise Rejected("label", f"objects have the columns {_listed(columns)}; understood are {UNDERSTOOD}")
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


def instances(
    found: Any, size: Size, classes: Classes, names: Names, boxes: Boxes | None, clip: bool
) -> tuple[Instance, ...]:
    """The instances of one sample, numbered from 1; unknown classes are left out, `find_classes` has counted them.

    Args:
        found: Its objects.
        size: Of its picture.
        classes: Of the dataset.
        names: Of its class numbers.
        boxes: What the four numbers of a box are; None reads a corner and a size, see `refuse_unclear`.
        clip: Cut boxes at the canvas.

    Raises:
        Rejected: Under `label`.
    """
    made: list[Instance] = []
    for number, row in enumerate(rows_of(found), start=1):
        where = f"object {number}"
        word, _ = _word(row, names, classes.fixed)
        if word is None:
            raise Rejected("label", f"{where} has no class, its columns are {_listed(row)}; understood: {UNDERSTOOD}")
        class_id = classes.ids.get(word)
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


def strangers(found: Any, classes: Classes, names: Names) -> Counter[str]:
    """Labels of unknown classes in one sample, by word. Raises `Rejected` under `label`."""
    return Counter(word for word in _words(found, classes, names) if word not in classes.ids)


def class_ids(found: Any, classes: Classes, names: Names) -> tuple[int, ...]:
    """Class ids that occur, ascending. Raises `Rejected` under `label`."""
    return tuple(sorted({classes.ids[word] for word in _words(found, classes, names) if word in classes.ids}))


def _words(found: Any, classes: Classes, names: Names) -> list[str]:
    words = (_word(row, names, classes.fixed)[0] for row in rows_of(found))
    return [word for word in words if word is not None]


def _word(row: Json, names: Names, fixed: Sequence[str]) -> tuple[str | None, bool]:
    """The class of an object in the source's words, None where it has none; and whether it is a bare number."""
    column, value = _spelt(row, CLASSES)
    known = names.get(column) or fixed
    number = isinstance(value, int) and not isinstance(value, bool)
    if number and 0 <= value < len(known):
        return known[value], False
    if isinstance(value, float):  # numbers of a column with gaps, as pandas stores them
        return _word({column: int(value)}, names, fixed) if value.is_integer() else (None, False)
    return None if value is None else str(value), number


def _spelt(row: Json, names: Sequence[str]) -> tuple[str, Any]:
    """The first of the columns that is there, and its value."""
    return next(((name, row[name]) for name in names if name in row), ("", None))


def _first(row: Json, names: Sequence[str]) -> Any:
    return _spelt(row, names)[1]


def _listed(columns: Iterable[str]) -> str:
    return printable(", ".join(columns)[:200]) or "none"


def _four(value: Any) -> tuple[float, float, float, float] | None:
    numbers = cast("list[Any]", value) if isinstance(value, list | tuple) else []
    if len(numbers) != 4 or not all(is_number(v) for v in numbers):
        return None
    return float(numbers[0]), float(numbers[1]), float(numbers[2]), float(numbers[3])


def _like_corners(value: Any) -> bool:
    four = _four(value)
    return four is not None and four[2] > four[0] and four[3] > four[1]


def _corners(value: Any, boxes: Boxes | None, where: str) -> tuple[float, float, float, float]:
    four = _four(value)
    if four is None:
        raise Rejected("label", f"{where}: box {str(value)[:80]}; expected four numbers, or a mask")
    a, b, c, d = four
    return four if boxes == "xyxy" else (a, b, a + c, b + d)


def _mask(value: Any, size: Size, where: str) -> rle.RLE | None:
    if value is None or value == "":
        return None
    return mask_of({"size": list(size), "counts": value} if isinstance(value, str) else value, size, where)


def _few(count: int) -> None:
    if count > _MOST:
        raise Rejected("label", f"{count} objects in one picture, the most is {_MOST}")
