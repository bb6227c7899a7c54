from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthaug import rle
from synthaug.errors import Rejected
from synthaug.sample import Picture
from synthaug.warp import motion, move
from synthaug.warp.motion import Warp
from tests.warp import motions
from tests.warp.motions import SIZE


def random_warp(rng: np.random.Generator) -> Warp:
    """Any motion: strong crops, mirrors, perspectives, lenses, and their compositions."""
    x0, y0 = rng.uniform(-20, 40), rng.uniform(-20, 30)
    parts = [
        motion.hflip(SIZE),
        motions.random_homography(rng, strength=0.3),
        motion.affine(SIZE, scale=(float(rng.uniform(0.2, 3)),) * 2, translate=tuple(rng.uniform(-40, 40, 2))),
        motion.crop(SIZE, (x0, y0, x0 + 30, y0 + 25)).then(motion.resize((25, 30), SIZE)),
        motions.barrel(k=float(rng.uniform(-0.2, 0.3))),
    ]
    warp = parts[int(rng.integers(len(parts)))]
    return warp.then(parts[int(rng.integers(len(parts)))]) if rng.random() < 0.5 else warp


@settings(max_examples=120, deadline=None)
@given(motions.seeds, st.floats(0, 1), st.floats(0, 60), st.booleans())
def test_e9_annotations_balance_and_nothing_is_left_half(seed: int, visible: float, area: float, maps: bool) -> None:
    rng = np.random.default_rng(seed)
    sample = motions.sample(rng, passes=maps)
    result = move.apply(sample, random_warp(rng), min_visible=visible, min_area=area, same_for_group=bool(seed % 2))
    labels, tally = result.sample.labels, result.tally
    labels.check()
    assert json.loads(json.dumps(tally)) == tally
    assert tally["annotations_in"] == len(sample.labels.instances)
    assert tally["annotations_in"] == tally["kept"] + tally["clipped"] + sum(tally["dropped"].values())
    assert tally["kept"] + tally["clipped"] == len(labels.instances)
    assert tally["keypoints_in"] == tally["keypoints_kept"] + sum(tally["keypoints_dropped"].values())
    assert tally["keypoints_kept"] == sum(s > 0 for i in labels.instances for _, _, s in i.keypoints)
    assert set(sample.labels.passes) <= set(labels.passes) | set(tally["passes_dropped"])
    for instance in labels.instances:
        assert instance.visibility >= visible
        for x, y, state in instance.keypoints:
            assert (0 <= x <= 64 and 0 <= y <= 48) if state else (x, y) == (0, 0)
        mask = labels.mask(instance)
        if mask is not None:
            found = rle.boxes_in(mask.astype(np.int32))[1]
            assert found == (instance.box, int(mask.sum()))
            assert found[1] >= area
    if labels.camera is None:
        assert all(i.pose is None for i in labels.instances) or not tally["poses_dropped"]


@settings(max_examples=40, deadline=None)
@given(motions.seeds)
def test_poses_reproject_onto_the_warped_pixels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sample = motions.sample(rng, own_masks=False)
    warp = motions.random_homography(rng)
    labels = move.apply(sample, warp).sample.labels
    before = sample.labels.camera
    assert before is not None
    assert labels.camera is not None
    old = {i.id: np.array(i.pose) for i in sample.labels.instances}
    assert labels.instances
    for instance in labels.instances:
        pose = np.array(instance.pose)
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(-1 if warp.mirrored else 1)
        corners = np.column_stack([rng.uniform(-0.3, 0.3, (8, 3)), np.ones(8)])
        expected = warp.forward(before.project((corners @ old[instance.id].T)[:, :3]))
        seen = labels.camera.project((corners @ pose.T)[:, :3])
        assert np.nanmax(np.abs(seen - expected)) < 0.01
        assert labels.camera.mirrored == warp.mirrored


def test_mirror_is_undone_by_a_mirror() -> None:
    sample = motions.sample(np.random.default_rng(1))
    there = move.apply(sample, motion.hflip(SIZE), same_for_group=True).sample
    back = move.apply(there, motion.hflip(SIZE), same_for_group=True).sample
    assert back.image.pixels.tobytes() == sample.image.pixels.tobytes()
    for name, values in sample.labels.passes.items():
        assert np.allclose(back.labels.passes[name], values, atol=1e-5), name
    for a, b in zip(back.labels.instances, sample.labels.instances, strict=True):
        assert a.box == b.box
        assert a.mask == b.mask
        assert np.allclose(a.keypoints, b.keypoints) if b.keypoints else a.keypoints == ()
        assert np.allclose(a.pose, b.pose) if b.pose else a.pose is None
    assert back.labels.camera is not None
    assert sample.labels.camera is not None
    assert np.allclose(back.labels.camera.K, sample.labels.camera.K)
    assert not back.labels.camera.mirrored


def test_whole_pixel_crop_equals_slicing_everywhere() -> None:
    sample = motions.sample(np.random.default_rng(2))
    labels = move.apply(sample, motion.crop(SIZE, (5, 7, 50, 40)), same_for_group=True).sample.labels
    for name in ("instance", "semantic", "depth", "normals", "alpha", "uv"):
        expected = np.ascontiguousarray(sample.labels.passes[name][7:40, 5:50])
        if name == "instance":
            gone = set(rle.ids_in(expected)) - {i.id for i in labels.instances}
            assert not gone
        assert labels.passes[name].tobytes() == expected.tobytes(), name
    own = next(i for i in labels.instances if i.id == 90)
    before = next(i for i in sample.labels.instances if i.id == 90)
    assert before.mask is not None
    assert own.mask is not None
    assert (rle.decode(own.mask) == rle.decode(before.mask)[7:40, 5:50]).all()


