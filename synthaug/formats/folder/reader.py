"""Any folder of pictures and label passes that its user can describe; and our own folders, exactly."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray

from synthaug.camera import Camera
from synthaug.contracts import Description
from synthaug.errors import ConfigError, InputError, Rejected, first_of
from synthaug.formats import classes, naming, pictures, strays, strictjson
from synthaug.formats.folder import declare, native, views
from synthaug.formats.folder.instances import components, listed
from synthaug.formats.reading import LooseReader, twins_among
from synthaug.labels import Category, Instance, Labels
from synthaug.sample import Sample, Step


class FolderReader(LooseReader):
    """Reads pictures with label passes as `passes` declares them, or a folder that `write=folder` made.

    Without `passes`, a `dataset.json` in the root says everything, and reading gives back what was
    written. Colours and ids off a pass's table that are not rejected are counted in the sample's trail: see
    `formats.strays`.

    Args:
        root: Folder of the dataset.
        images: Folder of the images below the root, `{split}` in it standing for the split's folder; None
            looks for the usual names.
        pattern: Regular expression that the whole name of an image file must match; None takes all.
        passes: What the files of each label pass mean, by pass name: see `formats.folder.declare.Rule`.
        names: Text file with one class a line, or a data.yaml; fixes the classes and their order.
        split: Read only this split.
        missing: `refuse` images that lack the file of a pass, or `drop` and count them.
        dangling: `refuse` files of a pass that belong to no image, or `ignore` them.
        unlabelled: Accept pictures without any label pass; a folder without declared passes, and without the
            `dataset.json` of `write=folder`, is refused otherwise.
        instances: `none`; `map` takes them from the instance pass; `components` takes each 8-connected
            part of one class of the semantic pass (objects that touch become one); `auto` is `map` where
            an instance pass is declared, else `none`.
        instance_classes: JSON file per image with class names by instance id, as a path with `{stem}`; None
            takes the class that most of an instance's pixels have in the semantic pass.
        min_area: Pixels below which a component is no instance; it stays in the semantic pass.
        camera: `{fov: degrees}`, `{intrinsics: 3x3}` or `{path: file with {stem}}`, with `centre` (0.5, or
            0 where the source puts the first pixel's centre at 0), `pose` and `axes`; None: unknown.
        alpha: What to do with transparency: see `formats.pictures.decode`.
        background: sRGB colour 0..255 behind transparent pixels under `composite`.
    """

    label_suffixes: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        *,
        root: str,
        images: str | None = None,
        pattern: str | None = None,
        passes: Mapping[str, Mapping[str, Any]] | None = None,
        names: str | None = None,
        split: str | None = None,
        missing: Literal["refuse", "drop"] = "refuse",
        dangling: naming.Dangling = "refuse",
        unlabelled: bool = False,
        instances: Literal["auto", "none", "map", "components"] = "auto",
        instance_classes: str | None = None,
        min_area: int = 1,
        camera: Mapping[str, Any] | None = None,
        alpha: pictures.Alpha = "composite",
        background: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        super().__init__(
            root=root,
            images=images,
            labels=None,
            names=names,
            split=split,
            dangling=dangling,
            unlabelled=unlabelled,
            alpha=alpha,
            background=background,
        )
        naming.one_of("missing", missing, ("refuse", "drop"))
        naming.one_of("instances", instances, ("auto", "none", "map", "components"))
        if min_area < 1:
            raise ConfigError(f"min_area={min_area}: expected pixels from 1")
        self.rules = declare.rules(passes or {})
        self.declared = passes is not None
        self.missing: Literal["refuse", "drop"] = missing
        self.instances = instances if instances != "auto" else "map" if "instance" in self.rules else "none"
        self.instance_classes = instance_classes
        self.min_area = min_area
        self.view = views.View.of(camera)
        try:
            self.pattern = re.compile(pattern) if pattern is not None else None
        except re.error as error:
            raise ConfigError(f"pattern={pattern!r} is no regular expression: {error}") from error
        needed = {"map": "instance", "components": "semantic"}.get(self.instances)
        if self.declared and needed is not None and needed not in self.rules:
            raise ConfigError(f"instances={instances} needs passes.{needed}")

    @cached_property
    def native(self) -> native.NativeFolder | None:
        """The exact reading of our own folder, where there is one and nothing else was declared."""
        if self.declared or not self.source.exists(native.DATASET):
            return None
        return native.NativeFolder(self.source, self.split)

    def categories(self) -> tuple[Category, ...]:
        if self.native is not None:
            return self.native.categories
        return tuple(Category(name) for name in self._classes[0])

    def ids(self) -> Sequence[str]:
        if self.native is not None:
            return self.native.ids
        found = tuple(self.pairs)
        self.refuse_unlabelled(
            len(self.rules) + len(self.extra_passes()),
            len(found),
            "no label pass is declared, and there is no dataset.json; declare read.passes={semantic: {path: "
            "'masks/{stem}.png'}}, read with the format that the labels have",
        )
        self._refuse_dangling()
        return found

    def files(self) -> tuple[str, ...]:
        if self.native is not None:
            return (native.DATASET,)
        names = classes.names_file(self.source, self.names)
        return (names,) if names else ()

    def describe(self, sample_id: str) -> Description:
        if self.native is not None:
            return self.native.describe(sample_id)
        pair = self.pair(sample_id)
        size, space = self.canvas(pair.image, None)
        extra = [self._side_file(template, pair) for template in (self.view.path, self.instance_classes) if template]
        files = (pair.image, *self._files(pair).values(), *extra)
        return Description(sample_id, size, self._brought, files, split=pair.split, space=space)

    def read(self, sample_id: str) -> Sample:
        if self.native is not None:
            return self.native.read(sample_id)
        pair = self.pair(sample_id)
        picture, arrays = self.decode(pair.image, None)
        camera = self.view.camera(picture.size, self._side_data(self.view.path, pair))
        trail = self._decode_passes(pair, arrays, camera)
        for name, array in arrays.items():
            if array.shape[:2] != picture.size:
                size = f"{array.shape[1]}x{array.shape[0]}, the picture {picture.size[1]}x{picture.size[0]}"
                raise Rejected("size", f"pass '{name}' is {size}; sizes are never adapted")
        found = self._instances(pair, arrays)
        labels = Labels(picture.size, self.categories(), found, arrays, camera)
        labels.check()
        return Sample(sample_id, picture, labels, picture, split=pair.split, trail=trail)

    def notes(self) -> Mapping[str, int]:
        if self.native is not None:
            return {"images": len(self.native.ids)}
        unlabelled = 0 if self.rules else len(self.pairs)
        lacking = {"images without a pass": self._complete[1]}
        counts = {"images": len(self.pairs), **lacking, "images without labels": unlabelled}
        return {**counts, **twins_among(self.pairs)}

    @cached_property
    def pairs(self) -> Mapping[str, naming.Pair]:
        return self._complete[0]

    @cached_property
    def _complete(self) -> tuple[Mapping[str, naming.Pair], int]:
        """Images that have all passes, and how many have not."""
        every = {
            name: pair
            for name, pair in self.found_pairs().items()
            if self.pattern is None or self.pattern.fullmatch(pair.image.rpartition("/")[2])
        }
        listings: dict[str, frozenset[str]] = {}
        lacking: dict[str, str] = {}
        for name, pair in every.items():
            for path in self._files(pair).values():
                folder = path.rpartition("/")[0]
                if folder not in listings:
                    there = self.source.is_folder(folder)
                    listings[folder] = frozenset(self.source.listing(folder, recursive=False) if there else ())
                if path not in listings[folder]:
                    lacking.setdefault(name, f"{pair.image}: no {path}")
        if lacking and self.missing == "refuse":
            raise InputError(
                f"{len(lacking)} of {len(every)} images lack the file of a pass; correct passes.*.path or stem, or "
                f"leave such images out with missing=drop:{first_of(lacking.values())}"
            )
        if len(lacking) == len(every):
            raise InputError(f"no image below {self.root} has the files of its passes:{first_of(lacking.values())}")
        return {name: pair for name, pair in every.items() if name not in lacking}, len(lacking)

    @cached_property
    def _classes(self) -> tuple[tuple[str, ...], dict[Any, int]]:
        """Class names, and class id by stored colour or number of the semantic pass."""
        names = classes.load_names(self.source, self.names)
        rule = self.rules.get("semantic")
        return declare.class_table(rule, names) if rule is not None else (names, {})

    @property
    def _brought(self) -> tuple[str, ...]:
        """Passes that `read` brings, whatever the sample holds."""
        told = [name for name in self.rules if name != "instance" or self.instances != "none"]
        made = ["instance"] if self.instances == "components" else []
        ignoring = ["ignore"] if any(rule.ignores for rule in self.rules.values()) else []
        return tuple(dict.fromkeys([*told, *made, *ignoring, *self.extra_passes()]))

    def _files(self, pair: naming.Pair) -> dict[str, str]:
        stem = self._stem(pair)
        return {name: rule.file(stem, pair.part.prefix) for name, rule in self.rules.items()}

    def _stem(self, pair: naming.Pair) -> str:
        folder = pair.part.images
        return naming.stem_of(pair.image[len(folder) :].lstrip("/") if folder else pair.image)

    def _side_file(self, template: str, pair: naming.Pair) -> str:
        return template.replace("{split}", pair.part.prefix).replace("{stem}", self._stem(pair))

    def _side_data(self, template: str | None, pair: naming.Pair) -> bytes | None:
        return None if template is None else self.source.read(self._side_file(template, pair))

    def _decode_passes(
        self, pair: naming.Pair, arrays: dict[str, NDArray[Any]], camera: Camera | None
    ) -> tuple[Step, ...]:
        """Fills in the declared passes; returns the steps that say what stood off their tables."""
        found: dict[str, strays.Strays] = {}
        ignored: list[NDArray[np.bool_]] = []
        for name, path in self._files(pair).items():
            done = declare.decode(name, self.rules[name], self.source.read(path), camera, self._classes[1])
            arrays[name] = done.array
            if done.ignored is not None:
                ignored.append(done.ignored)
            if done.strays is not None:
                found[name] = done.strays
        if ignored:
            arrays["ignore"] = np.logical_or.reduce([arrays.get("ignore", ignored[0]), *ignored])
        return strays.steps(type(self).__name__, found)

    def _instances(self, pair: naming.Pair, arrays: dict[str, NDArray[Any]]) -> tuple[Instance, ...]:
        if self.instances == "components":
            arrays["instance"], classes = components(arrays["semantic"], self.min_area)
            return listed(arrays["instance"], classes)
        if self.instances == "none" or "instance" not in arrays:
            arrays.pop("instance", None)
            return ()
        told: dict[int, int] | None = None
        data = self._side_data(self.instance_classes, pair)
        if data is not None:
            told = self._named(strictjson.loads(data, self.instance_classes or ""))
        return listed(arrays["instance"], told, arrays.get("semantic"), len(self._classes[0]))

    def _named(self, parsed: Any) -> dict[int, int]:
        """Class id by instance id from a parsed JSON of class names."""
        index = {name: place for place, name in enumerate(self._classes[0], start=1)}
        try:
            return {int(number): index[str(name)] for number, name in cast("dict[str, Any]", parsed).items()}
        except (AttributeError, KeyError, ValueError) as error:
            raise Rejected(
                "label", f"{self.instance_classes}: expected class names by instance id: {error!r}"
            ) from error

    def _refuse_dangling(self) -> None:
        """Files that look like those of a pass and belong to no image (E3)."""
        used = {path for pair in self.found_pairs().values() for path in (pair.image, *self._files(pair).values())}
        orphans: Counter[str] = Counter()
        for rule in self.rules.values():
            for part in self.parts:
                head, _, tail = rule.path.replace("{split}", part.prefix).partition("{stem}")
                folder = head.rpartition("/")[0]
                looks = (path for path in self.source.listing(folder) if path.startswith(head) and path.endswith(tail))
                orphans.update(path for path in looks if path not in used)
        if orphans and self.dangling == "refuse":
            raise InputError(
                f"{len(orphans)} label files belong to no image; add the images, remove the files, or read with "
                f"dangling=ignore:{first_of(sorted(orphans))}"
            )
