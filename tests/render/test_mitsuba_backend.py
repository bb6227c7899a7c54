"""What comes out of Mitsuba is what the house means by it."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from synthaug.render import mitsuba_backend, variants
from synthaug.render.environment import Lamp, Room
from synthaug.render.mitsuba_backend import Rendered
from synthaug.render.scene import Body, Material, Scene, View, pose, repeated
from synthaug.render.shapes import ATLAS, Plane
from synthaug.render.textures import Checks, Marble, Solid
from tests.render.closeup import ROOM, WHITE, floor, one_die, overhead

pytest.importorskip("mitsuba", reason="Mitsuba 3 is not installed (pip install 'synthaug[render]')")


def shoot(scene: Scene, view: View, variant: str = "scalar_rgb", samples: int = 1) -> Rendered:
    return mitsuba_backend.render(scene, view, samples=samples, denoise=False, variant=variant)


@pytest.fixture(scope="module")
def tilted() -> tuple[Scene, View, Rendered]:
    scene, view = one_die(5), overhead(tilt=0.5, height=0.09)
    return scene, view, shoot(scene, view)


def centres(size: tuple[int, int]) -> np.ndarray:
    y, x = np.mgrid[: size[0], : size[1]]
    return np.stack([x + 0.5, y + 0.5], axis=-1).reshape(-1, 2)


def test_positions_reproject_to_pixel_centres(tilted: tuple[Scene, View, Rendered]) -> None:
    _, view, rendered = tilted
    points = rendered.position.reshape(-1, 3).astype(np.float64)
    assert np.isfinite(points).all()
    assert np.abs(view.camera.project(points) - centres(view.size)).max() < 0.01


def test_extrinsics_put_the_floor_at_zero(tilted: tuple[Scene, View, Rendered]) -> None:
    _, view, rendered = tilted
    to_world = np.linalg.inv(np.array(view.camera.extrinsics))
    world = rendered.position.astype(np.float64) @ to_world[:3, :3].T + to_world[:3, 3]
    assert np.abs(world[rendered.bodies == 2][:, 2]).max() < 1e-6
    top = world[(rendered.bodies == 1) & (np.abs(world[..., 2] - 0.016) < 1e-6)]
    assert len(top) > 50
    assert np.abs(top[:, :2].mean(axis=0) - [0.003, -0.002]).max() < 0.001


def test_depth_of_the_floor_in_closed_form(tilted: tuple[Scene, View, Rendered]) -> None:
    _, view, rendered = tilted
    camera = np.array(view.camera.extrinsics)
    rays = view.camera.rays(centres(view.size)).reshape(*view.size, 3)
    normal, offset = camera[:3, 2], camera[:3, 3] @ camera[:3, 2]
    planar = offset / (rays @ normal)
    floor = rendered.bodies == 2
    assert np.abs(rendered.position[..., 2] - planar)[floor].max() < 1e-6


def test_normals_agree_with_depth_on_the_floor(tilted: tuple[Scene, View, Rendered]) -> None:
    _, view, rendered = tilted
    position = rendered.position.astype(np.float64)
    across, down = np.gradient(position, axis=1), np.gradient(position, axis=0)
    measured = np.cross(down, across)
    measured /= np.linalg.norm(measured, axis=-1, keepdims=True)
    floor = cv2.erode((rendered.bodies == 2).astype(np.uint8), np.ones((5, 5))) > 0
    floor[:1], floor[-1:], floor[:, :1], floor[:, -1:] = False, False, False, False
    cosine = (measured * rendered.normals).sum(axis=-1)[floor]
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < 0.1
    up = np.array(view.camera.extrinsics)[:3, 2]
    assert np.abs(rendered.normals[floor] - up).max() < 1e-5


def test_normals_are_unit_and_face_the_camera(tilted: tuple[Scene, View, Rendered]) -> None:
    rendered = tilted[2]
    assert np.linalg.norm(rendered.normals, axis=-1) == pytest.approx(1, abs=1e-5)
    assert ((rendered.normals * rendered.position).sum(axis=-1) < 0).all()


@pytest.mark.parametrize("face", range(1, 7))
def test_pips_on_top_are_the_class(face: int) -> None:
    scene = one_die(face, yaw=0.3 * face)
    rendered = shoot(scene, overhead((96, 96), 0.04))
    top = (rendered.bodies == 1) & (rendered.position[..., 2] < 0.02401)
    white = (top & (rendered.albedo[..., 1] > 0.45)).astype(np.uint8)
    assert cv2.connectedComponents(white)[0] - 1 == face == scene.bodies[0].class_id
    cell = (rendered.uv[..., 1] * ATLAS[0]).astype(int) * ATLAS[1] + (rendered.uv[..., 0] * ATLAS[1]).astype(int)
    assert (cell[top] == face - 1).all()


def test_pips_are_not_mirrored() -> None:
    """Of a western die with 1 up, 2 to the south and turning left comes 3: seen as uv cells on the sides."""
    rendered = shoot(one_die(1, yaw=0.0), overhead((128, 128), 0.06))
    cell = (rendered.uv[..., 1] * ATLAS[0]).astype(int) * ATLAS[1] + (rendered.uv[..., 0] * ATLAS[1]).astype(int)
    middle = {}
    for face in (2, 3):
        mask = (rendered.bodies == 1) & (cell == face - 1)
        assert mask.any()
        middle[face] = np.argwhere(mask).mean(axis=0) - np.argwhere(rendered.bodies == 1).mean(axis=0)
    (y2, x2), (y3, x3) = middle[2], middle[3]
    assert x2 * -y3 - -y2 * x3 > 0, "1, 2, 3 must run counter-clockwise seen from outside"


def test_albedo_is_the_texture_and_not_the_light(tilted: tuple[Scene, View, Rendered]) -> None:
    rendered = tilted[2]
    assert rendered.albedo[rendered.bodies == 2] == pytest.approx(0.4, abs=1e-3)
    assert rendered.radiance[rendered.bodies == 2].std() > 0.01


def sampled(pixels: np.ndarray, place: np.ndarray) -> np.ndarray:
    """A repeating texture at (s, t) in repeats of it: bilinear between texel centres, written out texel by texel."""
    height, width = pixels.shape[:2]
    x, y = place[..., 0] * width - 0.5, place[..., 1] * height - 0.5
    found = np.zeros((*place.shape[:-1], 3))
    for row in (0, 1):
        for column in (0, 1):
            i, j = np.floor(y).astype(int) + row, np.floor(x).astype(int) + column
            found += (1 - np.abs(y - i))[..., None] * (1 - np.abs(x - j))[..., None] * pixels[i % height, j % width]
    return found


def test_albedo_is_the_texture_where_the_tiling_puts_it() -> None:
    tiling = ((5.0, -3.0, 0.3), (2.0, 7.0, -0.6))
    texture = Marble((0.7, 0.5, 0.3), (0.1, 0.2, 0.3), 3)
    scene = one_die(2)
    ground = replace(scene.bodies[1], material=Material(texture, None, tiling))
    rendered = shoot(replace(scene, bodies=(scene.bodies[0], ground)), overhead(tilt=0.4, height=0.2))
    uv = rendered.uv.astype(np.float64)
    matrix = np.array(tiling)
    expected = sampled(texture.paint(), uv @ matrix[:, :2].T + matrix[:, 2])
    seen = rendered.bodies == 2
    assert np.ptp(expected[seen], axis=0).max() > 0.3
    assert np.abs(rendered.albedo - expected)[seen].max() < 1e-3


def test_coverage_is_the_share_of_a_straight_edge() -> None:
    """A plate with one edge across the picture: closed form from where the edge crosses each pixel."""
    plate = Body("plate", Plane(0.1, 0.1), Material(Solid(WHITE)), pose(np.eye(3), (-0.05, 0, 0.001)), class_id=1)
    below = floor()
    view = overhead((48, 64), 0.05)
    scene = Scene("scene-000000", (plate, below), ROOM)
    settings = {"samples": 1, "denoise": False, "variant": "scalar_rgb"}
    plain, fine = (mitsuba_backend.render(scene, view, **settings, coverage=k) for k in (0, 8))
    assert plain.coverage is None
    assert fine.coverage is not None
    for name in ("radiance", "bodies", "position", "normals", "uv"):
        assert getattr(plain, name).tobytes() == getattr(fine, name).tobytes(), name
    y, x = np.mgrid[: 48 * 20, : 64 * 20] / 20 + 0.025
    rays = view.camera.rays(np.stack([x, y], axis=-1).reshape(-1, 2))
    matrix = np.linalg.inv(np.array(view.camera.extrinsics))
    way, eye = rays @ matrix[:3, :3].T, matrix[:3, 3]
    inside = (eye + way * ((0.001 - eye[2]) / way[:, 2:]))[:, 0] < 0
    share = inside.reshape(48, 20, 64, 20).mean(axis=(1, 3))
    expected = np.where(plain.bodies == 1, share, 1 - share)
    mixed = (share > 0) & (share < 1)
    assert mixed.sum() > 30
    assert np.abs(fine.coverage - expected).max() < 0.08
    assert np.abs(fine.coverage - expected)[mixed].mean() < 0.02
    assert np.abs(fine.albedo - plain.albedo).max() < 1e-5, "the other surface bleeds in"


def test_averaged_albedo_does_not_alias() -> None:
    """A fine pattern, seen from afar, has its mean colour; one ray a pixel has one of its two colours."""
    fine = Material(Checks((0.8, 0.8, 0.8), (0.0, 0.0, 0.0), 1, (64, 64)), None, repeated(9.0, 9.0))
    scene = Scene("scene-000000", (replace(floor(), material=fine),), ROOM)
    settings = {"samples": 1, "denoise": False, "variant": "scalar_rgb"}
    one, many = (
        mitsuba_backend.render(scene, overhead((32, 32), 0.4), **settings, coverage=k).albedo.std() for k in (0, 8)
    )
    assert many < 0.5 * one


def test_nothing_hit_is_nan_and_zero() -> None:
    scene = one_die(3)
    rendered = shoot(replace(scene, bodies=scene.bodies[:1]), overhead())
    empty = rendered.bodies == 0
    assert empty.any()
    assert not empty.all()
    for layer in (rendered.position, rendered.normals, rendered.uv):
        assert np.isnan(layer[empty]).all()
        assert np.isfinite(layer[~empty]).all()
    assert (rendered.albedo[empty] == 0).all()


def shadow_heading(azimuth: float) -> float:
    """Direction in the world, degrees, in which the shadow of a die falls under one lamp."""
    lamp = Lamp(azimuth, 30.0, 20.0, 20.0, (90.0,) * 3)
    view = overhead((64, 64), 0.12)
    rendered = shoot(one_die(2, sky=Room((0.2,) * 3, (0.2,) * 3, (lamp,), 0.0)), view, samples=16)
    light = rendered.radiance[..., 1]
    dark = (rendered.bodies == 2) & (light < 0.6 * np.median(light))
    assert dark.sum() > 20
    to_world = np.linalg.inv(np.array(view.camera.extrinsics))
    world = rendered.position @ to_world[:3, :3].T + to_world[:3, 3]
    x, y = world[dark][:, :2].mean(axis=0) - [0.003, -0.002]
    return float(np.degrees(np.arctan2(y, x)))


def test_lamps_stand_where_the_sky_says() -> None:
    """Azimuth 0 is -y of the world and grows clockwise seen from above."""
    for azimuth in (0.0, 90.0, -120.0):
        away = shadow_heading(azimuth) - (-90 - azimuth) - 180
        assert abs((away + 180) % 360 - 180) < 10, azimuth


def test_bytes_repeat_across_order_and_cache() -> None:
    scene, view = one_die(4), overhead()
    first = shoot(scene, view, samples=4)
    shoot(one_die(6), view)
    mitsuba_backend._load.cache_clear()
    second = shoot(scene, view, samples=4)
    for name in (n for n in Rendered.__slots__ if n != "coverage"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes(), name
    assert not np.array_equal(first.radiance, shoot(scene, replace(view, noise_seed=2), samples=4).radiance)


def test_the_llvm_variant_gives_the_same_labels() -> None:
    complaint = variants.trial("llvm_ad_rgb")
    if complaint:
        pytest.skip(f"llvm_ad_rgb does not run here: {complaint}")
    scene, view = one_die(5), overhead(tilt=0.5, height=0.09)
    ours, theirs = shoot(scene, view), shoot(scene, view, "llvm_ad_rgb")
    assert np.mean(ours.bodies != theirs.bodies) < 0.001
    same = ours.bodies == theirs.bodies
    assert np.abs(ours.position - theirs.position)[same].max() < 1e-5
    assert np.abs(ours.radiance.mean() - theirs.radiance.mean()) < 0.05 * ours.radiance.mean()


def test_denoising_touches_the_picture_only() -> None:
    pytest.importorskip("pyoidn", reason="Open Image Denoise is not installed (pip install 'synthaug[render]')")
    scene, view = one_die(3, sky=ROOM), overhead((64, 64), 0.08)
    truth = shoot(scene, view, samples=256).radiance
    noisy = shoot(scene, view, samples=4)
    clean = mitsuba_backend.render(scene, view, samples=4, denoise=True, variant="scalar_rgb")
    assert np.square(clean.radiance - truth).mean() < 0.5 * np.square(noisy.radiance - truth).mean()
    for name in ("bodies", "position", "normals", "uv", "albedo"):
        assert getattr(clean, name).tobytes() == getattr(noisy, name).tobytes()
