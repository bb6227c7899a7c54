"""A sample as the parts of a container: members by field, a row for trainers, an exact record beside it.

Fields are suffixes: `png` or `jpg` is the picture (`npy` where it is float32), `instance.png` or `depth.npy`
a label pass, `reference.png` the reference. The row holds what trainers look for:

    id, width, height
    objects   lists, one entry per instance: bbox [x, y, width, height]; categories, class number from 0;
              ids; area; iscrowd, 1 for ignored ones; masks, the counts of a COCO RLE or empty;
              keypoints, triplets x, y, state in one list
    facts     JSON as text: the record of `formats.records`, from which the sample is read back
              exactly; `objects` is derived from it and is not read then
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from synthaug import rle
from synthaug.contracts import File
from synthaug.errors import Rejected
from synthaug.formats import npy, records
from synthaug.formats.facts import Json
from synthaug.formats.loose import LooseWriter
from synthaug.labels import Instance, Labels
from synthaug.sample import Picture, Sample

REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class Packed:
    """Row and members of one sample."""

    row: Json
    members: Mapping[str, bytes]


def pack(writer: LooseWriter, sample: Sample, *, reference: bool, holds_floats: bool) -> Packed:
    """The parts of a sample, each decoded again and compared.

    Args:
        writer: Says how pictures are stored, and which passes.
        sample: Passes that no longer describe the picture are left out.
        reference: Store the reference too where it differs from the picture.
        holds_floats: Whether a float32 picture may be stored, as npy.

    Raises:
        Rejected: Under `encode` or `label`: something that cannot be stored exactly.
    """
    kept = stored(sample, writer.passes)
    image = picture_file(writer, kept.image, "", holds_floats=holds_floats)
    field = image.name.removeprefix(".")
    members = {field: image.data}
    other = ""
    if reference and has_reference(kept):
        file = picture_file(writer, kept.reference, REFERENCE, holds_floats=holds_floats)
        other = file.name
        members[other] = file.data
    files, paths = writer.sidecars(kept)
    fields = {name: f"{name}.{path.rpartition('.')[2]}" for name, path in paths.items()}
    members |= {fields[file.name.partition("/")[0]]: file.data for file in files}
    record = records.record_to(kept, field, other, fields)
    records.verify_record(record, kept)
    height, width = kept.labels.size
    row = {"id": kept.id, "width": width, "height": height, "objects": objects(kept.labels)}
    return Packed(row | {"facts": record.decode("utf-8").rstrip("\n")}, members)


def stored(sample: Sample, wanted: Collection[str] | None) -> Sample:
    """The sample with those passes alone that are stored; masks that leave with the `instance` pass become own ones."""
    labels = sample.labels
    names = [n for n in labels.passes if (wanted is None or n in wanted) and n not in sample.stale]
    instances = labels.instances
    if "instance" in labels.passes and "instance" not in names:
        found = rle.encode_ids(labels.passes["instance"], [i.id for i in instances if i.mask is None])
        instances = tuple(replace(i, mask=found[i.id]) if i.id in found else i for i in instances)
    kept = {name: labels.passes[name] for name in names}
    return replace(sample, labels=replace(labels, instances=instances, passes=kept))


def objects(labels: Labels) -> Json:
    """The instances as lists; see the module."""
    own = {i.id: rle.Found(i.mask, rle.box(i.mask), rle.area(i.mask)) for i in labels.instances if i.mask is not None}
    shared = [i.id for i in labels.instances if i.mask is None]
    if "instance" in labels.passes and shared:
        own |= rle.find(labels.passes["instance"], shared)
    found = [own.get(i.id) for i in labels.instances]
    return {
        "bbox": [_bbox(i.box) for i in labels.instances],
        "categories": [i.class_id - 1 for i in labels.instances],
        "ids": [i.id for i in labels.instances],
        "area": [_area(i) if f is None else float(f.area) for i, f in zip(labels.instances, found, strict=True)],
        "iscrowd": [int(i.ignore) for i in labels.instances],
        "masks": ["" if f is None else f.rle.counts.decode("ascii") for f in found],
        "keypoints": [[float(v) for point in i.keypoints for v in point] for i in labels.instances],
    }


def picture_file(writer: LooseWriter, picture: Picture, stem: str, *, holds_floats: bool = True) -> File:
    """A picture as a verified file `stem` plus suffix: npy where it is float32 and that may be, else as `writer` says.

    Raises:
        Rejected: Under `encode`: it cannot be stored exactly.
    """
    if picture.pixels.dtype == np.uint8 or not holds_floats:
        return writer.picture(picture, stem)
    data = records.float_picture_to(picture)
    if not np.array_equal(npy.decode(data), picture.pixels):
        raise Rejected("encode", "float picture read back differs from the one written (NaN?)")
    return File(f"{stem}.npy", data)


def has_reference(sample: Sample) -> bool:
    """Whether the reference is another picture; `Rejected` under `encode` where one record cannot say both."""
    if np.array_equal(sample.reference.pixels, sample.image.pixels):
        return False
    if sample.reference.space != sample.image.space:
        raise Rejected("encode", "picture and reference differ in colour space; write with reference=false")
    return True


def _bbox(box: tuple[float, float, float, float]) -> list[float]:
    x0, y0, x1, y1 = (float(v) for v in box)
    return [x0, y0, x1 - x0, y1 - y0]


def _area(instance: Instance) -> float:
    x0, y0, x1, y1 = instance.box
    return float((x1 - x0) * (y1 - y0))
