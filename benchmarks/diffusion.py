"""Image-to-image diffusion: our loop against diffusers' pipeline, one picture at a time and in its best batch.

    python benchmarks/diffusion.py [--pictures 16] [--rounds 12] [--size 64]

On a CPU with a tiny random model, where what is measured is everything around the network: prompts, noise, scheduler,
conversions, batching. Same work first: the same pictures within 1e-4, from the same noise. CPU time, alternating
rounds, one thread. Counted as well: runs of the text encoder, and calls that would wait for a device.

`one by one` takes and gives PIL pictures and encodes the prompt every time, as people write it; it is given our
generators, so that it draws the same noise. Nobody writes files.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import measure

import numpy as np  # isort: skip
import torch  # isort: skip
from PIL import Image  # isort: skip
from torch.overrides import TorchFunctionMode  # isort: skip

from synthaug.models import opening  # isort: skip
from synthaug.models.noise import SampleNoise  # isort: skip
from synthaug.models.pipelines import Img2ImgModel, Request, open_img2img  # isort: skip
from tests.models.tiny import build_tiny_sd  # isort: skip

MUST = {"one_by_one": 3.0, "batched": 1.1}
AIM = {"one_by_one": 5.0, "batched": 1.5}
STEPS, STRENGTH, GUIDANCE = 4, 0.5, 1.0
PROMPTS = ("a b", "c d e", "f")


class Waits(TorchFunctionMode):
    """Counts calls that hand a tensor's values to Python, for which a device would be waited for."""

    names = frozenset({"item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__", "nonzero"})

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # The scheduler's own constants live on the host: only what has the batch's size counts.
        if getattr(func, "__name__", "") in self.names and args and getattr(args[0], "ndim", 0) > 0:
            self.seen.append(func.__name__)
        return func(*args, **(kwargs or {}))


def requests(count: int) -> list[Request]:
    return [Request(PROMPTS[i % len(PROMPTS)], "", STRENGTH, 100 + i) for i in range(count)]


def contenders(model: Img2ImgModel, images: torch.Tensor) -> dict[str, Callable[[], torch.Tensor]]:
    """Three ways to the same pictures. Theirs is a pipeline of its own: ours is prepared (`speed.prepare`)."""
    pipe: Any = opening.open_pipe(model.snapshot, device="cpu", dtype="float32").pipe
    asked = requests(len(images))
    files = [Image.fromarray((i.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)) for i in images]
    shared = {"strength": STRENGTH, "num_inference_steps": STEPS, "guidance_scale": GUIDANCE}

    def ours() -> torch.Tensor:
        return model(images, asked, steps=STEPS, guidance=GUIDANCE).images

    def batched() -> torch.Tensor:
        noise = SampleNoise([r.seed for r in asked])
        with torch.inference_mode(), noise:
            return pipe(
                prompt=[r.prompt for r in asked], image=images, generator=noise.tokens, output_type="pt", **shared
            ).images

    def one_by_one() -> torch.Tensor:
        found: list[torch.Tensor] = []
        for picture, request in zip(files, asked, strict=True):
            noise = SampleNoise([request.seed])
            with torch.inference_mode(), noise:
                made = pipe(prompt=[request.prompt], image=picture, generator=noise.tokens, **shared).images[0]
            found.append(torch.from_numpy(np.array(made)).permute(2, 0, 1) / 255)
        return torch.stack(found)

    return {"synthaug": ours, "batched": batched, "one_by_one": one_by_one}


def check_same_work(ways: dict[str, Callable[[], torch.Tensor]]) -> dict[str, float]:
    """The largest difference of each from ours; an AssertionError where it is another picture."""
    ours = ways["synthaug"]()
    assert ours.std() > 0.01
    apart = {name: float((way() - ours).abs().max()) for name, way in ways.items() if name != "synthaug"}
    assert apart["batched"] < 1e-4, apart
    assert apart["one_by_one"] < 0.5 / 255 + 1e-4, apart  # its pictures come out rounded
    return apart


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--size", type=int, default=64)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images = torch.rand((arguments.pictures, 3, arguments.size, arguments.size)).mul(255).round().div(255)
    with tempfile.TemporaryDirectory() as folder:
        model = open_img2img(build_tiny_sd(Path(folder) / "m"), device="cpu", dtype="float32")
        ways = contenders(model, images)
        apart = check_same_work(ways)
        assert model.loop is not None
        before = model.loop.words.encodes
        with Waits() as waits:
            ways["synthaug"]()
        times = measure.alternate(ways, rounds=arguments.rounds, calls=1)
        encodes = model.loop.words.encodes
    assert before == encodes == len(PROMPTS), "every unique prompt is encoded once"
    claims: dict[str, Any] = {
        f"img2img_against_{name}": {
            "must": MUST[name],
            "aim": AIM[name],
            "reached": measure.ratio(times, "synthaug", name),
        }
        for name in MUST
    }
    claims["waits_per_batch"] = {"must": 1, "reached": len(waits.seen)}
    claims["text_encodes_per_unique_prompt"] = {"must": 1, "reached": encodes / len(PROMPTS)}
    details = {
        "times": times,
        "largest_difference": apart,
        "waits": waits.seen,
        **vars(arguments),
        "cpus": os.cpu_count(),
    }
    measure.publish("diffusion", claims, details, ["torch", "diffusers", "transformers", "numpy"])


if __name__ == "__main__":
    main()
