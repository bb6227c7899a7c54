"""What readers of loose pictures share: the root, the alpha rule, pairs of files, classes, the canvas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synthaug.contracts import Reader
from synthaug.errors import ConfigError, InputError, Rejected, nearest
from synthaug.formats import headers, lists, naming, pictures
from synthaug.formats.inputs import InputRoot
from synthaug.labels import Size
from synthaug.sample import Picture, Space

_MAGIC = 32


class LooseReader(Reader):
    """A reader of picture files with label files near them. Building one costs nothing and opens nothing.

    Args:
        root: Folder of the dataset; nothing outside it is opened.
        images: Folder of the images below the root, `{split}` in it standing for every split's folder;
            None looks for the usual names.
        labels: Folder (or file) of the labels, likewise.
        names: Text file with one class a line, or a data.yaml; None looks for the usual names.
        split: Read only this split; None reads all of them.
        dangling: `refuse` labels that belong to no image, or `ignore` and count them.
        unlabelled: Accept a dataset without any label; it is refused otherwise, for a wrong folder looks the same.
        alpha: What to do with transparency: see `formats.pictures.decode`.
        background: sRGB colour 0..255 behind transparent pixels under `composite`.
    """

    label_folders: ClassVar[tuple[str, ...]] = ()
    label_suffixes: ClassVar[tuple[str, ...]] = ()
    not_labels: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        *,
        root: str,
        images: str | None,
        labels: str | None,
        names: str | None,
        split: str | None,
        dangling: naming.Dangling,
        unlabelled: bool,
        alpha: pictures.Alpha,
        background: Sequence[int],
    ) -> None:
        naming.one_of("dangling", dangling, ("refuse", "ignore"))
        naming.one_of("alpha", alpha, pictures.ALPHA)
        if len(background) != 3 or not all(isinstance(v, int) and 0 <= v <= 255 for v in background):
            raise ConfigError(f"background={list(background)}: expected three whole numbers from 0 to 255")
        self.root = root
        self.images = images
        self.labels = labels
        self.names = names
        self.split = split
        self.dangling: naming.Dangling = dangling
        self.unlabelled = unlabelled
        self.alpha: pictures.Alpha = alpha
        self.background = (background[0], background[1], background[2])

    @cached_property
    def source(self) -> InputRoot:
        """The root, opened at first use."""
        return InputRoot(self.root)

    def digests(self) -> Mapping[str, str]:
        return self.source.take_digests()

    def digest(self, file: str) -> str:
        return self.source.sha256(file)

    def stamp(self, file: str) -> tuple[int, ...]:
        return self.source.stamp(file)

    def notes(self) -> Mapping[str, int]:
        """Counts of what is allowed but worth knowing, such as images without labels."""
        unlabelled = sum(pair.label is None for pair in self.pairs.values())
        counts = {"images": len(self.pairs), "images without labels": unlabelled}
        return {**counts, **self._followed[1], **twins_among(self.pairs)}

    @cached_property
    def parts(self) -> tuple[naming.Part, ...]:
        """The folders that are read."""
        return self.find_parts(self.split)

    def find_parts(self, split: str | None) -> tuple[naming.Part, ...]:
        """The folders of a split, or of all of them."""
        return naming.find_parts(
            self.source, images=self.images, labels=self.labels, split=split, label_folders=self.label_folders,
            suffixes=self.label_suffixes,
        )  # fmt: skip

    @cached_property
    def pairs(self) -> Mapping[str, naming.Pair]:
        """Image and label file by sample id, in natural order."""
        return self._followed[0]

    @cached_property
    def lists(self) -> tuple[lists.Listed, ...]:
        """Lists that say which image belongs to which split, by precedence; none where the folders say it."""
        return ()

    def listed_name(self, pair: naming.Pair) -> str:
        """The name of an image as `lists` have it."""
        return pair.image

    @cached_property
    def _followed(self) -> tuple[Mapping[str, naming.Pair], Mapping[str, int]]:
        """The pairs, and what the lists leave out."""
        found = self.found_pairs()
        if not self.lists:
            return found, {}
        kept, counts = lists.follow(found, self.lists, self.listed_name, self.dangling)
        if self.split is not None:
            wanted = (self.split, naming.canonical_split(self.split))
            kept = {name: pair for name, pair in kept.items() if pair.split in wanted}
        if not kept:
            raise InputError(f"no image of split '{self.split}' is on a list below {self.root}; correct read.split")
        return kept, counts

    def found_pairs(self) -> Mapping[str, naming.Pair]:
        """The pairs that the folders hold; refused where there is no image."""
        found = [
            pair
            for part in self.parts
            for pair in naming.find_pairs(
                self.source,
                part,
                suffixes=self.label_suffixes,
                dangling=self.dangling,
                not_labels=self.not_labels,
                files=self.files(),
                parts=self.parts,
            )
        ]
        if not found:
            raise InputError(f"no image in {', '.join(part.images or '.' for part in self.parts)} below {self.root}")
        return naming.by_id(found)

    def refuse_unlabelled(self, labelled: int, images: int, why: str) -> None:
        """Refuses a dataset in which not one image has labels, unless that was asked for.

        Raises:
            InputError: With the counts, and `why`: where labels were looked for and how to name another place.
        """
        if not labelled and not self.unlabelled:
            raise InputError(
                f"labels for 0 of {images} images below {self.root}: {why}, or accept pictures alone with "
                "read.unlabelled=true"
            )

    def refuse_without_files(self) -> None:
        """`refuse_unlabelled` for formats with a label file for each image."""
        places = ", ".join(sorted({part.labels or "." for part in self.parts}))
        self.refuse_unlabelled(
            sum(pair.label is not None for pair in self.pairs.values()), len(self.pairs),
            f"no {self.label_suffixes[0]} file in {places} bears an image's name; name the folder with read.labels=...",
        )  # fmt: skip

    def pair(self, sample_id: str) -> naming.Pair:
        """The files of a sample."""
        if sample_id not in self.pairs:
            raise InputError(f"no sample '{sample_id}' below {self.root}.{nearest(sample_id, self.pairs)}")
        return self.pairs[sample_id]

    def decode(self, path: str, canvas: Size | None) -> tuple[Picture, dict[str, NDArray[Any]]]:
        """The picture of a file on the canvas that its labels name, and the passes that come out of it."""
        decoded = pictures.decode(self.source.read(path), alpha=self.alpha, background=self.background, canvas=canvas)
        if self.alpha != "keep":
            return decoded.picture, {}
        coverage = np.ones(decoded.picture.size, np.float32) if decoded.alpha is None else decoded.alpha
        return decoded.picture, {"alpha": coverage}

    def canvas(self, path: str, declared: Size | None) -> tuple[Size, Space]:
        """The canvas, and what the pixels mean, from the header alone.

        Raises:
            Rejected: Under `size` when the labels declare a size that the file cannot have; under `format` for a
                kind of picture that is not read.
        """
        try:
            height, width = pictures.size_at(self.source, path)
        except Rejected as rejected:
            if naming.is_read(path):
                raise
            raise Rejected(
                "format", f"{path}: pictures of this kind are not read, only {headers.READ}; convert it"
            ) from rejected
        linear = headers.kind_of(self.source.head(path, _MAGIC)) in ("exr", "npy")
        if declared not in (None, (height, width), (width, height)):
            raise Rejected(
                "size", f"labels are for {declared[1]}x{declared[0]}, {path} is {width}x{height}; sizes are not adapted"
            )
        return declared or (height, width), "linear" if linear else "srgb"

    def extra_passes(self) -> tuple[str, ...]:
        """Passes that come out of the picture itself."""
        return ("alpha",) if self.alpha == "keep" else ()


def twins_among(pairs: Mapping[str, naming.Pair]) -> dict[str, int]:
    """A note on pictures of kinds that are not read beside one of the same name; none where there are none."""
    count = sum(pair.twins for pair in pairs.values())
    return {"pictures of kinds that are not read beside one that is": count} if count else {}
