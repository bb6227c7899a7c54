"""Whether the frames of a sequence agree: surfaces compared at their true correspondences, from depth and poses.

    python benchmarks/sequence.py [--size 256] [--frames 4] [--scenes boxes dice views]

Three ways to the starting noise: `surfaces` (`sequence=true`: by places on surfaces, from each frame alone), `screen`
(one seed for all frames, so that noise sticks to the screen) and `independent` (a seed for each frame). `carried` is
what a frame gets that waits for the one before (`warped_noise.carry`). Each in neighbouring frames (`next`) and in the
first and the last one (`ends`):

- `latent`: correlation of the noise of one surface point in two frames, on the grid of the model, 8 pixels: what the
  denoising starts from. Places are compared with the nearest one, so 1 is out of reach between them.
- `refiner`: mean |difference| in 8-bit levels of what was added to one surface point in two frames by the stage
  `restore` with the refiner that comes with the package, a trained network.
- `img2img`: the same by that stage, with a tiny diffusion model of random weights. It invents nothing that
  sticks to anything: it proves that the noise arrives, and says little about pictures.

What was added, and not the whole: no highlight and no resampling of the render is in it (`render` is that).

Scenes: `boxes` is ray-cast here, a camera walking by; `dice` and `views` are rendered (Mitsuba): a camera walking
around dice, and the far apart views of `read: dice`. Everything on the CPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import measure

import numpy as np  # isort: skip
import torch  # isort: skip
from numpy.typing import NDArray  # isort: skip

from synthaug import seeds  # isort: skip
from synthaug.camera import from_fov  # isort: skip
from synthaug.labels import Labels  # isort: skip
from synthaug.refine.correspond import Correspondence, by_depth, consistency  # isort: skip
from synthaug.refine.img2img import Img2Img  # isort: skip
from synthaug.refine.restore import Restore  # isort: skip
from synthaug.refine.sequence import Anchoring, starting  # isort: skip
from synthaug.refine.warped_noise import carry, of_surfaces, reduced  # isort: skip
from synthaug.render import dice, film, mitsuba_backend, variants  # isort: skip
from synthaug.render.reader import DiceReader  # isort: skip
from synthaug.render.scene_reader import labels_of  # isort: skip
from tests.models.tiny import build_tiny_sd  # isort: skip

Float32 = NDArray[np.float32]
Frame = tuple[Float32, Labels]
"""[3, H, W] in [0, 1], and what is true of it."""
WAYS = ("surfaces", "screen", "independent")
ANCHOR, FACTOR, CHANNELS = 20, 8, 4
BOXES = ((-0.4, -0.2, 0.0, 0.3, 0.25), (0.1, -0.5, 0.0, 0.25, 0.5), (0.35, 0.15, 0.0, 0.2, 0.2))
"""x, y, z of a corner, width and height in metres; on a checkered floor."""


def boxes(size: int, frames: int) -> list[Frame]:
    """A camera that walks 8 cm a frame past three boxes, a metre and a half away."""
    return [_cast(size, np.array([0.08 * k - 0.1, -1.1, 1.0])) for k in range(frames)]


def _cast(size: int, eye: Any) -> Frame:
    camera = dice.look_at(from_fov(size, size, 50), eye, np.array([0.0, 0.0, 0.1]), 0.0)
    y, x = np.mgrid[:size, :size] + 0.5
    rays = camera.rays(np.stack([x.ravel(), y.ravel()], axis=1))
    turn = np.asarray(camera.world_to_camera)[:3, :3]
    way = rays @ turn
    best, ids = -eye[2] / np.where(way[:, 2] < -1e-6, way[:, 2], -1e-6), np.zeros(len(way), np.int32)
    for number, (left, front, floor, side, tall) in enumerate(BOXES, 1):
        low, high = np.array([left, front, floor]), np.array([left + side, front + side, floor + tall])
        with np.errstate(divide="ignore"):
            ends = np.sort(np.stack([(low - eye) / way, (high - eye) / way]), axis=0)
        enter, leave = ends[0].max(axis=1), ends[1].min(axis=1)
        hit = (enter < leave) & (enter > 0) & (enter < best)
        best, ids = np.where(hit, enter, best), np.where(hit, number, ids)
    points = eye + way * best[:, None]
    check = np.floor(points / 0.08 + 0.013).sum(axis=1) % 2
    wave = 0.1 * np.sin(points @ np.array([[41.0, 13, 7], [17, 37, 5], [11, 19, 43]]))
    colour = np.clip(0.35 + 0.25 * check[:, None] + wave + 0.05 * ids[:, None], 0, 1)
    picture = colour.T.reshape(3, size, size).astype(np.float32)
    # Rays have z = 1 in the camera's axes, so that what they are stretched by is the planar depth.
    depth = best.reshape(size, size).astype(np.float32)
    return picture, Labels((size, size), (), (), {"depth": depth}, camera)


def walk(size: int, frames: int) -> list[Frame]:
    """A camera that goes around dice, five degrees a frame."""
    options = dice.Options((8, 12), (size, size), 1.5, 0.0, "")
    scene, first = dice.scene(3, 0, options), dice.view(3, 0, 1, options)
    variant, found = variants.resolve(variants.AUTO), list[Frame]()
    for k in range(frames):
        angle, distance = np.radians(5 * k), 0.3
        eye = distance * np.array([0.4 * np.cos(angle), 0.4 * np.sin(angle), 0.9])
        view = replace(first, camera=dice.look_at(first.camera, eye, np.zeros(3), 0.0))
        rendered = mitsuba_backend.render(scene, view, samples=64, denoise=False, variant=variant)
        found.append((_planes(film.develop(rendered.radiance, view)), labels_of(scene, view, rendered)))
    return found


def views(size: int, frames: int) -> list[Frame]:
    """Views of one scene as the reader gives them: up to 25 degrees off, turned at will."""
    reader = DiceReader(scenes=1, views=frames, width=size, height=size, samples_per_pixel=64, seed=3, denoise=False)
    samples = [reader.read(name) for name in reader.ids()]
    return [(_planes(sample.image.pixels), sample.labels) for sample in samples]


def _planes(pixels: Any) -> Float32:
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32) / np.float32(255)


SCENES: dict[str, Callable[[int, int], list[Frame]]] = {"boxes": boxes, "dice": walk, "views": views}


def noises(frames: Sequence[Frame], way: str, channels: int) -> list[Float32]:
    """[C, H, W] for each frame."""
    if way == "surfaces":
        own = [seeds.fork(seeds.generator(ANCHOR, repr(labels.camera), 0, "own")) for _, labels in frames]
        return [of_surfaces(labels, channels, ANCHOR, seed)[0] for (_, labels), seed in zip(frames, own, strict=True)]
    same = way == "screen"
    return [seeds.normal(ANCHOR + (0 if same else k), (channels, *labels.size)) for k, (_, labels) in enumerate(frames)]


def correlation(one: Float32, other: Float32, way: Correspondence, factor: int) -> float:
    """Of the noise of a place in one frame and of the place that shows the same surface in the other."""
    places = way.places[factor // 2 :: factor, factor // 2 :: factor]
    seen = np.isfinite(places).all(axis=-1)
    x, y = (np.minimum((places[seen][:, axis] / factor).astype(int), other.shape[2 - axis] - 1) for axis in (0, 1))
    return float(np.corrcoef(one[:, seen].reshape(-1), other[:, y, x].reshape(-1))[0, 1])


def carried(frames: Sequence[Frame]) -> list[Float32]:
    """The noise of the first frame, taken from each frame to the next."""
    noise = [seeds.normal(ANCHOR, (CHANNELS, *frames[0][1].size))]
    for k, ((_, one), (_, other)) in enumerate(pairwise(frames)):
        noise.append(carry(noise[-1], by_depth(one, other), ANCHOR + 1 + k)[0])
    return noise


def drawn(stage: Any, frames: Sequence[Frame], way: str) -> list[Any]:
    """One draw for all frames, or one for each."""
    names = ["frame" if way != "independent" else f"{k}" for k in range(len(frames))]
    return [
        stage.draw(seeds.generator(0, name, 0, "refine"), labels, 0)
        for name, (_, labels) in zip(names, frames, strict=True)
    ]


def through(stage: Any, frames: Sequence[Frame], way: str) -> list[Float32]:
    """All frames as one batch of a stage."""
    stage.load("cpu")
    images = torch.from_numpy(np.stack([image for image, _ in frames]))
    with torch.inference_mode():
        return list(stage.paint(images, [labels for _, labels in frames], drawn(stage, frames, way)).images.numpy())


def mean(pairs: Sequence[tuple[int, int]], compared: Callable[[int, int, Correspondence], float], frames: Any) -> float:
    """Over pairs of frames, of what is compared in them."""
    return round(float(np.mean([compared(i, j, by_depth(frames[i][1], frames[j][1])) for i, j in pairs])), 3)


def measured(frames: Sequence[Frame], folder: Path) -> dict[str, Any]:
    """Every figure of one scene."""
    rows: dict[str, Any] = {}
    for name, pairs in lags(len(frames)).items():
        images = [image for image, _ in frames]
        rows[name] = {"pixels": motion(frames, pairs), "render": mean(pairs, differing(images), frames)}
    for way in (*WAYS, "carried"):
        noise = carried(frames) if way == "carried" else noises(frames, way, CHANNELS)
        made = {"latent": correlated([reduced(one, FACTOR) for one in noise])}
        if way in WAYS:
            follows = way == "surfaces"
            made["refiner"] = differing(added(frames, through(Restore(sequence=follows), frames, way)))
            tiny = Img2Img(model=str(folder), strength=0.75, steps=8, guidance=1.0, sequence=follows)
            made["img2img"] = differing(added(frames, through(tiny, frames, way)))
        for name, pairs in lags(len(frames)).items():
            rows[name][way] = {what: mean(pairs, compared, frames) for what, compared in made.items()}
    return rows


def lags(count: int) -> dict[str, list[tuple[int, int]]]:
    """Pairs of frames that are compared."""
    return {"next": list(pairwise(range(count))), "ends": [(0, count - 1)]}


def motion(frames: Sequence[Frame], pairs: Sequence[tuple[int, int]]) -> float:
    """How far surfaces go from one frame to the other, pixels, in the median."""

    def far(i: int, j: int, way: Correspondence) -> float:
        y, x = np.mgrid[: way.places.shape[0], : way.places.shape[1]] + 0.5
        return float(np.nanmedian(np.hypot(way.places[..., 0] - x, way.places[..., 1] - y)))

    return mean(pairs, far, frames)


def correlated(noise: Sequence[Float32]) -> Callable[[int, int, Correspondence], float]:
    """The correlation of two frames' noise."""
    return lambda i, j, way: correlation(noise[i], noise[j], way, FACTOR)


