"""The contract suite: what every stage promises, as checks that anyone can run on a stage of their own.

    from synthaug import testing
    def test_my_stage() -> None:
        testing.check(MyStage(strength=0.3))

A check raises `AssertionError` saying which promise was broken. Stages must be loaded (`load`) where they have
weights. Pictures are small and made here; nothing is read or written.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug import rle, seeds
from synthaug.camera import from_fov
from synthaug.contracts import Appearance, Draw, Gate, Geometry, Painted, Pointwise, Stage
from synthaug.engine import appearance
from synthaug.engine.appearance import Work
from synthaug.engine.pipeline import Slot
from synthaug.engine.plan import Entry
from synthaug.labels import Category, Instance, Labels, Size
from synthaug.sample import Picture, Sample
from synthaug.warp import move

CATEGORIES = (Category("disc", ("left", "right"), ((0, 1),), (1, 0)), Category("square"))


def make_sample(number: int = 0, size: Size = (64, 96)) -> Sample:
    """A small picture with two objects, every kind of label, and some texture."""
    rng = seeds.generator(11, str(number), 0, "testing")
    labels = make_labels(rng, size)
    ids = labels.passes["instance"]
    ys, xs = np.mgrid[0 : size[0], 0 : size[1]]
    ground = 110 + 30 * np.sin(xs / 7.0 + number) + 20 * np.cos(ys / 5.0)
    pixels = np.repeat(ground[..., None], 3, axis=2) + rng.normal(0, 4, (*size, 3))
    pixels[ids == 1] = (205, 70, 50)
    pixels[ids == 2] = (40, 70, 200)
    picture = Picture(np.clip(pixels, 0, 255).astype(np.uint8))
    return Sample(f"testing/{number}", picture, labels, picture, group=f"testing/{number}")


def make_labels(rng: np.random.Generator, size: Size) -> Labels:
    """A disc with keypoints before a square before a slanted wall."""
    height, width = size
    ys, xs = np.mgrid[0:height, 0:width] + 0.5
    ids = np.zeros(size, np.int32)
    left = int(width * 0.55)
    ids[height // 4 : height // 2, left : left + width // 4] = 2
    cx, cy, radius = width * rng.uniform(0.3, 0.4), height * rng.uniform(0.45, 0.6), height * 0.22
    ids[(xs - cx) ** 2 + (ys - cy) ** 2 < radius**2] = 1
    depth = np.where(ids == 1, 2.0, np.where(ids == 2, 3.0, 4.0 + xs / width)).astype(np.float32)
    normals = np.zeros((*size, 3), np.float32)
    normals[..., 2] = -1
    uv = np.stack([xs / width, ys / height], axis=-1).astype(np.float32)
    passes: dict[str, NDArray[Any]] = {
        "instance": ids,
        "semantic": ids.copy(),
        "depth": depth,
        "normals": normals,
        "uv": uv,
        "albedo": np.full((*size, 3), 0.5, np.float32),
    }
    boxes = rle.boxes_in(ids)
    points = ((cx - radius / 2, cy, 2), (cx + radius / 2, cy, 1))
    instances = (
        Instance(1, 1, boxes[1][0], keypoints=points, object_id="disc"),
        Instance(2, 2, boxes[2][0], object_id="square"),
    )
    return Labels(size, CATEGORIES, instances, passes, from_fov(width, height, 55.0))


def check(stage: Stage) -> None:
    """Every promise of the stage's contract.

    Raises:
        AssertionError: Naming the broken promise.
    """
    if isinstance(stage, Appearance):
        check_appearance(stage)
    elif isinstance(stage, Geometry):
        check_geometry(stage)
    elif isinstance(stage, Gate):
        check_gate(stage)
    else:
        raise AssertionError(f"{type(stage).__name__} is neither Appearance, Geometry nor Gate")
    facts = dict(stage.identity())
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts, "identity() is not JSON"


def check_appearance(stage: Appearance) -> None:
    """Draws are replayable JSON; pixels keep their shape; batch-mates, order and global randomness do not matter."""
    samples = [make_sample(i) for i in range(3)]
    draws = [replayable(stage, sample, i) for i, sample in enumerate(samples)]
    before = [_fingerprint(s.labels) for s in samples]
    first = paint(stage, samples, draws)
    assert first.shape == (3, 3, *samples[0].image.size), f"paint returned {first.shape}"
    assert first.dtype == np.float32, f"paint returned {first.dtype}, expected float32"
    assert before == [_fingerprint(s.labels) for s in samples], "labels changed"
    assert np.array_equal(first, paint(stage, samples, draws), equal_nan=True), "painting twice gives other pixels"
    _poison()
    assert np.array_equal(first, paint(stage, samples, draws), equal_nan=True), "global random state matters"
    turned = paint(stage, samples[::-1], draws[::-1])[::-1]
    assert np.array_equal(first, turned, equal_nan=True), "the order within the batch matters"
    other = paint(stage, [samples[0], samples[0], samples[0]], [draws[0]] * 3)
    assert np.array_equal(first[:1], other[:1], equal_nan=True), "batch-mates matter"
    if isinstance(stage, Pointwise):
        check_pointwise(stage)
    if stage.also_on_device:
        check_also_on_device(stage, samples, draws, first)
    if stage.gives == "srgb":
        finite = first[np.isfinite(first)]
        assert finite.size == 0 or (finite.min() > -0.51 and finite.max() < 1.51), "sRGB values far outside [0, 1]"


def check_pointwise(stage: Pointwise) -> None:
    """The engine's table gives what `paint` gives: each value is mapped on its own, alone and in a row."""
    slots = [Slot("first", stage), Slot("second", stage)]
    for sample in (make_sample(0), make_sample(1)):
        entry = Entry(sample.id, sample.id, 0, sample.image.size, sample.group, sample.split)
        work = Work(0, entry, 0, sample)
        for row in (slots[:1], slots):
            table, painted = appearance.paint_table(row, work, 5, last=False).sample, work
            for slot in row:
                painted = appearance.paint_host(slot, painted, 5)
            other = painted.sample
            assert table.image.space == other.image.space, "the table gives another space than paint"
            apart = float(np.abs(table.image.pixels - other.image.pixels).max())
            assert apart <= 1e-5, f"the table's values differ from paint's by {apart:.2g}: curve() is not pointwise"
            renewed = [s.reference is s.image for s in (table, other)]
            assert renewed == [stage.renews_reference] * 2, "the reference is renewed on one way only"


