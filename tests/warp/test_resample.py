from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings

from synthaug.errors import Rejected
from synthaug.warp import motion
from synthaug.warp.motion import Warp
from synthaug.warp.resample import Resampler, picture
from synthaug.warp.whole import whole_pixels
from tests.warp import motions
from tests.warp.motions import SIZE

NOISE = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255.0**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


def smooth(size: tuple[int, int], seed: int = 0, sigma: float = 1.5) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), sigma)
    return np.clip((blurred - 128) * 3 * sigma + 128, 0, 255).astype(np.uint8)


def truth(pixels: np.ndarray, warp: Warp, count: int = 8) -> np.ndarray:
    """Box average of `count` x `count` bilinear samples per target pixel, in float64, in plain numpy."""
    height, width = warp.target
    total = np.zeros((height, width, 3))
    padded = np.pad(pixels.astype(float), ((1, 1), (1, 1), (0, 0)))
    offsets = (np.arange(count) + 0.5) / count
    for oy in offsets:
        for ox in offsets:
            x, y = np.meshgrid(np.arange(width) + ox, np.arange(height) + oy)
            spots = warp.backward(np.column_stack([x.ravel(), y.ravel()])) + 0.5
            inside = (np.isfinite(spots) & (spots >= 0) & (spots < (padded.shape[1] - 1, padded.shape[0] - 1))).all(1)
            spots = np.where(inside[:, None], spots, 0)
            c, r = np.floor(spots).astype(int).T
            fx, fy = (spots - np.floor(spots)).T[:, :, None]
            low = padded[r, c] * (1 - fx) + padded[r, c + 1] * fx
            high = padded[r + 1, c] * (1 - fx) + padded[r + 1, c + 1] * fx
            total += ((low * (1 - fy) + high * fy) * inside[:, None]).reshape(total.shape)
    return total / count**2


@pytest.mark.parametrize(
    ("warp", "expected"),
    [
        (motion.hflip(SIZE), NOISE[:, ::-1]),
        (motion.vflip(SIZE), NOISE[::-1]),
        (motion.crop(SIZE, (7, 3, 40, 31)), NOISE[3:31, 7:40]),
        (motion.rotation(SIZE, 90, expand=True), np.rot90(NOISE)),
        (motion.rotation(SIZE, 180), np.rot90(NOISE, 2)),
        (motion.rotation(SIZE, 270, expand=True), np.rot90(NOISE, 3)),
        (motion.hflip(SIZE).then(motion.crop(SIZE, (7, 3, 40, 31))), NOISE[:, ::-1][3:31, 7:40]),
        (motion.rotation(SIZE, 90, expand=True).then(motion.vflip((64, 48))), np.rot90(NOISE)[::-1]),
        (motion.crop(SIZE, (-2, -3, 66, 51)), np.pad(NOISE, ((3, 3), (2, 2), (0, 0)))),
        (motion.crop(SIZE, (100, 100, 110, 110)), np.zeros((10, 10, 3), np.uint8)),
    ],
)
def test_whole_pixel_motions_are_slices(warp: Warp, expected: np.ndarray) -> None:
    assert whole_pixels(warp) is not None
    moved = picture(NOISE, warp)
    assert moved.dtype == np.uint8
    assert moved.tobytes() == np.ascontiguousarray(expected).tobytes()
    ids = NOISE[..., 0].astype(np.int32)
    assert (Resampler(warp).nearest(ids) == expected[..., 0]).all()
    assert (picture(NOISE.astype(np.float32), warp) == expected).all()


def test_other_motions_are_not_taken_for_whole_pixels() -> None:
    for warp in (
        motion.crop(SIZE, (0.5, 0, 10.5, 10)),
        motion.rotation(SIZE, 90.001, expand=True),
        motion.rotation((47, 64), 90),  # half a pixel off on a canvas of odd difference
        motion.resize(SIZE, (96, 128)),
        motion.perspective(SIZE, [[0, 0], [64, 0], [64, 48.01], [0, 48]]),
    ):
        assert whole_pixels(warp) is None


