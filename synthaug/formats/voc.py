"""Pascal VOC in: one XML per image, boxes in whole pixels counted from 1, both ends included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar
from xml.etree import ElementTree
from xml.parsers import expat

from synthaug.contracts import Description
from synthaug.errors import Rejected
from synthaug.formats import classes, lists, naming, pictures, strays
from synthaug.formats.classes import Unknown, number_classes, refuse_unknown, text_map
from synthaug.formats.reading import LooseReader
from synthaug.formats.shapes import fit_box
from synthaug.labels import Category, Instance, Labels, Size
from synthaug.sample import Sample

_EDGES = ("xmin", "ymin", "xmax", "ymax")
_FACTS = ("pose", "truncated", "occluded")
_LARGEST = 16 << 20
_LISTS = "ImageSets/Main"
_SPLITS = ("train", "val", "test")


class VocReader(LooseReader):
    """Reads `JPEGImages` or `images` with `Annotations/*.xml`. `difficult` becomes the ignore flag.

    Without `split` and `images`, the lists `ImageSets/Main/{train,val,test}.txt` are followed where they are: an image
    has the split of the first of them that names it (`trainval` counts as `train` for what the others do not name),
    and images on none of them are left out and counted.

    Args:
        root: Folder of the dataset.
        images: Folder of the images below the root, `{split}` in it standing for the split's folder; None
            looks for the usual names.
        labels: Folder of the XML files, likewise.
        names: Text file with one class a line, or a data.yaml, that fixes the classes and their order; None
            looks for one, and else takes the classes that occur, sorted.
        split: Read only this split: its folder, or the list `ImageSets/Main/<split>.txt`, also that of a class
            (`cat_train`), in which rows that end in -1 are no members.
        one_based: Pixels are counted from 1 (VOC's rule): x0 = xmin - 1, x1 = xmax. Else from 0 with
            edges as they stand.
        classes: Class name by source name; renames, merges, and admits unknown names.
        unknown: `refuse` classes beyond the names file, or `ignore` and count their objects.
        clip: Cut boxes that leave the canvas by more than a pixel; such samples are rejected otherwise.
        dangling: `refuse` XML files and listed names without an image, or `ignore` them.
        unlabelled: Accept a dataset in which no image has a label file; it is refused otherwise.
        alpha: What to do with transparency: see `formats.pictures.decode`.
        background: sRGB colour 0..255 behind transparent pixels under `composite`.
    """

    label_folders: ClassVar[tuple[str, ...]] = ("Annotations", "annotations", "labels", "xml", "xmls")
    label_suffixes: ClassVar[tuple[str, ...]] = (".xml",)

    def __init__(
        self,
        *,
        root: str,
        images: str | None = None,
        labels: str | None = None,
        names: str | None = None,
        split: str | None = None,
        one_based: bool = True,
        classes: Mapping[str, str] | None = None,
        unknown: Unknown = "refuse",
        clip: bool = False,
        dangling: naming.Dangling = "refuse",
        unlabelled: bool = False,
        alpha: pictures.Alpha = "composite",
        background: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        super().__init__(
            root=root, images=images, labels=labels, names=names, split=split, dangling=dangling,
            unlabelled=unlabelled, alpha=alpha, background=background,
        )  # fmt: skip
        naming.one_of("unknown", unknown, ("refuse", "ignore"))
        self.one_based = one_based
        self.classes = text_map("classes", classes)
        self.unknown: Unknown = unknown
        self.clip = clip

    def categories(self) -> tuple[Category, ...]:
        return tuple(Category(name) for name in self._numbering[0])

    def ids(self) -> Sequence[str]:
        self.refuse_without_files()
        names, numbers = self._numbering
        strangers = {word: count for word, count in self._occurring.items() if word not in numbers}
        refuse_unknown(strangers, names, self.unknown, self.root)
        return tuple(self.pairs)

    def notes(self) -> Mapping[str, int]:
        lost = sum(count for word, count in self._occurring.items() if word not in self._numbering[1])
        return {**super().notes(), "labels of unknown categories": lost}

    def files(self) -> tuple[str, ...]:
        names = classes.names_file(self.source, self.names)
        return tuple(path for path in (names, *(one.path for one in self.lists)) if path)

    def describe(self, sample_id: str) -> Description:
        pair = self.pair(sample_id)
        tree = self._tree(pair)
        classes = {self._numbering[1][word] for word in _names(tree) if word in self._numbering[1]}
        size, space = self.canvas(pair.image, _declared(tree))
        return Description(
            sample_id, size, self.extra_passes(),
            (pair.image,) if pair.label is None else (pair.image, pair.label), split=pair.split,
            space=space, classes=tuple(sorted(classes)),
        )  # fmt: skip

    def read(self, sample_id: str) -> Sample:
        pair = self.pair(sample_id)
        tree = self._tree(pair)
        picture, arrays = self.decode(pair.image, _declared(tree))
        size = picture.size
        objects = [] if tree is None else tree.findall("object")
        kept = [element for element in objects if self._known(element, pair)]
        instances = tuple(self._instance(element, place, size, pair) for place, element in enumerate(kept, start=1))
        labels = Labels(size, self.categories(), instances, arrays)
        labels.check()
        lost = Counter(word for word in _names(tree) if word not in self._numbering[1])
        trail = strays.of_labels(type(self).__name__, lost if self.unknown == "ignore" else None)
        return Sample(sample_id, picture, labels, picture, split=pair.split, trail=trail)

    @cached_property
    def parts(self) -> tuple[naming.Part, ...]:
        return self.find_parts(None if self.lists else self.split)

    @cached_property
    def lists(self) -> tuple[lists.Listed, ...]:
        if self.split is not None:
            split = naming.canonical_split(self.split)
            paths = [
                path for word, path in self._lists_there if self.split == word or split == naming.canonical_split(word)
            ]
            exact = f"{_LISTS}/{self.split}.txt"
            return tuple(self._list(path, split) for path in ([exact] if exact in paths else paths)[:1])
        if self.images is not None or any(part.prefix for part in self.find_parts(None)):
            return ()
        there = [(naming.canonical_split(word), path) for word, path in self._lists_there]
        found = [self._list(path, split) for split in _SPLITS for word, path in there if word == split]
        known = {name for one in found for name in one.names}
        for path in (path for word, path in there if word.lower() == "trainval"):
            both = self._list(path, "train")  # train and val together: only what neither of them has is news
            found.append(replace(both, names=tuple(name for name in both.names if name not in known)))
        return tuple(found)

    @cached_property
    def _lists_there(self) -> Sequence[tuple[str, str]]:
        """Name without suffix, and path, of every list."""
        there = self.source.is_folder(_LISTS)
        paths = self.source.listing(_LISTS, suffixes=(".txt",), recursive=False) if there else ()
        return [(naming.stem_of(path.rpartition("/")[2]), path) for path in paths]

    def listed_name(self, pair: naming.Pair) -> str:
        return naming.stem_of(pair.image.rpartition("/")[2])

    def _list(self, path: str, split: str) -> lists.Listed:
        """A list; its rows may end in 1, 0 (difficult) or -1: a class's list has -1 for images without the class.

        Names may hold spaces, so the last word is such a number only where every row ends in one.
        """
        rows = [row.strip() for row in lists.lines(self.source, path) if row.strip()]
        cut = [row.rsplit(maxsplit=1) for row in rows]
        if all(len(words) == 2 and words[1] in ("1", "0", "-1") for words in cut):
            rows = [name for name, number in cut if number != "-1"]
        return lists.Listed(path, split, tuple(rows))

    @cached_property
    def _occurring(self) -> Mapping[str, int]:
        """How often each class name occurs; broken files are left to `describe`."""
        counts: Counter[str] = Counter()
        for pair in self.pairs.values():
            try:
                counts.update(_names(self._tree(pair)))
            except Rejected:
                continue
        return counts

    @cached_property
    def _numbering(self) -> tuple[tuple[str, ...], Mapping[str, int]]:
        """Class names, and class id by source word."""
        names = classes.load_names(self.source, self.names)
        words = list(dict.fromkeys([*names, *self.classes])) if names else sorted(self._occurring)
        table, ids, _ = number_classes(words, self.classes, names)
        return table, ids

    def _tree(self, pair: naming.Pair) -> ElementTree.Element | None:
        return None if pair.label is None else parse_xml(self.source.read(pair.label, limit=_LARGEST), pair.label)

    def _known(self, element: ElementTree.Element, pair: naming.Pair) -> bool:
        word = _text(element, "name")
        if word not in self._numbering[1] and self.unknown == "refuse":
            raise Rejected("label", f"{pair.label}: class '{word}' is none of {', '.join(self._numbering[0])}")
        return word in self._numbering[1]

    def _instance(self, element: ElementTree.Element, place: int, size: Size, pair: naming.Pair) -> Instance:
        where = f"{pair.label}, object {place}"
        try:
            x0, y0, x1, y1 = (float(_text(element, f"bndbox/{edge}")) for edge in _EDGES)
        except ValueError as error:
            raise Rejected("label", f"{where}: bndbox without four numbers: {error}") from error
        shift = 1.0 if self.one_based else 0.0
        box = fit_box((x0 - shift, y0 - shift, x1, y1), size, clip=self.clip, where=where)
        told = {name: _text(element, name) for name in _FACTS if element.find(name) is not None}
        attributes: dict[str, Any] = {k: v == "1" if v in ("0", "1") else v for k, v in told.items()}
        return Instance(
            place, self._numbering[1][_text(element, "name")], box, attributes=attributes,
            ignore=_text(element, "difficult") == "1",
        )  # fmt: skip


def parse_xml(data: bytes, name: str) -> ElementTree.Element:
    """The root element of a document without a DOCTYPE, so without entities that grow or reach out.

    Raises:
        Rejected: Under `label`: not well formed, or with a DOCTYPE.
    """
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()

    def refuse(*_: Any) -> None:
        raise Rejected("label", f"{name}: XML with a DOCTYPE; a label file needs none, remove it")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = lambda tag, attributes: builder.start(tag, attributes)
    parser.EndElementHandler = lambda tag: builder.end(tag)
    parser.CharacterDataHandler = lambda text: builder.data(text)
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, AssertionError, LookupError, ValueError) as error:
        raise Rejected("label", f"{name}: not readable as XML: {error}") from error


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _names(tree: ElementTree.Element | None) -> list[str]:
    return [] if tree is None else [_text(element, "name") for element in tree.findall("object")]


def _declared(tree: ElementTree.Element | None) -> Size | None:
    """The canvas as the XML says it; None where it says nothing or zero."""
    if tree is None:
        return None
    words = _text(tree, "size/height"), _text(tree, "size/width")
    return (int(words[0]), int(words[1])) if all(w.isdecimal() and int(w) for w in words) else None
