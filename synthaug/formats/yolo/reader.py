"""YOLO text labels in: boxes, polygons, poses, with or without a data.yaml."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal

from synthaug import rle
from synthaug.contracts import Description
from synthaug.errors import ConfigError, InputError, Rejected
from synthaug.formats import classes, facts, lists, naming, pictures, strays
from synthaug.formats.classes import Unknown, number_classes, refuse_unknown, text_map
from synthaug.formats.reading import LooseReader
from synthaug.formats.yolo import rows
from synthaug.formats.yolo.declared import Declared, Layout, is_list
from synthaug.labels import Category, Instance, Labels, Size
from synthaug.sample import Sample


class YoloReader(LooseReader):
    """Reads `images/` with `labels/*.txt`. An image without a file, or with an empty one, is background.

    A polygon becomes the instance's own mask, rasterised as COCO does, and its box the mask's tight box.

    Args:
        root: Folder of the dataset.
        images: Folder of the images below the root, `{split}` in it standing for the split's folder; None
            follows data.yaml, its folders or its lists of images (images on no list are left out and counted), then
            the usual names.
        labels: Folder of the text files, likewise; None takes the images' folder with `labels` for `images`.
        names: data.yaml or a text file with one class a line; None looks for the usual names.
        split: Read only this split.
        task: What the lines are: `auto` takes poses where data.yaml has `kpt_shape`, else polygons where
            a file has more than four numbers a line, else boxes.
        kpt_shape: Number of keypoints and 2 or 3 numbers each; None takes data.yaml's.
        flip_idx: Partner of each keypoint under a mirror; None takes data.yaml's.
        classes: Class name by source name; renames and merges.
        unknown: `refuse` class numbers beyond the names, or `ignore` and count their lines.
        clip: Cut what leaves the canvas by more than a pixel; such samples are rejected otherwise.
        dangling: `refuse` label files and listed names without an image, or `ignore` them.
        unlabelled: Accept a dataset in which no image has a label file; it is refused otherwise.
        alpha: What to do with transparency: see `formats.pictures.decode`.
        background: sRGB colour 0..255 behind transparent pixels under `composite`.
    """

    label_folders: ClassVar[tuple[str, ...]] = ("labels", "labels_yolo_format", "annotations")
    label_suffixes: ClassVar[tuple[str, ...]] = (".txt",)
    not_labels: ClassVar[frozenset[str]] = frozenset({"classes.txt", "labels.txt", "names.txt", "train.txt", "val.txt"})

    def __init__(
        self,
        *,
        root: str,
        images: str | None = None,
        labels: str | None = None,
        names: str | None = None,
        split: str | None = None,
        task: Literal["auto", "detect", "segment", "pose"] = "auto",
        kpt_shape: tuple[int, int] | None = None,
        flip_idx: tuple[int, ...] | None = None,
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
        naming.one_of("task", task, ("auto", "detect", "segment", "pose"))
        naming.one_of("unknown", unknown, ("refuse", "ignore"))
        if kpt_shape is not None and (kpt_shape[0] < 1 or kpt_shape[1] not in (2, 3)):
            raise ConfigError(f"kpt_shape={list(kpt_shape)}: expected a number of keypoints from 1, and 2 or 3")
        self.task: rows.Task | None = None if task == "auto" else task
        self.kpt_shape = kpt_shape
        self.flip_idx = flip_idx
        self.classes = text_map("classes", classes)
        self.unknown: Unknown = unknown
        self.clip = clip

    def categories(self) -> tuple[Category, ...]:
        points = self._points
        if points is None or self.task in ("detect", "segment"):
            return tuple(Category(name) for name in self._numbering[0])
        told: Any = self._yaml.get("kpt_names")
        named: Any = told.get(0, told.get("0")) if isinstance(told, dict) else None  # pyright: ignore[reportUnknownMemberType]
        keypoints = tuple(str(n) for n in named) if isinstance(named, list) else ()  # pyright: ignore[reportUnknownVariableType]
        if len(keypoints) != points[0]:
            keypoints = tuple(f"point_{place}" for place in range(points[0]))
        flips: Any = self.flip_idx if self.flip_idx is not None else self._yaml.get("flip_idx")
        try:
            mirror = tuple(flips or ())
            return tuple(facts.checked_category(Category(name, keypoints, (), mirror)) for name in self._numbering[0])
        except (TypeError, ValueError) as error:
            raise InputError(f"{self._yaml_path or self.root}: flip_idx or kpt_names: {error}") from error

    def ids(self) -> Sequence[str]:
        self.refuse_without_files()
        refuse_unknown(self._strangers, self._numbering[0], self.unknown, f"{self.root} (numbers from 0)")
        return tuple(self.pairs)

    def notes(self) -> Mapping[str, int]:
        unnamed = self._unnamed
        more = {f"images in no folder of {self._yaml_path}": unnamed} if unnamed else {}
        return {**super().notes(), "labels of unknown categories": sum(self._strangers.values()), **more}

    @cached_property
    def _unnamed(self) -> int:
        """How many pictures below the root lie beside the folders that data.yaml names: they are not read."""
        if self.split is not None or self.lists or tuple(self.parts) != self._declared.parts:
            return 0
        inside = tuple(f"{part.images}/" if part.images else "" for part in self.parts)
        return sum(not path.startswith(inside) for path in self.source.listing("", suffixes=naming.PICTURE_SUFFIXES))

    def files(self) -> tuple[str, ...]:
        told = (one.path for one in self.lists if is_list(one.path))
        return tuple(dict.fromkeys(path for path in (self._yaml_path, self._names_path, *told) if path))

    def describe(self, sample_id: str) -> Description:
        pair = self.pair(sample_id)
        lines, _ = self._lines(pair)
        size, space = self.canvas(pair.image, None)
        return Description(
            sample_id, size, self.extra_passes(),
            (pair.image,) if pair.label is None else (pair.image, pair.label), split=pair.split,
            space=space, classes=tuple(sorted({self._numbering[1][str(line.index)] for line in lines})),
        )  # fmt: skip

    def read(self, sample_id: str) -> Sample:
        pair = self.pair(sample_id)
        picture, arrays = self.decode(pair.image, None)
        lines, lost = self._lines(pair)
        task = rows.task_of(lines, self.task, self._points)
        size = picture.size
        instances = tuple(self._instance(line, place, task, size) for place, line in enumerate(lines, start=1))
        labels = Labels(size, self.categories(), instances, arrays)
        labels.check()
        trail = strays.of_labels(type(self).__name__, lost)
        return Sample(sample_id, picture, labels, picture, split=pair.split, trail=trail)

    @cached_property
    def _strangers(self) -> Mapping[str, int]:
        """Lines by class number that has no name."""
        labelled = [pair for pair in self.pairs.values() if pair.label is not None]
        numbers = (str(line.index) for pair in labelled for line in self._readable(pair))
        return Counter(number for number in numbers if number not in self._numbering[1])

    @cached_property
    def parts(self) -> tuple[naming.Part, ...]:
        if self._declared.lists:
            return self._declared.parts
        wanted = None if self.split is None else naming.canonical_split(self.split)
        told = tuple(part for part in self._declared.parts if wanted in (None, part.split))
        return told or super().parts

    @cached_property
    def lists(self) -> tuple[lists.Listed, ...]:
        return self._declared.lists

    @cached_property
    def _declared(self) -> Declared:
        if self.images is not None or not self._yaml:
            return Declared()
        return Layout(self.source, self._yaml, self.labels, self.dangling).declared()

    @cached_property
    def _names_path(self) -> str | None:
        return classes.names_file(self.source, self.names)

    @cached_property
    def _yaml_path(self) -> str | None:
        candidates = (self.names or "", "data.yaml", "data.yml", "dataset.yaml")
        return next((p for p in candidates if p.endswith((".yaml", ".yml")) and self.source.exists(p)), None)

    @cached_property
    def _yaml(self) -> Mapping[str, Any]:
        return classes.load_yaml(self.source, self._yaml_path) if self._yaml_path else {}

    @cached_property
    def _points(self) -> tuple[int, int] | None:
        told: Any = self.kpt_shape if self.kpt_shape is not None else self._yaml.get("kpt_shape")
        if told is None:
            return None
        if not isinstance(told, list | tuple) or len(told) != 2 or not all(isinstance(v, int) for v in told):  # pyright: ignore
            raise InputError(f"{self._yaml_path}: kpt_shape {told!r}, expected [number, 2 or 3]")
        return (told[0], told[1])

    @cached_property
    def _numbering(self) -> tuple[tuple[str, ...], Mapping[str, int]]:
        """Class names, and class id by the number in the files as text."""
        names = classes.load_names(self.source, self.names)
        if not names:
            raise InputError(
                f"no class names below {self.root}: add a data.yaml or a text file with one class a line, and name it "
                "with read.names=..."
            )
        table, ids, _ = number_classes([str(k) for k in range(len(names))], self._renamed(names))
        return table, ids

    def _renamed(self, names: Sequence[str]) -> dict[str, str]:
        return {str(place): self.classes.get(name, name) for place, name in enumerate(names)}

    def _readable(self, pair: naming.Pair) -> list[rows.Line]:
        """Lines of a file, none where it is broken: `describe` will say so for that sample alone."""
        try:
            return rows.parse(self.source.read(pair.label or ""), pair.label or "")
        except Rejected:
            return []

    def _lines(self, pair: naming.Pair) -> tuple[list[rows.Line], Counter[str] | None]:
        """Lines of known classes; and under `unknown=ignore` how many there are of each class without a name."""
        found = [] if pair.label is None else rows.parse(self.source.read(pair.label), pair.label)
        strangers = [line for line in found if str(line.index) not in self._numbering[1]]
        if strangers and self.unknown == "refuse":
            raise Rejected("label", f"{strangers[0].where}: class {strangers[0].index} has no name")
        kept = [line for line in found if str(line.index) in self._numbering[1]]
        return kept, Counter(str(line.index) for line in strangers) if self.unknown == "ignore" else None

    def _instance(self, line: rows.Line, place: int, task: rows.Task, size: Size) -> Instance:
        class_id = self._numbering[1][str(line.index)]
        if task == "segment":
            mask = rows.mask_of(line, size, clip=self.clip)
            return Instance(place, class_id, rle.box(mask), mask)
        box = rows.box_of(line, size, clip=self.clip)
        points = rows.keypoints_of(line, size, self._points or (0, 3), clip=self.clip) if task == "pose" else ()
        return Instance(place, class_id, box, keypoints=points)
