"""The index of a library: one Parquet row per entry, which other programs can query too."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from synthaug.errors import InputError, Rejected
from synthaug.formats.inputs import InputRoot
from synthaug.texture.entry import Entry, from_json


class Row(NamedTuple):
    """An entry, and the sidecar it was read from: its bytes and its time of change in nanoseconds."""

    entry: Entry
    size: int
    changed: int


def _schema() -> Any:
    import pyarrow as pa

    text, texts, by_kind = pa.string(), pa.list_(pa.string()), pa.map_(pa.string(), pa.string())
    columns = {
        "id": text, "name": text, "material": text, "tags": texts, "metres": pa.float64(), "height": pa.int32(),
        "width": pa.int32(), "colour": pa.list_(pa.float64()), "seam": pa.float64(), "tileable": pa.bool_(),
        "licence": text, "source": text, "method": text, "model": text, "seed": pa.int64(), "parameters": text,
        "maps": by_kind, "files": by_kind, "notes": texts, "likeness": text, "format": pa.int32(),
        "sidecar_size": pa.int64(), "sidecar_changed": pa.int64(),
    }  # fmt: skip
    return pa.schema(list(columns.items()))


def pack(rows: Mapping[str, Row]) -> bytes:
    """The index of these entries as bytes of a Parquet file, sorted by id."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells: list[dict[str, Any]] = []
    for entry_id in sorted(rows):
        entry, size, changed = rows[entry_id]
        told = entry.to_json()
        told["parameters"] = json.dumps(told["parameters"], sort_keys=True)
        told |= {key: sorted(told[key].items()) for key in ("maps", "files")}
        cells.append({**told, "sidecar_size": size, "sidecar_changed": changed})
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(cells, schema=_schema()), sink, compression="zstd", write_statistics=True)
    return sink.getvalue().to_pybytes()


def read(files: InputRoot, name: str) -> dict[str, Row]:
    """Rows by id; empty where there is no index or none that can be read: the entries are the truth."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(files.read(name)), use_threads=False)
        return {row["id"]: _row(row, name) for row in table.to_pylist()} if table.schema.equals(_schema()) else {}
    except (Rejected, InputError, pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        return {}


def _row(cells: dict[str, Any], name: str) -> Row:
    size, changed = cells.pop("sidecar_size"), cells.pop("sidecar_changed")
    cells["parameters"] = json.loads(cells["parameters"])
    cells |= {key: dict(cells[key]) for key in ("maps", "files")}
    return Row(from_json(cells, name), size, changed)
