"""Small objects of whole batches: their windows, enlarged and painted again by the same model at the same strength.

A window shows what was painted, but its objects as they came in: at the model's own scale a small object is ruined
before it can be refined, while around it the new light is what it has to fit. What is protected is protected in
windows too, by the same map enlarged, and is not given back; guidance is drawn for the window, from labels that
moved with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug import seeds
from synthaug.contracts import Draw
from synthaug.labels import Labels
from synthaug.models.pipelines import Request
from synthaug.refine import paste, small
from synthaug.refine.brush import Brush
from synthaug.refine.conditions import Conditions
from synthaug.refine.prompts import Prompts
from synthaug.refine.protect import Protected
from synthaug.refine.small import Small, Window
from synthaug.sample import Picture, Sample
from synthaug.warp import motion, move

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One window at work.

    Attributes:
        window: Where it is.
        share: [h, w] in [0, 1], how much of its change is given back; 0 where nothing may change.
        labels: Of the window, enlarged; those of the picture where nothing is made from labels.
        map: What protection says of the window, enlarged; None where nothing is protected.
        request: Its words, its own seed, the picture's strength.
        anchor: The picture's.
    """

    window: Window
    share: Float32
    labels: Labels
    map: Protected | None
    request: Request
    anchor: int


@dataclass(frozen=True, slots=True)
class Batch:
    """The whole pictures.

    Attributes:
        source: [B, 3, H, W], as they came in.
        labels: One per picture.
        draws: Likewise, with `windows` from `drawn`.
        requests: Likewise.
        about: What is true of them; its facts are added to.
    """

    source: Any
    labels: Sequence[Labels]
    draws: Sequence[Draw]
    requests: Sequence[Request]
    about: Conditions


def drawn(labels: Labels, rules: Small, prompts: Prompts, words: int, noise: int) -> list[Draw]:
    """For each window of a picture its ids, its words and its seed; a function of boxes, rules and seeds alone.

    Args:
        labels: Boxes and classes are enough.
        words: 63 bits, the picture's: a window says what the picture says, but of its own instances.
        noise: 63 bits, the picture's; a window's own follow from it and its ids.
    """
    rows: list[Draw] = []
    for window in small.find(labels, rules)[0]:
        own = replace(labels, instances=small.instances_of(labels, window), passes={})
        said = prompts.draw(seeds.from_seed(words), own)
        name = ",".join(map(str, window.ids))
        seed = seeds.fork(seeds.generator(noise, name, 0, "small"))
        rows.append({"ids": list(window.ids), "prompt": said.prompt, "negative": said.negative, "seed": seed})
    return rows


def refined(done: Any, reasons: Sequence[str], batch: Batch, brush: Brush, rules: Small) -> tuple[Any, tuple[str, ...]]:
    """The pictures with their small objects painted again; one batch of full length for each round of windows.

    Args:
        done: [B, 3, H, W], as painted, with what must not change pasted back; that stays as it is, to the bit.
        reasons: Why pictures are out already, or empty; those that are have no windows.

    Returns:
        As `done`, and the reasons: what the model says of a window, it says of its picture.

    Raises:
        Rejected: Under `guidance` or `sequence`, for a window that lacks what these are made of.
    """
    parts = [[] if out else _parts(row, batch, brush, rules) for row, out in enumerate(reasons)]
    before = [_begun(*three) for three in zip(done, batch.source, parts, strict=True)]
    changes: list[list[tuple[Window, Any, Any, Any]]] = [[] for _ in parts]
    said = list(reasons)
    for turn in _rounds(parts):
        images = done.new_empty((len(turn), done.shape[1], *rules.target))
        for place, (row, part) in zip(images, turn, strict=True):
            place[:] = small.enlarge(before[row], part.window)
        output = _painted(images, [part for _, part in turn], brush)
        for place, (row, part) in enumerate(turn):
            if row == place:  # else it stands in for nobody
                share = done.new_tensor(part.share)
                changes[row].append((part.window, images[place], output.images[place], share))
                said[row] = said[row] or output.reasons[place]
    result = done.clone()
    for row, own in enumerate(changes):
        if own:
            result[row] = small.give_back(before[row], own)
        if said[row]:
            result[row] = float("nan")
    return result, tuple(said)


def _parts(row: int, batch: Batch, brush: Brush, rules: Small) -> list[Part]:
    """The windows of one picture, without those whose objects must not change at all."""
    labels, request, about = batch.labels[row], batch.requests[row], batch.about
    windows, counts = small.find(labels, rules)
    found: list[Part] = []
    for window, own in zip(windows, batch.draws[row]["windows"], strict=True):
        share, held = small.mask(labels, window, rules.feather), None
        on = share >= 1
        if about.maps:
            share = share * (1 - about.kept[row][window.rows, window.columns])
            held = _enlarged(about.maps[row], window)
        if share[on].any():
            seen = view(labels, window) if brush.rules.looks else labels
            words = replace(request, prompt=own["prompt"], negative=own["negative"], seed=own["seed"])
            found.append(Part(window, share, seen, held, words, request.seed))
    about.facts[row]["small"] = {**counts, "windows": len(found), "protected": len(windows) - len(found)}
    return found


def view(labels: Labels, window: Window) -> Labels:
    """The labels of a window, enlarged as it is: ids by the nearest pixel, which is their own, surfaces smoothly."""
    y, x = window.y, window.x
    height, width = window.size
    way = motion.crop(labels.size, (x, y, x + width, y + height)).then(motion.resize(window.size, window.target))
    blank = Picture(np.zeros((*labels.size, 3), np.uint8))

    def nothing(*_: object) -> Any:
        return np.zeros((*window.target, 3), np.uint8)

    return move.apply(Sample("", blank, labels, blank), way, same_for_group=True, resample=nothing).sample.labels


def _enlarged(found: Protected, window: Window) -> Protected:
    def large(values: Any) -> Any:
        own = values[window.rows, window.columns]
        return own.repeat(window.factor, axis=0).repeat(window.factor, axis=1)

    return Protected(large(found.strength), large(found.never), large(found.guard))


def _begun(image: Any, source: Any, parts: Sequence[Part]) -> Any:
    """The painted picture with its small objects as they came in."""
    if not parts:
        return image
    cover = np.zeros(tuple(image.shape[-2:]), np.float32)
    for part in parts:
        cover[part.window.rows, part.window.columns] += part.share
    return paste.paste(image, source, image.new_tensor(cover.clip(0, 1)))


def _rounds(parts: Sequence[Sequence[Part]]) -> Iterator[list[tuple[int, Part]]]:
    """The k-th windows of all pictures together; where a picture has none, the first that there is stands in."""
    for k in count():
        alive = [(row, own[k]) for row, own in enumerate(parts) if k < len(own)]
        if not alive:
            return
        yield [(row, own[k]) if k < len(own) else alive[0] for row, own in enumerate(parts)]


def _painted(images: Any, parts: Sequence[Part], brush: Brush) -> Any:
    maps = [part.map for part in parts if part.map is not None]
    about = brush.told(images, [part.labels for part in parts], [part.anchor for part in parts], maps or None)
    return brush(images, [part.request for part in parts], about)
