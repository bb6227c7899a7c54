"""Small objects: cut out, enlarged, refined where the model can see them, and given back.

A model that sees 8 pixels as one latent place has nothing to say about an object of 20 pixels, or ruins it. What is
given back is the change alone, averaged down and masked: a refiner that changes nothing changes nothing here, to
the bit, and no pixel of the original goes through a resampling.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import ConfigError, nearest
from synthaug.labels import Box, Instance, Labels, Size
from synthaug.refine.arrays import copied, like
from synthaug.refine.paste import coverage
from synthaug.refine.protect import region

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the picture that becomes a picture of the model's size.

    Attributes:
        ids: Instances it is for, ascending.
        x: Left side in pixels, a whole number; the window lies on the canvas.
        y: Its top.
        factor: How often each side is enlarged, 2 or more.
        target: (height, width) after enlarging.
    """

    ids: tuple[int, ...]
    x: int
    y: int
    factor: int
    target: Size

    @property
    def size(self) -> Size:
        """(height, width) on the canvas."""
        return self.target[0] // self.factor, self.target[1] // self.factor

    @property
    def rows(self) -> slice:
        """Its rows of the canvas."""
        return slice(self.y, self.y + self.size[0])

    @property
    def columns(self) -> slice:
        """Its columns of the canvas."""
        return slice(self.x, self.x + self.size[1])


@dataclass(frozen=True, slots=True)
class Small:
    """Which objects are small, and how they are seen.

    Attributes:
        below: Pixels; instances whose longer side is under this are small. 0: none.
        at_least: Pixels; instances whose longer side is under this are left alone: there is nothing to refine.
        target: (height, width) of an enlarged window.
        most: Largest enlargement of a side, 2 or more.
        padding: 0 or more; surroundings on each side, as a share of the box's longer side.
        feather: Pixels of the canvas over which the change fades out around an object.
        limit: Windows per picture at most, the smallest objects first; 1 or more.
    """

    below: float = 48.0
    at_least: float = 6.0
    target: Size = (512, 512)
    most: int = 8
    padding: float = 0.5
    feather: float = 2.0
    limit: int = 8

    @staticmethod
    def parse(given: Mapping[Any, Any] | None) -> Small | None:
        """From configuration; nothing for an empty mapping. `target` is a side, or [height, width].

        Raises:
            ConfigError: Naming the field, what it holds and what it may hold.
        """
        if not given:
            return None
        known = [f.name for f in fields(Small)]
        for name, value in given.items():
            if name not in known:
                raise ConfigError(f"small.{name}: no such field.{nearest(str(name), known)}")
            whole = name in ("most", "limit")
            if name != "target" and (isinstance(value, bool) or not isinstance(value, int if whole else int | float)):
                raise ConfigError(f"small.{name}={value}: expected a {'whole ' * whole}number")
        rules = Small(**{**given, "target": _target(given.get("target", Small().target))})
        rules.check()
        return rules

    def check(self) -> None:
        """Raises `ConfigError` for a field out of its range, or a target that cannot be divided."""
        for name, value, low, high in (
            ("below", self.below, 0, 4096),
            ("at_least", self.at_least, 1, 4096),
            ("most", self.most, 2, 64),
            ("padding", self.padding, 0, 8),
            ("feather", self.feather, 0, 64),
            ("limit", self.limit, 1, 1024),
        ):
            if not low <= value <= high:
                raise ConfigError(f"small.{name}={value}: expected {low} to {high}")
        if not self.factors:
            raise ConfigError(f"small.target={self.target}: expected sides with a common divisor of 2 to {self.most}")

    @property
    def factors(self) -> tuple[int, ...]:
        """Possible enlargements, the strongest first: whole, so that the way back is a plain average."""
        common = math.gcd(*self.target)
        return tuple(factor for factor in range(self.most, 1, -1) if common % factor == 0)


def _target(value: object) -> Size:
    """(height, width) from a side or a pair."""
    sides = [value, value] if isinstance(value, int) else value
    if not isinstance(sides, Sequence) or len(sides) != 2 or not all(type(s) is int and s > 0 for s in sides):
        raise ConfigError(f"small.target={value}: expected a side in pixels, or [height, width]")
    return sides[0], sides[1]


def find(labels: Labels, rules: Small) -> tuple[tuple[Window, ...], Mapping[str, int]]:
    """The windows of one picture, and what became of its small instances; a function of the boxes alone.

    Each window has the aspect of `target` and the strongest enlargement that leaves its object padded. Windows
    that overlap become one where some enlargement still holds all of their objects.

    Returns:
        Windows, in the order of their first id; and counts that add up: `small` = `windowed` + `too_large`
        (the padded object, or the canvas, has no window of at least twofold enlargement) + `over_limit`.
    """
    found = [i for i in labels.instances if rules.at_least <= _longer(i.box) < rules.below]
    windows, boxes = list[Window](), {i.id: i.box for i in found}
    for instance in found:
        window = _window((instance.id,), boxes, labels.size, rules)
        if window is not None:
            windows.append(window)
    fitting = sum(len(window.ids) for window in windows)
    windows = _merged(windows, boxes, labels.size, rules)
    windows.sort(key=lambda w: (min(_longer(boxes[i]) for i in w.ids), w.ids))
    kept = sorted(windows[: rules.limit], key=lambda w: w.ids)
    done = sum(len(window.ids) for window in kept)
    return tuple(kept), {
        "small": len(found),
        "windowed": done,
        "too_large": len(found) - fitting,
        "over_limit": fitting - done,
    }


