"""How a tile lies on one object: which texture, how large, turned and moved; the same in every frame and view.

Where the tile lies on texture coordinates, its size in the world needs the metres of a unit of u and of v. They belong
to the object and not to the view, so they come, in this order, from the instance's attribute `metres_per_uv` ([along u,
along v]), from the configuration, or from the picture: the median over the object of the lengths of dP/du and dP/dv,
moved to the nearest of `GRID` steps an octave. On a mapping that is even within its charts (boxes, planes, cylinders,
whatever was unfolded without stretching) two views measure the same to 1e-5 on flat sides and 1e-4 on round ones, so
they agree unless the size lies that close to the middle between two steps: one object in some hundreds. Where a mapping
is uneven (the poles of a sphere), views disagree: name the size, or lay the texture on without coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from synthaug.camera import Matrix, matrix
from synthaug.errors import InputError, printable
from synthaug.texture.entry import Entry

Mode = Literal["uv", "object", "world"]
GRID = 16
"""Steps an octave of measured metres per unit of uv, 4.4% apart: a tile is up to 2.2% larger or smaller than told."""
_ENOUGH = 2000
"""Pixels whose derivatives are looked at."""
_FEWEST = 6


@dataclass(frozen=True, slots=True)
class Placement:
    """How the tile lies.

    Attributes:
        entry: Id of the texture in its library.
        matrix: 2x3; (s, t) = matrix @ (u, v, 1) in tiles: column 0 of the tile is at s = 0 and row 0 at t = 0, one
            unit is one repeat, and the tile wraps.
        mode: What u and v are. `uv`: the `uv` pass. `object`, `world`: metres on the planes (y, z), (z, x) and (x, y)
            of the object's own axes, or of the world's, blended by the normal (`triplanar`).
    """

    entry: str
    matrix: Matrix
    mode: Mode = "uv"

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` turns back into an equal placement."""
        return {"entry": self.entry, "matrix": [list(row) for row in self.matrix], "mode": self.mode}

    @classmethod
    def from_json(cls, found: Any) -> Placement:
        """A placement from plain data, such as the facts of a trail.

        Raises:
            InputError: Anything else.
        """
        if not isinstance(found, Mapping):
            raise InputError(f"placement {printable(repr(found))}: expected an object with entry, matrix and mode")
        told = cast("Mapping[str, Any]", found)
        try:
            rows = matrix(told["matrix"], 2, 3)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"placement without a 2x3 matrix: {error}") from error
        entry, mode = told.get("entry"), told.get("mode")
        if not isinstance(entry, str) or mode not in ("uv", "object", "world"):
            raise InputError(f"placement of {printable(repr(entry))} in mode {printable(repr(mode))}")
        return cls(entry, rows, mode)

    def apply(self, uv: NDArray[Any]) -> NDArray[Any]:
        """[..., 2] coordinates to [..., 2] tiles, in the type that they come in."""
        rows = np.asarray(self.matrix, dtype=uv.dtype)
        return uv @ rows[:, :2].T + rows[:, 2]


def place(
    entry: Entry, metres_per_uv: tuple[float, float], angle: float, offset: tuple[float, float], mode: Mode = "uv"
) -> Placement:
    """A tile in its real size.

    Args:
        entry: The texture; its width in the world is `metres`, its pixels are square.
        metres_per_uv: How long a unit of u and of v is in the world; (1, 1) in the modes that count in metres.
        angle: Radians by which the tile is turned.
        offset: In tiles.
        mode: See `Placement`.
    """
    along_u, along_v = metres_per_uv
    cos, sin = math.cos(angle), math.sin(angle)
    width, height = entry.metres, entry.metres * entry.height / entry.width
    rows = (
        (cos * along_u / width, -sin * along_v / width, float(offset[0])),
        (sin * along_u / height, cos * along_v / height, float(offset[1])),
    )
    return Placement(entry.id, rows, mode)


def metres_per_uv(uv: NDArray[Any], position: NDArray[Any], inside: NDArray[np.bool_]) -> tuple[float, float] | None:
    """Median lengths of dP/du and dP/dv over an object, in metres; None where they cannot be measured.

    Args:
        uv: [h, w, 2]; a cut around the object is enough.
        position: [h, w, 3], metres, in any axes.
        inside: [h, w], the object's own pixels.
    """
    # Three neighbours on one plane give dP/d(u, v) exactly, whatever the perspective: it solves dP = J d(uv).
    here = inside[:-1, :-1] & inside[:-1, 1:] & inside[1:, :-1]
    rows, columns = np.nonzero(here)
    if len(rows) > _ENOUGH:
        chosen = np.linspace(0, len(rows) - 1, _ENOUGH).astype(np.intp)
        rows, columns = rows[chosen], columns[chosen]
    corner, right, below = (rows, columns), (rows, columns + 1), (rows + 1, columns)
    ux, uy = uv[right] - uv[corner], uv[below] - uv[corner]
    px, py = position[right] - position[corner], position[below] - position[corner]
    turn = (ux[:, 0] * uy[:, 1] - ux[:, 1] * uy[:, 0]).astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Nearly parallel steps (a surface seen edge-on, or not mapped at all) say nothing.
        fair = np.abs(turn) > 1e-3 * np.linalg.norm(ux, axis=1) * np.linalg.norm(uy, axis=1)
        along_u = np.linalg.norm(px * uy[:, 1:] - py * ux[:, 1:], axis=1) / np.abs(turn)
        along_v = np.linalg.norm(py * ux[:, :1] - px * uy[:, :1], axis=1) / np.abs(turn)
        fair &= np.isfinite(along_u) & np.isfinite(along_v) & (along_u > 0) & (along_v > 0)
    if np.count_nonzero(fair) < _FEWEST:
        return None
    return float(np.median(along_u[fair])), float(np.median(along_v[fair]))


def snapped(metres: tuple[float, float]) -> tuple[float, float]:
    """The nearest of `GRID` steps an octave, so that what was measured in two views is the same number."""
    first, second = (2.0 ** (round(GRID * math.log2(value)) / GRID) for value in metres)
    return first, second
