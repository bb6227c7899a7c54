"""One Parquet file, read by row groups through a handle that was opened safely."""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from synthaug.errors import InputError, Rejected
from synthaug.formats import strictjson
from synthaug.formats.facts import Json
from synthaug.formats.huggingface.features import MARKER
from synthaug.formats.spans import SpanRoot

LARGEST_GROUP = 2**31
"""Bytes of the columns of one row group, unpacked, as the file declares them."""
_KEPT = 4
"""Row groups held in memory: labels and pictures of the last two."""
_MAX_DECLARATION = 2**26


class Recent:
    """The row groups that were read last, over all files of a dataset, so that memory does not grow with them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._tables: OrderedDict[tuple[str, int, tuple[str, ...]], Any] = OrderedDict()

    def get(self, path: str, group: int, columns: tuple[str, ...]) -> Any:
        """The table, or None."""
        key = (path, group, columns)
        if key in self._tables:
            self._tables.move_to_end(key)
        return self._tables.get(key)

    def put(self, path: str, group: int, columns: tuple[str, ...], table: Any) -> None:
        """Keeps a table and lets the oldest go."""
        self._tables[path, group, columns] = table
        while len(self._tables) > _KEPT:
            self._tables.popitem(last=False)


class ParquetFile:
    """Random access to the rows of a file. Thread-safe; holds no handle between reads.

    Args:
        source: The root.
        path: Of the file below it.
        recent: Shared by the files of a dataset.

    Raises:
        InputError: No Parquet file.
    """

    def __init__(self, source: SpanRoot, path: str, recent: Recent) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._source = source
        self.path = path
        self._stamp = source.stamp(path)
        try:
            with source.opened(path, self._stamp) as file:
                opened = pq.ParquetFile(file)
                self._metadata: Any = opened.metadata
                schema: Any = opened.schema_arrow
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(f"{path}: not readable as Parquet: {str(error)[:200]}") from error
        self.columns = tuple(str(name) for name in schema.names)
        told: dict[bytes, bytes] = schema.metadata or {}
        self.declaration = _parsed(told.get(MARKER.encode("ascii")), path)
        self.features = _features(told.get(b"huggingface"))
        counts = [self._metadata.row_group(k).num_rows for k in range(self._metadata.num_row_groups)]
        self._ends = list(accumulate(counts))
        self._recent = recent

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self._ends[-1] if self._ends else 0

    def column(self, name: str) -> list[Any]:
        """All values of a small column."""
        parts = [self._group(k, (name,)) for k in range(len(self._ends))]
        return [value for part in parts for value in part.column(name).to_pylist()]

    def cells(self, number: int, columns: Sequence[str]) -> Json:
        """Values of one row by column; columns that are not there are left out.

        Raises:
            Rejected: Under `decode` for damaged data, under `input` where the file changed.
        """
        wanted = tuple(name for name in self.columns if name in columns)
        group = bisect_right(self._ends, number)
        start = self._ends[group - 1] if group else 0
        row: Json = self._group(group, wanted).slice(number - start, 1).to_pylist()[0]
        return row

    def _group(self, group: int, columns: tuple[str, ...]) -> Any:
        """A row group as an Arrow table; the last ones are kept, since neighbours are read together."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with self._recent.lock:
            kept = self._recent.get(self.path, group, columns)
            if kept is not None:
                return kept
            self._check_size(group, columns)
            try:
                with self._source.opened(self.path, self._stamp) as file:
                    opened = pq.ParquetFile(file, metadata=self._metadata)
                    table = opened.read_row_group(group, columns=list(columns), use_threads=False)
            except (pa.ArrowException, OSError) as error:
                raise Rejected("decode", f"{self.path}, row group {group}: {str(error)[:200]}") from error
            self._recent.put(self.path, group, columns, table)
            return table

    def _check_size(self, group: int, columns: tuple[str, ...]) -> None:
        told = self._metadata.row_group(group)
        parts = (told.column(k) for k in range(told.num_columns))
        size = sum(c.total_uncompressed_size for c in parts if c.path_in_schema.partition(".")[0] in columns)
        if size > LARGEST_GROUP:
            raise Rejected("budget", f"{self.path}, row group {group}: {size} bytes, the limit is {LARGEST_GROUP}")


def _parsed(data: bytes | None, path: str) -> Any:
    if data is None or len(data) > _MAX_DECLARATION:
        return None
    return strictjson.loads(data, f"{path}, metadata")


def _features(data: bytes | None) -> Json:
    """Features as `datasets` stored them; empty where it did not, or not as it does."""
    try:
        told: Any = json.loads(data or b"{}")
        found = told.get("info", {}).get("features", {})
    except (ValueError, AttributeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
