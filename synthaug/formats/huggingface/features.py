"""The columns of our Parquet files in the three spellings that need them: datasets, Arrow, YAML.

`datasets` reads its features from the schema's metadata and from the card; both are written here as it
writes them itself (tests compare), so that writing does not have to import it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from synthaug.formats.facts import Json
from synthaug.labels import PASSES

Spec = Any
"""A leaf (`image`, `string`, ...), `["list", Spec]`, `["class", names]`, or a mapping of names to Specs."""

PLANES = ("depth", "alpha")
"""Float passes of one channel: stored as float32 TIFF, which datasets hands out as pictures of mode F."""
MARKER = "synthaug-parquet"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a dataset.

    Attributes:
        passes: Label passes, in the order of `labels.PASSES`.
        names: Of the classes.
        reference: Whether references are stored.
    """

    passes: tuple[str, ...]
    names: tuple[str, ...]
    reference: bool

    def specs(self) -> dict[str, Spec]:
        """Spec by column, in order."""
        objects = {
            "bbox": ["list", ["list", "float64"]],
            "categories": ["list", ["class", list(self.names)] if self.names else "int64"],
            "ids": ["list", "int64"],
            "area": ["list", "float64"],
            "iscrowd": ["list", "int8"],
            "masks": ["list", "string"],
            "keypoints": ["list", ["list", "float64"]],
        }
        head = {"id": "string", "image": "image"} | ({"reference": "image"} if self.reference else {})
        middle = {"width": "int32", "height": "int32", "objects": objects}
        return head | middle | {name: pass_spec(name) for name in self.passes} | {"facts": "string"}

    def compression(self) -> dict[str, str]:
        """Codec by leaf: raw numbers and text are packed, PNG and JPEG are packed already."""
        leaves = [f"{n}.bytes" if pass_spec(n) == "image" else n for n in self.passes if PASSES[n].kind != "ids"]
        return dict.fromkeys([*leaves, "facts"], "zstd")

    def schema(self, declaration: bytes) -> Any:
        """The Arrow schema, with the features and our own declaration in its metadata."""
        import pyarrow as pa

        specs = self.specs()
        features = {name: _to_features(spec) for name, spec in specs.items()}
        metadata = {
            b"huggingface": json.dumps({"info": {"features": features}}).encode("ascii"),
            MARKER.encode("ascii"): declaration,
        }
        return pa.schema([pa.field(name, _to_arrow(spec, pa)) for name, spec in specs.items()], metadata=metadata)

    def yaml(self) -> list[Json]:
        """The features as a dataset card lists them."""
        return [{"name": name} | _to_yaml(spec) for name, spec in self.specs().items()]


def columns(passes: Sequence[str], names: Sequence[str], *, reference: bool) -> Columns:
    """The columns for these passes and classes."""
    return Columns(tuple(name for name in PASSES if name in passes), tuple(names), reference)


def pass_spec(name: str) -> Spec:
    """How a label pass is stored: a picture where one holds it exactly, else the bytes of a npy file."""
    return "image" if PASSES[name].kind == "ids" or name in PLANES else "binary"


def _to_features(spec: Spec) -> Json:
    if isinstance(spec, dict):
        return {name: _to_features(inner) for name, inner in spec.items()}
    if isinstance(spec, list):
        kind, inner = spec
        if kind == "class":
            return {"names": inner, "_type": "ClassLabel"}
        return {"feature": _to_features(inner), "_type": "List"}
    return {"_type": "Image"} if spec == "image" else {"dtype": spec, "_type": "Value"}


def _to_arrow(spec: Spec, pa: Any) -> Any:
    if isinstance(spec, dict):
        return pa.struct([pa.field(name, _to_arrow(inner, pa)) for name, inner in spec.items()])
    if isinstance(spec, list):
        kind, inner = spec
        return pa.int64() if kind == "class" else pa.list_(_to_arrow(inner, pa))
    if spec == "image":
        return pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
    return pa.type_for_alias(spec)


def _to_yaml(spec: Spec) -> Json:
    if isinstance(spec, dict):
        return {"struct": [{"name": name} | _to_yaml(inner) for name, inner in spec.items()]}
    if isinstance(spec, list) and spec[0] == "list":
        inner = _to_yaml(spec[1])
        return {"list": inner.get("dtype") if isinstance(inner.get("dtype"), str) else inner.get("dtype", inner)}
    if isinstance(spec, list):
        return {"dtype": {"class_label": {"names": {str(k): name for k, name in enumerate(spec[1])}}}}
    return {"dtype": spec}
