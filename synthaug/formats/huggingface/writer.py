"""Parquet for `datasets` out: one file per shard and split, pictures and label passes inside, a card beside.

    data/<split>-<shard>.parquet    columns as `features.Columns`; a row is exact, see `formats.packed`
    README.md                       the dataset card; `load_dataset(folder)` goes by it

A file is built in memory when its shard closes, read back and compared. Nothing in it depends on the
clock; the version of pyarrow is in it, as the format asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from synthaug.contracts import Encoded, File, Fragment
from synthaug.errors import ConfigError, SynthaugError
from synthaug.formats import packed
from synthaug.formats.containers import stem_of
from synthaug.formats.declaration import declaration
from synthaug.formats.facts import Json
from synthaug.formats.huggingface import card, planes
from synthaug.formats.huggingface.features import MARKER, PLANES, VERSION, Columns, columns
from synthaug.formats.loose import ImageFormat, LooseWriter
from synthaug.labels import PASSES
from synthaug.sample import Sample


class HuggingfaceWriter(LooseWriter):
    """Writes Parquet files that `datasets.load_dataset` takes as they are.

    Pictures are 8-bit; a scene-linear one is rejected. Passes that only some samples have are left out,
    since all files must have the same columns; the card counts them.

    Args:
        license: Identifier of the hub for the card, such as `cc-by-4.0`; None says `unknown`.
        title: Heading of the card.
        row_group: Samples per row group, 1..10000: what a reader of one sample has to load.
        reference: Store the reference picture too where it differs from the picture.
        image: `auto` writes an untouched picture's own bytes and PNG otherwise; `png`; `jpeg`.
        quality: Of JPEG, 1..100; colour is never subsampled.
        min_psnr: A JPEG must decode to the picture at least this well, dB; else the sample is rejected.
        passes: Label passes to store; None stores all.
    """

    def __init__(
        self,
        *,
        license: str | None = None,
        title: str = "Synthetic dataset",
        row_group: int = 16,
        reference: bool = False,
        image: ImageFormat = "auto",
        quality: int = 95,
        min_psnr: float = 28.0,
        passes: Sequence[str] | None = None,
    ) -> None:
        super().__init__(image=image, quality=quality, min_psnr=min_psnr, passes=passes)
        if not 1 <= row_group <= 10_000:
            raise ConfigError(f"row_group={row_group}: expected 1 to 10000 samples")
        self.license = license
        self.title = title
        self.row_group = row_group
        self.reference = reference
        self._shard: list[Encoded] = []

    def reader(self) -> Mapping[str, Any]:
        return {"_target_": "synthaug.formats.huggingface.reader.HuggingfaceReader"}

    def encode(self, sample: Sample) -> Encoded:
        wanted = self._columns().passes
        told = [n for n in sample.labels.passes if n not in sample.stale and (self.passes is None or n in self.passes)]
        left_out = sorted(name for name in told if name not in wanted)
        narrowed = replace(packed.stored(sample, wanted), stale=frozenset())
        done = packed.pack(self, narrowed, reference=self.reference, holds_floats=False)
        members = dict(done.members)
        for name in PLANES:
            if name in narrowed.labels.passes:
                members[f"{name}.npy"] = planes.encode(narrowed.labels.passes[name])
        row = {**done.row, "split": sample.split, "left_out": left_out}
        return Encoded(sample.id, (), members, row, {"label passes": len(left_out)} if left_out else {})

    def add(self, encoded: Encoded) -> None:
        self._shard.append(encoded)

    def close_shard(self, shard: str) -> Fragment:
        rows, self._shard = self._shard, []
        by_stem: dict[str, list[Encoded]] = {}
        for encoded in rows:
            by_stem.setdefault(stem_of(str(encoded.row["split"])), []).append(encoded)
        files: list[File] = []
        told: list[Json] = []
        for stem, members in sorted(by_stem.items()):
            data = self._parquet(members)
            files.append(File(f"data/{stem}-{shard}.parquet", data))
            told.append(
                {
                    "stem": stem,
                    "samples": len(members),
                    "bytes": len(data),
                    "instances": _count(str(c) for e in members for c in e.row["objects"]["categories"]),
                    "left_out": _count(name for e in members for name in e.row["left_out"]),
                }
            )
        return Fragment(tuple(files), tuple(told))

    def finalise(self, fragments: Iterable[Fragment]) -> Sequence[File]:
        rows = [row for fragment in fragments for row in fragment.rows]
        return (File("README.md", card.render(rows, self.dataset, self._columns(), self.license, self.title)),)

    def _columns(self) -> Columns:
        kept = [n for n in PASSES if n in self.dataset.passes and (self.passes is None or n in self.passes)]
        return columns(kept, [c.name for c in self.dataset.categories], reference=self.reference)

    def _parquet(self, rows: Sequence[Encoded]) -> bytes:
        """One file, a row group at a time, read back and compared before it is handed on."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        wanted = self._columns()
        schema = wanted.schema(declaration(MARKER, VERSION, self.dataset.categories))
        groups = [rows[start : start + self.row_group] for start in range(0, len(rows), self.row_group)]
        options: dict[str, Any] = {"write_statistics": ["id"], "compression": wanted.compression()}
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, schema, use_dictionary=False, version="2.6", **options) as out:
            for group in groups:
                out.write_table(_table(group, wanted, schema), row_group_size=self.row_group)
        data = sink.getvalue()
        found = pq.ParquetFile(pa.BufferReader(data))
        for number, group in enumerate(groups):
            if not found.read_row_group(number, use_threads=False).equals(_table(group, wanted, schema)):
                raise SynthaugError("a Parquet file read back differs from what was written: a fault of pyarrow")
        return data.to_pybytes()


def _table(rows: Sequence[Encoded], wanted: Columns, schema: Any) -> Any:
    """Some rows as an Arrow table."""
    import pyarrow as pa

    cells = [_cells(encoded, wanted) for encoded in rows]
    specs = wanted.specs()
    arrays = [
        _pictures([row[name] for row in cells]) if specs[name] == "image"
        else pa.array([row[name] for row in cells], type=schema.field(name).type)
        for name in specs
    ]  # fmt: skip
    return pa.Table.from_arrays(arrays, schema=schema)


def _pictures(cells: Sequence[tuple[bytes, str] | None]) -> Any:
    """Files and their names as a column of pictures, built from its parts: thirty times faster than from dicts."""
    import pyarrow as pa

    missing = pa.array([cell is None for cell in cells])
    files = pa.array([None if cell is None else cell[0] for cell in cells], type=pa.binary())
    paths = pa.array([None if cell is None else cell[1] for cell in cells], type=pa.string())
    return pa.StructArray.from_arrays([files, paths], names=["bytes", "path"], mask=missing)


def _cells(encoded: Encoded, wanted: Columns) -> Json:
    """One row of the table."""
    cells: Json = {name: encoded.row.get(name) for name in wanted.specs()}
    for field, data in encoded.members.items():
        name, dot, suffix = field.partition(".")
        if not dot:
            name, suffix = "image", field
        is_picture = wanted.specs()[name] == "image"
        shown = "tiff" if suffix == "npy" else suffix
        cells[name] = (data, f"{encoded.sample_id}.{shown}") if is_picture else data
    return cells


def _count(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items()))
