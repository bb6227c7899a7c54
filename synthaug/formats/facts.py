"""Labels as JSON, exactly: what formats keep of a sample beside its arrays, and read back unchanged.

Only what differs from the default is stored. Reading trusts nothing: a wrong type is a rejection.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from synthaug import camera as cameras
from synthaug import rle
from synthaug.camera import Camera
from synthaug.errors import Rejected
from synthaug.labels import Category, Instance
from synthaug.sample import Sample, Step

Json = dict[str, Any]

_SINGULAR = 1e-12
_LENS = 8
"""Coefficients of the lens model."""
_ID = re.compile(r"[A-Za-z0-9_~-]+(/[A-Za-z0-9_~-]+)*")


def camera_to(camera: Camera) -> Json:
    """A camera in the house's convention: OpenCV axes, metres, first pixel centre at (0.5, 0.5)."""
    facts: Json = {"intrinsics": [list(row) for row in camera.intrinsics]}
    if camera.extrinsics is not None:
        facts["extrinsics"] = [list(row) for row in camera.extrinsics]
    if camera.distortion:
        facts["distortion"] = list(camera.distortion)
    if camera.mirrored:
        facts["mirrored"] = True
    return facts


def camera_from(facts: Any) -> Camera:
    """The camera behind `camera_to`. Raises `Rejected` under `label` when the facts are no camera."""
    try:
        extrinsics = facts.get("extrinsics")
        camera = Camera(
            cameras.matrix(facts["intrinsics"], 3, 3),
            None if extrinsics is None else checked_pose(extrinsics, "extrinsics"),
            tuple(float(v) for v in facts.get("distortion", ())),
            bool(facts.get("mirrored", False)),
        )
        return checked_camera(camera)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Rejected("label", f"camera facts are malformed: {error!r}") from error


def checked_camera(camera: Camera) -> Camera:
    """The camera, after the check that pixels and points can be taken through it both ways.

    Raises:
        ValueError: In words that name the field.
    """
    k = camera.K
    if not np.allclose(k[2], (0.0, 0.0, 1.0), atol=1e-6) or abs(np.linalg.det(k[:2, :2])) < _SINGULAR:
        raise ValueError(
            f"intrinsics {k.tolist()}: expected [[fx, s, cx], [0, fy, cy], [0, 0, 1]] in pixels, fx and fy not 0"
        )
    if len(camera.distortion) > _LENS or not np.isfinite(camera.distortion).all():
        raise ValueError(f"distortion {list(camera.distortion)}: expected at most {_LENS} finite numbers")
    return camera


def checked_pose(values: Any, what: str) -> cameras.Matrix:
    """A 4x4 motion, after the check that it can be undone; raises `ValueError` naming `what`."""
    try:
        pose = cameras.matrix(values, 4, 4)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}: {error}") from error
    array = np.array(pose)
    if not np.allclose(array[3], (0.0, 0.0, 0.0, 1.0), atol=1e-6) or abs(np.linalg.det(array[:3, :3])) < _SINGULAR:
        raise ValueError(f"{what} {array.tolist()}: expected an invertible motion, its last row 0, 0, 0, 1")
    return pose


def category_to(category: Category) -> Json:
    """A class."""
    return {
        "name": category.name,
        "keypoints": list(category.keypoints),
        "skeleton": [list(pair) for pair in category.skeleton],
        "mirror": list(category.mirror),
    }


def category_from(facts: Any) -> Category:
    """The class behind `category_to`. Raises `Rejected` under `label`."""
    try:
        pairs = tuple((a, b) for a, b in facts.get("skeleton", ()))
        keypoints, mirror = tuple(facts.get("keypoints", ())), tuple(facts.get("mirror", ()))
        return checked_category(Category(facts["name"], keypoints, pairs, mirror))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Rejected("label", f"category facts are malformed: {error!r}") from error


def checked_category(category: Category) -> Category:
    """A class whose fields came from outside, after the check of each; indices count from 0.

    Raises:
        ValueError: In words that name the class, the field, what arrived and what was expected.
    """
    names, count = category.keypoints, len(category.keypoints)
    if not isinstance(category.name, str) or not category.name:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"class name {category.name!r}: expected text")
    where = f"class '{category.name}'"
    if not all(isinstance(name, str) and name for name in names):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"{where}: keypoints {list(names)}: expected names; a name is text")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{where}: keypoints {', '.join(twice)} occur more than once; expected a name for each")
    wrong = [list(pair) for pair in category.skeleton if not all(_is_place(place, count) for place in pair)]
    if wrong:
        raise ValueError(f"{where}: skeleton joins {wrong[:3]}; expected pairs of places 0..{count - 1}")
    mirror = category.mirror
    good = len(mirror) == count and all(_is_place(place, count) for place in mirror)
    if mirror and not (good and all(mirror[partner] == place for place, partner in enumerate(mirror))):
        raise ValueError(
            f"{where}: mirror {list(mirror)}; expected the partner of each of {count} keypoints, and the partner of "
            "the partner is the keypoint itself"
        )
    return category


