"""The integrity gate: refuses wrecks with their reason, lets styles pass, and says which object is lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from synthaug import rle
from synthaug.errors import ConfigError
from synthaug.gate.integrity import Integrity
from synthaug.labels import Category, Instance, Labels

Planes = np.ndarray
CATEGORIES = (Category("thing"),)


def scene(seed: int = 0, height: int = 160, width: int = 200) -> tuple[Planes, np.ndarray]:
    """[3, H, W] textured picture of six ellipses, and their id map."""
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(0, 1, (height, width, 3)), (0, 0), 2) * 0.12
    picture = np.full((height, width, 3), rng.uniform(0.3, 0.5, 3)) + noise
    ids = np.zeros((height, width), np.int32)
    for i in range(1, 7):
        mask = np.zeros((height, width), np.uint8)
        centre = (int(width * (0.2 + 0.3 * ((i - 1) % 3))), int(height * (0.28 + 0.45 * ((i - 1) // 3))))
        cv2.ellipse(
            mask,
            centre,
            (int(rng.integers(16, 26)), int(rng.integers(14, 24))),
            float(rng.integers(180)),
            0,
            360,
            1,
            -1,
        )
        ids[mask > 0] = i
        picture[mask > 0] += rng.choice([-1, 1]) * rng.uniform(0.2, 0.35, 3)
    smooth = cv2.GaussianBlur(np.clip(picture, 0.02, 0.98), (0, 0), 0.6)
    return np.ascontiguousarray(smooth.transpose(2, 0, 1), np.float32), ids


def labelled(ids: np.ndarray, passes: bool = True) -> Labels:
    instances: list[Instance] = []
    for i in (int(v) for v in np.unique(ids) if v):
        y, x = np.nonzero(ids == i)
        instances.append(Instance(i, 1, (float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1))))
    size = (ids.shape[0], ids.shape[1])
    return Labels(size, CATEGORIES, tuple(instances), {"instance": ids.copy()} if passes else {})


def judged(image: Planes, reference: Planes, labels: Labels, **fields: float):
    return Integrity(**fields).judge(image[None], reference[None], [labels])[0]  # pyright: ignore[reportArgumentType]


def blurred(image: Planes, sigma: float) -> Planes:
    return np.stack([cv2.GaussianBlur(plane, (0, 0), sigma) for plane in image])


def noisy(image: Planes, sigma: float) -> Planes:
    return np.clip(image + np.random.default_rng(0).normal(0, sigma, image.shape), 0, 1).astype(np.float32)


def jpeg(image: Planes, quality: int) -> Planes:
    data = cv2.imencode(
        ".jpg", np.rint(image.transpose(1, 2, 0) * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )[1]
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR).transpose(2, 0, 1), np.float32) / 255


STYLES: dict[str, Callable[[Planes], Planes]] = {
    "same": lambda x: x,
    "jpeg50": lambda x: jpeg(x, 50),
    "noise": lambda x: noisy(x, 0.03),
    "brighter": lambda x: np.clip(x * 1.3, 0, 1),
    "darker": lambda x: x * 0.5,
    "gamma": lambda x: x**1.6,
    "fog": lambda x: x * 0.5 + 0.4,
    "warm": lambda x: np.clip(x * np.array([1.2, 1, 0.75], np.float32)[:, None, None], 0, 1),
    "soft": lambda x: blurred(x, 0.8),
    "moved by one": lambda x: np.roll(x, 1, 2),
}
WRECKS: dict[str, tuple[str, Callable[[Planes], Planes]]] = {
    "shift x": ("boundary", lambda x: np.roll(x, 8, 2)),
    "shift y": ("boundary", lambda x: np.roll(x, 8, 1)),
    "shift xy": ("boundary", lambda x: np.roll(x, (6, 6), (1, 2))),
    "heavy blur": ("boundary", lambda x: blurred(x, 8)),
    "negative": ("colour", lambda x: 1 - x),
    "green": ("colour", lambda x: np.stack([x[0] * 0.1, x[1] * 0.9 + 0.1, x[2] * 0.1])),
    "shown on half": ("boundary", lambda x: np.where(np.arange(x.shape[1])[:, None] < x.shape[1] // 2, x, x.mean())),
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("passes", [True, False])
def test_styles_pass(style: str, passes: bool) -> None:
    for seed in range(4):
        reference, ids = scene(seed)
        verdict = judged(STYLES[style](reference).astype(np.float32), reference, labelled(ids, passes))
        assert verdict.accepted, verdict
        assert verdict.scores["boundary"] > 0.75


@pytest.mark.parametrize("wreck", WRECKS)
def test_wrecks_are_refused(wreck: str) -> None:
    for seed in range(4):
        reference, ids = scene(seed)
        reason, change = WRECKS[wreck]
        assert judged(np.ascontiguousarray(change(reference), np.float32), reference, labelled(ids)).reason == reason


def test_another_scene_is_refused() -> None:
    reference, ids = scene(1)
    other = judged(scene(7)[0], reference, labelled(ids))
    # The ellipses stand in the same grid, so some outlines fall together; the objects as a whole do not.
    assert other.reason in ("boundary", "colour")
    unlabelled = judged(np.roll(scene(7)[0], 31, 2), reference, Labels((160, 200)))
    assert unlabelled.reason in ("boundary", "colour")


@pytest.mark.parametrize(("value", "reason"), [(0.0, "black"), (1.0, "saturated"), (0.5, "flat"), (0.2, "flat")])
def test_c4_black_white_and_constant_pictures(value: float, reason: str) -> None:
    reference, ids = scene()
    assert judged(np.full_like(reference, value), reference, labelled(ids)).reason == reason


def test_c4_noise_around_nothing_is_still_flat() -> None:
    reference, ids = scene()
    assert judged(noisy(np.full_like(reference, 0.5), 0.02), reference, labelled(ids)).reason == "flat"


def test_c4_is_relative_to_the_reference() -> None:
    night = scene()[0] * 0.02
    assert judged(night * 0.9, night, Labels((160, 200))).accepted
    flat = np.full_like(night, 0.5)
    assert judged(flat * 0.9, flat, Labels((160, 200))).accepted
    white = np.full_like(night, 1.0)
    assert judged(white, white, Labels((160, 200))).accepted


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_c3_one_value_that_is_not_finite(value: float) -> None:
    reference, ids = scene()
    image = reference.copy()
    image[2, 80, 100] = value
    verdict = judged(image, reference, labelled(ids))
    assert verdict.reason == "nonfinite"
    assert verdict.scores["nonfinite"] == 1


def test_c6_size_differs() -> None:
    reference, ids = scene()
    assert judged(reference[:, :-1], reference, labelled(ids)).reason == "size"
    assert judged(reference[:, :-1], reference[:, :-1], labelled(ids)).reason == "size"
    assert judged(reference.transpose(0, 2, 1), reference, labelled(ids)).reason == "size"


def test_an_erased_object_is_found_by_its_id() -> None:
    reference, ids = scene(2)
    image = reference.copy()
    hole = cv2.dilate((ids == 4).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    image[:, hole] = reference[:, ids == 0].mean(1, keepdims=True)
    verdict = judged(image, reference, labelled(ids))
    assert verdict.reason == "boundary"
    assert verdict.scores["boundary"] > 0.65, "the picture as a whole still holds"
    assert verdict.scores["instances_lost"] == 1
    assert min(verdict.instances, key=lambda i: verdict.instances[i]["boundary"]) == 4


def test_an_object_without_contrast_in_the_reference_does_not_count() -> None:
    reference, ids = scene(2)
    hidden = ids.copy()
    hidden[hidden == 0] = 9
    hidden[:20] = 0
    # Id 9 is the ground and reaches a line that nothing marks.
    flat = reference.copy()
    flat[:, :30] = 0.4
    verdict = judged(blurred(flat, 0.5), flat, labelled(hidden))
    assert verdict.accepted


def test_masks_that_overlap_count_each_for_themselves() -> None:
    reference, ids = scene(3)
    size = (ids.shape[0], ids.shape[1])
    both = np.asfortranarray((ids == 1) | (ids == 2))
    instances = tuple(
        Instance(i, 1, (0.0, 0.0, 200.0, 160.0), mask=rle.encode(mask)) for i, mask in ((1, ids == 1), (2, both))
    )
    labels = Labels(size, CATEGORIES, instances)
    assert judged(reference, reference, labels).accepted
    verdict = judged(np.roll(reference, 8, 2), reference, labels)
    assert verdict.reason == "boundary"
    assert set(verdict.instances) == {1, 2}


def test_semantic_pass_alone() -> None:
    reference, ids = scene(3)
    labels = Labels((160, 200), CATEGORIES, passes={"semantic": (ids > 0).astype(np.int32)})
    assert judged(reference * 0.7, reference, labels).accepted
    assert judged(np.roll(reference, 8, 1), reference, labels).reason == "boundary"


def test_boundary_check_can_be_switched_off() -> None:
    reference, ids = scene()
    assert judged(np.roll(reference, 8, 2), reference, labelled(ids), boundary=0.0).accepted


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 3), (40, 40)])
def test_small_pictures(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random((3, *size), dtype=np.float32)
    assert judged(image, image, Labels(size)).accepted


def test_judges_batches_and_gives_plain_numbers() -> None:
    reference, ids = scene()
    images = np.stack([reference, np.zeros_like(reference)])
    verdicts = Integrity().judge(images, np.stack([reference] * 2), [labelled(ids)] * 2)
    assert [v.reason for v in verdicts] == ["", "black"]
    assert all(type(value) is float for v in verdicts for value in v.scores.values())


@pytest.mark.parametrize(
    "fields",
    [
        {"boundary": 1.1},
        {"points": 10},
        {"correlation": -2.0},
        {"chroma_shift": 500.0},
        {"black": -0.1},
        {"lightness_shift": 101.0},
    ],
)
def test_fields_out_of_range(fields: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        Integrity(**fields)  # pyright: ignore[reportArgumentType]


def planes(path: Path) -> Planes:
    return np.ascontiguousarray(np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1), np.float32) / 255


def test_carla_renders(data_root: Path) -> None:
    """Labels are boxes: the render's own edges have to stay."""
    paths = sorted((data_root / "carla" / "images").glob("*.png"))[::20]
    for i, path in enumerate(paths):
        reference = planes(path)
        labels = Labels((reference.shape[1], reference.shape[2]))
        for name, style in STYLES.items():
            assert judged(style(reference).astype(np.float32), reference, labels).accepted, (path.name, name)
        for name in ("shift y", "shift xy", "heavy blur", "negative"):
            reason, change = WRECKS[name]
            assert judged(np.ascontiguousarray(change(reference)), reference, labels).reason == reason, (
                path.name,
                name,
            )
        other = planes(paths[i - 3])
        assert judged(other, reference, labels).reason in ("boundary", "colour")


