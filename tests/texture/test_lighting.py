"""Light on normals, and light and surface apart, against pictures made of known ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from synthaug.texture import own_light
from synthaug.texture.intrinsic import estimated, light_of
from synthaug.texture.lighting import Light, basis, fit
from synthaug.texture.shading import base_of, fresnel, pure_pixels, separated, unclipped

Array = NDArray[Any]


def normals(count: int, seed: int = 0) -> Array:
    """Unit vectors that face the camera."""
    found = np.random.default_rng(seed).normal(size=(count, 3))
    found[:, 2] = -np.abs(found[:, 2])
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


COEFFICIENTS = np.random.default_rng(1).normal(0, 0.05, (9, 3)) + np.array([[0.6]] + [[0.0]] * 8)


def test_a_polynomial_is_found_again() -> None:
    n = normals(500)
    light = fit((basis(n) @ COEFFICIENTS).astype(np.float32), n, np.ones(500, np.float32))
    assert np.abs(light.irradiance(n) - basis(n) @ COEFFICIENTS).max() < 0.02
    assert light.coefficients[0] == pytest.approx(COEFFICIENTS[0], abs=0.05)


def test_a_picture_of_normals_gets_what_a_list_of_them_gets() -> None:
    rng = np.random.default_rng(2)
    light = Light(rng.normal(0, 1, (9, 3)).astype(np.float32) + np.eye(9, 3, dtype=np.float32), np.zeros(3, np.float32))
    normals = rng.normal(0, 1, (7, 5, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    wanted = light.irradiance(normals.reshape(-1, 3)).reshape(7, 5, 3)
    assert light.irradiance(normals) == pytest.approx(wanted, abs=1e-5)


def test_what_does_not_fit_is_weighed_down() -> None:
    n = normals(1000)
    shading = (basis(n) @ COEFFICIENTS).astype(np.float32)
    shading[:200] *= 0.2
    assert np.abs(fit(shading, n, np.ones(1000, np.float32)).irradiance(n) - basis(n) @ COEFFICIENTS).mean() < 0.03


def test_one_direction_or_none_gives_even_light() -> None:
    n = np.tile(np.array([[0, 0, -1]], np.float32), (50, 1))
    light = fit(np.full((50, 3), 0.7, np.float32), n, np.ones(50, np.float32))
    assert light.irradiance(n[:1])[0] == pytest.approx([0.7] * 3, abs=1e-3)
    assert (light.irradiance(normals(200)) > 0.05).all()
    assert fit(np.zeros((0, 3), np.float32), n[:0], np.zeros(0, np.float32)).irradiance(n[:1])[0].tolist() == [1, 1, 1]
    assert fit(np.zeros((50, 3), np.float32), n, np.zeros(50, np.float32)).irradiance(n[:1])[0].tolist() == [1, 1, 1]


def test_a_coat_deepens_colours_and_mirrors_more_at_a_slant() -> None:
    albedo = np.linspace(0, 1, 11, dtype=np.float32)
    assert np.array_equal(base_of(albedo, 1.0), albedo)
    coated = base_of(albedo, 1.5)
    assert coated[0] == 0
    assert coated[-1] == pytest.approx(1)
    assert (coated[1:-1] < albedo[1:-1]).all()
    straight, slant = fresnel(np.array([[0, 0, -1], [1, 0, 0]], np.float32), np.array([0, 0, -1], np.float32), 1.5)
    assert straight == pytest.approx(0.04)
    assert slant == pytest.approx(1)
    assert not fresnel(normals(5), normals(5), 1.0).any()


def box(size: int = 48) -> tuple[Array, Array, Array, Array]:
    """Albedo with marks, mask, normals of two sides, and light of which the lower side gets a third."""
    rng = np.random.default_rng(0)
    inside = np.zeros((size, size), bool)
    inside[4:-4, 4:-4] = True
    albedo = np.broadcast_to(np.array([0.5, 0.1, 0.05]), (size, size, 3)).copy()
    for _ in range(14):
        y, x = rng.integers(6, size - 10, 2)
        albedo[y : y + 4, x : x + 4] = 0.85
    n = np.broadcast_to(np.array([0, 0, -1.0]), albedo.shape).copy()
    n[size // 2 :] = np.array([0, 0.8, -0.6])
    light = np.where(n[..., 1:2] > 0, 0.25, 0.75) * np.ones(3)
    return albedo.astype(np.float32), inside, n.astype(np.float32), light.astype(np.float32)


@pytest.mark.parametrize("index", [1.0, 1.5])
def test_light_and_reflections_of_an_object_are_told_apart(index: float) -> None:
    albedo, inside, n, light = box()
    base = base_of(albedo, index) * inside[..., None]
    shine = fresnel(n, np.array([0, 0, -1], np.float32), index)
    mirrored = shine[..., None] * np.where(n[..., 1:2] > 0, 0.3, 1.6).astype(np.float32)
    image = base * light + mirrored * inside[..., None]
    even, colour = np.full_like(image, 0.6), np.full(3, 0.6, np.float32)
    pure = pure_pixels(inside, None)
    found = separated(image, base, pure, n, even, shine, colour)
    error = (found.light - light)[pure]
    assert -10 * np.log10(np.square(error).mean()) > (40 if index == 1 else 30)
    if index > 1:
        assert np.abs(found.rest - mirrored)[pure].mean() < 0.012
    assert np.abs(found.base * found.light + found.rest - image)[pure & (found.sure > 0.99)].max() < 1e-5


def test_a_shadow_on_what_is_dark_in_one_colour_has_no_colour() -> None:
    inside = np.ones((96, 96), np.bool_)
    albedo = np.broadcast_to(np.float32([0.3, 0.1, 0.004]), (96, 96, 3)).astype(np.float32)
    n = np.broadcast_to(np.float32([0, 0, -1]), (96, 96, 3)).astype(np.float32)
    light = np.ones((96, 96, 3), np.float32)
    light[40:60, 40:60] = 0.25
    none, white = np.zeros((96, 96), np.float32), np.ones(3, np.float32)
    found = separated(albedo * light, albedo, inside, n, np.ones_like(light), none, white).light
    assert found[44:56, 44:56] == pytest.approx(0.25, abs=0.04)
    assert np.abs(found - light)[64:].max() < 0.04


def test_white_is_not_believed() -> None:
    assert unclipped(np.array([0.2, 0.7, 0.95, 1.0], np.float32)).tolist() == [1, 1, 0, 0]
    albedo, inside, n, light = box()
    base = base_of(albedo, 1.0) * inside[..., None]
    image = np.minimum(base * light * 2.2, 1)
    found = separated(
        image, base, pure_pixels(inside, None), n, np.ones_like(image), np.zeros(inside.shape, np.float32),
        np.ones(3, np.float32),
    )  # fmt: skip
    top = pure_pixels(inside, None) & (n[..., 1] == 0)
    assert found.light[top].mean() == pytest.approx(1.65, rel=0.06)


def test_light_of_an_object_without_numbers_is_the_picture_s() -> None:
    nothing = np.zeros((6, 6, 3), np.float32)
    shine = np.full((6, 6), 0.04, np.float32)
    pixels = own_light.Pixels(nothing, nothing, shine, np.broadcast_to(np.float32(-0.5), (6, 6, 3)), nothing)
    factor, mirrored = own_light.fit(pixels, np.ones(3, np.float32))
    assert (factor == 1).all()
    assert mirrored == pytest.approx(np.full((6, 6, 3), 0.028))


def test_without_albedo_sides_are_light_and_marks_are_albedo() -> None:
    albedo, inside, n, light = box()
    image = albedo * light * inside[..., None]
    found = estimated(image, inside, pure_pixels(inside, None), n, np.full_like(image, 0.5))
    ratio = (found.light / light)[inside]
    assert np.std(np.log(ratio)) < 0.12
    marks = inside & (albedo[..., 1] > 0.5)
    assert found.base[marks].mean() > 2.5 * found.base[inside & ~marks].mean()


def test_without_albedo_the_brightest_is_white_paint() -> None:
    n = normals(3000)
    ids = np.random.default_rng(0).integers(0, 4, 3000).astype(np.int32)
    shade = 0.7 - 0.3 * n[:, 1] * 0.5
    albedo = np.array([0.8, 0.2, 0.4, 0.1])[ids]
    light = light_of((albedo * shade)[:, None].repeat(3, 1).astype(np.float32), n, ids)
    assert light.irradiance(n)[:, 0] == pytest.approx(shade, rel=0.06)
