"""Light: the procedural room, the Radiance decoder against OpenCV's, and hostile files."""

from __future__ import annotations

import contextlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from synthaug.errors import InputError
from synthaug.render.environment import HdrFile, Lamp, Room, balanced, read_hdr


def hdr_bytes(pixels: np.ndarray) -> bytes:
    done, data = cv2.imencode(".hdr", pixels[..., ::-1])
    assert done
    return data.tobytes()


def wild(width: int, height: int = 16) -> np.ndarray:
    rng = np.random.default_rng(0)
    pixels = np.exp(rng.normal(0, 3, (height, width, 3))).astype(np.float32)
    pixels[: height // 2] = 0.25  # long runs as well as literals
    pixels[-1] = 0
    return pixels


@pytest.mark.parametrize("width", [5, 8, 200, 300])
def test_decoder_agrees_with_opencv(width: int) -> None:
    data = hdr_bytes(wild(width))
    theirs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert np.array_equal(read_hdr(data), theirs)


@pytest.mark.parametrize("name", ["city", "studio"])
def test_decoder_agrees_on_real_maps(data_root: Path, name: str) -> None:
    path = data_root / "hdri" / f"{name}.hdr"
    theirs = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(read_hdr(path.read_bytes()), theirs[..., ::-1])


def test_damaged_files_are_refused() -> None:
    data = hdr_bytes(wild(200))
    for cut in range(0, len(data), 97):
        with pytest.raises(InputError):
            read_hdr(data[:cut])
    rng = np.random.default_rng(1)
    for _ in range(200):  # noise either decodes or is refused; nothing else may escape
        broken = bytearray(data)
        broken[int(rng.integers(80, len(data)))] = int(rng.integers(256))
        with contextlib.suppress(InputError):
            assert read_hdr(bytes(broken)).shape == (16, 200, 3)


def test_a_huge_header_allocates_nothing() -> None:
    with pytest.raises(InputError, match="at most"):
        read_hdr(b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 999999 +X 999999\n")


def test_balance_takes_the_tint_and_sets_the_scale() -> None:
    tinted = np.full((32, 64, 3), [2.0, 1.0, 0.5], np.float32)
    assert balanced(tinted) == pytest.approx(np.ones((32, 64, 3)), abs=1e-6)
    with pytest.raises(InputError, match="median"):
        balanced(np.zeros((32, 64, 3), np.float32))


def test_lamp_stands_where_it_says() -> None:
    lamp = Lamp(90.0, 45.0, 20.0, 20.0, (50.0, 50.0, 50.0))
    sky = Room((1, 1, 1), (1, 1, 1), (lamp,), 0.0).paint()
    row, column = np.unravel_index(int(sky[..., 1].argmax()), sky.shape[:2])
    assert 90 - (row + 0.5) * 180 / sky.shape[0] == pytest.approx(45, abs=10)
    assert (column + 0.5) * 360 / sky.shape[1] - 180 == pytest.approx(90, abs=12)


def test_camera_takes_light_from_overhead() -> None:
    bright, dim = (Room((1, 1, 1), (1, 1, 1), (), shade).paint() for shade in (0.0, 0.8))
    assert dim[0, 0, 1] / dim[-1, 0, 1] < 0.4 * bright[0, 0, 1] / bright[-1, 0, 1]


def test_missing_file_says_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="for the built-in room"):
        HdrFile(str(tmp_path / "none.hdr")).paint()
    (tmp_path / "a.hdr").write_bytes(hdr_bytes(np.abs(wild(32)) + 0.1))
    sky = HdrFile(str(tmp_path / "a.hdr"), 90.0)
    assert sky.paint().shape == (16, 32, 3)
    assert np.array_equal(np.roll(sky.paint(), -8, axis=1), HdrFile(sky.path).paint())
