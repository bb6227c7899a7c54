"""Masks painted back into an id map."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from synthaug import cocostring, rle
from synthaug.errors import Rejected
from synthaug.formats.coco.painting import paint

maps = arrays(np.int32, st.tuples(st.integers(1, 24), st.integers(1, 24)), elements=st.integers(0, 5))


@given(maps)
def test_painting_is_the_inverse_of_encoding(ids: NDArray[np.int32]) -> None:
    masks = rle.encode_ids(ids)
    assert np.array_equal(paint(masks, ids.shape).T, ids)


@given(maps)
def test_many_strings_are_read_as_one_by_one(ids: NDArray[np.int32]) -> None:
    masks = [rle.encode(ids == i) for i in range(3)]
    lengths, first = cocostring.unpack_all([mask.counts for mask in masks])
    assert lengths.tolist() == [int(n) for mask in masks for n in rle.runs(mask)]
    assert first.tolist() == np.cumsum([0, *(rle.runs(mask).size for mask in masks[:-1])]).tolist()


def test_a_pixel_too_much_shows() -> None:
    ids = np.zeros((6, 5), np.int32)
    ids[1:3, 1:4] = 1
    ids[4, 2] = 2
    masks = rle.encode_ids(ids)
    more = ids == 2
    more[1, 1] = True
    assert not np.array_equal(paint(masks | {2: rle.encode(more)}, ids.shape).T, ids)


@pytest.mark.parametrize("counts", [b"", b"0", b"o", b"4", b"\x7f", b"PPPPPPPP1"])
def test_e6_malformed_strings_among_good_ones(counts: bytes) -> None:
    good = rle.encode(np.eye(4, dtype=bool))
    with pytest.raises(Rejected):
        paint({1: good, 2: rle.RLE((4, 4), counts)}, (4, 4))


def test_another_canvas() -> None:
    with pytest.raises(Rejected, match="canvas"):
        paint({1: rle.encode(np.eye(4, dtype=bool))}, (2, 8))


def test_no_mask_at_all() -> None:
    assert not paint({}, (3, 4)).any()
