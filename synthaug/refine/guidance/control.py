"""Several controls at once: which image, which model, how strongly, when and where."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

import numpy as np

from synthaug.errors import ConfigError, nearest
from synthaug.labels import Category, Labels
from synthaug.refine.guidance import derive
from synthaug.refine.guidance.depth import Depth
from synthaug.refine.guidance.edges import Edges
from synthaug.refine.guidance.guide import Float32, Guide, Route, Source
from synthaug.refine.guidance.normals import Normals
from synthaug.refine.guidance.picture import Blur, Grey, Tile
from synthaug.refine.guidance.segmentation import Segmentation
from synthaug.refine.guidance.skeleton import Skeleton

SOURCES: Mapping[str, type[Source]] = MappingProxyType(
    {t.kind: t for t in (Depth, Normals, Edges, Segmentation, Skeleton, Tile, Blur, Grey)}
)
"""The kinds of guidance there are, by name."""


@dataclass(frozen=True)
class Control:
    """One ControlNet with the image it is shown.

    Attributes:
        source: What draws the control image.
        model: Folder or safetensors file of the ControlNet; controls of one union model name the same.
        weight: Scale of its residuals, 0 to 2.
        start: Share of the denoising at which it sets in, in [0, 1).
        end: Share at which it leaves off, in (start, 1].
        classes: Factors of the weight on the pixels of a class, by class name, 0 to 2.
        elsewhere: Factor on all other pixels, 0 to 2.
    """

    source: Source
    model: str
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0
    classes: Mapping[str, float] = field(default_factory=dict[str, float])
    elsewhere: float = 1.0

    def __post_init__(self) -> None:
        kind = self.source.kind
        if not self.model:
            raise ConfigError(f"control {kind}: no model; name the folder or safetensors file of a ControlNet")
        scales = {"weight": self.weight, "elsewhere": self.elsewhere}
        for name, value in {**scales, **{f"classes.{n}": v for n, v in self.classes.items()}}.items():
            if not _is_number(value) or not 0 <= value <= 2:
                raise ConfigError(f"control {kind} {name}={value}: expected 0 to 2")
        if not (_is_number(self.start) and _is_number(self.end) and 0 <= self.start < self.end <= 1):
            raise ConfigError(f"control {kind} start={self.start}, end={self.end}: expected 0 <= start < end <= 1")

    @property
    def masked(self) -> bool:
        """Whether the weight differs over the picture."""
        return any(v != self.elsewhere for v in self.classes.values())

    def weights(self, labels: Labels) -> Float32:
        """[H, W] weight of every pixel, `weight` times the factor of its class. About 3 ms at 512x512 where masked.

        Models take it averaged over the pixels of each latent.

        Raises:
            Rejected: Under `guidance`: factors by class, and a sample without a class map.
        """
        if not self.masked:
            return np.full(labels.size, self.weight * self.elsewhere, np.float32)
        classes, _ = derive.classes(labels)
        factors = [self.elsewhere, *(self.classes.get(c.name, self.elsewhere) for c in labels.categories)]
        return np.take(np.array(factors, np.float32) * np.float32(self.weight), classes, mode="clip")


def parse(controls: Mapping[str, Mapping[str, Any]]) -> tuple[Control, ...]:
    """Controls from configuration: for each name its fields, those of the kind and those of `Control` side by side.

    `kind` may be left out where the name is one: `{"depth": {"model": "...", "weight": 0.8, "near": 0.5}}`. An entry
    of None, with which a configuration takes out what its base put in, is skipped.

    Raises:
        ConfigError: Unknown kind or field, value of the wrong type or out of range.
    """
    return tuple(_control(name, dict(values)) for name, values in controls.items() if values is not None)


def _control(name: str, values: dict[str, Any]) -> Control:
    kind = values.pop("kind", name)
    source = SOURCES.get(str(kind))
    if source is None:
        raise ConfigError(f"control {name}: kind={kind} is unknown.{nearest(str(kind), SOURCES)}")
    own = {f.name for f in fields(source)}  # type: ignore[arg-type]
    shared = {f.name for f in fields(Control)} - {"source"}
    unknown = sorted(values.keys() - own - shared)
    if unknown:
        raise ConfigError(f"control {name}: '{unknown[0]}' is no field of {kind}.{nearest(unknown[0], own | shared)}")
    if "model" not in values:
        raise ConfigError(f"control {name}: no model; name the folder or safetensors file of a ControlNet")
    try:
        drawn = source(**{k: v for k, v in values.items() if k in own})
        return Control(drawn, **{k: v for k, v in values.items() if k in shared})
    except (TypeError, AttributeError) as error:
        raise ConfigError(f"control {name}: a field has a value of the wrong type ({error})") from error


def required_passes(kind: str) -> tuple[Route, ...]:
    """Sets of passes of which one is enough for a kind of guidance, best first; empty where none is needed.

    Raises:
        ConfigError: Unknown kind.
    """
    if kind not in SOURCES:
        raise ConfigError(f"guidance kind={kind} is unknown.{nearest(kind, SOURCES)}")
    return SOURCES[kind].routes


def wanted_passes(controls: Sequence[Control]) -> tuple[str, ...]:
    """Every pass that any of these controls may use: what a stage says it `wants`."""
    routes = [route for c in controls for route in c.source.routes]
    if any(isinstance(c.source, Edges) for c in controls):
        routes += derive.NORMALS
    if any(c.masked for c in controls):
        routes += derive.CLASSES
    return tuple(sorted({name for route in routes for name in route.passes} - {derive.MASKS}))


def plan(
    controls: Sequence[Control],
    *,
    passes: Collection[str],
    categories: Sequence[Category],
    camera: bool | None = None,
) -> tuple[str, ...]:
    """Checks before a run that every control can be made of the input, and says how.

    Args:
        passes: That every sample has, and `masks` where instances bring masks of their own.
        categories: Of the dataset.
        camera: Whether every sample has one; None where only reading tells.

    Returns:
        Notes worth showing: passes that are derived, classes that stay black.

    Raises:
        ConfigError: A control's passes are missing: which, and what it could be derived from.
    """
    notes: list[str] = []
    names = [c.name for c in categories]
    for control in controls:
        why = control.source.missing(passes, categories, camera)
        if why:
            raise ConfigError(f"guidance: {why}")
        unknown = sorted(control.classes.keys() - set(names))
        if unknown:
            raise ConfigError(
                f"control {control.source.kind} classes.{unknown[0]}: no such class.{nearest(unknown[0], names)}"
            )
        if control.masked and not any(route.open(passes, camera) for route in derive.CLASSES):
            ways = " or ".join(str(route) for route in derive.CLASSES)
            raise ConfigError(f"control {control.source.kind}: weights by class need {ways}; has {sorted(passes)}")
        notes += control.source.notes(passes, categories, camera)
    return tuple(notes)


def guides(controls: Sequence[Control], labels: Labels, picture: Float32) -> tuple[Guide, ...]:
    """The control images of one picture, one per control; equal sources are drawn once.

    Args:
        picture: [3, H, W] float32 in [0, 1], sRGB.

    Raises:
        Rejected: Under `guidance`: this sample lacks what the plan was promised, such as its camera.
    """
    done: list[tuple[Source, Guide]] = []
    for control in controls:
        known = next((g for s, g in done if s == control.source), None)
        done.append((control.source, known if known is not None else control.source.guide(labels, picture)))
    return tuple(guide for _, guide in done)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
