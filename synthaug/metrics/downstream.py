"""Training a small detector on labelled pictures, the same way for every set of pictures that is compared.

A set of training pictures is as good as what learns from it does on real photos: fit one detector per set, same
pictures, steps and seeds, and compare their average precision (`average_precision`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from synthaug.errors import InputError
from synthaug.metrics.average_precision import Boxes
from synthaug.metrics.detector import STRIDE, TYPICAL, Detector

Float32 = NDArray[np.float32]
RATE = 2e-3
HARD = 3.0
"""Weight of the class among the losses: telling classes apart is learnt last, and by some seeds not at all at 1."""
SCALES = (0.8, 1.4)
NEAR_AN_OBJECT = 0.85
"""Share of crops that have an object in them; the others lie anywhere."""
VISIBLE = 0.5
"""Share of its area that must be inside the crop for an object to be asked for; others are not counted either way."""
NEAR = 0.35
"""Cells where the bump of an object's centre is this high learn its class, size and place as well."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One training picture.

    Attributes:
        picture: [H, W, 3] sRGB.
        truth: What is in it.
    """

    picture: NDArray[np.uint8]
    truth: Boxes


def fit(
    examples: Sequence[Example],
    classes: int,
    *,
    steps: int,
    seed: int,
    batch: int = 16,
    crop: int = 96,
    tell: Callable[[int, float], object] | None = None,
) -> Detector:
    """A detector trained from nothing on crops: turned, mirrored, scaled, with other light, blur and noise.

    0.07 s a step on one core at the defaults. Same examples, seed and threads give the same detector.

    Args:
        examples: To learn from; all are kept in memory by the caller.
        classes: Ids are 1 to `classes`.
        steps: Of AdamW under one cycle of the learning rate (Smith and Topin, 2018).
        seed: Of weights and crops.
        batch: Crops per step.
        crop: Their side in pixels, a multiple of 8.
        tell: Called with the number of steps done and the loss, every 50 steps.

    Raises:
        InputError: No object in any example, or a class outside 1 to `classes`.
    """
    found = np.concatenate([e.truth.classes for e in examples]) if examples else np.zeros(0, int)
    if not len(found) or found.min() < 1 or found.max() > classes:
        raise InputError(
            f"{len(examples)} examples with classes {np.unique(found)}: expected some within 1 to {classes}"
        )
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        network = Detector(classes)
    network.train().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    walk = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.02)
    rate = torch.optim.lr_scheduler.OneCycleLR(walk, RATE, total_steps=steps, pct_start=0.2)
    for step in range(steps):
        drawn = [cropped(examples[int(rng.integers(len(examples)))], crop, rng) for _ in range(batch)]
        pictures = torch.from_numpy(np.stack([picture for picture, _ in drawn])).permute(0, 3, 1, 2)
        loss = _loss(network(pictures), [targets(truth, crop) for _, truth in drawn])
        walk.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        walk.step()
        rate.step()
        if tell and (step + 1) % 50 == 0:
            tell(step + 1, float(loss.detach()))
    return network.eval()


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """What training asks of the maps of one crop.

    Attributes:
        bump: By cell, 1 at the centre of an object, falling off around it.
        counts: By cell, whether its bump is asked for.
        owner: By cell, the object whose class and place are asked for there; -1 where none is.
        values: By object, x and y of the centre in cells, logarithms of width and height over `TYPICAL`.
        classes: By object.
    """

    bump: Float32
    counts: NDArray[np.bool_]
    owner: NDArray[np.int64]
    values: Float32
    classes: NDArray[np.int64]


def cropped(example: Example, side: int, rng: np.random.Generator) -> tuple[Float32, Boxes]:
    """[side, side, 3] in [0, 1], and the boxes in it, those cut by its edges at their full size."""
    picture, truth = example.picture, example.truth
    height, width = picture.shape[:2]
    low, high = np.log(SCALES)
    scale = float(np.exp(rng.uniform(low, high)))
    span = side / scale
    if len(truth.corners) and rng.random() < NEAR_AN_OBJECT:
        box = truth.corners[rng.integers(len(truth.corners))]
        middle = (box[:2] + box[2:]) / 2 + rng.uniform(-0.4, 0.4, 2) * span
    else:
        middle = rng.uniform(0, 1, 2) * (width, height)
    room = np.maximum(np.array((width, height)) - span / 2, span / 2)
    x, y = np.clip(middle, span / 2, room) - span / 2
    turn = np.array([[scale, 0, -x * scale + (scale - 1) / 2], [0, scale, -y * scale + (scale - 1) / 2]])
    cut = cv2.warpAffine(picture, turn, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    corners = (truth.corners - np.array((x, y, x, y), np.float32)) * np.float32(scale)
    cut, corners = _turned(np.asarray(cut, np.uint8), corners, side, rng)
    return _relit(cut, rng), Boxes(corners.astype(np.float32), truth.classes)


def _turned(
    cut: NDArray[np.uint8], corners: Float32, side: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], Float32]:
    """One of the eight ways to lay a square."""
    if rng.random() < 0.5:
        cut, corners = cut.transpose(1, 0, 2), corners[:, [1, 0, 3, 2]]
    if rng.random() < 0.5:
        cut, corners = (
            cut[:, ::-1],
            np.stack([side - corners[:, 2], corners[:, 1], side - corners[:, 0], corners[:, 3]], 1),
        )
    if rng.random() < 0.5:
        cut, corners = (
            cut[::-1],
            np.stack([corners[:, 0], side - corners[:, 3], corners[:, 2], side - corners[:, 1]], 1),
        )
    return cut, corners


def _relit(cut: NDArray[np.uint8], rng: np.random.Generator) -> Float32:
    """Other exposure, cast and contrast, a little blur and noise: what any camera does, whatever made the picture."""
    light = cut.astype(np.float32) / np.float32(255)
    gain = rng.uniform(0.8, 1.2) * rng.uniform(0.93, 1.07, 3)
    light = (light ** np.float32(rng.uniform(0.8, 1.25))) * gain.astype(np.float32)
    sigma = rng.uniform(0, 1.0)
    if sigma > 0.3:
        light = np.asarray(cv2.GaussianBlur(light, (0, 0), sigma), np.float32)
    noise = rng.standard_normal(light.shape, np.float32) * np.float32(rng.uniform(0, 6 / 255))
    return np.clip(light + noise, 0, 1).astype(np.float32)


def targets(truth: Boxes, side: int) -> Targets:
    """What the maps of a crop of `side` pixels should say; objects that are mostly outside are left open."""
    cells = side // STRIDE
    corners = truth.corners
    inside = corners.clip(0, side)
    area = (corners[:, 2:] - corners[:, :2]).prod(1)
    share = (inside[:, 2:] - inside[:, :2]).prod(1) / np.maximum(area, 1e-6)
    centres = (corners[:, :2] + corners[:, 2:]) / (2 * STRIDE)
    sides = np.maximum(corners[:, 2:] - corners[:, :2], 1)
    bump, counts = np.zeros((cells, cells), np.float32), np.ones((cells, cells), bool)
    owner = np.full((cells, cells), -1)
    middles = np.arange(cells) + 0.5
    for number in np.flatnonzero(share > 0):
        (x, y), sigma = centres[number], np.maximum(sides[number] / (6 * STRIDE), 0.5)
        if share[number] < VISIBLE or not (0 <= x < cells and 0 <= y < cells):
            x0, y0, x1, y1 = corners[number] / STRIDE
            counts &= ~(((middles > y0) & (middles < y1))[:, None] & ((middles > x0) & (middles < x1))[None])
            continue
        # The bump is centred on the cell, so that its highest value is 1 wherever in the cell the centre lies.
        down, across = (
            np.exp(-(((middles - np.floor(c) - 0.5) / s) ** 2) / 2) for c, s in ((y, sigma[1]), (x, sigma[0]))
        )
        high = (down[:, None] * across[None]).astype(np.float32)
        mine = high > bump
        bump[mine], owner[mine] = high[mine], number
    values = np.concatenate([centres, np.log(sides / TYPICAL)], 1).astype(np.float32)
    return Targets(bump, counts, np.where(bump >= NEAR, owner, -1), values, truth.classes)


def _loss(maps: torch.Tensor, targets: Sequence[Targets]) -> torch.Tensor:
    """Penalty-reduced focal loss of the centres; cross entropy, L1 of place and size near them."""
    bump = torch.from_numpy(np.stack([t.bump for t in targets]))
    counts = torch.from_numpy(np.stack([t.counts for t in targets])) | (bump == 1)
    logit, found = maps[:, 0], torch.sigmoid(maps[:, 0]).clamp(1e-4, 1 - 1e-4)
    centre = bump == 1
    right = torch.nn.functional.logsigmoid(logit) * (1 - found) ** 2
    wrong = torch.nn.functional.logsigmoid(-logit) * found**2 * (1 - bump) ** 4
    places = max(int(centre.sum()), 1)
    focal = -(torch.where(centre, right, wrong) * counts).sum() / places
    owner = torch.from_numpy(np.stack([t.owner for t in targets]))
    which, rows, columns = (owner >= 0).nonzero(as_tuple=True)
    if not len(which):
        return focal
    first = np.cumsum([0, *(len(t.values) for t in targets[:-1])])
    own = owner[which, rows, columns] + torch.from_numpy(first)[which]
    wanted = torch.from_numpy(np.concatenate([t.values for t in targets]))[own]
    wanted[:, :2] -= torch.stack([columns, rows], 1) + 0.5
    named = torch.from_numpy(np.concatenate([t.classes for t in targets]))[own] - 1
    weights = bump[which, rows, columns]
    at = maps[which, :, rows, columns]
    away = (at[:, 1:5] - wanted).abs().sum(1)
    unlike = torch.nn.functional.cross_entropy(at[:, 5:], named, reduction="none")
    return focal + ((HARD * unlike + away) * weights).sum() / weights.sum()
