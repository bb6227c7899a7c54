"""The dataset card: front matter that `datasets` and the hub read, and a page for people."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from synthaug.contracts import DatasetInfo
from synthaug.errors import printable
from synthaug.formats.facts import Json
from synthaug.formats.huggingface.features import Columns

_SIZES = (
    (10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"), (10**9, "100M<n<1B"),
)  # fmt: skip

_TEXT = (
    "Synthetic pictures with the labels of their renders, written by synthaug. Boxes are `x, y, width, height` in",
    "pixels; `objects.masks` are the counts of COCO run-length masks on the picture's canvas. Integer label passes",
    "are PNG, `depth` and `alpha` float32 TIFF (metres, NaN invalid), other passes the bytes of npy files. `facts`",
    "is JSON with everything else, and wins in doubt.",
)


_NUMBERS = (
    "Classes are numbered in two ways: `objects.categories` from 0, as `ClassLabel` does, and the pixels of `semantic`",
    "from 1, because 0 is background there; `facts` counts as the pixels do. So `semantic == objects.categories + 1`.",
    "Pixels of `instance` are `objects.ids`, 0 where there is none.",
)


def config_split(stem: str) -> str:
    """A split as `datasets` may call it: word characters alone."""
    return re.sub(r"\W", "_", stem, flags=re.ASCII)


def render(
    rows: Iterable[Mapping[str, Any]], dataset: DatasetInfo, columns: Columns, licence: str | None, title: str
) -> bytes:
    """README.md from the rows of all shards: pure, no clock.

    Args:
        rows: As `HuggingfaceWriter.close_shard` leaves them.
        dataset: Classes and the facts of the run.
        columns: Of the files.
        licence: Identifier of the hub, such as `cc-by-4.0`.
        title: Heading of the page.
    """
    import yaml

    splits: dict[str, Json] = {}
    omitted: Counter[str] = Counter()
    instances: Counter[str] = Counter()
    for row in rows:
        entry = splits.setdefault(str(row["stem"]), {"samples": 0, "bytes": 0, "files": 0})
        for field in ("samples", "bytes"):
            entry[field] += int(row[field])
        entry["files"] += 1
        instances.update({str(k): int(n) for k, n in row["instances"].items()})
        omitted.update({str(k): int(n) for k, n in row["left_out"].items()})
    ordered = sorted(splits.items())
    front = _front(ordered, columns, licence, _tasks(dataset, columns))
    text = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=False)
    return f"---\n{text}---\n\n{_page(ordered, dataset, columns, instances, omitted, title)}".encode()


def _front(splits: Sequence[tuple[str, Json]], columns: Columns, licence: str | None, tasks: list[str]) -> Json:
    total = sum(entry["samples"] for _, entry in splits)
    size = next((name for limit, name in _SIZES if total < limit), "n>1B")
    paths = [{"split": config_split(stem), "path": f"data/{stem}-??????.parquet"} for stem, _ in splits]
    counts = [
        {"name": config_split(stem), "num_bytes": entry["bytes"], "num_examples": entry["samples"]}
        for stem, entry in splits
    ]
    return {
        "license": licence or "unknown",
        "task_categories": tasks,
        "size_categories": [size],
        "tags": ["synthetic", "synthaug"],
        "configs": [{"config_name": "default", "data_files": paths}],
        "dataset_info": {"features": columns.yaml(), "splits": counts},
    }


def _tasks(dataset: DatasetInfo, columns: Columns) -> list[str]:
    keypoints = any(category.keypoints for category in dataset.categories)
    told = {
        "object-detection": bool(dataset.categories),
        "image-segmentation": bool({"instance", "semantic"} & set(columns.passes)),
        "keypoint-detection": keypoints,
        "depth-estimation": "depth" in columns.passes,
    }
    return [name for name, true in told.items() if true] or ["other"]


def _page(
    splits: Sequence[tuple[str, Json]],
    dataset: DatasetInfo,
    columns: Columns,
    instances: Mapping[str, int],
    omitted: Mapping[str, int],
    title: str,
) -> str:
    lines = [
        f"# {_cell(title)}", "",
        *_TEXT,
        "", "## Made by", "",
        *(f"- {_cell(str(key))}: {_cell(_told(value))}" for key, value in sorted(dataset.card.items())),
        "", "## Splits", "", "| split | samples | files | bytes |", "|---|---|---|---|",
        *(f"| {stem} | {e['samples']} | {e['files']} | {e['bytes']} |" for stem, e in splits),
        "", "## Classes", "", *_NUMBERS, "",
        "| class | `objects.categories` | pixels of `semantic` | instances | keypoints |", "|---|---|---|---|---|",
        "| background | | 0 | | |",
        *(
            f"| {_cell(c.name)} | {number} | {number + 1} | {instances.get(str(number), 0)} "
            f"| {_cell(', '.join(c.keypoints))} |"
            for number, c in enumerate(dataset.categories)
        ),
        "", f"Label passes: {', '.join(columns.passes) or 'none'}.",
    ]  # fmt: skip
    if omitted:
        told = ", ".join(f"{_cell(name)} ({count} samples)" for name, count in sorted(omitted.items()))
        lines += ["", f"Passes that only some samples had, and that are left out: {told}."]
    return "\n".join(lines) + "\n"


def _told(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _cell(text: str) -> str:
    """Text from outside, harmless in a table and in HTML."""
    plain = printable(text).replace("\\", "\\\\").replace("|", "\\|").replace("`", "'")
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace("[", "\\[")
