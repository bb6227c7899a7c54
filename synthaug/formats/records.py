"""The exact record of a sample: everything that is no array as JSON, and the sample read back from it.

Where the arrays lie is up to the format: files beside the record, members of an archive, cells of a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from synthaug.contracts import Description
from synthaug.errors import InputError, Rejected
from synthaug.formats import facts, npy, passes, pictures, strays, strictjson
from synthaug.formats.facts import Json
from synthaug.labels import PASSES, Category, Labels, Size
from synthaug.sample import Picture, Sample


@dataclass(frozen=True, slots=True)
class Record:
    """A parsed record: what `record_to` stores, its arrays named by path, member or column."""

    size: Size
    split: str
    image: str
    space: str
    reference: str
    passes: Mapping[str, str]
    facts: Json


def record_to(sample: Sample, image: str, reference: str, files: Mapping[str, str]) -> bytes:
    """The bytes of a record.

    Args:
        sample: The sample.
        image: Name of its picture: a path below the output root, or a field.
        reference: Name of its reference, empty where none is stored.
        files: Names of its label passes' files, by pass.
    """
    return strictjson.dumps(
        facts.sample_to(sample)
        | {
            "size": list(sample.labels.size),
            "split": sample.split,
            "image": image,
            "space": sample.image.space,
            "reference": reference,
            "passes": dict(files),
            "instances": [facts.full_instance_to(instance) for instance in sample.labels.instances],
            "trail": facts.trail_to(sample.trail),
        }
    )


def record_from(data: bytes, name: str) -> Record:
    """Parses a record. Raises `Rejected` under `label` when it is malformed."""
    try:
        document = cast(Json, strictjson.loads(data, name))
        height, width = document["size"]
        files = {str(k): str(v) for k, v in dict(document["passes"]).items() if k in PASSES}
        return Record(
            (int(height), int(width)), str(document["split"]), str(document["image"]), str(document["space"]),
            str(document["reference"]), files, document,
        )  # fmt: skip
    except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Rejected("label", f"{name}: malformed record: {error!r}") from error


def float_picture_to(picture: Picture) -> bytes:
    """A float32 picture as npy bytes."""
    return npy.encode(picture.pixels)


def float_picture_from(data: bytes, space: str, size: Size) -> Picture:
    """A float32 picture from npy bytes. Raises `Rejected` under `decode` when it is none."""
    array = npy.decode(data)
    if array.dtype != np.float32 or array.shape != (*size, 3) or space not in ("srgb", "linear"):
        raise Rejected("decode", f"npy of {array.dtype} {array.shape}, expected a float32 picture of {(*size, 3)}")
    return Picture(array, "linear" if space == "linear" else "srgb")


def verify_record(data: bytes, sample: Sample) -> None:
    """Reads a record back and compares it. Raises `Rejected` under `encode`."""
    record = record_from(data, "written record")
    camera: Any = record.facts.get("camera")
    same = (
        tuple(facts.instance_from(row) for row in record.facts["instances"]) == sample.labels.instances
        and (None if camera is None else facts.camera_from(camera)) == sample.labels.camera
        and facts.sample_fields(record.facts)[1] == sample.labels.attributes
        and record.size == tuple(sample.labels.size)
    )
    if not same:
        raise Rejected("encode", "the record read back differs from the sample (a value that JSON cannot hold?)")


def describe(sample_id: str, record: Record, files: tuple[str, ...]) -> Description:
    """What a record says without a picture."""
    known, _ = facts.sample_fields(record.facts)
    return Description(
        sample_id, record.size, tuple(record.passes), files, known["group"], known["view"], known["frame"],
        record.split, "linear" if record.space == "linear" else "srgb",
        tuple(sorted({int(row["class_id"]) for row in record.facts["instances"]})),
    )  # fmt: skip


def unpack(sample_id: str, record: Record, categories: tuple[Category, ...], member: Callable[[str], bytes]) -> Sample:
    """The sample behind a record.

    Args:
        sample_id: Its id.
        record: Parsed.
        categories: Of the dataset.
        member: Bytes by the names in the record.

    Raises:
        Rejected: The parts do not make a sample.
    """
    image = _read_picture(record.image, record, member)
    reference = _read_picture(record.reference, record, member) if record.reference else image
    arrays = {name: passes.decode_pass(name, member(field)) for name, field in record.passes.items()}
    camera: Any = record.facts.get("camera")
    instances = tuple(facts.instance_from(row) for row in record.facts["instances"])
    known, attributes = facts.sample_fields(record.facts)
    known_camera = None if camera is None else facts.camera_from(camera)
    labels = Labels(record.size, categories, instances, arrays, known_camera, attributes)
    labels.check()
    return Sample(
        sample_id,
        image,
        labels,
        reference,
        split=record.split,
        trail=strays.settled(facts.trail_from(record.facts["trail"])),
        **known,
    )


def _read_picture(field: str, record: Record, member: Callable[[str], bytes]) -> Picture:
    data = member(field)
    if field.endswith("npy"):
        return float_picture_from(data, record.space, record.size)
    return pictures.decode(data, alpha="refuse", canvas=record.size).picture
