"""Which input of a union ControlNet a kind of guidance is."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from synthaug.errors import ConfigError
from synthaug.refine.guidance.edges import Edges
from synthaug.refine.guidance.guide import Source

MODES: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        # xinsir/controlnet-union-sdxl-1.0: 2 is thick lines (HED, PiDi, scribble), 3 thin ones; tile is ProMax' own.
        "sdxl": {
            "skeleton": 0, "depth": 1, "softedge": 2, "canny": 3, "lineart": 3, "normals": 4, "segmentation": 5,
            "tile": 6, "blur": 6,
        },
        # InstantX/FLUX.1-dev-Controlnet-Union and Shakker-Labs/FLUX.1-dev-ControlNet-Union-Pro.
        "flux": {"canny": 0, "tile": 1, "depth": 2, "blur": 3, "skeleton": 4, "grey": 5},
    }
)  # fmt: skip
"""`control_mode` by family and kind; edges go by their style."""


def mode(source: Source, family: str, inputs: int | None = None) -> int:
    """The `control_mode` of a source.

    Args:
        family: `sdxl` or `flux`.
        inputs: How many the model has (its `num_control_type` or `num_mode`), where it is known.

    Raises:
        ConfigError: The union model of this family was not trained on this kind.
    """
    known = MODES.get(family)
    if known is None:
        raise ConfigError(f"no union ControlNet is known for family '{family}'; there are {', '.join(MODES)}")
    word = source.style if isinstance(source, Edges) else source.kind
    number = known.get(word)
    if number is None or (inputs is not None and number >= inputs):
        has = ", ".join(k for k, v in known.items() if inputs is None or v < inputs)
        raise ConfigError(f"the union ControlNet of {family} has no input for '{word}'; it has {has}")
    return number
