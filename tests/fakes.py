"""Stand-ins for a renderer, a model and gates: deterministic, on the CPU, in milliseconds, without torch.

Used as a plug-in (`--plugin tests.fakes`), so the crash and determinism tests run the real command line.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from synthaug import rle, seeds
from synthaug.camera import from_fov
from synthaug.contracts import (
    Appearance,
    DatasetInfo,
    Description,
    Draw,
    Encoded,
    File,
    Fragment,
    Gate,
    Pointwise,
    Reader,
    Verdict,
    Writer,
)
from synthaug.engine import failpoints
from synthaug.errors import Rejected
from synthaug.formats import png
from synthaug.labels import Category, Instance, Labels
from synthaug.sample import Picture, Sample

CATEGORIES = (Category("disc", ("left", "right"), ((0, 1),), (1, 0)), Category("square"))


class FakeReader(Reader):
    """Discs and squares on a textured ground, made from the sample's number.

    Args:
        count: Samples.
        width: Pixels.
        height: Pixels.
        frames: Samples per group; 1 makes every sample its own group.
        sizes: Distinct canvas sizes, each 8 pixels wider than the last.
        broken: Ids that are rejected when read.
        jitter: Longest random wait per sample, in seconds, to shuffle the order of arrival.
    """

    operational = frozenset({"jitter"})

    def __init__(
        self,
        *,
        count: int = 10,
        width: int = 48,
        height: int = 32,
        frames: int = 1,
        sizes: int = 1,
        broken: tuple[str, ...] = (),
        jitter: float = 0.0,
    ) -> None:
        self.count, self.width, self.height = count, width, height
        self.frames, self.sizes, self.broken, self.jitter = frames, sizes, broken, jitter

    def categories(self) -> tuple[Category, ...]:
        return CATEGORIES

    def ids(self) -> Sequence[str]:
        return [f"fake/{i:05d}" for i in range(self.count)]

    def _size(self, number: int) -> tuple[int, int]:
        return self.height, self.width + 8 * (number % self.sizes)

    def describe(self, sample_id: str) -> Description:
        number = int(sample_id[-5:])
        group = f"scene-{number // self.frames}" if self.frames > 1 else ""
        return Description(
            sample_id, self._size(number), ("instance", "semantic", "depth"), group=group, frame=number % self.frames
        )

    def read(self, sample_id: str) -> Sample:
        time.sleep(self.jitter * random.random())
        if sample_id in self.broken:
            raise Rejected("decode", "the fake file is broken")
        number = int(sample_id[-5:])
        described = self.describe(sample_id)
        labels = make_labels(number, described.size)
        picture = make_picture(number, labels)
        return Sample(sample_id, picture, labels, picture, group=described.group or sample_id, frame=described.frame)


def make_labels(number: int, size: tuple[int, int]) -> Labels:
    """Two objects with masks, keypoints and depth."""
    rng = seeds.generator(7, str(number), 0, "fake")
    height, width = size
    ys, xs = np.mgrid[0:height, 0:width] + 0.5
    ids = np.zeros(size, np.int32)
    cx, cy, radius = width * rng.uniform(0.25, 0.4), height * rng.uniform(0.4, 0.6), height * 0.25
    ids[(xs - cx) ** 2 + (ys - cy) ** 2 < radius**2] = 1
    left, top, side = int(width * rng.uniform(0.6, 0.7)), int(height * 0.3), int(height * 0.3)
    ids[top : top + side, left : left + side] = 2
    depth = np.where(ids == 1, 2.0, np.where(ids == 2, 3.0, 5.0)).astype(np.float32)
    depth[0, 0] = np.nan
    boxes = rle.boxes_in(ids)
    points = ((cx - radius / 2, cy, 2), (cx + radius / 2, cy, 2))
    instances = (
        Instance(1, 1, boxes[1][0], keypoints=points, object_id=f"disc-{number}"),
        Instance(2, 2, boxes[2][0], object_id=f"square-{number}"),
    )
    passes: Mapping[str, Any] = {"instance": ids, "semantic": ids.copy(), "depth": depth}
    return Labels(size, CATEGORIES, instances, passes, from_fov(width, height, 60.0), {"weather": "rain"})


def make_picture(number: int, labels: Labels) -> Picture:
    """A picture in which the objects can be seen."""
    rng = seeds.generator(7, str(number), 0, "picture")
    ids = labels.passes["instance"]
    pixels = rng.integers(60, 90, (*labels.size, 3), dtype=np.uint8)
    pixels[ids == 1] = (200, 60, 40)
    pixels[ids == 2] = (40, 80, 210)
    return Picture(pixels)


class FakeModel(Appearance):
    """Noise and gain per sample, on the host.

    Args:
        strength: Of the noise, in [0, 1].
        seconds: Wait per call, standing for a device at work.
    """

    generative = True

    def __init__(self, *, strength: float = 0.1, seconds: float = 0.0) -> None:
        self.strength, self.seconds = strength, seconds

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        return {"seed": seeds.fork(rng), "gain": float(rng.uniform(0.9, 1.1)), "strength": self.strength * 0.5**attempt}

    def paint(self, images: Any, labels: Sequence[Labels], draws: Sequence[Draw]) -> Any:
        if self.seconds:
            time.sleep(self.seconds)
        if failpoints.reached("model.oom"):
            raise MemoryError("out of memory, planted")
        for image, draw in zip(images, draws, strict=True):
            noise = seeds.normal(draw["seed"], image.shape)
            image *= draw["gain"]
            image += draw["strength"] * noise
        return spoilt(np.clip(images, 0.0, 1.0), labels)


def spoilt(images: Any, labels: Sequence[Labels]) -> Any:
    """The pictures, those that `model.nan` and `model.black` name as a broken model would give them."""
    for i, view in enumerate(labels if failpoints.armed() else ()):
        for name, value in (("model.nan", float("nan")), ("model.black", 0.0)):
            if failpoints.hit(name, sample_of(view)):
                images[i] = value
    return images


def sample_of(labels: Labels) -> str:
    """Id of a sample of `FakeReader`, known by its objects: a stage is not told whose picture it has."""
    number = int(labels.instances[0].object_id.split("-")[1]) if labels.instances else -1
    return f"fake/{number:05d}"


class FakeDeviceModel(FakeModel):
    """The same in torch: a micro-batch in, a micro-batch out, as a diffusion model is called.

    Args:
        strength: Of the noise, in [0, 1].
        seconds: Wait per call, standing for a device at work.
        leak: Lets the batch's mean into every picture: the mutant that determinism tests must notice.
        poison: Part of an object id; its picture comes back as NaN.
    """

    place = "device"

    def __init__(self, *, strength: float = 0.1, seconds: float = 0.0, leak: bool = False, poison: str = "-") -> None:
        super().__init__(strength=strength, seconds=seconds)
        self.leak, self.poison = leak, poison
        self.lengths: list[int] = []

    def paint(self, images: Any, labels: Sequence[Labels], draws: Sequence[Draw]) -> Any:
        import torch

        self.lengths.append(len(images))
        if self.seconds:
            time.sleep(self.seconds)
        if failpoints.reached("model.oom"):
            raise torch.OutOfMemoryError("out of memory, planted")
        noise = torch.stack([torch.from_numpy(seeds.normal(d["seed"], tuple(images.shape[1:]))) for d in draws])
        strength = torch.tensor([d["strength"] for d in draws]).reshape(-1, 1, 1, 1)
        painted = images * torch.tensor([d["gain"] for d in draws]).reshape(-1, 1, 1, 1) + strength * noise
        if self.leak:
            painted += images.mean()
        for i, view in enumerate(labels):
            if any(instance.object_id == self.poison for instance in view.instances):
                painted[i] = torch.nan
        return spoilt(painted.clamp(0, 1), labels)


class Hostile(Appearance):
    """Writes into everything it is given."""

    needs = ("instance", "depth", "semantic")

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        self._scribble(labels)
        return {}

    def paint(self, images: Any, labels: Sequence[Labels], draws: Sequence[Draw]) -> Any:
        for view in labels:
            self._scribble(view)
        images[...] = 0.5 * images
        return images

    @staticmethod
    def _scribble(labels: Labels) -> None:
        for array in labels.passes.values():
            array.setflags(write=True)
            array[...] = 1
        cast("dict[str, Any]", labels.attributes)["hacked"] = 1
        for instance in labels.instances:
            if isinstance(instance.attributes, dict):
                instance.attributes["hacked"] = 1


class FakeGain(Pointwise):
    """Brightness, drawn.

    Args:
        low: Smallest gain.
        high: Largest gain.
    """

    def __init__(self, *, low: float = 0.8, high: float = 1.2) -> None:
        self.low, self.high = low, high

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        return {"gain": float(rng.uniform(self.low, self.high))}

    def curve(self, values: np.ndarray, draw: Draw) -> np.ndarray:
        return values * np.float32(draw["gain"])


class FlakyGate(Gate):
    """Fails attempts 0..k of some samples, k and the samples drawn from their reference's bytes.

    Args:
        share: Of samples that fail at first, in [0, 1].
        stubborn: Share of those that never pass.
    """

    def __init__(self, *, share: float = 0.4, stubborn: float = 0.25) -> None:
        self.share, self.stubborn = share, stubborn
        self.seen: dict[bytes, int] = {}

    def judge(self, images: Any, references: Any, labels: Sequence[Labels]) -> Sequence[Verdict]:
        return [self._one(image, reference) for image, reference in zip(images, references, strict=True)]

    def _one(self, image: Any, reference: Any) -> Verdict:
        key = hashlib.blake2b(np.ascontiguousarray(reference).tobytes(), digest_size=16).digest()
        chance = int.from_bytes(key[:4], "little") / 2**32
        level = float(np.abs(image - reference).mean())
        if chance < self.share * self.stubborn:
            return Verdict("stubborn", {"level": level})
        if chance < self.share:
            tries = self.seen.get(key, 0)
            self.seen[key] = tries + 1
            if tries <= key[5] % 2:
                return Verdict("flaky", {"level": level})
        return Verdict("", {"level": level})


class RefusingGate(Gate):
    """Refuses the sample that the failpoint `gate.refuse` names; it knows samples by their object ids."""

    def judge(self, images: Any, references: Any, labels: Sequence[Labels]) -> Sequence[Verdict]:
        return [Verdict("refused" if failpoints.hit("gate.refuse", sample_of(view)) else "") for view in labels]


class FakeWriter(Writer):
    """One PNG and one row per sample, one list at the end."""

    def encode(self, sample: Sample) -> Encoded:
        data = png.encode(sample.image.pixels)
        boxes = [[i.id, i.class_id, *i.box, *(v for k in i.keypoints for v in k)] for i in sample.labels.instances]
        digest = hashlib.sha256(
            b"".join(np.ascontiguousarray(sample.labels.passes[n]).tobytes() for n in sorted(sample.labels.passes))
        )
        row = {"id": sample.id, "boxes": boxes, "passes": digest.hexdigest(), "split": sample.split}
        return Encoded(sample.id, (File(f"images/{sample.id}.png", data),), {}, row)

    def open(self, dataset: DatasetInfo) -> None:
        super().open(dataset)
        self.rows: list[Mapping[str, Any]] = []

    def add(self, encoded: Encoded) -> None:
        self.rows.append(encoded.row)

    def close_shard(self, shard: str) -> Fragment:
        return Fragment(rows=tuple(self.rows))

    def finalise(self, fragments: Iterable[Fragment]) -> Sequence[File]:
        rows = [dict(row) for fragment in fragments for row in fragment.rows]
        return [File("labels.json", json.dumps(rows, sort_keys=True).encode())]
