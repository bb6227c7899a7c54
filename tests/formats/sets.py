"""Small datasets for the tests of the formats: samples as objects, and folders on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from synthaug import camera as cameras
from synthaug import rle
from synthaug.camera import Camera
from synthaug.contracts import DatasetInfo, Fragment, Writer
from synthaug.labels import Category, Instance, Labels
from synthaug.sample import Picture, Sample, Step

CATEGORIES = (
    Category("box"),
    Category("person", ("nose", "left_eye", "right_eye"), ((0, 1), (0, 2)), (0, 2, 1)),
    Category("tür Ω"),
)


def sample(sample_id: str, seed: int = 0, size: tuple[int, int] = (48, 64), split: str = "train") -> Sample:
    """A picture with a hole in a mask, overlapping masks, a part in two pieces, keypoints, depth, a camera."""
    rng = np.random.default_rng(seed)
    height, width = size
    picture = Picture(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    ids = np.zeros(size, np.int32)
    ids[4:20, 5:25] = 1
    ids[8:12, 10:15] = 0  # a hole
    ids[30:40, 40:50] = 2
    ids[25:28, 55:60] = 2  # the same instance in two pieces
    over = np.zeros(size, bool)
    over[10:35, 15:45] = True
    corner = np.zeros(size, bool)
    corner[40:48, 0:7] = True
    depth = rng.uniform(1, 5, size).astype(np.float32)
    depth[:3] = np.nan
    normals = rng.normal(size=(*size, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    pose = [[0.0, -1.0, 0.0, 0.25], [1.0, 0.0, 0.0, -1.5], [0.0, 0.0, 1.0, 3.125], [0.0, 0.0, 0.0, 1.0]]
    instances = (
        Instance(1, 1, (5.0, 4.0, 25.0, 20.0), attributes={"colour": "röt", "n": [1, 2.5, None]}, object_id="box/7"),
        Instance(
            2,
            2,
            (40.0, 25.0, 60.0, 40.0),
            keypoints=((41.25, 31.5, 2), (0.0, 0.0, 0), (48.0, 39.0, 1)),
            pose=cameras.matrix(pose, 4, 4),
            extent=(0.5, 1.75, 0.25),
            visibility=0.625,
        ),
        Instance(3, 3, (15.0, 10.0, 45.0, 35.0), mask=rle.encode(over)),
        Instance(9, 1, (0.0, 40.0, 7.0, 48.0), mask=rle.encode(corner), ignore=True),
    )
    camera = Camera(
        cameras.matrix([[70.0, 0, 32], [0, 70, 24], [0, 0, 1]], 3, 3),
        cameras.matrix(pose, 4, 4),
        (0.1, -0.01, 0.0, 0.0),
    )
    semantic = np.where(ids == 2, 2, ids).astype(np.int32)
    passes = {"instance": ids, "semantic": semantic, "depth": depth, "normals": normals, "ignore": corner.copy()}
    labels = Labels(size, CATEGORIES, instances, passes, camera, {"weather": "rain"})
    labels.check()
    trail = (Step("look", "Look", 1, {"seed": 2**62, "k": 0.1}, {"psnr": 31.5}),)
    return Sample(
        sample_id, picture, labels, picture, group="scene/1", view="left", frame=3, split=split,
        trail=trail,
    )  # fmt: skip


def boxes_only(made: Sample) -> Sample:
    """The same picture with plain boxes and no pass."""
    from dataclasses import replace

    plain = tuple(replace(i, mask=None) for i in made.labels.instances)
    return replace(made, labels=replace(made.labels, instances=plain, passes={}))


def write(writer: Writer, samples: Sequence[Sample], root: Path, shards: int = 2, **card: Any) -> list[str]:
    """Does the engine's part: every sample encoded, rows through JSON, files below `root`; returns the names."""
    splits = tuple(sorted({s.split for s in samples}))
    passes = tuple(sorted({name for s in samples for name in s.labels.passes}))
    info = DatasetInfo(samples[0].labels.categories, splits, passes, card)
    names: list[str] = []
    fragments: list[Fragment] = []
    writer.open(info)
    for shard in range(shards):
        for made in samples[shard::shards]:
            encoded = writer.encode(made)
            names += _store(encoded.files, root)
            writer.add(encoded)
        fragment = writer.close_shard(f"{shard:06d}")
        names += _store(fragment.files, root)
        fragments.append(Fragment(fragment.files, tuple(json.loads(json.dumps(row)) for row in fragment.rows)))
    first, second = writer.finalise(fragments), writer.finalise(fragments)
    assert first == second
    return names + _store(first, root)


def _store(files: Iterable[Any], root: Path) -> list[str]:
    for file in files:
        path = root / file.name
        assert not path.exists(), f"{file.name} is written twice"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.data)
    return [file.name for file in files]


def picture_file(path: Path, size: tuple[int, int] = (40, 60), seed: int = 0, mode: str = "RGB") -> Path:
    """A noise picture on disk; the suffix decides the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, len(mode)), dtype=np.uint8)
    Image.fromarray(pixels if len(mode) > 1 else pixels[:, :, 0]).save(path)
    return path


def json_file(path: Path, content: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def equal_labels(a: Labels, b: Labels) -> None:
    """Every fact of two label sets, arrays included."""
    assert a.size == tuple(b.size)
    assert a.categories == b.categories
    assert a.instances == b.instances
    assert a.camera == b.camera
    assert a.attributes == b.attributes
    assert set(a.passes) == set(b.passes)
    for name, array in a.passes.items():
        assert array.dtype == b.passes[name].dtype
        np.testing.assert_array_equal(array, b.passes[name])
