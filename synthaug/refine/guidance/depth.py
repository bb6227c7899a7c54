"""Depth as depth ControlNets were shown it: near is white, far is black, and so is what has no depth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from synthaug.errors import ConfigError, nearest
from synthaug.labels import Labels
from synthaug.refine.guidance import derive
from synthaug.refine.guidance.guide import Float32, Guide, Route, Source, grey

LAWS = ("inverse", "linear")


@dataclass(frozen=True)
class Depth(Source):
    """Grey depth: `inverse` is (1/z - 1/far) / (1/near - 1/far), `linear` is (far - z) / (far - near), both clipped.

    Inverse is what MiDaS, DPT and Depth Anything estimate, and so what most depth ControlNets have seen (SD 1.5,
    SDXL, the unions, FLUX.1); linear is what ZoeDepth shows. Near and far are percentiles of each picture's own
    depth, as its sky or one close pixel would otherwise take all contrast; the estimators' stretch to each picture's
    extremes is the same thing without that care. For sequences give both in metres: a surface then keeps its grey.
    A picture of one single depth is half grey. About 2 ms at 512x512, half with near and far given.

    Args:
        law: `inverse` or `linear`.
        near: Metres that are white, more than 0; None measures each picture.
        far: Metres that are black, more than `near`; None likewise.
        percentiles: Share of pixels, in percent, nearer than `near` and nearer than `far` where these are measured.
    """

    kind: ClassVar[str] = "depth"
    routes: ClassVar[tuple[Route, ...]] = derive.DEPTH

    law: str = "inverse"
    near: float | None = None
    far: float | None = None
    percentiles: tuple[float, float] = (1.0, 99.0)

    def __post_init__(self) -> None:
        if self.law not in LAWS:
            raise ConfigError(f"depth law={self.law}: unknown.{nearest(self.law, LAWS)}")
        for name in ("near", "far"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"depth {name}={value}: expected metres, more than 0")
        if self.near is not None and self.far is not None and not self.near < self.far:
            raise ConfigError(f"depth near={self.near}, far={self.far}: expected near < far")
        object.__setattr__(self, "percentiles", tuple(self.percentiles))
        if len(self.percentiles) != 2 or not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise ConfigError(
                f"depth percentiles={list(self.percentiles)}: expected [low, high], 0 <= low < high <= 100"
            )

    def guide(self, labels: Labels, picture: Float32) -> Guide:
        z, source = derive.depth(labels)
        valid = np.isfinite(z)
        facts = {"kind": self.kind, "from": source, "law": self.law, "valid": round(float(valid.mean()), 4)}
        if not valid.any():
            return Guide(grey(np.zeros(labels.size, np.float32)), {**facts, "near": None, "far": None})
        near, far = self._range(z[valid])
        values = self._shade(np.where(valid, z, np.float32(far)), near, far)
        values[~valid] = 0.0
        return Guide(grey(values), {**facts, "near": near, "far": far})

    def _range(self, z: Float32) -> tuple[float, float]:
        """Metres that are white and black in this picture."""
        if self.near is not None and self.far is not None:
            return self.near, self.far
        low, high = (float(v) for v in np.percentile(z, self.percentiles))
        near, far = self.near or low, self.far or high
        # One bound is given and the whole picture lies on its other side: everything is white, or black.
        return (near, far) if near <= far else ((near, near) if self.far is None else (far, far))

    def _shade(self, z: Float32, near: float, far: float) -> Float32:
        if far - near <= 1e-6 * near:
            return np.where(z < near * (1 - 1e-6), 1.0, np.where(z > near * (1 + 1e-6), 0.0, 0.5)).astype(np.float32)
        # In float64: far away, 1/z differs little from 1/far.
        if self.law == "inverse":
            values = (1.0 / z.astype(np.float64) - 1 / far) / (1 / near - 1 / far)
        else:
            values = (far - z.astype(np.float64)) / (far - near)
        return values.clip(0.0, 1.0).astype(np.float32)
