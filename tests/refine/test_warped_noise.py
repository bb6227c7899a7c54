"""Noise along a sequence: white and normal by every measure, and stuck to the surfaces."""

from __future__ import annotations

import math

import numpy as np
import pytest

from synthaug import seeds
from synthaug.camera import Camera, from_fov, matrix
from synthaug.errors import Rejected
from synthaug.labels import Category, Instance, Labels
from synthaug.refine.correspond import Correspondence, by_depth, by_flow, consistency
from synthaug.refine.warped_noise import carry, of_surfaces, reduced

SIZE = (96, 128)
BASE = from_fov(128, 96, 60)
FOCAL = BASE.intrinsics[0][0]


def camera(shift: tuple[float, float, float] = (0, 0, 0), yaw: float = 0.0) -> Camera:
    """Standing at `shift` in the world, turned by `yaw` radians about y."""
    rotation = np.array([[math.cos(yaw), 0, -math.sin(yaw)], [0, 1, 0], [math.sin(yaw), 0, math.cos(yaw)]])
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, -rotation @ np.array(shift)
    return Camera(BASE.intrinsics, matrix(pose, 4, 4))


def wall(distance: float, shift: tuple[float, float, float] = (0, 0, 0), **passes: np.ndarray) -> Labels:
    """A wall at z = `distance` of the world, seen straight on."""
    depth = np.full(SIZE, distance - shift[2], np.float32)
    return Labels(SIZE, (), (), {"depth": depth, **passes}, camera(shift))


def with_box(x: int, moved: float = 0.0) -> Labels:
    """The wall with a box 2 m away, 20 pixels wide, whose pose is at `moved` metres."""
    ids = np.zeros(SIZE, np.int32)
    ids[30:60, x : x + 20] = 5
    depth = np.where(ids == 5, np.float32(2), np.float32(8))
    pose = np.eye(4)
    pose[:3, 3] = (moved, 0, 2)
    box = Instance(5, 1, (float(x), 30.0, x + 20.0, 60.0), pose=matrix(pose, 4, 4), object_id="box")
    return Labels(SIZE, (Category("box"),), (box,), {"depth": depth, "instance": ids}, camera())


def assert_white(noise: np.ndarray) -> None:
    """Moments, tails and neighbours of standard normal noise, each within five standard errors."""
    n = noise.size
    assert np.isfinite(noise).all()
    for power, expected, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((noise.astype(np.float64) ** power).mean() - expected) < 5 * math.sqrt(spread / n)
    ordered = np.sort(noise.reshape(-1).astype(np.float64))
    normal = np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in ordered[:: max(n // 2000, 1)]])
    ranks = np.arange(n)[:: max(n // 2000, 1)] / n
    assert np.abs(normal - ranks).max() < 2.2 / math.sqrt(n)
    for dy, dx in ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0)):
        product = noise[..., dy:, dx:] * noise[..., : noise.shape[-2] - dy, : noise.shape[-1] - dx]
        assert abs(product.mean(dtype=np.float64)) < 5 / math.sqrt(product.size)
    if len(noise) > 1:
        assert abs((noise[0] * noise[1]).mean(dtype=np.float64)) < 5 / math.sqrt(noise[0].size)


def flow(u: float, v: float) -> dict[str, np.ndarray]:
    return {"flow": np.broadcast_to(np.array([u, v], np.float32), (*SIZE, 2)).copy()}


def test_a_whole_pixel_of_flow_moves_the_noise_by_it_and_fills_what_comes_into_view() -> None:
    frame, following = Labels(SIZE, (), (), flow(3, -2)), Labels(SIZE)
    noise = seeds.normal(1, (4, *SIZE))
    moved, share = carry(noise, by_flow(frame, following), 2)
    assert np.array_equal(moved[:, :-2, 3:], noise[:, 2:, :-3])
    assert share == (96 - 2) * (128 - 3) / (96 * 128)
    assert np.array_equal(moved[:, -2:], seeds.normal(2, (4, *SIZE))[:, -2:])


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.7])
def test_carried_noise_stays_white_and_normal_when_surfaces_shrink_and_grow(scale: float) -> None:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    places = np.stack([(x - 64) * scale + 64.3, (y - 48) * scale + 48.7 + np.sin(x / 9)], axis=-1)
    grid = np.stack([x, y], axis=-1)
    frame = Labels(SIZE, (), (), {"flow": (places - grid).astype(np.float32)})
    noise = seeds.normal(1, (4, *SIZE))
    for step in range(3):
        before = noise
        noise, share = carry(noise, by_flow(frame, Labels(SIZE)), 10 + step)
        assert_white(noise)
        assert_white(reduced(noise, 8))
        # No value twice: all that was carried is there once.
        kept = np.isin(noise, before)
        assert abs(kept.mean() - share) < 1e-3
        assert len(np.unique(noise)) > 0.999 * noise.size
    if scale > 1:
        assert abs(share - 1 / scale**2) < 0.05


