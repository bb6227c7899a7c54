"""What a source of guidance is, and what it hands over: a control image and the facts behind it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synthaug.labels import Category, Labels

Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Guide:
    """One control image.

    Attributes:
        image: [3, H, W] float32 in [0, 1], RGB, as the model's own preprocessor would have made it.
        facts: JSON for the trail: which passes it came from, ranges, conventions.
    """

    image: Float32
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Route:
    """One set of facts from which a control image can be made.

    Attributes:
        passes: Label passes that must all be there.
        camera: Whether the intrinsics are needed as well.
        how: In words, for messages and the trail.
    """

    passes: tuple[str, ...]
    camera: bool = False
    how: str = ""

    def open(self, passes: Collection[str], camera: bool | None) -> bool:
        """Whether it can be taken; `camera` None, where the plan does not know, counts as yes."""
        return set(self.passes) <= set(passes) and (not self.camera or camera is not False)

    def __str__(self) -> str:
        return " + ".join((*self.passes, *(("camera",) if self.camera else ()))) + (
            f" ({self.how})" if self.how else ""
        )


class Source(ABC):
    """Makes one kind of control image. Frozen dataclasses, whose fields are the configuration."""

    kind: ClassVar[str]
    routes: ClassVar[tuple[Route, ...]] = ()
    """Best first; the first that is open is taken. Empty where no pass is needed."""

    @abstractmethod
    def guide(self, labels: Labels, picture: Float32) -> Guide:
        """The control image of one picture.

        Args:
            labels: With the passes of at least one route.
            picture: [3, H, W] float32 in [0, 1], sRGB; only some kinds look at it.

        Raises:
            Rejected: Under `guidance`: this sample lacks what its route needs.
        """

    def missing(self, passes: Collection[str], categories: Sequence[Category], camera: bool | None) -> str:
        """Why no control image can be made of a dataset with these passes; empty where it can."""
        del categories
        if not self.routes or any(route.open(passes, camera) for route in self.routes):
            return ""
        ways = " or ".join(str(route) for route in self.routes)
        return f"{self.kind} needs {ways}; the input has {', '.join(sorted(passes)) or 'no pass'}"

    def notes(self, passes: Collection[str], categories: Sequence[Category], camera: bool | None) -> tuple[str, ...]:
        """What is worth telling before a run that can be made: passes derived, classes without a colour."""
        del categories
        taken = next((route for route in self.routes if route.open(passes, camera)), None)
        if taken is None or taken is self.routes[0]:
            return ()
        unsure = "; samples without a camera will be rejected" if taken.camera and camera is None else ""
        return (f"{self.kind}: no pass '{self.routes[0].passes[0]}', taken from {taken}{unsure}",)


def grey(values: NDArray[Any]) -> Float32:
    """[H, W] values in [0, 1] as three equal channels."""
    return np.repeat(values.astype(np.float32, copy=False)[None], 3, axis=0)
