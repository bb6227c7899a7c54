"""How a user says what the files of a label pass mean, and the arrays that follow from it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from synthaug.camera import Camera
from synthaug.errors import ConfigError, Rejected, nearest
from synthaug.formats import maps, naming, passes
from synthaug.formats.strays import Strays
from synthaug.labels import PASSES

Encoding = Literal["ids", "colours", "unit", "signed", "exact"]
Unknown = Literal["reject", "background", "ignore"]

BACKGROUND = "background"
IGNORE = "ignore"
"""Names in a table of colours or ids that are no classes."""
_NOTHING = (("0", "0: background"), ("#000000", "background: [0, 0, 0]"))

_OPENGL = np.array([1.0, -1.0, -1.0])


@dataclass(frozen=True, slots=True)
class Rule:
    """One label pass of a folder dataset.

    Attributes:
        path: Of its file below the root, with `{stem}` (the image's path inside its folder without
            suffix) and `{split}` (the split's folder).
        stem: A regular expression and its replacement, applied to the stem first: where the mask of
            `x_cam1_7.jpeg` is `x_mask_7.png`, `["cam1", "mask"]`.
        encoding: `ids` (grey or palette numbers) or `colours` for instance, semantic and ignore; `unit`
            (0.5 n + 0.5) or `signed` for normals; `exact` (npy as `write=folder` makes it) for the rest.
        classes: For semantic ids: class name by number; `background` and `ignore` are no classes. None
            takes the number as the place in the names, 0 background.
        colours: For colour codes: RGB by class name, likewise. None, for instances: every colour but
            black is one instance.
        tolerance: Largest difference per channel, 0..255, at which a colour counts as the table's.
        unknown: `reject` a sample with numbers or colours off the table; or take such pixels as
            `background`; or as `ignore`. Taken pixels are counted in the sample's trail: see `formats.strays`.
        max_unknown: Share of a picture, 0..1, that may be off the table under `background` and `ignore`; a
            sample with more is rejected as `unknown_classes`, for such a table is not the mask's.
        unit: Metres per stored unit (depth, position).
        measure: `planar` (z) or `ray` (distance to the camera centre; needs a camera).
        invalid: Stored depths that mean none; 0, negative and non-finite ones always do.
        ignore: Stored ids that mean "labels say nothing here" (255).
        axes: Of stored vectors: `opencv` (x right, y down, z forward) or `opengl` (x right, y up, z back).
        frame: `camera`, or `world` (opencv or opengl axes do not apply; needs a camera with extrinsics).
    """

    path: str
    stem: tuple[str, str] | None = None
    encoding: Encoding | None = None
    classes: Mapping[int, str] | None = None
    colours: Mapping[str, maps.Colour] | None = None
    tolerance: int = 0
    unknown: Unknown = "reject"
    max_unknown: float = 0.5
    unit: float = 1.0
    measure: Literal["planar", "ray"] = "planar"
    invalid: tuple[float, ...] = ()
    ignore: tuple[int, ...] = ()
    axes: Literal["opencv", "opengl"] = "opencv"
    frame: Literal["camera", "world"] = "camera"

    @property
    def ignores(self) -> bool:
        """Whether its files can say that nothing is said."""
        named = {*(self.classes or {}).values(), *(self.colours or {})}
        return bool(self.ignore) or self.unknown == "ignore" or IGNORE in named

    def file(self, stem: str, split: str) -> str:
        """The path of the pass for an image."""
        if self.stem is not None:
            stem = re.sub(self.stem[0], self.stem[1], stem)
        return self.path.replace("{split}", split).replace("{stem}", stem)


@dataclass(slots=True)
class Decoded:
    """Arrays of one pass file, and what stood off its table; None where nobody has to be told."""

    array: NDArray[Any]
    ignored: NDArray[np.bool_] | None = None
    strays: Strays | None = None


def rules(declared: Mapping[str, Mapping[str, Any]]) -> dict[str, Rule]:
    """Checked rules by pass name.

    Raises:
        ConfigError: An unknown pass or field, or a value out of range.
    """
    found: dict[str, Rule] = {}
    for name, told in declared.items():
        if name not in PASSES:
            raise ConfigError(f"passes.{name}: no such label pass.{nearest(name, PASSES)}")
        known = {entry.name for entry in fields(Rule)}
        for key in told:
            if key not in known:
                raise ConfigError(f"passes.{name}.{key}: no such field.{nearest(key, known)}")
        found[name] = _checked(name, dict(told))
    return found


def class_table(rule: Rule, names: Sequence[str]) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Class names of a semantic pass, and class id by stored colour or number (-1: ignored).

    Args:
        rule: Of the semantic pass.
        names: From a names file; fixes the order where the rule has a table of its own.
    """
    table: dict[Any, str] = {}
    if rule.encoding == "colours":
        table = {colour: name for name, colour in (rule.colours or {}).items()}
    elif rule.classes is not None:
        table = dict(rule.classes)
    else:
        table = dict(enumerate([BACKGROUND, *names]))
    told = dict.fromkeys(name for name in table.values() if name not in (BACKGROUND, IGNORE))
    order = tuple(names) or tuple(told)
    lost = [name for name in told if name not in order]
    if lost:
        raise ConfigError(f"passes.semantic names {', '.join(lost)}, which the names file does not: {', '.join(order)}")
    ids = {name: place for place, name in enumerate(order, start=1)} | {BACKGROUND: 0, IGNORE: -1}
    return order, {stored: ids[name] for stored, name in table.items()}


def decode(name: str, rule: Rule, data: bytes, camera: Camera | None, table: Mapping[Any, int]) -> Decoded:
    """The arrays of one pass in the house's convention.

    Args:
        name: Of the pass.
        rule: What its file means.
        data: The file.
        camera: Of the sample; needed for rays and world vectors.
        table: Of a semantic pass, from `class_table`.

    Raises:
        Rejected: The file does not mean what was declared.
    """
    if name == "depth" and rule.encoding is None:
        depth = maps.decode_depth(data, unit=rule.unit, invalid=rule.invalid)
        return Decoded(maps.planar(depth, _known(camera, name).K) if rule.measure == "ray" else depth)
    if name == "normals" and rule.encoding in ("unit", "signed"):
        encoding: maps.Encoding = "unit" if rule.encoding == "unit" else "signed"
        return Decoded(_to_camera(maps.decode_vectors(data, encoding), rule, camera, 1.0, name))
    if PASSES[name].kind != "ids" or rule.encoding == "exact":
        array = passes.decode_pass(name, data)
        turned = name in ("normals", "position")
        scale = rule.unit if name == "position" else 1.0
        return Decoded(_to_camera(array, rule, camera, scale, name) if turned else array)
    if name == "semantic":
        return _semantic(rule, data, table)
    return _plain_ids(name, rule, data)


def _semantic(rule: Rule, data: bytes, table: Mapping[Any, int]) -> Decoded:
    # Places in the table keep "ignored" (-1) apart from "no entry is near" (UNKNOWN, answered by the last place).
    lookup = np.array([*table.values(), 0], dtype=np.int32)
    if rule.encoding == "colours":
        colours = maps.decode_colours(data)
        places, found = maps.colours_to_ids(
            colours, {colour: place for place, colour in enumerate(table)}, rule.tolerance
        )
        lost = maps.colour_counts(colours[places == maps.UNKNOWN])
        strays = Strays(lost, sum(found.values()) - sum(lost.values()))
        skipped = np.zeros(places.shape, bool)
    else:
        raw = maps.decode_ids(data)
        skipped = np.isin(raw, rule.ignore)
        places = np.full(raw.shape, maps.UNKNOWN, np.int32)
        for place, number in enumerate(table):
            places[raw == number] = place
        values, counts = np.unique(raw[(places == maps.UNKNOWN) & ~skipped], return_counts=True)
        strays = Strays(dict(zip(map(str, values.tolist()), counts.tolist(), strict=True)))
    return _resolve(rule, lookup[places], (places == maps.UNKNOWN) & ~skipped, skipped, strays)


def _resolve(
    rule: Rule,
    ids: NDArray[np.int32],
    unknown: NDArray[np.bool_],
    skipped: NDArray[np.bool_],
    strays: Strays,
) -> Decoded:
    """Applies the rule for pixels off the table; -1 in `ids` is ignored."""
    frequent = sorted(strays.values.items(), key=lambda item: -item[1])
    first = f"{strays.count} pixels are off the table of passes.semantic: " + ", ".join(
        f"{word} ({count} px)" for word, count in frequent[:5]
    )
    if rule.unknown == "reject" and strays.count:
        way = next((f"add '{entry}' if that is what it means, " for key, entry in _NOTHING if key in strays.values), "")
        raise Rejected("label", f"{first}; {way}name them, raise tolerance, or choose unknown=ignore or background")
    if strays.count > rule.max_unknown * unknown.size:
        raise Rejected(
            "unknown_classes",
            f"{first}; that is {strays.count / unknown.size:.0%} of the picture, passes.semantic.max_unknown="
            f"{rule.max_unknown:g}. Name them, or raise it",
        )
    ignored = skipped | (ids == -1) | (unknown & (rule.unknown == "ignore"))
    told = None if rule.unknown == "reject" else strays
    return Decoded(np.maximum(ids, 0).astype(np.int32), ignored if rule.ignores else None, told)


def _plain_ids(name: str, rule: Rule, data: bytes) -> Decoded:
    """Instance ids or the ignore mask."""
    if rule.encoding == "colours":
        rgb = maps.decode_colours(data)[:, :, :3].astype(np.int32)
        packed = rgb[:, :, 0] << 16 | rgb[:, :, 1] << 8 | rgb[:, :, 2]
        distinct, index = np.unique(packed, return_inverse=True)
        first = 0 if distinct[0] == 0 else 1
        raw = (index.reshape(packed.shape) + first).astype(np.int32)
    else:
        raw = maps.decode_ids(data)
    if name == "ignore":
        return Decoded(raw != 0)
    skipped = np.isin(raw, rule.ignore)
    return Decoded(np.where(skipped, 0, raw).astype(np.int32), skipped if rule.ignores else None)


def _to_camera(
    vectors: NDArray[np.float32], rule: Rule, camera: Camera | None, scale: float, name: str
) -> NDArray[np.float32]:
    """Vectors or points in OpenCV camera axes, metres."""
    if rule.frame == "camera":
        return vectors * (_OPENGL * scale).astype(np.float32) if rule.axes == "opengl" else vectors * np.float32(scale)
    pose = _known(camera, name).world_to_camera
    if pose is None:
        raise Rejected("label", f"pass '{name}' is in world axes, and the camera has no extrinsics")
    moved = vectors.astype(np.float64) * scale @ pose[:3, :3].T
    return (moved + pose[:3, 3] if name == "position" else moved).astype(np.float32)


def _known(camera: Camera | None, name: str) -> Camera:
    if camera is None:
        raise Rejected("label", f"pass '{name}' needs a camera to be converted; give read.camera")
    return camera


def _checked(name: str, told: dict[str, Any]) -> Rule:
    where = f"passes.{name}"
    path = told.get("path")
    if not isinstance(path, str) or "{stem}" not in path:
        raise ConfigError(f"{where}.path={path!r}: expected a path with {{stem}} in it")
    spec = PASSES[name]
    usual: dict[str, Any] = {"ids": "ids", "vectors": "unit" if name == "normals" else "exact"}
    told.setdefault("encoding", None if name == "depth" else usual.get(spec.kind, "exact"))
    allowed = ("ids", "colours", "exact") if spec.kind == "ids" else ("unit", "signed", "exact")
    if told["encoding"] is not None:
        naming.one_of(f"{where}.encoding", told["encoding"], allowed if name != "depth" else ("exact",))
    for field, choices in _CHOICES.items():
        if field in told:
            naming.one_of(f"{where}.{field}", told[field], choices)
    try:
        if told.get("stem") is not None:
            pattern, replacement = told["stem"]
            re.compile(pattern)
            told["stem"] = (str(pattern), str(replacement))
        if told.get("classes") is not None:
            told["classes"] = {int(k): str(v) for k, v in dict(told["classes"]).items()}
        if told.get("colours") is not None:
            told["colours"] = {str(k): _colour(v) for k, v in dict(told["colours"]).items()}
            if len(set(told["colours"].values())) < len(told["colours"]):
                raise ValueError("two names share one colour")
        sequences: dict[str, Any] = {key: tuple(told.get(key) or ()) for key in ("invalid", "ignore")}
        rule = Rule(**(told | sequences))
        good = 0 <= rule.tolerance <= 255 and 0 < float(rule.unit) < float("inf") and 0 <= rule.max_unknown <= 1
    except (TypeError, ValueError, re.error) as error:
        raise ConfigError(f"{where}: {error}") from error
    if not good:
        raise ConfigError(
            f"{where}: tolerance={rule.tolerance} must be 0..255, unit={rule.unit} above 0, "
            f"max_unknown={rule.max_unknown} 0..1"
        )
    if name == "semantic" and rule.encoding == "colours" and not rule.colours:
        raise ConfigError(f"{where}.colours: a table of colours by class name is needed")
    return rule


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "unknown": ("reject", "background", "ignore"),
    "measure": ("planar", "ray"),
    "axes": ("opencv", "opengl"),
    "frame": ("camera", "world"),
}


def _colour(value: Any) -> maps.Colour:
    r, g, b = (int(v) for v in cast("Sequence[Any]", value))
    if not all(0 <= v <= 255 for v in (r, g, b)):
        raise ValueError(f"colour {list(cast('Sequence[Any]', value))}: expected three numbers from 0 to 255")
    return r, g, b