def differing(made: Sequence[Float32]) -> Callable[[int, int, Correspondence], float]:
    """The difference of two frames' pixels."""
    return lambda i, j, way: consistency(made[i], made[j], way)["difference"]


def added(frames: Sequence[Frame], made: Sequence[Float32]) -> list[Float32]:
    """What was added to the input."""
    return [one - image for one, (image, _) in zip(made, frames, strict=True)]


def check_same_noise(frames: Sequence[Frame]) -> None:
    """What is measured here is what the stage starts from, but for the number behind fresh pixels."""
    labels = frames[0][1]
    noise, _ = starting(labels, Anchoring(), ANCHOR, channels=CHANNELS, canvas=labels.size, factor=FACTOR)
    ours = reduced(noises(frames[:1], "surfaces", CHANNELS)[0], FACTOR)
    share = float(np.corrcoef(noise.reshape(-1), ours.reshape(-1))[0, 1])
    assert share > 0.4, share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--scenes", nargs="+", choices=list(SCENES), default=list(SCENES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    named = [name for name in arguments.scenes if name == "boxes" or variants.installed()]
    details: dict[str, Any] = {"size": arguments.size, "frames": arguments.frames}
    details["left_out"] = sorted({*arguments.scenes} - {*named})
    with tempfile.TemporaryDirectory() as folder:
        model = build_tiny_sd(Path(folder) / "m")
        for name in named:
            frames = SCENES[name](arguments.size, arguments.frames)
            check_same_noise(frames)
            details[name] = measured(frames, model)
    claims = {
        f"{name} {lag} {way}": details[name][lag][way]["latent"]
        for name in named
        for lag in lags(2)
        for way in (*WAYS, "carried")
    }
    measure.publish("sequence", {"latent_correlation": claims}, details, ("numpy", "torch", "diffusers", "mitsuba"))


if __name__ == "__main__":
    main()
