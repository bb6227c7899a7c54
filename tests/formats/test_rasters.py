"""The gate before the decoders: truncated, damaged, oversized, animated and empty files."""

from __future__ import annotations

import io
import os
import resource
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from synthaug.errors import Rejected
from synthaug.formats import npy, pictures
from synthaug.formats.inputs import InputRoot
from tests.formats.files import RGB, RNG, made_png, pixels, saved, seeds, squeezed, with_chunk


@pytest.mark.parametrize("name", seeds())
def test_d1_every_prefix_is_rejected(name: str) -> None:
    data = seeds()[name]
    for length in range(len(data)):
        with pytest.raises(Rejected) as caught:
            pictures.decode(data[:length])
        assert caught.value.reason == "decode"


def test_d1_type_is_decided_by_content(tmp_path: Path) -> None:
    for data in (
        b"",
        b"\x00" * 100,
        b"GIF89a" + bytes(50),
        b"%PDF-1.7",
        b"BM" + bytes(60),
        b"<svg/>",
        b"\x89PNG\r\n\x1a\n",
    ):
        with pytest.raises(Rejected) as caught:
            pictures.decode(data)
        assert caught.value.reason == "decode"
    (tmp_path / "a.jpg").write_bytes(saved(RGB, "PNG"))
    assert np.array_equal(pixels(InputRoot(tmp_path).read("a.jpg")), RGB)


def test_d1_bitmaps_that_are_not_read_say_so() -> None:
    plain = saved(RGB, "BMP")
    long = cv2.imencode(".bmp", np.dstack([RGB, RGB[:, :, :1]]))[1].tobytes()
    for data, at, form, value, word in (
        (plain, 28, "<H", 16, "16 bits"),
        (plain, 30, "<I", 1, "compression 1"),
        (plain, 26, "<H", 2, "BMP with a header"),
        (plain, 18, "<i", -37, "BMP with a header"),
        (long, 70, "<I", 0x4D424544, "profile"),
        (long, 54, "<I", 0xFF, "masks"),
    ):
        broken = bytearray(data)
        struct.pack_into(form, broken, at, value)
        with pytest.raises(Rejected, match=word):
            pictures.decode(bytes(broken))
    flipped = bytearray(plain)
    struct.pack_into("<i", flipped, 22, -24)  # rows from the top
    assert np.array_equal(pixels(bytes(flipped)), RGB[::-1])
    assert np.array_equal(pictures.decode_ids(saved(RGB[:, :, 0], "BMP")), RGB[:, :, 0])


def test_d1_damaged_files_never_raise_anything_else() -> None:
    rng = np.random.default_rng(4)
    outcomes = set[str]()
    for data in seeds().values():
        for _ in range(60):
            broken = bytearray(data)
            for at in rng.integers(0, len(data), rng.integers(1, 6)):
                broken[at] = int(rng.integers(0, 256))
            try:
                pictures.decode(bytes(broken), alpha="drop")
                outcomes.add("read")
            except Rejected as error:
                outcomes.add(error.reason)
    assert {"read", "decode"} <= outcomes <= {"read", "decode", "budget", "orientation"}


