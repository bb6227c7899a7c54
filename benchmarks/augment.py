"""Geometry and photometry of one labelled picture against albumentations' Compose of the same operations.

    python benchmarks/augment.py [ROUNDS]

Both move a 512x512 picture with mask, depth, 20 boxes and 20 keypoints by the same matrices (those that
albumentations has drawn, read off a coordinate grid) and the same tone curves; ours through the engine's own
path, draws included. Checked first: keypoints, and the images of box corners, agree within 0.5 px; PSNR
against a supersampled warp is not lower. Then CPU time, one thread, alternating, over six draws. Their boxes
grow at every step, because each takes the bounds of bounds; `their_boxes_px` says how far. The second scene
has an `instance` pass, from which ours takes masks' own boxes: more than they do. Last, noise alone.
"""

from __future__ import annotations

import os
import statistics
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

from benchmarks import measure  # noqa: E402,I001 - it sets the thread counts, so it comes first
import albumentations  # noqa: E402
import cv2  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks.augment_scene import SIZE, psnr, scene, supersampled  # noqa: E402
from synthaug.augment import grid  # noqa: E402
from synthaug.augment.framing import RandomResizedCrop  # noqa: E402
from synthaug.augment.geometric import Affine, Flip, Perspective  # noqa: E402
from synthaug.augment.photometric import GaussianNoise  # noqa: E402
from synthaug.augment.pointwise import BrightnessContrast, Gamma  # noqa: E402
from synthaug.contracts import Draw, Geometry, Pointwise  # noqa: E402
from synthaug.engine import appearance, motions  # noqa: E402
from synthaug.engine.pipeline import Slot  # noqa: E402
from synthaug.engine.plan import Entry  # noqa: E402
from synthaug.labels import Labels  # noqa: E402
from synthaug.sample import Sample  # noqa: E402
from synthaug.warp.motion import Warp  # noqa: E402

MUST, AIM = 1.5, 2.5


class Given(Geometry):
    """Draws as a native stage does, then moves by a matrix that was set from outside."""

    sees = "size"  # as the native stages that it stands for

    def __init__(self, like: Geometry) -> None:
        self.like = like
        self.matrix = np.eye(3)

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        return self.like.draw(rng, labels, attempt)

    def warp(self, labels: Labels, draw: Draw) -> Warp:
        return Warp.homography(self.matrix, labels.size, SIZE)


class GivenCurve(Pointwise):
    """Likewise for a tone curve."""

    def __init__(self, like: Pointwise) -> None:
        self.like = like
        self.numbers: Draw = {}

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        self.like.draw(rng, labels, attempt)
        return self.numbers

    def curve(self, values: np.ndarray, draw: Draw) -> np.ndarray:
        return self.like.curve(values, draw)


