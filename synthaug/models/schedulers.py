"""Schedulers by name: how the noise is taken out, step by step.

A picture enters a schedule in its middle. `lms` is therefore not here: diffusers takes its coefficients from the
step's number, though no earlier slope is known there, and the first step goes twice too far. `pndm` is, as Stable
Diffusion 1 comes with it, but what it leaves over is twice what `ddim` leaves: its first steps are meant for the
start. Schedulers whose noise would not be a sample's own are not here either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, cast

from synthaug.errors import ConfigError, nearest


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table.

    Attributes:
        cls: Class in diffusers.
        fixed: Fields of its configuration that make it this kind.
        karras: Can take noise levels after Karras et al. (NeurIPS 2022).
        spaced: Can take trailing timesteps.
        flow: For flow matching; otherwise for diffusion.
        noisy: Draws fresh noise in its steps; one step alone draws none with `lcm` and `ddpm`.
    """

    cls: str
    fixed: Mapping[str, Any] = field(default_factory=dict[str, Any])
    karras: bool = False
    spaced: bool = True
    flow: bool = False
    noisy: bool = False


_2M = {"algorithm_type": "dpmsolver++", "solver_order": 2, "use_lu_lambdas": False}
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "ddim": Kind("DDIMScheduler"),
        "ddpm": Kind("DDPMScheduler", noisy=True),
        "euler": Kind("EulerDiscreteScheduler", karras=True),
        "euler_a": Kind("EulerAncestralDiscreteScheduler", noisy=True),
        "heun": Kind("HeunDiscreteScheduler", karras=True),
        "dpm2": Kind("KDPM2DiscreteScheduler", karras=True),
        "dpm2_a": Kind("KDPM2AncestralDiscreteScheduler", karras=True, noisy=True),
        "dpmpp_2m": Kind("DPMSolverMultistepScheduler", _2M, karras=True),
        "dpmpp_2m_sde": Kind(
            "DPMSolverMultistepScheduler", {**_2M, "algorithm_type": "sde-dpmsolver++"}, karras=True, noisy=True
        ),
        "unipc": Kind("UniPCMultistepScheduler", karras=True),
        "deis": Kind("DEISMultistepScheduler", {"algorithm_type": "deis"}, karras=True),
        "pndm": Kind("PNDMScheduler", {"skip_prk_steps": True}, spaced=False),
        "lcm": Kind("LCMScheduler", spaced=False, noisy=True),
        "tcd": Kind("TCDScheduler", spaced=False),
        "flow_euler": Kind("FlowMatchEulerDiscreteScheduler", karras=True, spaced=False, flow=True),
    }
)
"""Schedulers that a configuration may name."""


_NOISY = frozenset(kind.cls for kind in KINDS.values() if kind.noisy) - {"DPMSolverMultistepScheduler"}
"""Classes that always draw; of the other one its configuration decides."""


def draws_noise(scheduler: Scheduler | None, cls: str) -> bool:
    """Whether denoising draws fresh noise in every step.

    Args:
        scheduler: What was asked for; None for the model's own.
        cls: Class of the model's own.
    """
    return cls in _NOISY if scheduler is None else KINDS[scheduler.name].noisy


@dataclass(frozen=True, slots=True)
class Scheduler:
    """One of `KINDS`, with what may be said of it.

    Attributes:
        name: Of the kind.
        karras: Noise levels after Karras; None for what the model's own configuration says.
        trailing: Timesteps counted from the noisy end, which few-step models (Turbo, Lightning) need; False for
            leading ones, None for what the model says.
    """

    name: str
    karras: bool | None = None
    trailing: bool | None = None

    def __post_init__(self) -> None:
        kind = KINDS.get(self.name)
        if kind is None:
            raise ConfigError(f"scheduler={self.name}: unknown.{nearest(self.name, KINDS)}")
        asked = {"karras": (self.karras, kind.karras), "trailing": (self.trailing, kind.spaced)}
        for name, (value, able) in asked.items():
            if value is not None and type(cast(Any, value)) is not bool:
                raise ConfigError(f"scheduler.{name}={value}: expected true or false")
            if value is not None and not able:
                have = ", ".join(n for n, k in KINDS.items() if (k.karras if name == "karras" else k.spaced))
                raise ConfigError(f"scheduler.{name} is set, but {self.name} has no such choice; those that do: {have}")

    @staticmethod
    def parse(given: object) -> Scheduler | None:
        """From configuration: nothing, a name, or `{name: euler, karras: true, trailing: true}`.

        Raises:
            ConfigError: Unknown name or field, or a field that this kind does not have.
        """
        if given is None or given in ("", {}):
            return None
        if isinstance(given, str):
            return Scheduler(given)
        values = dict(cast("Mapping[str, Any]", given)) if isinstance(given, Mapping) else {}
        known = ("name", "karras", "trailing")
        unknown = sorted(values.keys() - set(known))
        if unknown:
            raise ConfigError(f"scheduler.{unknown[0]}: no such field.{nearest(unknown[0], known)}")
        if "name" not in values:
            raise ConfigError(f"scheduler={given}: expected a name or {{name: NAME}}; names are {', '.join(KINDS)}")
        return Scheduler(str(values["name"]), values.get("karras"), values.get("trailing"))

    def check(self, family: str, *, flow: bool) -> None:
        """Refuses a family that it does not fit.

        Args:
            family: Its name, for the message.
            flow: It is flow matching, not diffusion.

        Raises:
            ConfigError: Naming the schedulers that fit.
        """
        if KINDS[self.name].flow != flow:
            fit = ", ".join(name for name, kind in KINDS.items() if kind.flow == flow)
            raise ConfigError(f"scheduler={self.name} does not fit {family}, which takes {fit}")

    def identity(self) -> dict[str, Any]:
        """For a run's fingerprint."""
        return {"name": self.name, "karras": self.karras, "trailing": self.trailing}


def install(pipe: Any, scheduler: Scheduler, steps: int) -> None:
    """Gives a loaded pipeline another scheduler, with the noise levels of its own.

    Args:
        pipe: A diffusers pipeline of a family for which `scheduler.check` passed.
        steps: That will be asked for at strength 1.

    Raises:
        ConfigError: The model's configuration or the number of steps is none that it can run.
    """
    import diffusers

    kind = KINDS[scheduler.name]
    chosen = dict(kind.fixed)
    if scheduler.karras is not None:
        chosen["use_karras_sigmas"] = scheduler.karras
        if scheduler.karras:  # a model may come with another curve, and only one can be in use
            chosen |= {"use_exponential_sigmas": False, "use_beta_sigmas": False}
    if scheduler.trailing is not None:
        chosen["timestep_spacing"] = "trailing" if scheduler.trailing else "leading"
    try:
        made: Any = getattr(diffusers, kind.cls).from_config(pipe.scheduler.config, **chosen)
        if not kind.flow:  # those of flow matching are told their levels by their pipeline
            made.set_timesteps(steps, device="cpu")
    except (ValueError, ArithmeticError, IndexError, ImportError, NotImplementedError) as error:
        raise ConfigError(f"scheduler={scheduler.name} with steps={steps}: {error}") from error
    if not kind.flow and len(made.timesteps) < steps * made.order - (made.order - 1):
        raise ConfigError(
            f"scheduler={scheduler.name} has {len(made.timesteps)} steps at most, steps={steps} asks for more"
        )
    pipe.scheduler = made
