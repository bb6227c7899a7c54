"""Our PNG files, read by every decoder at hand; and our decoder, which reads nothing else."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from synthaug.errors import Rejected
from synthaug.formats import png

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40)) | st.tuples(
    st.integers(1, 40), st.integers(1, 40), st.just(3)
)
ARRAYS = hnp.arrays(st.sampled_from([np.uint8, np.uint16]), SHAPES)


def by_opencv(data: bytes) -> NDArray[Any]:
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert found is not None
    return found if found.ndim == 2 else found[:, :, ::-1]


@given(ARRAYS)
def test_every_reader_gets_the_array_back(array: NDArray[Any]) -> None:
    data = png.encode(array)
    ours = png.decode(data)
    assert ours.dtype == array.dtype
    assert np.array_equal(ours, array)
    assert np.array_equal(by_opencv(data), array)
    image = Image.open(io.BytesIO(data))
    image.verify()
    if not (array.ndim == 3 and array.dtype == np.uint16):  # Pillow cuts 16-bit colour to 8 bits
        pillow = np.asarray(Image.open(io.BytesIO(data)))
        assert pillow.dtype == array.dtype
        assert np.array_equal(pillow, array)


def test_layout_does_not_matter_and_bytes_are_the_same_each_time() -> None:
    array = np.random.default_rng(0).integers(0, 256, (33, 47, 3), dtype=np.uint8)
    expected = png.encode(array)
    wide = np.empty((33, 94, 3), np.uint8)
    wide[:, ::2] = array
    for other in (array.copy(), np.asfortranarray(array), wide[:, ::2], array[::-1][::-1]):
        assert png.encode(other) == expected
    swapped = np.arange(600, dtype=">u2").reshape(20, 30)
    assert png.encode(swapped) == png.encode(swapped.astype("<u2"))
    assert array.flags.writeable
    assert png.encode(array) == expected


@pytest.mark.parametrize("height", [1, 15, 16, 17, 31, 32, 48])
def test_rows_are_summed_across_blocks(height: int) -> None:
    array = np.full((height, 5), 200, np.uint8)
    assert np.array_equal(png.decode(png.encode(array)), array)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.int32),
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4), bool),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 1), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4), np.uint8),
    ],
)
def test_nothing_is_converted(array: NDArray[Any]) -> None:
    with pytest.raises(ValueError):
        png.encode(array)


def test_id_png_takes_the_narrowest_depth_and_refuses_what_does_not_fit() -> None:
    for top, dtype in ((0, np.uint8), (255, np.uint8), (256, np.uint16), (65535, np.uint16)):
        ids = np.array([[0, top], [1, 0]], dtype=np.int32)
        back = png.decode(png.id_png(ids))
        assert back.dtype == dtype
        assert np.array_equal(back, ids)
    for bad in (65536, -1):
        with pytest.raises(Rejected, match="holds 0 to 65535"):
            png.id_png(np.array([[0, bad]], dtype=np.int32))


def own() -> bytes:
    rng = np.random.default_rng(5)
    return png.encode(np.cumsum(rng.integers(0, 3, (24, 20, 3)), axis=0).astype(np.uint8))


def test_d1_every_prefix_of_our_own_file_is_refused() -> None:
    data = own()
    for length in range(len(data)):
        with pytest.raises(ValueError):
            png.decode(data[:length])
    with pytest.raises(ValueError):
        png.decode(data + b"\x00")


def test_every_flipped_bit_of_our_own_file_is_noticed() -> None:
    data = own()
    for at in range(len(data)):
        for bit in range(8):
            broken = bytearray(data)
            broken[at] ^= 1 << bit
            with pytest.raises(ValueError):
                png.decode(bytes(broken))


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def made(width: int, height: int, rows: bytes, bits: int = 8, colour: int = 0) -> bytes:
    """A PNG with sound checksums, whatever its header says."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return png.SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_d3_a_header_that_lies_costs_nothing() -> None:
    small = b"\x02" + bytes(4)
    assert png.decode(made(4, 1, small)).shape == (1, 4)
    for data in (
        made(30000, 30000, small),
        made(4, 1, bytes(50_000_000)),
        made(0, 0, b""),
        made(2**31 - 1, 2**31 - 1, small),
        made(4, 2, small),
        png.SIGNATURE + made(4, 1, small)[8:33] + chunk(b"IDAT", b"no deflate stream") + chunk(b"IEND", b""),
    ):
        with pytest.raises(ValueError):
            png.decode(data)


def test_files_of_others_are_refused_rather_than_read_wrong() -> None:
    array = np.random.default_rng(2).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    others = [
        stream.getvalue(),
        cv2.imencode(".png", array)[1].tobytes(),
        made(4, 1, b"\x00" + bytes(4)),  # filter None
        made(4, 1, b"\x02" + bytes(4), bits=8, colour=3),
        made(4, 1, b"\x02" + bytes(1), bits=2),
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
    ]
    for data in others:
        with pytest.raises(ValueError):
            png.decode(data)