def test_nearer_surfaces_win_where_two_meet() -> None:
    depth = np.full(SIZE, 10, np.float32)
    depth[:, :64] = 2
    motion = np.zeros((*SIZE, 2), np.float32)
    motion[:, :64, 0] = 10
    frame = Labels(SIZE, (), (), {"flow": motion, "depth": depth})
    noise = seeds.normal(1, (1, *SIZE))
    moved, _ = carry(noise, by_flow(frame, Labels(SIZE)), 2)
    assert np.array_equal(moved[..., 10:74], noise[..., :64])
    assert np.array_equal(moved[..., 74:], noise[..., 74:])
    assert np.array_equal(moved[..., :10], seeds.normal(2, (1, *SIZE))[..., :10])


def test_depth_and_poses_give_the_flow_of_a_translation_in_closed_form() -> None:
    way = by_depth(wall(5), wall(5, (0.1, -0.05, 0)))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    seen = np.isfinite(way.places).all(axis=-1)
    assert np.allclose(way.places[seen], np.stack([x - FOCAL * 0.1 / 5, y + FOCAL * 0.05 / 5], -1)[seen], atol=1e-3)
    assert abs(seen.mean() - (128 - FOCAL * 0.02) * (96 - FOCAL * 0.01) / (128 * 96)) < 0.02


def test_what_is_hidden_has_no_correspondence_and_objects_move_with_their_poses() -> None:
    # 20 pixels to the right at 2 m.
    metres = 20 * 2 / FOCAL
    frame, other = with_box(40), with_box(60, metres)
    way = by_depth(frame, other)
    x = np.mgrid[: SIZE[0], : SIZE[1]][1] + 0.5
    assert np.allclose(way.places[30:60, 40:60, 0], x[30:60, 40:60] + 20, atol=1e-3)
    assert np.isnan(way.places[30:60, 60:80]).all()
    assert np.allclose(way.places[:, 90:, 0], x[:, 90:], atol=1e-3)
    noise = seeds.normal(1, (1, *SIZE))
    moved, _ = carry(noise, way, 2)
    assert np.array_equal(moved[:, 30:60, 60:80], noise[:, 30:60, 40:60])
    assert np.array_equal(moved[:, 30:60, 40:60], seeds.normal(2, (1, *SIZE))[:, 30:60, 40:60])


def test_the_sky_turns_with_the_camera() -> None:
    sky = np.full(SIZE, np.nan, np.float32)
    frames = [Labels(SIZE, (), (), {"depth": sky}, camera((shift, 0, 0), yaw)) for shift, yaw in ((0, 0), (0.5, 0.05))]
    way = by_depth(*frames)
    row, column = 48, 90
    direction = math.atan2(column + 0.5 - 64, FOCAL) - 0.05
    assert abs(way.places[row, column, 0] - (64 + FOCAL * math.tan(direction))) < 0.1
    # A turn is found again, and the step aside changes nothing at that distance.
    one, other = (of_surfaces(frame, 4, anchor=3, seed=k)[0] for k, frame in enumerate(frames))
    assert found_again(one, other, way) > 0.4


