"""Pictures through warps in torch: the host's pixels, exact where nothing is blended."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from synthaug.errors import Rejected
from synthaug.warp import device, motion
from synthaug.warp.motion import Warp
from synthaug.warp.resample import Resampler, picture, shrunk_window
from tests.augment import on_device
from tests.warp.motions import SIZE

torch.set_num_threads(1)
NOISE = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def photo(root: Path, folder: str) -> np.ndarray:
    path = sorted((root / folder / "images").glob("*.*"))[0]
    pixels = cv2.imread(str(path))
    assert pixels is not None
    side = max(pixels.shape[:2])
    return cv2.resize(pixels, None, fx=512 / side, fy=512 / side, interpolation=cv2.INTER_AREA)[..., ::-1].copy()


@pytest.mark.parametrize(
    "warp",
    [
        motion.hflip(SIZE),
        motion.vflip(SIZE),
        motion.crop(SIZE, (7, 3, 40, 31)),
        motion.rotation(SIZE, 90, expand=True),
        motion.rotation(SIZE, 180),
        motion.hflip(SIZE).then(motion.crop(SIZE, (7, 3, 40, 31))),
        motion.crop(SIZE, (-2, -3, 66, 51)),
        motion.crop(SIZE, (-2, 3, 30, 60)),
        motion.crop(SIZE, (100, 100, 110, 110)),
        Warp.identity(SIZE),
    ],
)
def test_whole_pixel_motions_are_exact(warp: Warp) -> None:
    assert (on_device.moved(NOISE, [warp], "cpu")[0] == picture(NOISE, warp)).all()


@pytest.mark.parametrize("folder", ["carla", "dice"])
@pytest.mark.parametrize("border", ["constant", "reflect"])
def test_photos_look_like_the_hosts(data_root: Path, folder: str, border: str) -> None:
    pixels = photo(data_root, folder)
    found = on_device.quality(pixels, on_device.warps(pixels.shape[:2], 3), "cpu", border)
    assert min(found) >= 50, [round(f, 1) for f in found]


@pytest.mark.parametrize("border", ["constant", "reflect"])
def test_white_noise_too_within_one_step(border: str) -> None:
    """No smoothness helps here: a shift of a hundredth of a pixel would show."""
    motions = on_device.warps(SIZE, 4)
    found = on_device.moved(NOISE, motions, "cpu", border)
    for pixels, warp in zip(found, motions, strict=True):
        apart = pixels.astype(int) - picture(NOISE, warp, border).astype(int)
        assert np.abs(apart).max() <= 1


@pytest.mark.parametrize("target", [(24, 32), (20, 27), (7, 64), (48, 5), (1, 1)])
def test_scaling_down_averages_areas(target: tuple[int, int]) -> None:
    warp = motion.resize(SIZE, target)
    assert shrunk_window(warp) == (0, 0, 64, 48)
    apart = on_device.moved(NOISE, [warp], "cpu")[0].astype(int) - picture(NOISE, warp).astype(int)
    assert np.abs(apart).max() <= 1


def test_a_pattern_finer_than_the_target_becomes_grey() -> None:
    size = (256, 256)
    checks = ((np.indices(size).sum(axis=0) % 2) * 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    warp = motion.affine(size, scale=(0.2, 0.2), degrees=9)
    middle = on_device.moved(checks, [warp], "cpu")[0][110:146, 110:146].astype(float)
    assert Resampler(warp).density[0] > 4
    assert abs(middle.mean() - 127.5) < 2
    assert middle.std() < 20


def test_batch_mates_change_nothing() -> None:
    motions = on_device.warps(SIZE, 5)
    together = on_device.moved(NOISE, motions, "cpu")
    for i, warp in enumerate(motions):
        assert (on_device.moved(NOISE, [warp], "cpu")[0] == together[i]).all()


def test_bands_are_seamless(monkeypatch: pytest.MonkeyPatch) -> None:
    motions = on_device.warps(SIZE, 6)[4:]
    whole = on_device.moved(NOISE, motions, "cpu")
    monkeypatch.setattr(device, "_BAND", 7 * 64 * 9)
    apart = on_device.moved(NOISE, motions, "cpu").astype(int) - whole.astype(int)
    assert np.abs(apart).max() <= 1


def test_ids_never_go_through() -> None:
    ids = torch.ones((1, 3, *SIZE), dtype=torch.int32)
    with pytest.raises(TypeError, match=r"torch\.int32; only float32"):
        device.picture(ids, [motion.hflip(SIZE)])


def test_canvases_that_do_not_fit_are_refused() -> None:
    images = torch.zeros((2, 3, *SIZE))
    for warps in (
        [motion.hflip(SIZE)],
        [motion.hflip((10, 10))] * 2,
        [motion.hflip(SIZE), motion.resize(SIZE, (9, 9))],
    ):
        with pytest.raises(Rejected, match="do not fit"):
            device.picture(images, warps)
