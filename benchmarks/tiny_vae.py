"""What a tiny autoencoder costs, in dB and in time: the number that `speed.vae` is chosen by.

    python benchmarks/tiny_vae.py [--model DIR --vae DIR --photos DIR] [--crop 512] [--count 24] [--device cpu]

Photos go through the pipeline's own autoencoder and through the tiny one, there and back, no noise drawn. `own_db` and
`tiny_db` are peak signal-to-noise against the photo, `apart_db` of the one against the other. Same work: both see the
same crops and give the same size. Times alternate. Without folders, random networks and noise show that it runs;
their figures say nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import measure

import cv2  # isort: skip
import numpy as np  # isort: skip
import torch  # isort: skip

from synthaug.models import tiny_vae  # isort: skip
from synthaug.models.pipelines import open_img2img  # isort: skip

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def crops(folder: str, side: int, count: int) -> torch.Tensor:
    """[count, 3, side, side] in [0, 1]: the middles of photos, evenly over the sorted names; noise without a folder."""
    if not folder:
        return torch.rand((count, 3, side, side), generator=torch.Generator().manual_seed(0))
    names = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    found: list[Any] = []
    for index in np.linspace(0, len(names) - 1, min(count, len(names))).astype(int):
        photo: Any = cv2.imread(str(names[index]), cv2.IMREAD_COLOR_RGB)
        if photo is None or min(photo.shape[:2]) < side:
            continue
        top, left = ((length - side) // 2 for length in photo.shape[:2])
        found.append(photo[top : top + side, left : left + side].transpose(2, 0, 1).astype(np.float32) / 255)
    if not found:
        raise SystemExit(f"no photo of {side} pixels or more below {folder}; choose a smaller --crop")
    return torch.from_numpy(np.stack(found))


def seconds(vae: Any, images: torch.Tensor, device: str) -> float:
    """Of the whole set, there and back."""
    begun = time.perf_counter()
    tiny_vae.there_and_back(vae, images)
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "vae", "photos"):
        parser.add_argument(f"--{name}", default="", metavar="DIR")
    parser.add_argument("--crop", type=int, default=512)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        model, tiny = given.model, given.vae
        if not (model and tiny):
            from tests.models.test_tiny_vae import build_tiny_vae
            from tests.models.tiny import build_tiny_sd

            model, tiny = str(build_tiny_sd(Path(folder) / "sd")), str(build_tiny_vae(Path(folder) / "vae"))
        opened: Any = open_img2img(model, device=given.device, dtype=given.dtype)
        own = opened._pipe.vae
        small = tiny_vae.open_tiny_vae(tiny, device=given.device, dtype=own.dtype, like=own)
        images = crops(given.photos, given.crop, given.count)
        cost = tiny_vae.cost_db(own, small, images)
        times = [
            (seconds(own, images, given.device), seconds(small, images, given.device)) for _ in range(given.rounds)
        ]
    own_s, tiny_s = (float(np.median(column)) / len(images) for column in zip(*times, strict=True))
    claims = {**cost.facts(), "own_ms": round(1000 * own_s, 2), "tiny_ms": round(1000 * tiny_s, 2)}
    kind = "photos" if given.photos and given.model and given.vae else "random networks or noise: figures say nothing"
    details = {"crops": len(images), "side": given.crop, "dtype": given.dtype, "device": given.device, "of": kind}
    measure.publish("tiny_vae", claims, details, ("torch", "diffusers"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