@settings(max_examples=40, deadline=None)
@given(motions.seeds)
def test_ids_come_from_the_pixel_that_holds_the_point(seed: int) -> None:
    rng = np.random.default_rng(seed)
    warp = motions.random_homography(rng) if seed % 3 else motions.barrel(k=0.1)
    ids = rng.integers(0, 1 << 30, SIZE).astype(np.int32)
    spots = warp.backward_grid().astype(np.float64)
    rim = np.abs(spots - np.rint(spots)).min(axis=2) < 1e-3  # float32 may round across a pixel border there
    x, y = np.nan_to_num(np.floor(spots), nan=-1).astype(int).transpose(2, 0, 1)
    inside = (x >= 0) & (y >= 0) & (x < 64) & (y < 48)
    expected = np.where(inside, ids[np.clip(y, 0, 47), np.clip(x, 0, 63)], 0)
    resampler = Resampler(warp)
    moved = resampler.nearest(ids)
    assert moved.dtype == np.int32
    assert (moved == expected)[~rim].all()
    covered = np.ones(warp.target, bool) if resampler.covered is None else resampler.covered
    assert (covered == inside)[~rim].all()
    flags = (ids & 1).astype(bool)
    assert (resampler.nearest(flags) == (moved & 1).astype(bool))[covered].all()


@pytest.mark.parametrize("scale", [0.9, 1.0, 1.7])
def test_linear_resampling_is_close_to_the_truth(scale: float) -> None:
    size = (96, 128)
    pixels = smooth(size)
    warp = motion.affine(size, scale=(scale, scale), degrees=17, translate=(2.3, -1.1))
    assert psnr(picture(pixels, warp), truth(pixels, warp)) > 32


@pytest.mark.parametrize("degrees", [0.0, 20.0])
@pytest.mark.parametrize("scale", [0.45, 0.37, 0.2])
def test_minified_pictures_do_not_alias(scale: float, degrees: float) -> None:
    size = (256, 256)
    y, x = np.mgrid[:256, :256] - 127.5
    plate = np.repeat((127.5 + 127.5 * np.cos(np.pi * (x * x + y * y) / 256))[..., None], 3, axis=2).astype(np.uint8)
    small = int(256 * scale)
    array = np.diag([scale, scale, 1]) @ motion.rotation(size, degrees).matrix
    warp = Warp.homography(array, size, (small, small))
    expected = truth(plate, warp, 12)
    assert psnr(picture(plate, warp), expected) > 35
    aliased = cv2.warpPerspective(plate, _centred(warp.matrix), (small, small))
    assert psnr(picture(plate, warp), expected) > psnr(aliased, expected) + 10


def _centred(matrix: np.ndarray) -> np.ndarray:
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    return np.linalg.inv(half) @ matrix @ half


def test_checkerboard_shrinks_to_grey() -> None:
    board = np.repeat(((np.indices((128, 128)).sum(axis=0) % 2) * 255).astype(np.uint8)[..., None], 3, axis=2)
    for warp in (motion.resize((128, 128), (32, 32)), motion.resize((128, 128), (50, 37))):
        small = picture(board, warp)
        assert np.abs(small.astype(int) - 127.5).max() < 30
    turned = picture(board, motion.affine((128, 128), scale=(0.25, 0.25), degrees=30))[54:74, 54:74]
    assert np.abs(turned.astype(int) - 127.5).max() < 12


def test_dense_maps_are_antialiased_too() -> None:
    size = (240, 320)
    pixels = smooth(size, sigma=0.8)
    lens = motions.barrel(size, k=0.05)
    warp = lens.then(motion.resize(size, (80, 100)))
    assert psnr(picture(pixels, warp), truth(pixels, warp)) > 33
    fine = Warp.dense(warp.backward_grid(), size)
    assert psnr(picture(pixels, fine), truth(pixels, fine, 6)[:, :]) > 30


