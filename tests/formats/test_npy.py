"""NPY without objects: equal to numpy's own files, closed to everything that is not plain numbers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from synthaug.errors import Rejected
from synthaug.formats import npy

DTYPES = st.sampled_from(["<f4", ">f4", "<f8", "<f2", "u1", "<u2", ">u2", "<i4", "?"])
ARRAYS = DTYPES.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=1, max_dims=3, max_side=6)))


def by_numpy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


@given(ARRAYS)
def test_files_are_numpys_own(array: NDArray[Any]) -> None:
    little = np.array(array, dtype=array.dtype.newbyteorder("<"), order="C")
    assert npy.encode(array) == by_numpy(little)
    for data in (npy.encode(array), by_numpy(array), by_numpy(np.asfortranarray(array))):
        back = npy.decode(data)
        assert back.dtype == array.dtype.newbyteorder("=")
        assert np.array_equal(back, array, equal_nan=array.dtype.kind == "f")
    assert npy.shape_of(by_numpy(array)[:200]) == array.shape


class Canary:
    """Would leave a file behind if anything unpickled it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


@pytest.mark.security
def test_objects_are_refused_unread(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([Canary(tmp_path / "fired")], dtype=object), allow_pickle=True)
    with pytest.raises(Rejected):
        npy.decode(stream.getvalue())
    assert not (tmp_path / "fired").exists()
    with pytest.raises(ValueError, match="holds numbers"):
        npy.encode(np.array([Canary(tmp_path / "fired")], dtype=object))


def test_d1_every_prefix_is_rejected() -> None:
    data = npy.encode(np.arange(12, dtype=np.float32).reshape(3, 4))
    for length in range(len(data)):
        with pytest.raises(Rejected):
            npy.decode(data[:length])
    with pytest.raises(Rejected):
        npy.decode(data + b"\x00")


HEADERS = {
    "no dictionary": b"[1, 2]",
    "code": b"__import__('os').system('true')",
    "negative": b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 2)}",
    "bool shape": b"{'descr': '<f4', 'fortran_order': False, 'shape': (True, 2)}",
    "structure": b"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}",
    "text": b"{'descr': '<U4', 'fortran_order': False, 'shape': (1,)}",
    "object": b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
    "complex": b"{'descr': '<c16', 'fortran_order': False, 'shape': (1,)}",
    "date": b"{'descr': '<M8[s]', 'fortran_order': False, 'shape': (1,)}",
    "missing key": b"{'descr': '<f4', 'shape': (1,)}",
    "deep": b"(" * 3000,
    "too many dimensions": b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 1, 1, 1)}",
    "promises more": b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000, 1000)}",
}


@pytest.mark.parametrize("name", HEADERS)
def test_broken_headers_are_rejected(name: str) -> None:
    header = HEADERS[name]
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(16)
    with pytest.raises(Rejected) as caught:
        npy.decode(data)
    assert caught.value.reason == "decode"


def test_d3_a_header_that_promises_the_world_is_refused_before_any_allocation() -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000, 10000000)}"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with pytest.raises(Rejected, match="limit") as caught:
        npy.decode(data)
    assert caught.value.reason == "budget"