@settings(max_examples=25, deadline=None)
@given(motions.seeds)
def test_composition_equals_sequence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sample = motions.sample(rng)
    a = motion.affine(SIZE, scale=(0.8, 0.8), degrees=float(rng.uniform(-10, 10)))  # the whole picture stays in
    b = motions.random_homography(rng, strength=0.1)
    once = move.apply(sample, a.then(b)).sample.labels
    twice = move.apply(move.apply(sample, a).sample, b).sample.labels
    assert (once.passes["instance"] == twice.passes["instance"]).mean() > 0.85
    assert once.camera is not None
    assert twice.camera is not None
    assert np.allclose(once.camera.K, twice.camera.K, atol=1e-6)
    assert np.allclose(once.camera.extrinsics, twice.camera.extrinsics, atol=1e-9)  # pyright: ignore
    second = {i.id: i for i in twice.instances}
    for first in once.instances:
        other = second.get(first.id)
        if other is None:
            continue
        assert np.allclose(first.pose, other.pose, atol=1e-9) if first.pose else other.pose is None
        for p, q in zip(first.keypoints, other.keypoints, strict=True):
            if p[2] and q[2]:
                assert p == pytest.approx(q, abs=1e-6)


def test_identity_changes_nothing_and_keeps_the_file() -> None:
    sample = motions.sample(np.random.default_rng(3))
    result = move.apply(sample, Warp.identity(SIZE), same_for_group=True)
    assert result.sample.image is sample.image
    assert result.sample.labels.instances == sample.labels.instances
    assert result.sample.labels.camera == sample.labels.camera
    for name, values in sample.labels.passes.items():
        assert np.array_equal(result.sample.labels.passes[name], values, equal_nan=name == "flow"), name
    assert result.tally["clipped"] == 0
    assert result.tally["passes_dropped"] == {}


def test_pictures_move_together_and_lose_their_file() -> None:
    sample = motions.sample(np.random.default_rng(4))
    warp = motion.affine(SIZE, degrees=12)
    moved = move.apply(sample, warp).sample
    assert moved.reference is moved.image
    assert moved.image.source == b""
    assert not moved.image.pixels.flags.writeable
    other = replace(sample, reference=Picture(255 - sample.image.pixels))
    result = move.apply(other, warp).sample
    assert result.image.pixels.tobytes() == moved.image.pixels.tobytes()
    assert result.reference.pixels.tobytes() == move.apply(other, warp).sample.reference.pixels.tobytes()
    covered = move.apply(replace(sample, image=Picture(np.full_like(sample.image.pixels, 255))), warp)
    full = covered.sample.image.pixels.min(axis=2) == 255
    both = result.reference.pixels.astype(int) + result.image.pixels
    assert np.abs(both[full] - 255).max() <= 1
    linear = replace(sample, image=Picture(np.full((*SIZE, 3), 7.5, np.float32), "linear"))
    assert move.apply(linear, warp).sample.image.space == "linear"


def test_source_labels_are_left_alone() -> None:
    sample = motions.sample(np.random.default_rng(5))
    before = {name: values.tobytes() for name, values in sample.labels.passes.items()}
    move.apply(sample, motion.crop(SIZE, (20, 20, 40, 40)), min_area=30)
    move.apply(sample, Warp.identity(SIZE), min_area=200)
    assert before == {name: values.tobytes() for name, values in sample.labels.passes.items()}


def test_the_same_bytes_every_time_on_any_number_of_threads() -> None:
    sample = motions.sample(np.random.default_rng(6))
    warp = motions.barrel(k=0.05).then(motions.random_homography(np.random.default_rng(9)))
    before = cv2.getNumThreads()
    seen: set[bytes] = set()
    try:
        for threads in (1, 2, 3):
            cv2.setNumThreads(threads)
            fresh = Warp(warp.source, warp.target, warp.steps)
            moved = move.apply(sample, fresh, same_for_group=True).sample
            parts = [moved.image.pixels.tobytes(), repr(moved.labels.instances).encode()]
            seen.add(b"".join(parts + [moved.labels.passes[n].tobytes() for n in sorted(moved.labels.passes)]))
    finally:
        cv2.setNumThreads(before)
    assert len(seen) == 1


def test_what_cannot_follow_is_counted() -> None:
    sample = motions.sample(np.random.default_rng(7))
    blind = replace(sample, labels=replace(sample.labels, camera=None))
    tilt = motion.perspective(SIZE, [[4, 2], [64, 0], [62, 48], [0, 45]])
    tally = move.apply(blind, tilt).tally
    assert tally["passes_dropped"] == {
        "depth": {"camera_unknown": 1},
        "flow": {"next_frame_unknown": 1},
        "normals": {"camera_unknown": 1},
    }
    posed = sum(i.pose is not None for i in sample.labels.instances)
    assert sum(tally["poses_dropped"].values()) == posed - sum(tally["dropped"].values()) > 0
    assert tally["camera_dropped"] == {}
    assert move.apply(sample, motions.barrel()).tally["camera_dropped"] == {"dense_motion": 1}


def test_canvas_must_fit() -> None:
    sample = motions.sample(np.random.default_rng(8))
    with pytest.raises(Rejected, match="does not fit"):
        move.apply(sample, motion.hflip((64, 48)))


def test_preview_says_what_apply_does_without_pixels() -> None:
    rng = np.random.default_rng(10)
    for _ in range(10):
        sample = motions.sample(rng, passes=False, own_masks=False)
        warp = random_warp(rng)
        seen = move.preview(sample.labels, warp)
        done = move.apply(sample, warp, min_area=0).sample.labels
        assert seen.passes == {}
        assert seen.size == done.size
        assert seen.camera == done.camera
        assert seen.instances == done.instances