def check_also_on_device(
    stage: Appearance, samples: Sequence[Sample], draws: Sequence[Draw], host: NDArray[np.float32]
) -> None:
    """A batch as a torch tensor gives what the host gave, within 1/255, whoever else is in the batch."""
    import torch

    assert stage.place == "host", "also_on_device is a word about host stages"

    def painted(order: Sequence[int]) -> NDArray[np.float32]:
        batch = torch.as_tensor(np.stack([planes(samples[i]) for i in order]))
        views = [samples[i].labels.copy((*stage.needs, *stage.wants)) for i in order]
        with torch.inference_mode():
            done = stage.paint(batch, views, [draws[i] for i in order])
        assert isinstance(done, torch.Tensor), f"paint returned {type(done).__name__} for a torch tensor"
        return done.numpy()

    together = painted(range(len(samples)))
    apart = float(np.abs(together - host).max())
    assert apart <= 1 / 255, f"the device's values differ from the host's by {255 * apart:.2f}/255"
    assert np.array_equal(painted([1, 0, 0])[0], together[1]), (
        "batch-mates or the place in the batch matter on a device"
    )


def check_geometry(stage: Geometry) -> None:
    """Draws are replayable JSON; the warp fits the canvas; labels stay lawful on the other side."""
    for i in range(4):
        sample = make_sample(i)
        draw = replayable(stage, sample, i)
        labels = sample.labels.copy((*stage.needs, *stage.wants))
        warp = stage.warp(labels, draw)
        assert tuple(warp.source) == tuple(sample.labels.size), f"warp.source {warp.source}"
        assert tuple(warp.target) == tuple(stage.canvas(sample.labels.size)), (
            f"warp.target {warp.target} is not canvas()"
        )
        again = stage.warp(labels, draw)
        assert np.array_equal(warp.backward_grid(), again.backward_grid(), equal_nan=True), "one draw, two warps"
        moved = move.apply(sample, warp)
        moved.sample.labels.check(thorough=True)
        tally = moved.tally
        dropped = sum(tally["dropped"].values())
        assert tally["annotations_in"] == tally["kept"] + tally["clipped"] + dropped, f"annotations lost: {tally}"