def test_composed_warp_beats_the_sequence() -> None:
    size = (128, 128)
    pixels = smooth(size)
    parts = [motion.affine(size, degrees=d, translate=(1.3, 0.7)) for d in (10, -25, 15)]
    whole = parts[0].then(parts[1]).then(parts[2])
    chain = pixels
    for part in parts:
        chain = picture(chain, part)
    expected = truth(pixels, whole)
    middle = np.s_[40:88, 40:88]
    assert psnr(picture(pixels, whole)[middle], expected[middle]) > psnr(chain[middle], expected[middle]) + 2


def test_border_is_black_or_reflected() -> None:
    bright = np.full((*SIZE, 3), 200, np.uint8)
    for warp in (motion.affine(SIZE, degrees=33), motion.crop(SIZE, (-10, -10, 74, 58)), motions.barrel(k=0.3)):
        assert (picture(bright, warp) == 0).any()
        assert (picture(bright, warp, "reflect") == 200).all()
    padded = picture(NOISE, motion.crop(SIZE, (-10, -10, 74, 58)), "reflect")
    assert (padded == np.pad(NOISE, ((10, 10), (10, 10), (0, 0)), "symmetric")).all()


@pytest.mark.parametrize("border", ["constant", "reflect"])
def test_the_horizon_does_no_harm(border: str) -> None:
    warp = Warp.homography([[1, 0, 0], [0, 1, 0], [-1 / 48, 0, 1]], SIZE, (200, 300))
    for pixels in (NOISE, NOISE.astype(np.float32)):
        moved = picture(pixels, warp, border)  # pyright: ignore[reportArgumentType]
        assert np.isfinite(moved).all()
        assert moved.max() <= 255


@settings(max_examples=20, deadline=None)
@given(motions.seeds)
def test_one_dtype_in_the_same_out_and_no_new_extremes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scaled = motion.affine(SIZE, scale=(0.4, 0.7)) if seed % 2 else motion.resize(SIZE, (20, 23))
    warp = motions.random_homography(rng).then(scaled)
    pixels = rng.random((*SIZE, 3), dtype=np.float32)
    moved = picture(pixels, warp)
    assert moved.dtype == np.float32
    assert moved.shape == (*warp.target, 3)
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert picture(pixels[..., 0], warp).shape == warp.target


def test_threads_do_not_change_a_byte() -> None:
    size = (300, 400)
    pixels = smooth(size)
    before = cv2.getNumThreads()
    try:
        for warp in (motion.affine(size, degrees=20), motion.affine(size, scale=(0.3, 0.4), degrees=5)):
            results = set()
            for threads in (1, 2, 4):
                cv2.setNumThreads(threads)
                results.add(picture(pixels, warp).tobytes() + picture(pixels.astype(np.float32), warp).tobytes())
            assert len(results) == 1
    finally:
        cv2.setNumThreads(before)


def test_bands_of_a_large_supersampled_picture_join() -> None:
    size = (1500, 1500)
    ramp = np.repeat(np.linspace(0, 1, 1500, dtype=np.float32)[:, None, None], 3, axis=2) * np.ones((1, 1500, 1))
    ramp = ramp.astype(np.float32)
    for warp in (
        motion.affine(size, scale=(0.5, 0.5), degrees=0.5),
        motions.barrel(size, 0.02).then(motion.affine(size, scale=(0.5, 0.5))),
    ):
        column = picture(ramp, warp)[400:1100, 750, 0].astype(float)
        assert np.abs(np.diff(column, 2)).max() < 1e-5


def test_sides_beyond_opencv_are_refused_unless_exact() -> None:
    wide = np.zeros((2, 33000, 3), np.uint8)
    wide[:, 32990] = 9
    assert picture(wide, motion.hflip((2, 33000)))[0, 9, 0] == 9
    assert picture(wide, motion.crop((2, 33000), (32980, 0, 33000, 2)))[0, 10, 0] == 9
    with pytest.raises(Rejected, match="33000 px"):
        picture(wide, motion.crop((2, 33000), (0.5, 0, 100.5, 2)))
