"""PNG whose rows are undone all at once: equal to Pillow and OpenCV, or not ours."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from synthaug.formats import headers, plain_png, png

SHAPES = {0: (), 2: (3,), 4: (2,), 6: (4,)}


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def written(array: NDArray[Any], kinds: list[int], *, extra: bytes = b"", tail: bytes = b"", lace: int = 0) -> bytes:
    """A PNG with the given filter per row, by the letter of the standard: byte by byte."""
    colour = {1: 0, 3: 2, 2: 4, 4: 6}[1 if array.ndim == 2 else array.shape[2]]
    depth = 8 * array.dtype.itemsize
    height, width = array.shape[:2]
    pixel = depth // 8 * (1 if array.ndim == 2 else array.shape[2])
    rows = array.astype(f">u{depth // 8}").reshape(height, -1).view(np.uint8).astype(int)
    stream = bytearray()
    for y, kind in enumerate(kinds):
        up = rows[y - 1] if y else np.zeros_like(rows[0])
        left = np.concatenate([np.zeros(pixel, int), rows[y][:-pixel]])
        stream.append(kind)
        guess = {0: 0 * up, 1: left, 2: up, 3: (left + up) // 2}[kind]
        stream += ((rows[y] - guess) % 256).astype(np.uint8).tobytes()
    body = zlib.compress(bytes(stream) + tail)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, lace)
    cut = len(body) // 2
    parts = [chunk(b"IHDR", header), extra, chunk(b"IDAT", body[:cut]), chunk(b"IDAT", body[cut:]), chunk(b"IEND", b"")]
    return png.SIGNATURE + b"".join(parts)


def ours(data: bytes) -> NDArray[Any] | None:
    return plain_png.decode(data, headers.scan(data))


@st.composite
def pictures(draw: st.DrawFn) -> NDArray[Any]:
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    shape = (draw(st.integers(1, 9)), draw(st.integers(1, 9)), *SHAPES[draw(st.sampled_from([0, 2, 4, 6]))])
    return draw(arrays(dtype, shape))


@given(pictures(), st.sampled_from([[0], [1], [2], [0, 2]]))
def test_rows_of_one_kind_give_the_array(array: NDArray[Any], kinds: list[int]) -> None:
    filters = [kinds[0]] + kinds[-1:] * (len(array) - 1)
    assert np.array_equal(ours(written(array, filters)), array)


@given(pictures(), st.data())
def test_any_mix_is_right_or_left_to_others(array: NDArray[Any], data: st.DataObject) -> None:
    filters = data.draw(st.lists(st.integers(0, 3), min_size=len(array), max_size=len(array)))
    found = ours(written(array, filters))
    assert found is None or np.array_equal(found, array)


@pytest.mark.parametrize("shape", [(40, 30), (40, 30, 3), (40, 30, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_opencv_writes_files_of_this_kind(shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    array = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    turned = {2: None, 3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}[len(shape) + (shape[-1] == 4 and len(shape) == 3)]
    data = cv2.imencode(".png", array if turned is None else cv2.cvtColor(array, turned))[1].tobytes()
    assert np.array_equal(ours(data), array)


def test_pillow_picks_a_filter_per_row_and_stays_with_pillow() -> None:
    y, x = np.mgrid[:64, :64]
    array = np.stack([x * 2, y * 2, (x + y)], axis=2).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(array + np.random.default_rng(0).integers(0, 9, array.shape, np.uint8)).save(buffer, "PNG")
    assert ours(buffer.getvalue()) is None


GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)


@pytest.mark.parametrize(
    "data",
    [
        written(GREY, [1] * 6, extra=chunk(b"tRNS", b"\0\1")),
        written(GREY, [1] * 6, extra=chunk(b"iCCP", b"x\0\0" + zlib.compress(b"profile"))),
        written(GREY, [1] * 6, lace=1),
        written(GREY, [1] * 6, tail=b"more"),
        written(GREY[:5], [1] * 5)[:16] + written(GREY, [1] * 6)[16:33] + written(GREY[:5], [1] * 5)[33:],
    ],
    ids=["transparent colour", "profile", "interlaced", "too much", "too little"],
)
def test_what_is_not_plain_takes_another_way(data: bytes) -> None:
    assert ours(data) is None


def test_d3_a_header_that_promises_little_bounds_what_is_inflated() -> None:
    data = written(np.zeros((4000, 4000), np.uint8), [0] * 4000)
    lying = data[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)) + data[33:]
    assert ours(lying) is None
