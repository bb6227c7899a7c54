"""One look into every frame of a SOLO dataset: which cameras it has, which classes, which of them have keypoints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from synthaug.errors import InputError, Rejected, first_of
from synthaug.formats import classes
from synthaug.formats.classes import Unknown
from synthaug.formats.inputs import InputRoot
from synthaug.formats.solo import definitions, frame, objects
from synthaug.formats.solo.frame import Capture
from synthaug.labels import Category
from synthaug.sample import escape_id


@dataclass(frozen=True, slots=True)
class Table:
    """The dataset as a whole.

    Attributes:
        places: Frame file, and number of the capture in it, by sample id.
        categories: Class id = index + 1.
        class_ids: By the source's class name.
        strangers: Labels of unknown classes, by name.
        files: The definitions.
    """

    places: Mapping[str, tuple[str, int]]
    categories: tuple[Category, ...]
    class_ids: Mapping[str, int]
    strangers: Mapping[str, int]
    files: tuple[str, ...]


def look(source: InputRoot, names: str | None, renamed: Mapping[str, str], unknown: Unknown) -> Table:
    """Reads every frame's JSON once.

    Args:
        source: The dataset.
        names: File that fixes the classes; None takes the definitions' and what else occurs.
        renamed: Class name by the source's.
        unknown: What to do with classes beyond the names file.

    Raises:
        InputError: No frame, ids that occur twice, unknown classes, two keypoint templates for one class.
    """
    listed = source.listing("", suffixes=(".json",))
    frames = [path for path in listed if frame.NAME.fullmatch(path.rpartition("/")[2])]
    if not frames:
        raise InputError(f"no step<N>.frame_data.json below {source.root}; expected a SOLO dataset")
    places: dict[str, tuple[str, int]] = {}
    twice: list[str] = []
    counts: Counter[str] = Counter()
    templates: dict[str, str] = {}
    for path in frames:
        for number, capture in enumerate(frame.load(source, path)):
            sample_id = escape_id(f"{path.rpartition('.frame')[0]}.{capture.sensor or 'camera'}")
            if places.setdefault(sample_id, (path, number)) != (path, number):
                twice.append(f"{sample_id}: {places[sample_id][0]} and {path}")
            _scan(capture, counts, templates)
    if twice:
        raise InputError(f"{len(twice)} captures have the id of another one:{first_of(twice)}")
    files = tuple(path for path in listed if path.rpartition("/")[2] == definitions.FILE)
    declared = definitions.load(source, files)
    words = [*declared.names, *sorted(word for word in counts if word not in declared.names)]
    fixed = classes.load_names(source, names) if names else ()
    table, ids, _ = classes.number_classes(words, renamed, fixed)
    strangers = {word: count for word, count in counts.items() if word not in ids}
    classes.refuse_unknown(strangers, table, unknown, str(source.root))
    by_class: dict[int, str] = {}
    for word, template in templates.items():
        if word in ids and by_class.setdefault(ids[word], template) != template:
            raise InputError(f"class '{table[ids[word] - 1]}' has keypoints of two templates; give it two names")
    categories = tuple(declared.category(name, by_class.get(k)) for k, name in enumerate(table, start=1))
    return Table(places, categories, ids, strangers, files)


def _scan(capture: Capture, counts: Counter[str], templates: dict[str, str]) -> None:
    """Classes of a capture, and the templates of those with keypoints; a broken one is rejected when it is read."""
    try:
        names = objects.class_names(capture)
        semantic = frame.rows(capture.annotation(frame.SEMANTIC) or {}, "instances", capture.where)
        told = capture.annotation(frame.KEYPOINT)
        pointed = [frame.unity_id(row, capture.where) for row in capture.values(frame.KEYPOINT)]
    except Rejected:
        return
    counts.update(names.values())
    counts.update(name for row in semantic if (name := frame.label_of(row)))
    for number in pointed:
        if told is not None and number in names:
            templates.setdefault(names[number], str(told.get("templateId")))