def check_gate(stage: Gate) -> None:
    """The untouched reference passes; a blank picture does not; verdicts repeat and are JSON."""
    samples = [make_sample(i) for i in range(3)]
    same = judge(stage, samples, [planes(s) for s in samples])
    again = judge(stage, samples, [planes(s) for s in samples])
    assert same == again, "judging twice gives other verdicts"
    assert all(verdict.accepted for verdict in same), f"the reference itself was refused: {same[0].reason}"
    blank = judge(stage, samples, [np.zeros_like(planes(s)) for s in samples])
    assert not any(verdict.accepted for verdict in blank), "a black picture was accepted"
    for verdict in (*same, *blank):
        json.dumps({k: float(v) for k, v in verdict.scores.items()}, allow_nan=False)


def replayable(stage: Appearance | Geometry, sample: Sample, number: int) -> Draw:
    """A draw after its round trip through JSON; the same for the same generator, whatever the global state."""
    draws: list[Draw] = []
    for _ in range(2):
        labels = sample.labels.copy((*stage.needs, *stage.wants))
        rng = seeds.generator(5, sample.id, 0, "slot", number % 2)
        if stage.scope == "object":
            drawn: Draw = {i.object_id: stage.draw(rng, labels.of((i,)), number % 2) for i in labels.instances}
        else:
            drawn = stage.draw(rng, labels, number % 2)
        draws.append(drawn)
        _poison()
    assert draws[0] == draws[1], "the same generator gave two draws"
    stored = json.loads(json.dumps(draws[0], allow_nan=False))
    assert stored == draws[0], "a draw is not JSON: it comes back different"
    return stored


def paint(stage: Appearance, samples: Sequence[Sample], draws: Sequence[Draw]) -> NDArray[np.float32]:
    """Pixels as the engine would ask for them: one by one on the host, as a batch on a device."""
    views = [s.labels.copy((*stage.needs, *stage.wants)) for s in samples]
    if stage.place == "host":
        rows = [stage.paint(planes(s)[None], [v], [d]) for s, v, d in zip(samples, views, draws, strict=True)]
        return np.concatenate([np.asarray(r.images if isinstance(r, Painted) else r) for r in rows])
    import torch

    with torch.inference_mode():
        painted = stage.paint(torch.as_tensor(np.stack([planes(s) for s in samples])), views, draws)
    return (painted.images if isinstance(painted, Painted) else painted).detach().to("cpu").numpy()


def judge(gate: Gate, samples: Sequence[Sample], images: Sequence[NDArray[np.float32]]) -> list[Any]:
    """Verdicts as the engine would ask for them."""
    views = [s.labels.copy((*gate.needs, *gate.wants)) for s in samples]
    references = [planes(s) for s in samples]
    if gate.place == "host":
        return [gate.judge(i[None], r[None], [v])[0] for i, r, v in zip(images, references, views, strict=True)]
    import torch

    with torch.inference_mode():
        return list(gate.judge(torch.as_tensor(np.stack(images)), torch.as_tensor(np.stack(references)), views))


def planes(sample: Sample) -> NDArray[np.float32]:
    """[3, H, W] in [0, 1]."""
    return np.ascontiguousarray(sample.image.pixels.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)


def _fingerprint(labels: Labels) -> tuple[Any, ...]:
    return labels.instances, tuple((name, array.tobytes()) for name, array in sorted(labels.passes.items()))


def _poison() -> None:
    """Moves every global random state that a careless stage could lean on."""
    random.seed(random.randrange(2**31))
    np.random.seed(random.randrange(2**31))
    import sys

    if torch := sys.modules.get("torch"):
        torch.manual_seed(random.randrange(2**31))