class Theirs:
    """The Compose a user would write."""

    def __init__(self, sample: Sample) -> None:
        a = albumentations
        self.compose = a.Compose(
            [
                a.HorizontalFlip(p=1),
                a.Affine(rotate=(-12, 12), scale=(0.9, 1.1), shear=(-4, 4), translate_percent=(-0.04, 0.04), p=1),
                a.Perspective(scale=(0.02, 0.06), p=1),
                a.RandomResizedCrop(size=SIZE, scale=(0.6, 1.0), ratio=(0.9, 1.1), p=1),
                a.RandomBrightnessContrast(brightness_limit=0.15, contrast_limit=0.2, p=1),
                a.RandomGamma(gamma_limit=(80, 125), p=1),
            ],
            bbox_params=a.BboxParams(format="pascal_voc", label_fields=["ids"]),
            keypoint_params=a.KeypointParams(format="xy", remove_invisible=False),
            additional_targets={"depth": "mask"},
            seed=7,
        )
        labels = sample.labels
        self.given = {
            "image": sample.image.pixels.copy(),
            "mask": labels.passes["semantic"].copy(),
            "depth": labels.passes["depth"].copy(),
            "bboxes": np.array([i.box for i in labels.instances]),
            "ids": [i.id for i in labels.instances],
            # Their points count from pixel centres.
            "keypoints": np.array([i.keypoints[0][:2] for i in labels.instances]) - 0.5,
        }

    def __call__(self) -> dict[str, Any]:
        return self.compose(**self.given)

    def matrices(self) -> list[np.ndarray]:
        """What the last call did, source to target, learnt from the pixels."""
        found: list[np.ndarray] = []
        for transform in self.compose.transforms[:4]:
            moved = transform.apply_with_params(transform.params, image=grid.picture(SIZE))["image"]
            found.append(grid.to_warp(moved, SIZE).matrix)
        return found

    def tones(self) -> tuple[Draw, Draw]:
        """Contrast and gamma of the last call."""
        first, second = (transform.params for transform in self.compose.transforms[4:])
        return {"brightness": first["beta"] / 255, "contrast": first["alpha"]}, {"gamma": second["gamma"]}

    def corners(self, points: np.ndarray) -> np.ndarray:
        """Points through the keypoint code of the last call's transforms, one after the other."""
        rows = np.column_stack([points - 0.5, np.zeros((len(points), 3))]).astype(np.float32)
        for transform in self.compose.transforms[:4]:
            rows = transform.apply_to_keypoints(rows, **transform.params)
        return rows[:, :2] + 0.5


class Ours:
    """The same through the engine's path for neighbouring geometries and tone curves."""

    def __init__(self, sample: Sample) -> None:
        crop = RandomResizedCrop(height=SIZE[0], width=SIZE[1])
        self.motions = [Given(stage) for stage in (Flip(), Affine(), Perspective(), crop)]
        self.curves = [GivenCurve(BrightnessContrast(pivot=0.0)), GivenCurve(Gamma())]
        self.geometry = tuple(Slot(f"geometry{i}", stage) for i, stage in enumerate(self.motions))
        self.photometry = tuple(Slot(f"tone{i}", stage) for i, stage in enumerate(self.curves))
        entry = Entry("bench", "bench", 0, SIZE, "bench", "train")
        self.work = appearance.Work(0, entry, 0, sample)
        self.rules = motions.Rules(seed=0, min_visible=0.0, min_area=1.0)

    def follow(self, theirs: Theirs) -> None:
        for stage, matrix in zip(self.motions, theirs.matrices(), strict=True):
            stage.matrix = matrix
        for curve, numbers in zip(self.curves, theirs.tones(), strict=True):
            curve.numbers = numbers

    def __call__(self) -> Sample:
        moved = motions.moved(self.geometry, self.work, self.rules)
        return appearance.paint_table(self.photometry, moved, 0, last=True).sample

    @property
    def matrix(self) -> np.ndarray:
        flip, affine, perspective, crop = (stage.matrix for stage in self.motions)
        return crop @ perspective @ affine @ flip


def check(theirs: Theirs, ours: Ours, source: Sample) -> dict[str, float]:
    """The largest differences between both results, and the PSNR of each against a supersampled warp."""
    given, done = theirs(), None
    ours.follow(theirs)
    done = ours()
    by_id = {i.id: i for i in done.labels.instances}
    points = {int(k): p + 0.5 for k, p in enumerate(given["keypoints"], start=1)}
    apart = [
        float(np.hypot(*(np.array(i.keypoints[0][:2]) - points[i.id])))
        for i in by_id.values()
        if i.keypoints[0][2] and i.id in points
    ]
    limit = np.array([SIZE[1], SIZE[0]])
    boxes: list[float] = []
    for before in source.labels.instances:
        x0, y0, x1, y1 = before.box
        corners = theirs.corners(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))
        low, high = np.clip(corners.min(axis=0), 0, limit), np.clip(corners.max(axis=0), 0, limit)
        whole = (corners >= 0).all() and (corners <= limit).all()
        if whole and before.id in by_id:
            boxes.append(float(np.abs(np.array(by_id[before.id].box) - np.concatenate([low, high])).max()))
    grown = [
        float(np.abs(np.array(by_id[i].box) - box).max())
        for i, box in zip(given["ids"], given["bboxes"], strict=True)
        if i in by_id
    ]
    truth, inside = supersampled(source.image.pixels, ours.matrix, theirs.tones())
    return {
        "keypoints_px": max(apart),
        "box_corners_px": max(boxes),
        "their_boxes_px": max(grown),
        "psnr_ours": psnr(done.image.pixels, truth, inside),
        "psnr_theirs": psnr(given["image"], truth, inside),
    }


