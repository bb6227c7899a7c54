"""What is true of a picture: instances, label passes, camera. Immutable, checked, in one convention.

Boxes are x0, y0, x1, y1 in continuous pixels; instance and class ids start at 1, 0 is background;
depth is planar z in metres with NaN for invalid; normals are unit vectors in camera axes.
Nothing here moves a label: that is `synthaug.warp` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from synthaug import rle
from synthaug.camera import Camera, Matrix
from synthaug.errors import Rejected

Box = tuple[float, float, float, float]
Keypoint = tuple[float, float, int]
Size = tuple[int, int]
"""(height, width) in pixels."""
Kind = Literal["ids", "map", "vectors", "appearance"]


@dataclass(frozen=True, slots=True)
class PassSpec:
    """How one label pass is stored: dtype, channels (0: a plain [H, W] map), and what warping may do."""

    dtype: type[np.generic]
    channels: int
    kind: Kind
    unit: str


PASSES: Mapping[str, PassSpec] = MappingProxyType(
    {
        "instance": PassSpec(np.int32, 0, "ids", "instance id, 0 background"),
        "semantic": PassSpec(np.int32, 0, "ids", "class id, 0 background"),
        "ignore": PassSpec(np.bool_, 0, "ids", "true where labels say nothing"),
        "depth": PassSpec(np.float32, 0, "map", "planar z in metres, NaN invalid"),
        "normals": PassSpec(np.float32, 3, "vectors", "unit vectors in camera axes, NaN invalid"),
        "position": PassSpec(np.float32, 3, "vectors", "metres in camera axes, NaN invalid"),
        "uv": PassSpec(np.float32, 2, "map", "texture coordinates, NaN invalid"),
        "flow": PassSpec(np.float32, 2, "vectors", "pixels (x, y) to the next frame, NaN invalid"),
        "albedo": PassSpec(np.float32, 3, "appearance", "linear reflectance in [0, 1] of the source picture"),
        "alpha": PassSpec(np.float32, 0, "map", "coverage in [0, 1]"),
    }
)
"""Every label pass there is. All but `albedo` are geometry: true whatever the surface looks like."""


@dataclass(frozen=True, slots=True)
class Category:
    """One class. Its id is its place in the dataset's tuple of categories, counted from 1.

    Attributes:
        name: As the source spells it.
        keypoints: Names of the keypoints of an instance, in order.
        skeleton: Pairs of keypoint indices (from 0) that a drawing joins.
        mirror: For each keypoint the index of its partner under a mirror (left eye -> right eye);
            empty means that every keypoint is its own partner.
    """

    name: str
    keypoints: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()
    mirror: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Instance:
    """One object in one picture.

    Attributes:
        id: Its value in the `instance` pass, from 1; unique in the picture.
        class_id: Index into the categories, from 1.
        box: Visible extent. Equals the tight box of the mask wherever there is a mask.
        mask: Its own mask where the `instance` pass cannot say it (overlapping masks, no pass).
        keypoints: (x, y, state) with state 0 absent, 1 occluded, 2 visible; (0, 0, 0) where absent.
        pose: 4x4, object to camera axes, metres; improper (det -1) after a mirror.
        extent: Width, height, depth of the object's own box in metres, centred on the pose.
        attributes: JSON facts of the source, carried along unchanged.
        ignore: Evaluation and training should neither reward nor punish it.
        object_id: Stable across frames and views; the key of object-scoped randomness.
        visibility: Share of its area as read that is still on the canvas, 1.0 as read.
    """

    id: int
    class_id: int
    box: Box
    mask: rle.RLE | None = None
    keypoints: tuple[Keypoint, ...] = ()
    pose: Matrix | None = None
    extent: tuple[float, float, float] | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    ignore: bool = False
    object_id: str = ""
    visibility: float = 1.0


@dataclass(frozen=True, slots=True)
class Labels:
    """Everything that is true of one picture, in the picture's own frame.

    Attributes:
        size: (height, width) of the canvas; every pass has it.
        categories: The dataset's classes, shared by all of its samples.
        instances: In ascending order of id.
        passes: Arrays by pass name, dtype and channels as `PASSES` says, read-only.
        camera: None where the source does not say.
    """

    size: Size
    categories: tuple[Category, ...] = ()
    instances: tuple[Instance, ...] = ()
    passes: Mapping[str, NDArray[Any]] = field(default_factory=dict[str, NDArray[Any]])
    camera: Camera | None = None

    def __post_init__(self) -> None:
        for array in self.passes.values():
            array.setflags(write=False)

    def category(self, instance: Instance) -> Category:
        """The class of an instance."""
        return self.categories[instance.class_id - 1]

    def mask(self, instance: Instance) -> NDArray[np.bool_] | None:
        """[H, W] mask of an instance, from its own mask or the `instance` pass; None where neither."""
        if instance.mask is not None:
            return rle.decode(instance.mask)
        if "instance" in self.passes:
            return self.passes["instance"] == instance.id
        return None

    def copy(self, passes: Iterable[str]) -> Labels:
        """The same facts with fresh, writable copies of `passes` and no other pass.

        This is what a stage sees: writing into it changes nothing that is emitted.
        """
        own = tuple(replace(i, attributes=deepcopy(dict(i.attributes))) if i.attributes else i for i in self.instances)
        view = Labels(self.size, self.categories, own, {}, self.camera)
        kept = {name: self.passes[name].copy() for name in passes if name in self.passes}
        object.__setattr__(view, "passes", kept)
        return view

    def of(self, instances: Iterable[Instance]) -> Labels:
        """The same picture with only these instances listed (the passes stay whole)."""
        return replace(self, instances=tuple(instances))

    def check(self) -> None:
        """Verifies every promise of this module. Costs one pass over the id map.

        Raises:
            Rejected: Under reason `label`, naming the instance and the rule.
        """
        for name, array in self.passes.items():
            _check_pass(name, array, self.size)
        seen: set[int] = set()
        for instance in self.instances:
            _check_instance(instance, self)
            if instance.id in seen:
                raise Rejected("label", f"instance id {instance.id} occurs twice in one picture")
            seen.add(instance.id)
        if "instance" in self.passes:
            _check_id_map(self, seen)


def _check_pass(name: str, array: NDArray[Any], size: Size) -> None:
    spec = PASSES.get(name)
    if spec is None:
        raise Rejected("label", f"unknown label pass '{name}'; known: {', '.join(PASSES)}")
    expected = (*size, spec.channels) if spec.channels else tuple(size)
    if array.shape != expected:
        raise Rejected("label", f"pass '{name}' is {array.shape}, the canvas needs {expected}; sizes are never adapted")
    if array.dtype != spec.dtype:
        raise Rejected("label", f"pass '{name}' is {array.dtype}, expected {np.dtype(spec.dtype)}")


def _check_instance(instance: Instance, labels: Labels) -> None:
    where = f"instance {instance.id}"
    height, width = labels.size
    x0, y0, x1, y1 = instance.box
    if not all(np.isfinite(instance.box)):
        raise Rejected("label", f"{where}: box {instance.box} is not finite")
    if not (x0 < x1 and y0 < y1):
        raise Rejected("label", f"{where}: box {instance.box} is empty or has swapped corners")
    if x0 < -1e-6 or y0 < -1e-6 or x1 > width + 1e-6 or y1 > height + 1e-6:
        raise Rejected("label", f"{where}: box {instance.box} leaves the {width}x{height} canvas")
    if instance.id < 1 or not 1 <= instance.class_id <= len(labels.categories):
        raise Rejected("label", f"{where}: class id {instance.class_id} of {len(labels.categories)}; ids start at 1")
    if instance.mask is not None and instance.mask.size != tuple(labels.size):
        raise Rejected("label", f"{where}: mask of {instance.mask.size} on a canvas of {labels.size}")
    names = labels.category(instance).keypoints
    if instance.keypoints and len(instance.keypoints) != len(names):
        raise Rejected("label", f"{where}: {len(instance.keypoints)} keypoints, its class names {len(names)}")
    for x, y, state in instance.keypoints:
        if state not in (0, 1, 2) or not (np.isfinite(x) and np.isfinite(y)):
            raise Rejected("label", f"{where}: keypoint {(x, y, state)}; expected finite x, y and state 0, 1 or 2")


def _check_id_map(labels: Labels, listed: set[int]) -> None:
    ids = labels.passes["instance"]
    if ids.size and int(ids.min()) < 0:
        raise Rejected("label", f"instance pass holds the negative id {int(ids.min())}")
    present = set(rle.ids_in(ids))
    missing = sorted(i.id for i in labels.instances if i.mask is None and i.id not in present)
    if missing:
        raise Rejected("label", f"instances {missing[:5]} have no pixel in the instance pass")
    orphans = sorted(present - listed)
    if orphans:
        raise Rejected("label", f"ids {orphans[:5]} of the instance pass belong to no listed instance")