def mask(labels: Labels, window: Window, feather: float) -> Float32:
    """[h, w] in [0, 1] on the window: 1 on its own instances, fading out around them over `feather` pixels.

    It is 0 on other instances, whatever the feather. The labels need the `instance` pass, or masks; boxes else.
    """
    own, others = np.zeros(window.size, np.bool_), np.zeros(window.size, np.bool_)
    for instance in labels.instances:
        if instance.id in window.ids:
            own |= region(labels, instance)[window.rows, window.columns]
    if "instance" in labels.passes:
        ids = labels.passes["instance"][window.rows, window.columns]
        others = (ids != 0) & ~np.isin(ids, np.array(window.ids))
    shares = coverage(own, feather)
    shares[others & ~own] = 0
    return shares


def enlarge(images: Any, window: Window) -> Any:
    """[..., H, W] to [..., target]: the window, by Catmull-Rom splines, clipped to [0, 1]."""
    crop = images[..., window.rows, window.columns]
    down, across = (like(_spline(side, window.factor), images) for side in window.size)
    return (down @ crop @ across.T).clip(0, 1)


def give_back(images: Any, parts: Sequence[tuple[Window, Any, Any, Any]]) -> Any:
    """The pictures with the changes of their windows.

    Args:
        images: [..., H, W]; not written to.
        parts: For each window: itself, what it was enlarged to, what became of that, and its `mask` on the
            device. Where masks of several windows cover a pixel they share it, the same in any order.

    Returns:
        As `images`, clipped to [0, 1] where something changed.
    """
    if not parts:
        return images
    result = copied(images)
    total = result[..., :1, :, :] * 0
    for window, _, _, share in parts:
        total[..., window.rows, window.columns] += share
    for window, before, after, share in parts:
        here = (..., window.rows, window.columns)
        averaged = average(after - before, window.factor)
        result[here] += averaged * share / total[here].clip(1, None)
    return result.clip(0, 1)


def average(values: Any, factor: int) -> Any:
    """[..., H, W] to [..., H / factor, W / factor]: means over areas."""
    *front, height, width = values.shape
    return values.reshape(*front, height // factor, factor, width // factor, factor).mean((-3, -1))


def _longer(box: Box) -> float:
    return max(box[2] - box[0], box[3] - box[1])


def _window(ids: Iterable[int], boxes: Mapping[int, Box], canvas: Size, rules: Small) -> Window | None:
    """The strongest enlargement that holds these objects and fits on the canvas; None where there is none."""
    ids = tuple(sorted(ids))
    rows = np.array([boxes[i] for i in ids])
    pad = rules.padding * max(_longer(boxes[i]) for i in ids)
    x0, y0, x1, y1 = *rows[:, :2].min(axis=0), *rows[:, 2:].max(axis=0)
    for factor in rules.factors:
        height, width = rules.target[0] // factor, rules.target[1] // factor
        if height > canvas[0] or width > canvas[1]:
            continue
        if x1 - x0 + 2 * pad <= width and y1 - y0 + 2 * pad <= height:
            x = min(max(round((x0 + x1 - width) / 2), 0), canvas[1] - width)
            y = min(max(round((y0 + y1 - height) / 2), 0), canvas[0] - height)
            return Window(ids, int(x), int(y), factor, rules.target)
    return None


def _merged(windows: Sequence[Window], boxes: Mapping[int, Box], canvas: Size, rules: Small) -> list[Window]:
    """Joins the first pair that overlaps and still fits one window, until there is none."""
    left = list(windows)
    while True:
        for one, other in combinations(left, 2):
            joint = _window({*one.ids, *other.ids}, boxes, canvas, rules) if _overlap(one, other) else None
            if joint is not None:
                left = [window for window in left if window not in (one, other)] + [joint]
                left.sort(key=lambda window: window.ids)
                break
        else:
            return left


def _overlap(one: Window, other: Window) -> bool:
    return (
        one.x < other.columns.stop
        and other.x < one.columns.stop
        and one.y < other.rows.stop
        and other.y < one.rows.stop
    )


@lru_cache(maxsize=64)
def _spline(side: int, factor: int) -> Float32:
    """[side * factor, side]: Catmull-Rom interpolation (Keys 1981, a = -1/2) at the centres of finer pixels."""
    places = (np.arange(side * factor) + 0.5) / factor - 0.5
    first = np.floor(places).astype(np.intp)
    t = places - first
    matrix = np.zeros((side * factor, side))
    for step in (-1, 0, 1, 2):
        d = np.abs(t - step)
        near = 1.5 * d**3 - 2.5 * d**2 + 1
        weight = np.where(d <= 1, near, np.where(d < 2, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2, 0))
        np.add.at(matrix, (np.arange(side * factor), np.clip(first + step, 0, side - 1)), weight)
    return matrix.astype(np.float32)


def instances_of(labels: Labels, window: Window) -> tuple[Instance, ...]:
    """The instances a window is for: their classes and attributes can go into its prompt."""
    return tuple(instance for instance in labels.instances if instance.id in window.ids)
