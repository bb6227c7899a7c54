from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from synthaug.camera import Camera, matrix
from synthaug.labels import Category, Labels
from synthaug.warp import dense, motion
from synthaug.warp.motion import Warp
from synthaug.warp.passes import move_passes
from synthaug.warp.resample import Resampler
from synthaug.warp.view import follow
from tests.warp import motions

SIZE = (192, 256)
CAMERA = Camera(matrix([[280, 1.5, 131], [0, 272, 92], [0, 0, 1]], 3, 3))
Surface = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def moved(labels: Labels, warp: Warp, same_for_group: bool = False) -> tuple[Labels, dict[str, str]]:
    view = follow(warp, labels.camera)
    passes, lost = move_passes(labels, Resampler(warp), view, same_for_group, "constant")
    Labels(
        warp.target, labels.categories, (), {n: v for n, v in passes.items() if n != "instance"}, view.camera
    ).check()
    return Labels(warp.target, labels.categories, (), passes, view.camera), lost


def plane(rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    normal = np.array([0.45, -0.5, -0.74]) / np.linalg.norm([0.45, -0.5, -0.74])
    t = (normal @ (0.1, 0.2, 5.0)) / (rays @ normal)
    return t, np.broadcast_to(normal, rays.shape)


def _quadric(rays: np.ndarray, centre: np.ndarray, radius: float, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    d, c = rays * keep, centre * keep
    a, b, e = (d * d).sum(-1), d @ c, c @ c - radius**2
    with np.errstate(invalid="ignore"):
        t = (b - np.sqrt(b * b - a * e)) / a
    return t, (t[..., None] * rays - centre) * keep / radius


def sphere(rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _quadric(rays, np.array([0.1, -0.05, 4.0]), 1.2, np.ones(3))


def cylinder(rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _quadric(rays, np.array([-0.2, 0.0, 5.0]), 1.4, np.array([1.0, 0.0, 1.0]))


def render(surface: Surface, camera: Camera, size: tuple[int, int] = SIZE) -> Labels:
    rays = camera.rays(dense.centres(size))
    t, normals = surface(rays)
    depth = t.astype(np.float32).reshape(size)
    vectors = np.where(np.isfinite(t)[:, None], normals, np.nan).astype(np.float32).reshape(*size, 3)
    position = (t[:, None] * rays).astype(np.float32).reshape(*size, 3)
    passes = {"depth": depth, "normals": vectors, "position": position}
    passes["instance"] = np.isfinite(depth).astype(np.int32)
    return Labels(size, (), (), passes, camera)


def normals_from_depth(depth: np.ndarray, camera: Camera) -> np.ndarray:
    """Central differences of back-projected points, turned towards the camera."""
    size = depth.shape
    points = (camera.rays(dense.centres(size)) * depth.reshape(-1, 1).astype(np.float64)).reshape(*size, 3)
    across, down = np.full_like(points, np.nan), np.full_like(points, np.nan)
    across[:, 1:-1] = points[:, 2:] - points[:, :-2]
    down[1:-1] = points[2:] - points[:-2]
    normals = np.cross(across, down)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return normals * -np.sign((normals * points).sum(-1, keepdims=True))


def angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(a - b, axis=-1) / 2, 0, 1)))


def away_from_edges(depth: np.ndarray) -> np.ndarray:
    solid = np.isfinite(depth).astype(np.uint8)
    solid[[0, -1]] = solid[:, [0, -1]] = 0
    return cv2.erode(solid, np.ones((13, 13), np.uint8)).astype(bool)


@pytest.mark.parametrize("surface", [plane, sphere, cylinder])
def test_normals_of_the_warped_depth_are_the_warped_normals(surface: Surface) -> None:
    source = render(surface, CAMERA)
    rng = np.random.default_rng(5)
    worst = 0.0
    for _ in range(8):
        warp = motions.random_homography(rng, SIZE, 0.08).then(motion.affine(SIZE, scale=(1.5, 1.5)))
        after, _ = moved(source, warp)
        assert after.camera is not None
        depth, normals = after.passes["depth"], after.passes["normals"]
        ok = away_from_edges(depth)
        assert ok.sum() > 2000
        assert np.allclose(np.linalg.norm(normals[ok], axis=1), 1, atol=1e-5)
        gap = angles(normals_from_depth(depth, after.camera), normals)[ok]
        worst = max(worst, float(np.percentile(gap, 99)))
    assert worst < 0.5


@pytest.mark.parametrize("surface", [plane, sphere, cylinder])
def test_warped_passes_equal_a_render_by_the_new_camera(surface: Surface) -> None:
    """The strongest statement: render in world axes with the new camera, no warp involved."""
    source = render(surface, CAMERA)
    rng = np.random.default_rng(6)
    for _ in range(6):
        warp = motions.random_homography(rng, SIZE, 0.1)
        after, _ = moved(source, warp)
        turn = follow(warp, CAMERA).rotation
        assert after.camera is not None
        assert turn is not None
        rays = after.camera.rays(dense.centres(SIZE)) @ turn  # into old axes
        t, normals = surface(rays)
        depth = t.reshape(SIZE)
        ok = away_from_edges(np.where(np.isfinite(depth), after.passes["depth"], np.nan))
        assert ok.sum() > 1000
        assert np.percentile(np.abs(after.passes["depth"] / depth - 1)[ok], 99) < 2e-4
        new_normals = (normals @ turn.T).reshape(*SIZE, 3)
        assert np.percentile(angles(after.passes["normals"], new_normals)[ok], 99) < 0.1
        new_position = (t[:, None] * (rays @ turn.T)).reshape(*SIZE, 3)
        assert np.percentile(np.abs(after.passes["position"] - new_position)[ok], 99) < 1e-3


def test_mirror_flips_vectors_exactly() -> None:
    source = render(sphere, CAMERA)
    after, _ = moved(source, motion.hflip(SIZE))
    assert after.camera is not None
    assert after.camera.mirrored
    flipped = source.passes["normals"][:, ::-1]
    same = np.isfinite(flipped).all(axis=2)
    assert CAMERA.K[0, 1] != 0  # skew makes the axes turn a little; a square camera has whole numbers
    plain = Labels(SIZE, (), (), dict(source.passes), Camera(matrix([[280, 0, 128], [0, 280, 96], [0, 0, 1]], 3, 3)))
    new = moved(plain, motion.hflip(SIZE))[0].passes["normals"]
    assert (new[same] == flipped[same] * np.float32([-1, 1, 1])).all()
    assert moved(plain, motion.hflip(SIZE))[0].passes["depth"].tobytes() == plain.passes["depth"][:, ::-1].tobytes()


def test_unknown_camera_affine_keeps_depth_and_turns_normals() -> None:
    source = render(plane, CAMERA)
    unknown = Labels(SIZE, (), (), {k: v for k, v in source.passes.items() if k != "position"}, None)
    warp = motion.affine(SIZE, degrees=90).then(motion.affine(SIZE, scale=(1.5, 1.5), translate=(3, 4)))
    after, lost = moved(unknown, warp)
    assert lost == {}
    assert after.camera is None
    spots = warp.backward_grid().reshape(-1, 2).astype(np.float64)
    truth = (plane(CAMERA.rays(spots))[0]).reshape(SIZE)
    ok = away_from_edges(after.passes["depth"])
    assert np.abs(after.passes["depth"] / truth - 1)[ok].max() < 1e-4
    old = source.passes["normals"][90, 120]
    assert np.allclose(after.passes["normals"][90, 120], (old[1], -old[0], old[2]), atol=1e-5)


def test_unknown_camera_projective_drops_what_needs_it() -> None:
    source = render(plane, CAMERA)
    unknown = Labels(SIZE, (), (), dict(source.passes), None)
    after, lost = moved(unknown, motion.perspective(SIZE, [[9, 4], [256, 0], [250, 190], [0, 180]]))
    assert lost == dict.fromkeys(("depth", "normals", "position"), "camera_unknown")
    assert set(after.passes) == {"instance"}


def test_dense_motion_keeps_values_of_the_same_ray() -> None:
    source = render(plane, CAMERA)
    lens = motions.barrel(SIZE, 0.05)
    after, lost = moved(source, lens)
    assert lost == {}
    assert after.camera is None
    rays = CAMERA.rays(lens.backward_grid().reshape(-1, 2).astype(np.float64))
    truth = plane(rays)[0].reshape(SIZE)
    ok = away_from_edges(after.passes["depth"])
    assert np.abs(after.passes["depth"] / truth - 1)[ok].max() < 1e-4
    assert angles(after.passes["normals"], plane(rays)[1].reshape(*SIZE, 3))[ok].max() < 0.01


def test_lens_with_its_camera_reprojects() -> None:
    """A dense map that adds a lens: positions of the new picture, projected by the new camera, hit their pixel."""
    source = render(sphere, CAMERA)
    coefficients = (-0.12, 0.02, 0.0, 0.0, 0.0)
    after_lens = Camera(CAMERA.intrinsics, None, coefficients)
    bent = CAMERA.rays(dense.centres(SIZE))[:, :2]
    straight = cv2.undistortPoints(
        bent.reshape(-1, 1, 2), np.eye(3), np.array(coefficients), criteria=(3, 50, 1e-10)
    ).reshape(-1, 2)
    pixels = CAMERA.project(np.column_stack([straight, np.ones(len(straight))]))
    warp = Warp.dense(pixels.reshape(*SIZE, 2), SIZE, after_lens).then(motion.affine(SIZE, degrees=25, scale=(1, -1)))
    after, lost = moved(source, warp)
    assert lost == {}
    assert after.camera is not None
    assert after.camera.mirrored
    position = after.passes["position"]
    ok = away_from_edges(after.passes["depth"])
    seen = after.camera.project(position[ok].astype(np.float64))
    assert np.abs(seen - dense.centres(SIZE).reshape(*SIZE, 2)[ok]).max() < 0.01
    assert np.allclose(position[..., 2][ok], after.passes["depth"][ok], rtol=1e-4)


def test_flow_follows_when_the_next_frame_moves_alike() -> None:
    rng = np.random.default_rng(8)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    flow = np.dstack([3 + 0.02 * x, -2 + 0.01 * y]).astype(np.float32)
    labels = Labels(SIZE, (), (), {"flow": flow}, None)
    for warp in (motions.random_homography(rng, SIZE), motions.barrel(SIZE, 0.05)):
        assert moved(labels, warp)[1] == {"flow": "next_frame_unknown"}
        after, lost = moved(labels, warp, same_for_group=True)
        assert lost == {}
        spots = warp.backward_grid().reshape(-1, 2).astype(np.float64)
        there = spots + np.column_stack([3 + 0.02 * spots[:, 0], -2 + 0.01 * spots[:, 1]])
        truth = (warp.forward(there) - dense.centres(SIZE)).reshape(*SIZE, 2)
        ok = np.isfinite(after.passes["flow"]).all(axis=2) & np.isfinite(truth).all(axis=2)
        ok &= ((spots > 1) & (spots < (255, 191))).all(axis=1).reshape(SIZE)
        assert ok.sum() > 10000
        assert np.abs(after.passes["flow"] - truth)[ok].max() < 0.01


def test_uncovered_pixels_are_marked_as_ignored() -> None:
    ground, semantic = (Category("ground"),), np.full(SIZE, 1, np.int32)
    old = np.zeros(SIZE, bool)
    old[10:20, 30:60] = True
    crop = motion.crop(SIZE, (-10, -5, 256, 192))
    for passes in ({"semantic": semantic}, {"semantic": semantic, "ignore": old}, {"ignore": old}):
        after, _ = moved(Labels(SIZE, ground, (), passes, None), crop)
        ignore = after.passes["ignore"]
        assert ignore[:5].all()
        assert ignore[:, :10].all()
        assert (ignore[5:, 10:] == passes.get("ignore", np.zeros(SIZE, bool))).all()
    after, _ = moved(
        Labels(SIZE, ground, (), {"semantic": semantic}, None), motion.affine(SIZE, scale=(2, 2), degrees=3)
    )
    assert "ignore" not in after.passes
    after, _ = moved(Labels(SIZE, ground, (), {"semantic": semantic}, None), motion.affine(SIZE, degrees=30))
    assert (after.passes["ignore"] == (after.passes["semantic"] == 0)).all()
    after, _ = moved(Labels(SIZE, ground, (), {"instance": semantic * 0}, None), crop)
    assert "ignore" not in after.passes


def test_albedo_and_alpha_are_antialiased() -> None:
    board = ((np.indices(SIZE).sum(axis=0) % 2) * 1.0).astype(np.float32)
    labels = Labels(SIZE, (), (), {"alpha": board, "albedo": np.dstack([board] * 3)}, None)
    after, _ = moved(labels, motion.resize(SIZE, (48, 64)))
    assert np.allclose(after.passes["alpha"], 0.5)
    assert np.allclose(after.passes["albedo"], 0.5)