def found_again(one: np.ndarray, other: np.ndarray, way: Correspondence, factor: int = 4) -> float:
    """Correlation of two frames' noise on a coarser grid, at the places that show the same surface."""
    places = way.places[factor // 2 :: factor, factor // 2 :: factor]
    seen = np.isfinite(places).all(axis=-1)
    x, y = ((places[seen][:, axis] / factor).astype(int) for axis in (0, 1))
    pairs = reduced(one, factor)[:, seen], reduced(other, factor)[:, y, x]
    return float(np.corrcoef(np.stack(pairs).reshape(2, -1))[0, 1])


@pytest.mark.parametrize("cell", [0.5, 2.5, 7.0])
def test_noise_of_surfaces_is_white_and_normal_whatever_the_cubes(cell: float) -> None:
    tilted = np.broadcast_to(np.linspace(2, 9, SIZE[1], dtype=np.float32), SIZE).copy()
    for frame in (wall(5), Labels(SIZE, (), (), {"depth": tilted}, camera((0.3, 0.1, 0), 0.2))):
        noise, share = of_surfaces(frame, 4, anchor=99, seed=10, cell=cell)
        assert noise.dtype == np.float32
        assert_white(noise)
        assert_white(reduced(noise, 4))
        assert 0 < share <= 1


def test_noise_of_surfaces_is_found_again_from_elsewhere_and_under_no_other_anchor() -> None:
    frames = [wall(5, (0.013 * k, 0.007 * k, 0.0)) for k in range(2)]
    one, other = (of_surfaces(frame, 4, anchor=99, seed=10 + k)[0] for k, frame in enumerate(frames))
    way = by_depth(*frames)
    assert found_again(one, other, way) > 0.6
    assert abs(found_again(one, of_surfaces(frames[1], 4, anchor=100, seed=11)[0], way)) < 0.09
    # Two channels of one place have nothing in common either.
    assert abs(found_again(one, np.roll(other, 1, axis=0), way)) < 0.09


@pytest.mark.parametrize("distance", [3.1, 5.0, 8.9])
def test_who_walks_toward_a_wall_finds_noise_of_surfaces_again(distance: float) -> None:
    frames = wall(distance), wall(distance, (0.1, 0.05, 0.3))
    one, other = (of_surfaces(frame, 4, anchor=99, seed=10 + k)[0] for k, frame in enumerate(frames))
    assert found_again(one, other, by_depth(*frames)) > 0.3


def test_noise_of_surfaces_is_a_function_of_seeds_and_labels_and_goes_with_the_object() -> None:
    frame, other = with_box(40), with_box(60, 20 * 2 / FOCAL)
    one, again = (of_surfaces(frame, 4, anchor=5, seed=6)[0] for _ in range(2))
    assert one.tobytes() == again.tobytes()
    moved, _ = of_surfaces(other, 4, anchor=5, seed=7)
    way = by_depth(frame, other)
    of_box = np.where((frame.passes["instance"] == 5)[..., None], way.places, np.nan)
    assert found_again(one, moved, Correspondence(of_box, way.near, way.size)) > 0.5
    assert frame.passes["depth"].tobytes() == with_box(40).passes["depth"].tobytes()


def test_reducing_keeps_the_variance_and_moves_by_parts_of_a_place() -> None:
    noise = seeds.normal(1, (4, 256, 256))
    coarse = reduced(noise, 8)
    assert coarse.shape == (4, 32, 32)
    assert np.allclose(coarse[0, 0, 0], noise[0, :8, :8].sum() / 8, atol=1e-5)
    shifted = reduced(np.roll(noise, 2, axis=2), 8)
    assert abs(np.corrcoef(coarse.reshape(-1), shifted.reshape(-1))[0, 1] - 0.75) < 0.05
    with pytest.raises(Rejected, match="multiple"):
        reduced(noise[:, :30], 8)


def test_consistency_is_nothing_for_the_same_surface_and_the_difference_for_another() -> None:
    frames = wall(5), wall(5, (4 * 5 / FOCAL, 0, 0))
    texture = np.random.default_rng(0).random((3, 96, 140), dtype=np.float32)
    one, other = texture[..., :128], texture[..., 4:132]
    way = by_depth(*frames)
    same = consistency(one, other, way)
    assert same["difference"] < 0.05
    assert abs(same["visible"] - 124 / 128) < 1e-3
    assert abs(consistency(one, other * 0 + one.mean(), way)["difference"] - 255 * 0.25) < 2
    assert consistency(one, np.clip(other + 0.1, 0, 2), way)["difference"] == pytest.approx(25.5, abs=0.05)


def test_nothing_in_common_is_said() -> None:
    way = by_depth(wall(5), wall(5, (100, 0, 0)))
    found = consistency(np.zeros((3, *SIZE), np.float32), np.zeros((3, *SIZE), np.float32), way)
    assert math.isnan(found["difference"])
    assert found["visible"] == 0
    noise, share = carry(seeds.normal(1, (1, *SIZE)), way, 2)
    assert share == 0
    assert np.array_equal(noise, seeds.normal(2, (1, *SIZE)))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (Labels(SIZE), "camera with a pose"),
        (Labels(SIZE, (), (), {}, BASE), "camera with a pose"),
        (Labels(SIZE, (), (), {}, camera()), "depth, position or flow"),
    ],
)
def test_missing_facts_are_named(labels: Labels, words: str) -> None:
    with pytest.raises(Rejected, match=words):
        by_depth(labels, labels)
    with pytest.raises(Rejected, match=words):
        of_surfaces(labels, 1, 1, 2)
    with pytest.raises(Rejected, match="no flow pass"):
        by_flow(labels, labels)
