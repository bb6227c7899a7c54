"""Which knobs a family has: asking for one that it lacks is refused when the run is planned.

The rows stand in `families`, as plain data, so that planning imports no model library; a test reads them again
from the signatures and mixins of diffusers' own pipelines.
"""

from __future__ import annotations

from collections.abc import Iterable

from synthaug.errors import ConfigError
from synthaug.models.families import AMUSED, KARLO, KNOBS, LCM, Family
from synthaug.models.table import PIPELINES

_LCM_TIMES = 50
"""Times that a Latent Consistency Model was distilled at; its pipeline takes its steps from the last of them."""

_KARLO_STEPS = 2
"""Its scheduler divides by one step less."""


def families() -> tuple[Family, ...]:
    """Every family that can serve, each once, by name."""
    return tuple(sorted({f for f in PIPELINES.values() if f.img2img}, key=lambda family: family.name))


def having(knob: str) -> tuple[str, ...]:
    """Names of the families that have a knob."""
    return tuple(family.name for family in families() if knob in family.knobs)


def refuse(family: Family, asked: Iterable[str]) -> None:
    """Refuses what a family cannot do.

    Args:
        asked: Knobs of `families.KNOBS` that the user has set.

    Raises:
        ConfigError: Naming the first such knob, the family, and the families that have it; or two knobs that it has
            one at a time.
    """
    asked = tuple(asked)
    for knob in asked:
        if knob not in family.knobs:
            raise ConfigError(
                f"{knob} ({KNOBS[knob]}) is set, but {family.name} has no such knob. Leave it out, or choose a model of"
                f" a family that has it: {', '.join(having(knob))}"
            )
    if family.controlled and {"controls", "negative_prompt"} <= set(asked):
        raise ConfigError(
            f"controls and negative_prompt are set: {family.name} takes guidance images in a pipeline that has no words"
            " against; leave one of them out"
        )


def check_strength(family: Family, strength: float | None, steps: int) -> None:
    """Holds a strength against what a family makes of it.

    Args:
        strength: In (0, 1], or None for families that have none.
        steps: Denoising steps at strength 1.

    Raises:
        ConfigError: None for a family that needs one, a number for one that has none, no step left to run, too few
            steps for the family's scheduler, or a strength at which the family would not look at the picture, or not
            change it.
    """
    if family is KARLO and steps < _KARLO_STEPS:
        raise ConfigError(f"steps={steps}: the scheduler of {family.name} needs {_KARLO_STEPS} or more; 25 are meant")
    if "strength" not in family.knobs:
        if strength is not None:
            refuse(family, ["strength"])
        return
    if strength is None:
        raise ConfigError(
            f"strength=null, but {family.name} needs one: a share of the denoising in (0, 1]. Without a strength are"
            f" {', '.join(f.name for f in families() if 'strength' not in f.knobs)}"
        )
    if not 0 < strength <= 1:
        raise ConfigError(f"strength={strength}: expected a share of the denoising in (0, 1]")
    if int(steps * strength) == 0:
        raise ConfigError(f"steps={steps} with strength={strength} runs no step at all; raise one of them")
    if family is LCM and int(_LCM_TIMES * strength) < steps:
        raise ConfigError(
            f"steps={steps} with strength={strength}: {family.name} knows {_LCM_TIMES} times and takes its steps from"
            f" the last {int(_LCM_TIMES * strength)} of them; use fewer steps, 4 to 8 are meant, or more strength"
        )
    if family.flow and int(max(steps - steps * strength, 0)) == 0:
        raise ConfigError(
            f"strength={strength} with steps={steps}: {family.name} would start from pure noise and ignore the"
            f" picture; use strength <= {1 - 1 / steps:.3g} or more steps"
        )
    if family is AMUSED and int(steps * strength) == steps:
        raise ConfigError(
            f"strength={strength} with steps={steps}: {family.name} masks next to nothing there and gives the picture"
            f" back; use a strength of which int(steps * strength) < steps, such as {max(steps - 0.5, 0) / steps:.3g}"
        )


def least_strength(family: Family | None, steps: int, executed: int = 1) -> float:
    """The weakest that a repair may become; a little above the bound, so that no rounding falls below it.

    Args:
        family: Of the model; None where it is not known.
        steps: Denoising steps at strength 1.
        executed: Steps that have to run.
    """
    times = steps / _LCM_TIMES if family is LCM else 0.0
    return min(1.0, max(executed / steps, times) * (1 + 1e-9))
