"""A finished sample as tensors, and items as batches: what a training loop sees.

`tv_tensors` of torchvision where it imports, so that its v2 transforms know what they hold; plain tensors
where it does not (a torchvision that does not fit the installed torch fails with any exception).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch

from synthaug.engine.live import Result
from synthaug.labels import Labels

Item = dict[str, Any]
_STACKED = (
    "image",
    "semantic",
    "instance",
    "ignore_map",
    "depth",
    "normals",
    "position",
    "uv",
    "flow",
    "albedo",
    "alpha",
)


def to_item(result: Result, index: int) -> Item:
    """A sample as a dict of tensors; fields as `loader.SampleDataset` lists them."""
    sample = result.sample
    labels = sample.labels
    height, width = labels.size
    pixels = np.ascontiguousarray(sample.image.pixels.transpose(2, 0, 1))
    item: Item = {
        "image": _image(torch.from_numpy(pixels.copy())),
        "boxes": _boxes(_boxes_of(labels), (height, width)),
        "labels": torch.tensor([i.class_id for i in labels.instances], dtype=torch.int64),
        "ignore": torch.tensor([i.ignore for i in labels.instances], dtype=torch.bool),
        "sample_id": sample.id,
        "index": index,
        "rejected": result.problem.reason if result.problem else "",
    }
    masks = [labels.mask(i) for i in labels.instances]
    if masks and all(m is not None for m in masks):
        item["masks"] = _mask(torch.from_numpy(np.stack([m for m in masks if m is not None])))
    elif not masks and "instance" in labels.passes:
        item["masks"] = _mask(torch.zeros((0, height, width), dtype=torch.bool))
    if any(i.keypoints for i in labels.instances):
        item["keypoints"] = _keypoints_of(labels)
    for name, array in labels.passes.items():
        if name not in sample.stale:
            item["ignore_map" if name == "ignore" else name] = _pass(array)
    if "semantic" in item and "ignore_map" not in item:
        # A motion that leaves pixels uncovered makes one; a key that comes and goes would not make batches.
        item["ignore_map"] = torch.zeros((height, width), dtype=torch.bool)
    return item


def _boxes_of(labels: Labels) -> torch.Tensor:
    return torch.tensor([i.box for i in labels.instances], dtype=torch.float32).reshape(-1, 4)


def _keypoints_of(labels: Labels) -> torch.Tensor:
    """[N, K, 3] with K the most that any class has; absent ones are (0, 0, 0)."""
    most = max(len(i.keypoints) for i in labels.instances)
    points = torch.zeros((len(labels.instances), most, 3))
    for row, instance in enumerate(labels.instances):
        if instance.keypoints:
            points[row, : len(instance.keypoints)] = torch.tensor(instance.keypoints, dtype=torch.float32)
    return points


def _pass(array: Any) -> torch.Tensor:
    values = np.moveaxis(array, -1, 0) if array.ndim == 3 else array
    wide = values.astype(np.int64) if values.dtype == np.int32 else values
    return torch.from_numpy(np.ascontiguousarray(wide).copy())


def collate_detection(items: Sequence[Item]) -> Item:
    """A batch for detectors: `image` stacked where sizes agree, everything else a list per sample."""
    return _collate(items, ("image",))


def collate_segmentation(items: Sequence[Item]) -> Item:
    """A batch for dense tasks: `image` and every label pass stacked; instances stay lists.

    Raises:
        ValueError: Sizes differ; put a resize or crop slot at the end of the recipe.
    """
    sizes = {tuple(item["image"].shape[-2:]) for item in items}
    if len(sizes) > 1:
        raise ValueError(f"a segmentation batch holds sizes {sorted(sizes)}; end the recipe with a resize or crop slot")
    return _collate(items, _STACKED)


def _collate(items: Sequence[Item], stacked: Sequence[str]) -> Item:
    keys = list(dict.fromkeys(key for item in items for key in item))
    batch: Item = {}
    for key in keys:
        values = [item.get(key, _nothing(key, item, items)) for item in items]
        same = (
            all(isinstance(v, torch.Tensor) for v in values)
            and len({tuple(v.shape) for v in values if v is not None}) == 1
        )
        batch[key] = torch.stack([v for v in values if v is not None]) if key in stacked and same else values
    return batch


def _nothing(key: str, item: Item, items: Sequence[Item]) -> torch.Tensor | None:
    """What an item without instances has for each of its instances, as far as its neighbours say what that is."""
    if key not in ("masks", "keypoints") or len(item["labels"]):
        return None
    if key == "masks":
        return _mask(torch.zeros((0, *item["image"].shape[-2:]), dtype=torch.bool))
    return torch.zeros((0, *next(other[key].shape[1:] for other in items if key in other)))


@cache
def tv_tensors() -> Any:
    """The module `torchvision.tv_tensors`, None where torchvision does not import."""
    try:
        from torchvision import tv_tensors as module  # pyright: ignore[reportMissingImports]
    except Exception:  # a torchvision built for another torch raises RuntimeError, not ImportError
        return None
    return module


def _image(tensor: torch.Tensor) -> torch.Tensor:
    module = tv_tensors()
    return tensor if module is None else module.Image(tensor)


def _mask(tensor: torch.Tensor) -> torch.Tensor:
    module = tv_tensors()
    return tensor if module is None else module.Mask(tensor)


def _boxes(tensor: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    module = tv_tensors()
    return tensor if module is None else module.BoundingBoxes(tensor, format="XYXY", canvas_size=size)
