"""Unity Perception's SOLO in: one sample per camera and frame, everything turned into our conventions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from synthaug.camera import Camera
from synthaug.contracts import Description, Reader
from synthaug.errors import ConfigError, InputError, Rejected, nearest
from synthaug.formats import classes, maps, naming, pictures, rasters, strays
from synthaug.formats.classes import Unknown
from synthaug.formats.inputs import InputRoot
from synthaug.formats.solo import frame, objects, space, survey
from synthaug.formats.solo.frame import Capture
from synthaug.labels import Category, Labels
from synthaug.sample import Sample

Depth = Literal["auto", "planar", "range"]

_STRATEGIES = {"Depth": "planar", "Range": "range"}


class SoloReader(Reader):
    """Reads SOLO. Groups are sequences, frames steps, views cameras; a picture is named by its frame's JSON.

    Instances come from the instance segmentation (masks), 2D boxes, 3D boxes (pose and extent) and keypoints,
    joined by Unity's instance id, which is kept as the attribute `solo_instance_id`. Depth, normals and
    positions are OpenEXR (`pip install synthaug[exr]`). The world's y points down, as the camera's does.

    Args:
        root: Folder of the dataset, or one above it.
        depth: What depth means: `planar` (Unity's strategy Depth), `range` (distance to the camera). `auto`
            takes the frame's own word; frames of older versions have none and are rejected then.
        names: Text file or data.yaml that fixes the classes and their order; None takes the definitions'.
        classes: Class name by label name: renames and merges.
        unknown: `refuse` labels that the names file does not know, or `ignore` and count them.
        off_table: Segmentation colours that the frame does not name: `reject` the sample, or take such pixels
            as `background`, or as `ignore` (adds the pass of that name); counted in the sample's trail, as are
            the labels that `unknown=ignore` leaves out: see `formats.strays`.
        max_unknown: Share of a picture, 0..1, that may be off the table under `background` and `ignore`; a
            frame with more is rejected as `unknown_classes`.
        clip: Cut boxes at the canvas that leave it by more than a pixel; they are rejected otherwise.
        alpha: What to do with transparency: see `formats.pictures.decode`.
        background: sRGB colour 0..255 behind transparent pixels under `composite`.
    """

    def __init__(
        self,
        *,
        root: str,
        depth: Depth = "auto",
        names: str | None = None,
        classes: Mapping[str, str] | None = None,
        unknown: Unknown = "refuse",
        off_table: objects.OffTable = "reject",
        max_unknown: float = 0.5,
        clip: bool = False,
        alpha: Literal["composite", "drop", "refuse"] = "composite",
        background: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        naming.one_of("depth", depth, ("auto", "planar", "range"))
        naming.one_of("unknown", unknown, ("refuse", "ignore"))
        naming.one_of("off_table", off_table, ("reject", "background", "ignore"))
        naming.one_of("alpha", alpha, ("composite", "drop", "refuse"))
        if not 0.0 <= max_unknown <= 1.0:
            raise ConfigError(f"max_unknown={max_unknown}: expected a share of the picture, 0 to 1")
        if len(background) != 3 or not all(isinstance(v, int) and 0 <= v <= 255 for v in background):
            raise ConfigError(f"background={list(background)}: expected three whole numbers from 0 to 255")
        self.root = root
        self.depth: Depth = depth
        self.names = names
        self.renamed = _text_map(classes)
        self.unknown: Unknown = unknown
        self.off_table: objects.OffTable = off_table
        self.max_unknown = max_unknown
        self.clip = clip
        self.alpha: pictures.Alpha = alpha
        self.background = background
        self._last: tuple[str, tuple[Capture, ...]] = ("", ())

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

    def categories(self) -> tuple[Category, ...]:
        return self._table.categories

    def ids(self) -> Sequence[str]:
        return tuple(self._table.places)

    def files(self) -> tuple[str, ...]:
        return self._table.files

    def notes(self) -> Mapping[str, int]:
        """Counts of what is allowed but worth knowing."""
        return {
            "images": len(self._table.places), "labels of unknown categories": sum(self._table.strangers.values())
        }  # fmt: skip

    def describe(self, sample_id: str) -> Description:
        capture = self._capture(sample_id)
        files = {kind: path for kind in _FILES if (path := capture.file(kind))}
        if frame.DEPTH in files:
            self._measure(capture)
        ids = self._table.class_ids
        found = {ids[name] for name in objects.class_names(capture).values() if name in ids}
        return Description(
            sample_id, capture.size, tuple(self._passes(files)),
            (self._table.places[sample_id][0], capture.image, *files.values()), capture.sequence, capture.sensor,
            capture.step, classes=tuple(sorted(found)),
        )  # fmt: skip

    def read(self, sample_id: str) -> Sample:
        capture = self._capture(sample_id)
        picture = pictures.decode(
            self.source.read(capture.image), alpha=self.alpha, background=self.background, canvas=capture.size
        ).picture
        camera = _camera(capture)
        arrays, found = self._arrays(capture, camera)
        lengths = {k: len(c.keypoints) for k, c in enumerate(self._table.categories, start=1)}
        made, ids, hidden = objects.build(
            capture, arrays.pop("instance", None), self._table.class_ids, lengths, clip=self.clip
        )
        if ids is not None:
            arrays["instance"] = ids
        attributes: dict[str, Any] = {"hidden_objects": hidden} if hidden else {}
        if self.unknown == "ignore":
            words = objects.class_names(capture).values()
            found[strays.LABELS] = strays.Strays(Counter(w for w in words if w not in self._table.class_ids))
        labels = Labels(capture.size, self._table.categories, made, arrays, camera, attributes)
        labels.check()
        return Sample(
            sample_id, picture, labels, picture, capture.sequence, capture.sensor, capture.step,
            trail=strays.steps(type(self).__name__, found),
        )  # fmt: skip

    def _arrays(
        self, capture: Capture, camera: Camera | None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, strays.Strays]]:
        """Label passes, the `instance` pass still in Unity's ids; and the colours off each table."""
        arrays: dict[str, NDArray[Any]] = {}
        strangers: dict[str, strays.Strays] = {}
        ignored = np.zeros(capture.size, bool)
        for kind, name in ((frame.INSTANCE, "instance"), (frame.SEMANTIC, "semantic")):
            path = capture.file(kind)
            if path is None:
                continue
            table = objects.instance_table(capture) if name == "instance" else self._semantic_table(capture)
            found = objects.look_up(self.source.read(path), table, self.off_table, self.max_unknown, path)
            arrays[name] = found.ids
            if self.off_table != "reject":
                strangers[name] = found.strays
            if found.ids.shape != capture.size:
                raise Rejected("size", f"{path} is {found.ids.shape}, the frame {capture.size}; sizes are not adapted")
            ignored |= found.ignored
        if arrays and self.off_table == "ignore":
            arrays["ignore"] = ignored
        for kind, name in _MAPS.items():
            path = capture.file(kind)
            if path is not None:
                arrays[name] = self._map(kind, self.source.read(path), capture, camera)
        return arrays, strangers

    def _map(self, kind: str, data: bytes, capture: Capture, camera: Camera | None) -> NDArray[np.float32]:
        if kind == frame.POSITION:
            return space.position(rasters.read(data).array)
        if kind == frame.NORMAL:
            return space.normals(maps.decode_vectors(data, "unit"), _needed(camera, capture))
        depth = space.plane(rasters.read(data).array, capture.where)
        return maps.planar(depth, _needed(camera, capture).K) if self._measure(capture) == "range" else depth

    def _measure(self, capture: Capture) -> str:
        """What the frame's depth means."""
        told = _STRATEGIES.get(str((capture.annotation(frame.DEPTH) or {}).get("measurementStrategy")))
        if self.depth == "auto" and told is None:
            raise Rejected("label", f"{capture.where} does not say what depth means; read with depth=planar or range")
        if told is not None and self.depth not in ("auto", told):
            raise Rejected("label", f"{capture.where}: depth is {told} by the frame, {self.depth} by read.depth")
        return told or self.depth

    def _semantic_table(self, capture: Capture) -> dict[maps.Colour, int]:
        annotation = capture.annotation(frame.SEMANTIC) or {}
        ids = self._table.class_ids
        table: dict[maps.Colour, int] = {}
        for row in frame.rows(annotation, "instances", capture.where):
            number = ids.get(frame.label_of(row) or "", 0)
            colour = objects.colour_of(row.get("pixelValue"), capture.where)
            if table.setdefault(colour, number) != number:
                raise Rejected("label", f"{capture.where}: two classes share the colour {colour}")
        return table

    def _passes(self, files: Mapping[str, str]) -> Iterator[str]:
        segmented = [name for kind, name in _SEGMENTATIONS.items() if kind in files]
        yield from segmented
        if segmented and self.off_table == "ignore":
            yield "ignore"
        yield from (name for kind, name in _MAPS.items() if kind in files)

    def _capture(self, sample_id: str) -> Capture:
        if sample_id not in self._table.places:
            raise InputError(f"no sample '{sample_id}' below {self.root}.{nearest(sample_id, self._table.places)}")
        path, number = self._table.places[sample_id]
        last, captures = self._last
        if last != path:
            try:
                captures = frame.load(self.source, path)
            except InputError as error:
                raise Rejected("label", str(error)) from error
            self._last = (path, captures)
        return captures[number]

    @cached_property
    def _table(self) -> survey.Table:
        return survey.look(self.source, self.names, self.renamed, self.unknown)


_SEGMENTATIONS = {frame.INSTANCE: "instance", frame.SEMANTIC: "semantic"}
_MAPS = {frame.DEPTH: "depth", frame.NORMAL: "normals", frame.POSITION: "position"}
_FILES = (*_SEGMENTATIONS, *_MAPS)


def _camera(capture: Capture) -> Camera | None:
    """The camera; None where it is no pinhole."""
    facts = capture.facts
    if facts.get("projection", "Perspective") != "Perspective" or facts.get("matrix") is None:
        return None
    return space.camera(facts["matrix"], facts.get("position"), facts.get("rotation"), capture.size, capture.where)


def _needed(camera: Camera | None, capture: Capture) -> Camera:
    if camera is None:
        raise Rejected("label", f"{capture.where}: a pass needs the camera to be turned, and it is no pinhole")
    return camera


def _text_map(value: Mapping[str, str] | None) -> dict[str, str]:
    return classes.text_map("classes", value)
