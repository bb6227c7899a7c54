"""Random access into big input files (tar, Parquet) below a root, under the same rules as whole ones.

A container is hashed once, by the plan. Between its index and a later read its stamp must stay the same,
so a file that was swapped meanwhile is noticed without hashing it for every sample.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import BinaryIO

from synthaug.errors import Rejected, printable
from synthaug.formats.inputs import InputRoot

Stamp = tuple[int, ...]


class SpanRoot(InputRoot):
    """An `InputRoot` that also opens files for reading in parts."""

    def __reduce__(self) -> tuple[object, ...]:
        return (_reopen, (str(self.root), self.allow_links))

    @contextmanager
    def opened(self, relpath: str, expected: Stamp | None = None) -> Generator[BinaryIO]:
        """A file, open for seeking and reading.

        Args:
            relpath: Below the root.
            expected: What `stamp` said when the file was indexed.

        Raises:
            SecurityError: The path breaks the rule, or a component is a link.
            Rejected: Under `missing` or `input`: no regular file, or not the one that was indexed.
        """
        with self._open(relpath) as (handle, facts):
            found = (facts.st_size, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns)
            if expected is not None and found != expected:
                raise Rejected("input", f"{printable(relpath)} changed since it was indexed; start again")
            with os.fdopen(os.dup(handle), "rb") as file:
                file.seek(0)
                yield file

    def span(self, relpath: str, start: int, length: int, expected: Stamp | None = None) -> bytes:
        """`length` bytes from `start`. Errors as `opened`, and `Rejected` under `input` where they are not there."""
        with self.opened(relpath, expected) as file:
            parts: list[bytes] = []
            while length > 0 and (part := os.pread(file.fileno(), length, start)):
                parts.append(part)
                start, length = start + len(part), length - len(part)
        if length:
            raise Rejected("input", f"{printable(relpath)} ends {length} bytes too early")
        return b"".join(parts)


def _reopen(root: str, allow_links: bool) -> SpanRoot:
    return SpanRoot(root, allow_links=allow_links)
