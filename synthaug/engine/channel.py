"""Samples between two processes of one run: facts as Python sends them, pixels as raw bytes beside them.

Pickling megabytes copies them four times; here they go from the array into the socket and from the socket
into a fresh array, at a tenth of the cost. Both ends are processes that the run itself has started.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.sample import Picture, Sample, Space

Layout = tuple[str, tuple[int, ...]]
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Hollow:
    """A sample whose arrays follow: pixels, encoded file, reference where it is another picture, passes."""

    sample: Sample
    spaces: tuple[Space, ...]
    passes: tuple[str, ...]
    layouts: tuple[Layout, ...]


class Channel:
    """One end of a socket pair. Arrays arrive read-only where a `Sample` holds them."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def send(self, value: Any) -> None:
        """Sends anything that can be pickled; a `Sample` without pickling its arrays."""
        if not isinstance(value, Sample):
            self._pipe.send(value)
            return
        hollow, arrays = _taken_apart(value)
        self._pipe.send(hollow)
        for array in arrays:
            left = array.reshape(-1).view(np.uint8).data
            while left:
                left = left[os.write(self._pipe.fileno(), left) :]

    def receive(self) -> Any:
        """What the other end sent. Raises `EOFError` or `OSError` where it is gone, in the middle too."""
        value = self._pipe.recv()
        if not isinstance(value, _Hollow):
            return value
        return _put_together(value, [self._array(*layout) for layout in value.layouts])

    def waits(self, seconds: float) -> bool:
        """Whether something arrives within that time."""
        return self._pipe.poll(seconds)

    def close(self) -> None:
        """Ends the conversation."""
        self._pipe.close()

    def _array(self, dtype: str, shape: tuple[int, ...]) -> Array:
        array = np.empty(shape, dtype)
        left = array.reshape(-1).view(np.uint8).data
        while left:
            count = os.readv(self._pipe.fileno(), [left])
            if not count:
                raise EOFError("the other process ended in the middle of a sample")
            left = left[count:]
        return array


def _taken_apart(sample: Sample) -> tuple[_Hollow, list[Array]]:
    pictures = [sample.image] if sample.reference is sample.image else [sample.image, sample.reference]
    arrays: list[Array] = []
    for picture in pictures:
        arrays += [np.ascontiguousarray(picture.pixels), np.frombuffer(picture.source, np.uint8)]
    passes = sample.labels.passes
    arrays += [np.ascontiguousarray(array) for array in passes.values()]
    none = Picture(np.empty((0, 0, 3), np.uint8))
    empty = replace(sample, image=none, reference=none, labels=replace(sample.labels, passes={}))
    layouts = tuple((array.dtype.str, array.shape) for array in arrays)
    return _Hollow(empty, tuple(picture.space for picture in pictures), tuple(passes), layouts), arrays


def _put_together(hollow: _Hollow, arrays: Sequence[Array]) -> Sample:
    pictures = [
        Picture(pixels, space, source.tobytes())
        for pixels, source, space in zip(arrays[0::2], arrays[1::2], hollow.spaces, strict=False)
    ]
    passes = dict(zip(hollow.passes, arrays[2 * len(pictures) :], strict=True))
    labels = replace(hollow.sample.labels, passes=passes)
    return replace(hollow.sample, image=pictures[0], reference=pictures[-1], labels=labels)
