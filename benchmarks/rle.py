"""RLE and boxes of 20 instances of a 512x512 id map, against the loop over pycocotools that a user would write.

    python benchmarks/rle.py [ROUNDS]

Checked first: every string is equal to the byte, every box and area is equal.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from pycocotools import mask as coco  # noqa: E402

from benchmarks import measure  # noqa: E402
from synthaug import rle  # noqa: E402

MUST, AIM = 8.0, 15.0
INSTANCES = range(1, 21)


MAPS = {"smooth": (512, 0.0, 2), "lobed": (512, 0.2, 9), "ragged": (512, 0.25, 30), "ragged 1024": (1024, 0.25, 30)}
CLAIMED = ("smooth", "lobed")
"""Outlines as objects have them. The ragged maps, with three times the runs, are shown beside the claim."""


def id_map(side: int, wobble: float, lobes: int, seed: int = 1) -> NDArray[np.int32]:
    """Twenty overlapping blobs, none wholly hidden; `wobble` is the depth of up to `lobes` lobes around each."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    ids = np.zeros((side, side), np.int32)
    places = [((i % 5 + 0.5) / 5, (i // 5 + 0.5) / 4) for i in range(20)]
    for i, (cx, cy) in zip(INSTANCES, places, strict=True):
        angle = np.arctan2(y - cy, x - cx)
        radius = rng.uniform(0.09, 0.14) * (1 + wobble * np.sin(rng.integers(2, lobes + 1) * angle + rng.uniform(0, 6)))
        ids[np.hypot(x - cx, (y - cy) * rng.uniform(0.8, 1.25)) < radius] = i
    return ids


def loop(ids: NDArray[np.int32]) -> dict[int, tuple[bytes, tuple[float, ...], int]]:
    """One mask after the other through pycocotools."""
    found: dict[int, tuple[bytes, tuple[float, ...], int]] = {}
    for i in INSTANCES:
        encoded: Any = coco.encode(np.asfortranarray(ids == i))
        found[i] = (encoded["counts"], tuple(coco.toBbox(encoded)), int(coco.area(encoded)))
    return found


def check(ids: NDArray[np.int32]) -> None:
    """The same work: strings, boxes, areas."""
    ours, theirs = rle.find(ids), loop(ids)
    assert list(ours) == list(theirs)
    for i, (text, (x, y, w, h), area) in theirs.items():
        assert ours[i] == (rle.RLE(ids.shape, text), (x, y, x + w, y + h), area)


def main(rounds: int) -> None:
    details: dict[str, Any] = {"rounds": rounds}
    for name, shape in MAPS.items():
        ids = id_map(*shape)
        check(ids)
        times = measure.alternate({"synthaug": lambda: rle.find(ids), "pycocotools": lambda: loop(ids)}, rounds)  # noqa: B023
        runs = sum(len(rle.runs(mask)) for mask in rle.encode_ids(ids).values())
        details[name] = {"ratio": measure.ratio(times, "synthaug", "pycocotools"), "runs": runs, **times}
    ratios = {name: details[name]["ratio"] for name in MAPS}
    reached = min(ratios[name] for name in CLAIMED)
    claims = {"rle_and_boxes_of_20_instances": {"must": MUST, "aim": AIM, "reached": reached, "all": ratios}}
    measure.publish("rle", claims, details, ["numpy", "pycocotools"])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
