"""What a group must have in common so that stages of scope `group` keep their word."""

from __future__ import annotations

from collections.abc import Iterable

from synthaug.contracts import Description, Geometry
from synthaug.engine.pipeline import Pipeline
from synthaug.errors import ConfigError, first_of
from synthaug.labels import Size


def refuse_uneven(pipeline: Pipeline, described: Iterable[Description]) -> None:
    """Holds frames that bring `flow` against geometries that move a group as one.

    One draw moves frames of two sizes in two ways, and flow that leads from one to the other would point beside what
    it follows. Frames of one view count; two cameras of a group may well differ.

    Raises:
        ConfigError: Naming the slots, the first groups and their sizes, and the way out.
    """
    slots = [s.name for s in pipeline.slots if isinstance(s.stage, Geometry) and s.stage.scope == "group"]
    geometries = [s for s in pipeline.slots if isinstance(s.stage, Geometry)]
    if not slots or len(slots) < len(geometries):
        return  # a motion of the samples' own costs the flow anyway, and it is counted
    sizes: dict[tuple[str, str], dict[Size, None]] = {}
    flowing: set[tuple[str, str]] = set()
    for d in described:
        key = (d.group or d.id, d.view)
        sizes.setdefault(key, {})[d.size] = None
        if "flow" in d.passes:
            flowing.add(key)
    uneven = [
        f"{'/'.join(filter(None, key))}: {', '.join(f'{w}x{h}' for h, w in sizes[key])}"
        for key in sizes
        if key in flowing and len(sizes[key]) > 1
    ]
    if uneven:
        way = ", ".join(f"{name}.scope=sample" for name in slots)
        raise ConfigError(
            f"{len(uneven)} groups bring flow and have frames of different sizes, so one motion cannot keep it true; "
            f"say {way} (flow is then dropped and counted), or bring the frames to one size first:"
            + first_of(uneven, 5)
        )
