"""What a user would write: a folder of pictures, id masks and 16-bit depth to COCO, with Pillow and pycocotools.

    python benchmarks/plain_loop.py SOURCE TARGET

Nothing is checked, verified, flushed or resumable; `benchmarks/convert.py` measures against it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco


def convert(source: Path, target: Path) -> None:
    """Writes `images/`, `depth/` and `annotations.json` below `target`."""
    (target / "images").mkdir(parents=True)
    (target / "depth").mkdir()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, path in enumerate(sorted((source / "images").glob("*.png")), start=1):
        picture = np.array(Image.open(path).convert("RGB"))
        ids = np.array(Image.open(source / "instance" / path.name))
        depth = np.array(Image.open(source / "depth" / path.name))
        height, width = ids.shape
        images.append({"id": number, "file_name": path.name, "height": height, "width": width})
        for i in np.unique(ids):
            if i == 0:
                continue
            encoded: Any = coco.encode(np.asfortranarray(ids == i, dtype=np.uint8))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": coco.toBbox(encoded).tolist(),
                    "area": int(coco.area(encoded)),
                    "segmentation": {"size": [height, width], "counts": encoded["counts"].decode("ascii")},
                    "iscrowd": 0,
                }
            )
        Image.fromarray(picture).save(target / "images" / path.name)
        Image.fromarray(depth).save(target / "depth" / path.name)
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (target / "annotations.json").write_text(json.dumps(document))


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