def test_solo_renders_by_instance(data_root: Path) -> None:
    for path in sorted((data_root / "solo" / "solo").glob("*/step0.camera.png")):
        reference = planes(path)
        colours = np.rint(planes(path.with_name("step0.camera.instance segmentation.png")) * 255).astype(np.int32)
        _, ids = np.unique(colours[0] * 65536 + colours[1] * 256 + colours[2], return_inverse=True)
        labels = labelled(ids.reshape(reference.shape[1:]).astype(np.int32))
        for name, style in STYLES.items():
            assert judged(style(reference).astype(np.float32), reference, labels).accepted, (path, name)
        for name in ("shift x", "shift xy", "heavy blur", "negative"):
            reason, change = WRECKS[name]
            assert judged(np.ascontiguousarray(change(reference)), reference, labels).reason == reason, (path, name)


def test_costs_little() -> None:
    reference, ids = scene(0, 512, 512)
    gate, labels = Integrity(), labelled(ids)
    image = noisy(reference, 0.02)
    spent: list[float] = []
    for _ in range(15):
        start = time.process_time()
        gate.judge(image[None], reference[None], [labels])
        spent.append(time.process_time() - start)
    # 4 ms on an idle core; the bound leaves room for a loaded machine.
    assert min(spent) < 0.03
