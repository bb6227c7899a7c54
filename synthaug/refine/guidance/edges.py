"""Edges that are true: outlines and creases of geometry, in the styles of edge ControlNets."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np

from synthaug.errors import ConfigError, nearest
from synthaug.labels import Category, Labels
from synthaug.refine.guidance import contours, derive
from synthaug.refine.guidance.guide import Bools, Float32, Guide, Route, Source, grey

STYLES = ("canny", "lineart", "softedge")
CREASES = ("auto", "on", "off")
_SIGMA = {"lineart": 0.7, "softedge": 2.0}
"""Pixels at a short side of 512."""
_CREASE, _TEXTURE = 0.7, 0.4
"""Brightness of inner lines beside outlines, in the styles that have greys."""


@dataclass(frozen=True)
class Edges(Source):
    """White lines on black: outlines of objects, creases and steps within them, and texture where it is asked for.

    `canny` is binary and one pixel wide; `lineart` a fine anti-aliased line; `softedge` (HED, PiDi) a broad glow.
    In the latter two outlines are white, creases 0.7 and texture 0.4. About 25 ms at 512x512 with all passes, 60 ms
    more where normals are derived, 1 ms from ids alone.

    Args:
        style: `canny`, `lineart` or `softedge`.
        creases: `auto` draws them where normals, position, or depth and camera are there; `on` demands them.
        angle: Degrees within four pixels (at a short side of 512) that make a crease, 5 to 175.
        gap: Share of the depth that makes a step, 0.001 to 0.9.
        texture: Whether edges of the picture itself are drawn too.
        thresholds: Of that Canny, low and high, 0 <= low <= high <= 1000, on 8-bit gradients.
    """

    kind: ClassVar[str] = "edges"
    routes: ClassVar[tuple[Route, ...]] = (*derive.IDS, *derive.DEPTH, Route(("normals",), how="creases alone"))

    style: str = "canny"
    creases: str = "auto"
    angle: float = 30.0
    gap: float = 0.02
    texture: bool = False
    thresholds: tuple[float, float] = (100.0, 200.0)

    def __post_init__(self) -> None:
        # YAML reads a bare on and off as truth values.
        object.__setattr__(self, "creases", {True: "on", False: "off"}.get(self.creases, self.creases))  # type: ignore[call-overload]
        for name, known in (("style", STYLES), ("creases", CREASES)):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"edges {name}={getattr(self, name)}: unknown.{nearest(str(getattr(self, name)), known)}"
                )
        for name, low, high in (("angle", 5, 175), ("gap", 0.001, 0.9)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"edges {name}={getattr(self, name)}: expected {low} to {high}")
        object.__setattr__(self, "thresholds", tuple(self.thresholds))
        if len(self.thresholds) != 2 or not 0 <= self.thresholds[0] <= self.thresholds[1] <= 1000:
            raise ConfigError(
                f"edges thresholds={list(self.thresholds)}: expected [low, high], 0 <= low <= high <= 1000"
            )

    def missing(self, passes: Collection[str], categories: Sequence[Category], camera: bool | None) -> str:
        if self.creases == "on" and not any(route.open(passes, camera) for route in derive.NORMALS):
            ways = " or ".join(str(route) for route in derive.NORMALS)
            return f"edges with creases=on needs {ways}; the input has {', '.join(sorted(passes)) or 'no pass'}"
        return "" if self.texture else super().missing(passes, categories, camera)

    def notes(self, passes: Collection[str], categories: Sequence[Category], camera: bool | None) -> tuple[str, ...]:
        told = super().notes(passes, categories, camera)
        if self.creases == "auto" and not any(route.open(passes, camera) for route in derive.NORMALS):
            told = (*told, "edges: nothing to find creases in; outlines alone")
        return told

    def guide(self, labels: Labels, picture: Float32) -> Guide:
        has = labels.passes
        z = derive.depth(labels)[0] if {"depth", "position"} & has.keys() else None
        outline, used = np.zeros(labels.size, np.bool_), dict[str, Any]()
        if {"instance", "semantic"} & has.keys() or any(i.mask is not None for i in labels.instances):
            ids, used["outlines"] = derive.ids(labels)
            outline |= contours.borders(ids, z)
        if z is not None:
            outline |= contours.jumps(z, self.gap)
            used["steps"] = "depth" if "depth" in has else "position"
        inner, source = self._creases(labels, outline)
        if source:
            used["creases"] = source
        grain = contours.texture(picture, *self.thresholds, outline | inner) if self.texture else np.zeros_like(outline)
        shares = {"outlines": outline, "creases": inner & ~outline, "texture": grain}
        facts = {"kind": self.kind, "from": used, "style": self.style}
        facts["share"] = {name: round(float(lines.mean()), 5) for name, lines in shares.items()}
        return Guide(grey(self._ink(outline, inner, grain)), facts)

    def _creases(self, labels: Labels, outline: Bools) -> tuple[Bools, str]:
        open_ = any(route.open(labels.passes, labels.camera is not None) for route in derive.NORMALS)
        if self.creases == "off" or (self.creases == "auto" and not open_):
            return np.zeros_like(outline), ""
        n, source = derive.normals(labels)
        return contours.creases(n, outline, self.angle), source

    def _ink(self, outline: Bools, inner: Bools, grain: Bools) -> Float32:
        if self.style == "canny":
            return (outline | inner | grain).astype(np.float32)
        lines = np.where(outline, 1.0, np.where(inner, _CREASE, np.where(grain, _TEXTURE, 0.0))).astype(np.float32)
        # Small pictures are enlarged by nobody: below half the size lines would vanish, so they stop shrinking.
        sigma = _SIGMA[self.style] * max(min(lines.shape) / 512, 0.5)
        size = 2 * round(3 * sigma) + 1
        kernel = cv2.getGaussianKernel(size, sigma, cv2.CV_32F)
        # A straight line keeps its brightness along its middle; where lines crowd they do not outshine white.
        return (cv2.sepFilter2D(lines, cv2.CV_32F, kernel, kernel) / kernel.max()).clip(0.0, 1.0)