def noise(rounds: int) -> dict[str, Any]:
    """GaussNoise against GaussianNoise at the same deviation; not the same numbers, the same distribution."""
    image = np.full((*SIZE, 3), 0.5, np.float32)
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))[None]
    transform = albumentations.GaussNoise(std_range=(0.05, 0.05), per_channel=True, p=1)
    stage, labels = GaussianNoise(sigma=(0.05, 0.05)), Labels(SIZE)
    numbers = np.random.Generator(np.random.Philox(key=3))

    def ours() -> np.ndarray:
        return stage.paint(planes.copy(), [labels], [stage.draw(numbers, labels, 0)])

    def theirs() -> np.ndarray:
        return transform(image=image)["image"]

    spread = [float((made - 0.5).std()) for made in (theirs(), ours())]
    means = [float(made.mean()) for made in (theirs(), ours())]
    if max(abs(s - 0.05) for s in spread) > 5e-4 or max(abs(m - 0.5) for m in means) > 5e-4:
        raise RuntimeError(f"not the same noise: deviations {spread}, means {means}")
    times = measure.alternate({"synthaug": ours, "albumentations": theirs}, rounds)
    return {"ratio": measure.ratio(times, "synthaug", "albumentations"), **times}


def measured(rounds: int, *, instance_pass: bool) -> dict[str, Any]:
    """Checks, then times, one kind of scene."""
    source = scene(instance_pass=instance_pass)
    theirs, ours = Theirs(source), Ours(source)
    checks = [check(theirs, ours, source) for _ in range(5)]
    worst = {name: max(row[name] for row in checks) for name in ("keypoints_px", "box_corners_px", "their_boxes_px")}
    gain = min(row["psnr_ours"] - row["psnr_theirs"] for row in checks)
    boxes = 0.0 if instance_pass else worst["box_corners_px"]
    if max(worst["keypoints_px"], boxes) > 0.5 or gain < 0:
        raise RuntimeError(f"not the same work: {checks}")
    times: list[dict[str, dict[str, float]]] = []
    for _ in range(6):
        theirs()
        ours.follow(theirs)
        times.append(measure.alternate({"synthaug": ours, "albumentations": theirs}, max(rounds // 6, 4)))
    medians = {
        name: {"median_ms": round(statistics.median(t[name]["median_ms"] for t in times), 4)} for name in times[0]
    }
    return {
        "ratio": measure.ratio(medians, "synthaug", "albumentations"),
        **medians,
        **{name: round(value, 3) for name, value in worst.items()},
        "psnr_ours_db": round(statistics.mean(row["psnr_ours"] for row in checks), 2),
        "psnr_theirs_db": round(statistics.mean(row["psnr_theirs"] for row in checks), 2),
        "least_psnr_gain_db": round(gain, 2),
    }


def main(rounds: int = 60) -> None:
    cv2.setNumThreads(1)
    details = {
        "rounds": rounds,
        "same_work": measured(rounds, instance_pass=False),
        "with_instance_pass": measured(rounds, instance_pass=True),
        "noise": noise(rounds),
    }
    claims = {
        "geometry_and_photometry_with_labels": {"must": MUST, "aim": AIM, "reached": details["same_work"]["ratio"]},
        "gaussian_noise": {"reached": details["noise"]["ratio"]},
    }
    measure.publish("augment", claims, details, ["albumentations", "numpy", "opencv-python-headless"])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