def outcome_with(spare: int, data: bytes, budget: pictures.Budget) -> str:
    """What decoding does in a process that may grow by `spare` bytes: `read`, a reason, or `memory`."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        result = "memory"
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + spare
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            pictures.decode(data, budget=budget)
            result = "read"
        except Rejected as error:
            result = error.reason
        finally:
            os.write(sender, result.encode())
            os._exit(0)
    os.waitpid(child, 0)
    os.close(sender)
    with os.fdopen(receiver, "rb") as stream:
        return stream.read().decode()


def test_d3_bombs_are_refused_before_they_are_decoded() -> None:
    tiff = bytearray(saved(np.zeros((24, 37), np.uint8), "TIFF"))
    at = next(at for kind in (3, 4) if (at := tiff.find(struct.pack("<HHI", 256, kind, 1))) >= 0)
    tiff[at + 2 : at + 12] = struct.pack("<HII", 4, 1, 2**24)
    jpeg = bytearray(saved(RGB, "JPEG"))
    at = jpeg.find(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
    bomb = made_png(12000, 12000, 12000 * 36001)
    assert len(bomb) < 3_000_000
    spare = 64 * 2**20
    for data in (bomb, made_png(60000, 60000, 10), bytes(tiff), bytes(jpeg)):
        assert outcome_with(spare, data, pictures.Budget()) == "budget"
    # The cap is real: with the budget lifted, the same file does not fit.
    assert outcome_with(spare, bomb, pictures.Budget(pixels=2**28)) in ("memory", "decode")
    with pytest.raises(Rejected, match="file of"):
        pictures.decode(saved(RGB, "PNG"), budget=pictures.Budget(file_bytes=100))
    with pytest.raises(Rejected, match="the limit is 100 pixels"):
        pictures.decode(saved(RGB, "PNG"), budget=pictures.Budget(pixels=100))


def test_d3_a_file_that_holds_more_than_its_header_promises_costs_no_more() -> None:
    flood = made_png(64, 64, 200 * 2**20)
    assert outcome_with(64 * 2**20, flood, pictures.Budget()) in ("read", "decode")
    profile = with_chunk(saved(RGB, "PNG"), b"iCCP", b"x\x00\x00" + squeezed(200 * 2**20))
    assert outcome_with(64 * 2**20, profile, pictures.Budget()) == "decode"


def test_d3_oversized_text_and_profiles_are_refused() -> None:
    plain = saved(RGB, "PNG")
    large = bytes(5 * 2**20)
    files = [
        with_chunk(plain, b"tEXt", b"comment\x00" + large),
        with_chunk(plain, b"iCCP", b"x\x00\x00" + RNG.integers(0, 256, 5 * 2**20, dtype=np.uint8).tobytes()),
        saved(RGB, "JPEG", icc_profile=RNG.integers(0, 256, 5 * 2**20, dtype=np.uint8).tobytes()),
        saved(RGB, "WEBP", xmp=large),
    ]
    for data in files:
        with pytest.raises(Rejected, match="text or profile"):
            pictures.decode(data)


def test_d10_animations_and_documents_are_rejected() -> None:
    frames = [Image.fromarray(np.roll(RGB, i, axis=1)) for i in range(3)]
    for kind in ("PNG", "WEBP", "TIFF"):
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        with pytest.raises(Rejected, match="animation or multi-page") as caught:
            pictures.decode(data)
        assert caught.value.reason == "decode"
    gif = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(Rejected, match="no picture that is read here"):
        pictures.decode(gif)


def test_d10_a_jpeg_with_a_second_picture_behind_it_gives_the_first() -> None:
    first, second = Image.fromarray(RGB), Image.fromarray(np.ascontiguousarray(RGB[::-1]))
    data = saved(first, "MPO", save_all=True, append_images=[second], quality=95)
    picture = pictures.decode(data).picture
    assert np.array_equal(picture.pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert not picture.source


@pytest.mark.parametrize("size", [(1, 1), (1, 60000), (60000, 1), (3, 300), (4, 257), (300, 3)])
def test_d11_slivers_are_rejected(size: tuple[int, int]) -> None:
    for data in (saved(np.zeros(size, np.uint8), "PNG"), npy.encode(np.zeros((*size, 3), np.uint8))):
        with pytest.raises(Rejected) as caught:
            pictures.decode(data)
        assert caught.value.reason == "budget"


def test_d11_an_empty_picture_is_rejected() -> None:
    for data in (made_png(0, 20, 0), made_png(20, 0, 0), npy.encode(np.zeros((0, 5, 3), np.uint8))):
        with pytest.raises(Rejected):
            pictures.decode(data)
    assert pixels(saved(np.zeros((4, 256), np.uint8), "PNG")).shape == (4, 256, 3)
