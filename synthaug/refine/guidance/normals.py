"""Normals in the colours that each family of ControlNets expects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from synthaug.errors import ConfigError, nearest
from synthaug.labels import Labels
from synthaug.refine.guidance import derive
from synthaug.refine.guidance.guide import Float32, Guide, Route, Source

CONVENTIONS: Mapping[str, tuple[tuple[int, int], ...]] = MappingProxyType(
    {
        "bae": ((0, -1), (1, -1), (2, -1)),
        "midas": ((2, -1), (1, -1), (0, -1)),
        "opengl": ((0, 1), (1, -1), (2, -1)),
        "directx": ((0, 1), (1, 1), (2, -1)),
        "opencv": ((0, 1), (1, 1), (2, 1)),
    }
)
"""For red, green, blue: the camera axis (0 x right, 1 y down, 2 z forward) and its sign."""


@dataclass(frozen=True)
class Normals(Source):
    """Unit normals n, one axis to a channel, as 0.5 + 0.5 * (+-n).

    | convention | bright red | bright green | bright blue | expected by |
    |---|---|---|---|---|
    | `bae` | faces left | faces up | faces the camera | control_v11p_sd15_normalbae, SDXL unions |
    | `midas` | faces the camera | faces up | faces left | control_sd15_normal (ControlNet 1.0) |
    | `opengl` | faces right | faces up | faces the camera | most engines' view-space normals, own trainings |
    | `directx` | faces right | faces down | faces the camera | likewise |
    | `opencv` | faces right | faces down | faces away | the pass as it is |

    `bae` is the rule in ControlNet 1.1's own words (blue front, red left, green top). `midas` is the order in which
    ControlNet 1.0's demo feeds its model (its channels swapped); that model was trained on slopes of an estimated
    inverse depth, whose author says that it misreads true normals: prefer `bae`. Pixels without a normal face the
    camera. About 1 ms at 512x512 from the pass.

    Args:
        convention: One of the table.
    """

    kind: ClassVar[str] = "normals"
    routes: ClassVar[tuple[Route, ...]] = derive.NORMALS

    convention: str = "bae"

    def __post_init__(self) -> None:
        if self.convention not in CONVENTIONS:
            raise ConfigError(f"normals convention={self.convention}: unknown.{nearest(self.convention, CONVENTIONS)}")

    def guide(self, labels: Labels, picture: Float32) -> Guide:
        n, source = derive.normals(labels)
        image = np.empty((3, *labels.size), np.float32)
        valid = np.isfinite(n[..., 2])
        for channel, (axis, sign) in enumerate(CONVENTIONS[self.convention]):
            toward_camera = 0.5 - 0.5 * sign if axis == 2 else 0.5
            image[channel] = np.where(valid, 0.5 + 0.5 * sign * n[..., axis], np.float32(toward_camera))
        facts = {"kind": self.kind, "from": source, "convention": self.convention}
        return Guide(image.clip(0.0, 1.0), {**facts, "valid": round(float(valid.mean()), 4)})
