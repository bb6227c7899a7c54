"""The COCO string of a list of run lengths, for many masks at once.

From the third count on, a number is the difference to the last but one. Numbers are written five bits a
character, low bits first, each character offset by 48: bit 5 says that more follows, bit 4 of the last is
the sign. Nothing is a loop over characters, and no malformed string does more than raise.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import Rejected

Int64 = NDArray[np.int64]

MAX_PIXELS = 2**26
"""Of one canvas; as many as a picture may have."""
MAX_STRING = 2**21
"""Characters of one string: some 700,000 runs, read in under a second."""
_LONGEST_NUMBER = 7
_OFFSET = 48


def pack(counts: Int64, first: Int64) -> list[bytes]:
    """One string per mask.

    Args:
        counts: Run lengths of all masks, end to end; each mask's start with a run of zeros.
        first: Index of each mask's first count, ascending, from 0.

    Raises:
        Rejected: Under `label`: a mask of more characters than `MAX_STRING`.
    """
    # A canvas has fewer than 2^31 pixels, and half the width is half the time.
    narrow = counts.astype(np.int32)
    numbers = narrow.copy()
    numbers[2:] -= narrow[:-2]
    # The first three counts of each mask stand as they are; a mask may have fewer.
    for offset in range(3):
        at = first + offset
        at = at[at < np.append(first[1:], narrow.size)]
        numbers[at] = narrow[at]
    length = _lengths(numbers)
    ends = np.cumsum(length, dtype=np.int64)
    starts = ends - length
    cuts = [*starts[first].tolist(), int(ends[-1])]
    longest = max(b - a for a, b in itertools.pairwise(cuts))
    if longest > MAX_STRING:
        raise Rejected(
            "label", f"mask of {longest} characters as RLE, the most is {MAX_STRING}; it is noise, no object"
        )
    text = np.empty(int(ends[-1]), dtype=np.uint8)
    text[starts] = (numbers & 31) + (_OFFSET + 32 * (length > 1))
    left = np.flatnonzero(length > 1)
    for digit in range(1, _LONGEST_NUMBER):
        if not left.size:
            break
        more = length[left] > digit + 1
        text[starts[left] + digit] = (numbers[left] >> (5 * digit) & 31) + (_OFFSET + 32 * more)
        left = left[more]
    joined = text.tobytes()
    return [joined[a:b] for a, b in itertools.pairwise(cuts)]


def _lengths(numbers: NDArray[np.int32]) -> NDArray[np.int8]:
    """Characters of each number."""
    magnitude = numbers ^ (numbers >> 31)
    length = np.ones(numbers.size, dtype=np.int8)
    largest = int(magnitude.max())
    for digits in range(1, _LONGEST_NUMBER):
        limit = 1 << (5 * digits - 1)
        if largest < limit:  # never beyond seven characters: 2^34 is past the canvas
            break
        length += magnitude >= limit
    return length


def unpack(text: bytes) -> Int64:
    """The run lengths of one string, as they stand: neither sign nor sum is checked.

    Raises:
        Rejected: Under `label`: empty, too long, a character outside the alphabet, a number cut off or
            larger than any canvas.
    """
    return _accumulate(_numbers(text, len(text))[0])


def unpack_all(texts: Sequence[bytes]) -> tuple[Int64, Int64]:
    """The run lengths of one or more strings end to end, and the index of each string's first one.

    One pass whatever their number; raises as `unpack`.
    """
    if not all(texts):
        raise Rejected("label", f"RLE string of 0 characters, expected 1 to {MAX_STRING}")
    numbers, ends = _numbers(b"".join(texts), max(map(len, texts)))
    last = np.cumsum([len(text) for text in texts]) - 1
    after = np.searchsorted(ends, last) + 1
    if not np.array_equal(ends[after - 1], last):
        raise Rejected("label", "RLE string ends inside a number")
    first = np.append(0, after[:-1])
    sizes = after - first
    place = np.arange(numbers.size) - np.repeat(first, sizes)
    odd = place % 2 == 1
    lengths = numbers.copy()
    # As in `_accumulate`, and no sum crosses from one string to the next.
    for chain in (odd, ~odd & (place > 0)):
        sums = np.cumsum(np.where(chain, numbers, 0))
        lengths[chain] = (sums - np.repeat(np.append(0, sums)[first], sizes))[chain]
    return lengths, first


def _numbers(text: bytes, longest: int) -> tuple[Int64, Int64]:
    """The numbers as they are written, and where the last character of each one is."""
    if not text or longest > MAX_STRING:
        raise Rejected("label", f"RLE string of {longest} characters, expected 1 to {MAX_STRING}")
    codes = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - _OFFSET
    if int(codes.min()) < 0 or int(codes.max()) > 63:
        raise Rejected("label", "RLE string holds a character outside '0' to 'o'")
    final = np.flatnonzero(codes < 32)
    if final.size == 0 or int(final[-1]) != codes.size - 1:
        raise Rejected("label", "RLE string ends inside a number")
    starts = np.concatenate([[0], final[:-1] + 1])
    length = final - starts + 1
    if int(length.max()) > _LONGEST_NUMBER:
        raise Rejected("label", f"RLE string holds a number of {int(length.max())} characters")
    digit = np.arange(codes.size) - np.repeat(starts, length)
    numbers = np.add.reduceat((codes & 31) << (5 * digit), starts)
    numbers -= np.where(codes[final] & 16, 1 << (5 * length), 0)
    if int(np.abs(numbers).max()) > MAX_PIXELS:
        raise Rejected("label", "RLE string holds a run longer than any canvas")
    return numbers, final


def _accumulate(numbers: Int64) -> Int64:
    """Run lengths from differences: each count from the third on adds to the last but one."""
    lengths = numbers.copy()
    lengths[1::2] = np.cumsum(numbers[1::2])
    lengths[2::2] = np.cumsum(numbers[2::2])
    return lengths
