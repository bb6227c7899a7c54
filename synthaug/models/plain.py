"""JSON and safetensors headers from a model folder, read strictly and without any library of the model.

`formats.strictjson` does this for data; models stand below formats and bring their own few lines.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, cast

from synthaug.errors import InputError, SecurityError, printable

_LARGEST_JSON = 64 << 20
_LARGEST_HEADER = 100_000_000
"""The limit that the safetensors format sets itself."""

_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
_PRIVATE = frozenset(
    {
        "_class_name",
        "_diffusers_version",
        "_name_or_path",
        "_commit_hash",
        "_from_model_config",
        "_use_default_values",
        "_valid_processor_keys",
    }
)
_CODE = frozenset(
    {"auto_map", "trust_remote_code", "custom_pipeline", "custom_pipelines", "custom_revision", "attn_implementation",
     "kernel_config", "use_kernels", "quantization_config"}
)  # fmt: skip


def read_json(path: Path, name: str) -> object:
    """JSON in UTF-8 without NaN and without a key twice, at most 64 MiB; `InputError` names the file.

    Infinities are read as Python writes them: diffusers saves a scheduler's `lambda_min_clipped` so.
    """
    size = path.stat().st_size
    if size > _LARGEST_JSON:
        raise InputError(f"{name}: {size} bytes of JSON, at most {_LARGEST_JSON} are read")
    try:
        return _parse(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: not valid JSON: {error}") from error


def _parse(data: bytes) -> object:
    return json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_refuse_constant)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for key in names if names.count(key) > 1)
        raise ValueError(f"key '{printable(twice)}' occurs twice")
    return found


def _refuse_constant(word: str) -> float:
    if word == "NaN":
        raise ValueError(f"{word} is not JSON")
    return float(word)


def check_fields(value: object, name: str) -> None:
    """Refuses configuration fields that reach for code: remote modules, private switches, kernels.

    Raises:
        SecurityError: Naming the file and the field.
    """
    if isinstance(value, list):
        for item in cast("list[object]", value):
            check_fields(item, name)
    if not isinstance(value, dict):
        return
    for key, item in cast("dict[str, object]", value).items():
        if key in _CODE or (key.startswith("_") and key not in _PRIVATE):
            raise SecurityError(
                f"{name} has the field '{printable(key)}', which can bring in code or change how the model runs;"
                " only plain configuration is loaded. Fetch a plain snapshot of the model without it"
            )
        if key == "weight_map":
            _check_weight_map(item, name)
        else:
            check_fields(item, name)


def _check_weight_map(value: object, name: str) -> None:
    """The shards of an index file: plain safetensors names beside it."""
    files = set(cast("dict[str, object]", value).values()) if isinstance(value, dict) else {None}
    for file in files:
        if not isinstance(file, str) or not file.endswith(".safetensors") or "/" in file or "\\" in file:
            raise SecurityError(
                f"{name}: weight_map names '{printable(str(file))}', expected a .safetensors file beside it"
            )


def check_safetensors(path: Path, name: str) -> None:
    """Checks by content that a file is safetensors and complete; reads the header alone.

    Format: 8 bytes little-endian header length, a JSON header, then tensor bytes without a gap
    (github.com/huggingface/safetensors, "Format").

    Raises:
        SecurityError: It is something else under that name, such as a pickle or an archive.
        InputError: It is truncated, or longer than its header says.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 10 or not 2 <= length <= _LARGEST_HEADER:
            raise SecurityError(
                f"{name} is not safetensors: its first 8 bytes are no header length. Weights load from safetensors only"
            )
        head = file.read(length)
    if head[:1] != b"{":
        raise SecurityError(f"{name} is not safetensors: its header is not JSON. Weights load from safetensors only")
    if len(head) < length:
        raise InputError(
            f"{name} is truncated: its header needs {length} bytes, the file has {size}; fetch the model again"
        )
    try:
        end = _data_end(cast("dict[str, Any]", _parse(head)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SecurityError(f"{name} is not safetensors: its header is malformed ({error})") from error
    if 8 + length + end != size:
        raise InputError(
            f"{name} is truncated or altered: its header promises {8 + length + end} bytes,"
            f" the file has {size}; fetch the model again"
        )


def _data_end(header: dict[str, Any]) -> int:
    """Bytes of tensor data that a header describes; they must follow each other without a gap."""
    spans: list[tuple[int, int]] = []
    for key, tensor in header.items():
        if key == "__metadata__":
            continue
        start, end = tensor["data_offsets"]
        if (end - start) * 8 != math.prod(tensor["shape"]) * _BITS[tensor["dtype"]]:
            raise ValueError(f"tensor '{printable(key)}' does not fill its bytes")
        spans.append((start, end))
    at = 0
    for start, end in sorted(spans):
        if start != at or end < start:
            raise ValueError("tensors overlap or leave a gap")
        at = end
    return at
