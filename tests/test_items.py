"""Tensors for training loops: plain where torchvision does not import, whatever it raises."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from synthaug import items, testing
from synthaug.engine.live import Result


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    items.tv_tensors.cache_clear()
    yield
    items.tv_tensors.cache_clear()


class Broken(types.ModuleType):
    """A torchvision built for another torch."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("operator torchvision::nms does not exist")


def test_plain_tensors_where_torchvision_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", Broken("torchvision"))
    item = items.to_item(Result(testing.make_sample(1)), 4)
    assert type(item["image"]) is torch.Tensor
    assert item["image"].dtype == torch.uint8
    assert item["image"].shape == (3, 64, 96)
    assert item["boxes"].shape == (2, 4)
    assert item["masks"].dtype == torch.bool
    assert item["keypoints"][0, 1, 2] == 1
    assert item["depth"].shape == (64, 96)
    assert item["normals"].shape == (3, 64, 96)
    assert item["index"] == 4


def test_tv_tensors_where_torchvision_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("torchvision.tv_tensors")

    class Image(torch.Tensor):
        """Stands for torchvision's."""

    module.Image = Image  # type: ignore[attr-defined]
    module.Mask = lambda tensor: tensor  # type: ignore[attr-defined]
    module.BoundingBoxes = lambda tensor, format, canvas_size: (tensor, format, canvas_size)  # type: ignore[attr-defined]
    package = types.ModuleType("torchvision")
    package.tv_tensors = module  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.tv_tensors", module)
    item = items.to_item(Result(testing.make_sample(1)), 0)
    assert item["boxes"][1:] == ("XYXY", (64, 96))


def test_a_picture_without_objects_has_empty_tensors_of_the_right_shape() -> None:
    sample = testing.make_sample(0)
    empty = sample.labels.of(())
    item = items.to_item(Result(type(sample)(sample.id, sample.image, empty, sample.image)), 0)
    assert item["boxes"].shape == (0, 4)
    assert item["labels"].dtype == torch.int64
    assert "masks" not in item or item["masks"].shape[0] == 0
