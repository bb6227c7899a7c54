"""A sample through a warp: pictures, passes, instances and camera together, or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from numpy.typing import NDArray

from synthaug.errors import Rejected
from synthaug.labels import Instance, Labels
from synthaug.sample import Picture, Sample
from synthaug.warp import instances as through
from synthaug.warp.motion import Warp
from synthaug.warp.passes import move_passes
from synthaug.warp.resample import Resampler
from synthaug.warp.steps import Border
from synthaug.warp.view import follow

Resample = Callable[[NDArray[Any], Warp, Border], NDArray[Any]]
"""[H, W, 3] pixels through a warp: the same dtype on the target canvas."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A sample after a warp, and what became of its annotations.

    Attributes:
        sample: On the target canvas; its labels pass `Labels.check`.
        tally: JSON counts that add up over samples: `annotations_in` = `kept` + `clipped` + the sum of
            `dropped` by reason; `keypoints_in` = `keypoints_kept` + the sum of `keypoints_dropped`; and, by
            name and reason, what could not follow: `passes_dropped`, `poses_dropped`, `camera_dropped`.
    """

    sample: Sample
    tally: dict[str, Any]


def apply(
    sample: Sample,
    warp: Warp,
    *,
    min_visible: float = 0.0,
    min_area: float = 1.0,
    same_for_group: bool = False,
    border: Border = "constant",
    resample: Resample | None = None,
) -> Moved:
    """Moves a sample. The only door through which labels move; the same bytes every time.

    Args:
        sample: On the warp's source canvas; its labels are as `Labels.check` wants them.
        warp: The motion. The identity leaves the picture itself, encoded bytes included, untouched.
        min_visible: Least share of an instance's area as read that must be left, in [0, 1].
        min_area: Least area left, in pixels of the target canvas.
        same_for_group: Whether the next frame goes through the same warp; otherwise `flow` is dropped.
        border: What pictures show outside the source: `constant` (black) or `reflect`. Labels know nothing
            of a reflection: there is nothing outside for them, and where there is a `semantic` or `ignore`
            pass, such pixels are marked in `ignore`.
        resample: Moves the pictures in place of `Resampler.picture` (a device); labels move here in any case.

    Raises:
        Rejected: Under `warp`, when the canvas is not the warp's source.
    """
    labels = sample.labels
    if tuple(labels.size) != warp.source or sample.image.size != warp.source:
        raise Rejected("warp", f"a warp of {warp.source} does not fit a picture of {labels.size}", sample_id=sample.id)
    resampler = Resampler(warp)
    moved, tally = _move_labels(labels, resampler, min_visible, min_area, same_for_group, border)
    if warp.is_identity:
        return Moved(replace(sample, labels=moved), tally)

    def picture(before: Picture) -> Picture:
        pixels = resampler.picture(before.pixels, border) if resample is None else resample(before.pixels, warp, border)
        return Picture(pixels, before.space)

    image = picture(sample.image)
    same = sample.reference is sample.image or sample.reference.pixels is sample.image.pixels
    reference = image if same else picture(sample.reference)
    return Moved(replace(sample, image=image, reference=reference, labels=moved), tally)


def preview(labels: Labels, warp: Warp, sees: Literal["size", "camera", "instances"] = "instances") -> Labels:
    """Size, camera, boxes and keypoints after a warp, without moving a pixel: what the next Geometry sees.

    Boxes are the images of boxes, also where a mask would give a tighter one; there are no passes and no
    masks; instances that leave the canvas are gone.

    Args:
        sees: `camera` leaves instances out, `size` the camera as well.
    """
    if sees == "size":
        return Labels(warp.target, labels.categories, attributes=labels.attributes)
    if sees == "camera":
        return Labels(warp.target, labels.categories, (), {}, follow(warp, labels.camera).camera, labels.attributes)
    bare = replace(labels, passes={}, instances=tuple(replace(i, mask=None) for i in labels.instances))
    resampler = Resampler(warp)
    view = follow(warp, labels.camera)
    kept, _ = through.move_instances(bare, resampler, view, None, 0.0, 0.0)
    return Labels(warp.target, labels.categories, kept, {}, view.camera, labels.attributes)


def _move_labels(
    labels: Labels, resampler: Resampler, min_visible: float, min_area: float, same_for_group: bool, border: Border
) -> tuple[Labels, dict[str, Any]]:
    view = follow(resampler.warp, labels.camera)
    passes, lost = move_passes(labels, resampler, view, same_for_group, border)
    kept, ledger = through.move_instances(labels, resampler, view, passes.get("instance"), min_visible, min_area)
    tally = _tally(labels.instances, ledger, lost)
    tally["camera_dropped"] = {view.reason: 1} if labels.camera is not None and view.camera is None else {}
    return replace(labels, size=resampler.warp.target, instances=kept, passes=passes, camera=view.camera), tally


def _tally(before: tuple[Instance, ...], ledger: through.Ledger, lost: dict[str, str]) -> dict[str, Any]:
    return {
        "annotations_in": len(before),
        "kept": ledger.kept,
        "clipped": ledger.clipped,
        "dropped": _counts(ledger.dropped),
        "keypoints_in": sum(state > 0 for i in before for _, _, state in i.keypoints),
        "keypoints_kept": ledger.keypoints_kept,
        "keypoints_dropped": _counts(ledger.keypoints_dropped),
        "passes_dropped": {name: {reason: 1} for name, reason in sorted(lost.items())},
        "poses_dropped": _counts(ledger.poses_dropped),
    }


def _counts(counter: Counter[str]) -> dict[str, int]:
    return {reason: count for reason, count in sorted(counter.items()) if count}