def instance_to(instance: Instance) -> Json:
    """What other formats have no field for: everything but class, box, mask and keypoints."""
    facts: Json = {"id": instance.id}
    if instance.pose is not None:
        facts["pose"] = [list(row) for row in instance.pose]
    if instance.extent is not None:
        facts["extent"] = list(instance.extent)
    if instance.attributes:
        facts["attributes"] = dict(instance.attributes)
    if instance.ignore:
        facts["ignore"] = True
    if instance.object_id:
        facts["object_id"] = instance.object_id
    if instance.visibility != 1.0:
        facts["visibility"] = instance.visibility
    return facts


def full_instance_to(instance: Instance) -> Json:
    """An instance with nothing left out."""
    facts = instance_to(instance) | {"class_id": instance.class_id, "box": list(instance.box)}
    if instance.mask is not None:
        facts["mask"] = {"size": list(instance.mask.size), "counts": instance.mask.counts.decode("ascii")}
    if instance.keypoints:
        facts["keypoints"] = [list(point) for point in instance.keypoints]
    return facts


def instance_from(facts: Any, **known: Any) -> Instance:
    """The instance behind `instance_to` or `full_instance_to`.

    Args:
        facts: As parsed from JSON.
        known: Fields of `Instance` that the format says itself; they take precedence.

    Raises:
        Rejected: Under `label` when a field is missing or has the wrong type.
    """
    try:
        fields = _instance_fields(facts) | known
        fields.setdefault("box", facts.get("box"))
        if "keypoints" not in known:
            fields["keypoints"] = tuple((float(x), float(y), _state(v)) for x, y, v in facts.get("keypoints", ()))
        if "mask" not in known:
            fields["mask"] = rle.from_coco(facts["mask"]) if "mask" in facts else None
        if "class_id" not in known:
            fields["class_id"] = int(facts["class_id"])
        x0, y0, x1, y1 = fields["box"]
        fields["box"] = (float(x0), float(y0), float(x1), float(y1))
        return Instance(**fields)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Rejected("label", f"instance facts are malformed: {error!r}") from error


def sample_to(sample: Sample) -> Json:
    """What is said of the whole picture, without its split and its trail."""
    facts: Json = {"id": sample.id}
    for name in ("group", "view", "frame"):
        if getattr(sample, name):
            facts[name] = getattr(sample, name)
    if sample.labels.attributes:
        facts["attributes"] = dict(sample.labels.attributes)
    if sample.labels.camera is not None:
        facts["camera"] = camera_to(sample.labels.camera)
    return facts


def sample_fields(facts: Any) -> tuple[Json, Json]:
    """`group`, `view` and `frame` of `sample_to` as fields of a `Sample`; and attributes of the whole picture."""
    if not isinstance(facts, Mapping):
        raise Rejected("label", f"facts of the picture are a {type(facts).__name__}, expected an object")
    known = cast(Mapping[str, Any], facts)
    group, view, frame = known.get("group", ""), known.get("view", ""), known.get("frame", 0)
    attributes = known.get("attributes", {})
    if not (isinstance(group, str) and isinstance(view, str) and type(frame) is int and isinstance(attributes, dict)):
        raise Rejected("label", "facts of the picture: group and view are text, frame a number, attributes an object")
    return {"group": group, "view": view, "frame": frame}, cast(Json, attributes)


def stored_id(facts: Any) -> str | None:
    """The id of `sample_to` where it is one that `escape_id` could have made, else None."""
    wanted: Any = cast(Json, facts).get("id") if isinstance(facts, dict) else None
    return wanted if isinstance(wanted, str) and _ID.fullmatch(wanted) and len(wanted) < 4096 else None


def trail_to(trail: tuple[Step, ...]) -> list[Json]:
    """The trail of a sample."""
    return [
        {"slot": s.slot, "stage": s.stage, "attempt": s.attempt, "draw": dict(s.draw), "facts": dict(s.facts)}
        for s in trail
    ]


def trail_from(rows: Any) -> tuple[Step, ...]:
    """The trail behind `trail_to`. Raises `Rejected` under `label`."""
    try:
        return tuple(
            Step(str(r["slot"]), str(r["stage"]), int(r["attempt"]), dict(r["draw"]), dict(r["facts"])) for r in rows
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Rejected("label", f"trail is malformed: {error!r}") from error


def _instance_fields(facts: Any) -> Json:
    pose, extent = facts.get("pose"), facts.get("extent")
    fields: Json = {
        "id": int(facts["id"]),
        "attributes": dict(facts.get("attributes", {})),
        "ignore": bool(facts.get("ignore", False)),
        "object_id": str(facts.get("object_id", "")),
        "visibility": float(facts.get("visibility", 1.0)),
        "pose": None if pose is None else checked_pose(pose, "pose"),
    }
    if extent is not None:
        width, height, depth = extent
        fields["extent"] = (float(width), float(height), float(depth))
    return fields


def _is_place(value: Any, count: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < count


def _state(value: Any) -> int:
    """The state of a keypoint."""
    if value not in (0, 1, 2):
        raise ValueError(f"keypoint state {value!r}, expected 0, 1 or 2")
    return int(value)
