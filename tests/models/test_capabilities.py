"""The table of knobs, read again from diffusers' own pipelines."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing
from typing import Any

import pytest

from synthaug.errors import ConfigError
from synthaug.models import families
from synthaug.models.capabilities import check_strength, having, least_strength, refuse
from synthaug.models.capabilities import families as known
from synthaug.models.families import KNOBS, Family, Runner
from synthaug.models.table import COMPONENTS, PIPELINES

LOOP = {"class_weights", "protect", "tile", "sequence"}
"""Of our own loop; no pipeline of diffusers has them."""
PASSED_BY = {
    "image_prompt": {"LCM", "SD3", "FLUX", "KONTEXT", "PIX2PIX"},
    "embeddings": {"KONTEXT"},
}
"""What a pipeline has and we do not offer: adapters outside of our loop, and words for a T5."""
SCHEDULERS = {"KarrasDiffusionSchedulers", "FlowMatchEulerDiscreteScheduler"}
"""Annotations that more than one of our schedulers satisfies, or one with a choice of noise levels."""


def read(family: Family) -> set[str]:
    """The knobs of a family, from the signature and the mixins of the class that runs it."""
    import diffusers

    cls: Any = getattr(diffusers, family.img2img)
    told = set(inspect.signature(cls.__call__).parameters)
    if family.runner is Runner.PRIOR:  # words go to the prior
        told |= set(inspect.signature(diffusers.KandinskyV22PriorPipeline.__call__).parameters)
    mixins = {base.__name__ for base in cls.__mro__}
    controlled = family.img2img.replace("Img2ImgPipeline", "ControlNetImg2ImgPipeline")
    scheduler = typing.get_type_hints(cls.__init__).get("scheduler")
    found = {
        "prompt": "prompt" in told,
        "strength": "strength" in told,
        "guidance": bool({"guidance_scale", "true_cfg_scale", "decoder_guidance_scale"} & told),
        "negative_prompt": "negative_prompt" in told,
        "controls": controlled != family.img2img and hasattr(diffusers, controlled),
        "image_prompt": any("IPAdapterMixin" in name for name in mixins) and "ip_adapter_image" in told,
        "loras": any(name.endswith("LoraLoaderMixin") for name in mixins),
        "embeddings": "TextualInversionLoaderMixin" in mixins,
        "single_file": "FromSingleFileMixin" in mixins,
        "steps": bool({"num_inference_steps", "decoder_num_inference_steps"} & told),
        "scheduler": getattr(scheduler, "__name__", "") in SCHEDULERS,
    }
    return {knob for knob, has in found.items() if has} | (LOOP if family.runner is Runner.LOOP else set())


NAMES = {id(value): name for name, value in vars(families).items() if isinstance(value, Family)}


@pytest.mark.parametrize("family", known(), ids=lambda family: NAMES[id(family)])
def test_the_table_is_what_the_pipelines_say(family: Family) -> None:
    beside = {knob for knob, names in PASSED_BY.items() if NAMES[id(family)] in names}
    assert read(family) == family.knobs | beside
    assert not family.knobs & beside


@pytest.mark.parametrize("family", known(), ids=lambda family: NAMES[id(family)])
def test_arguments_that_the_rows_name_exist(family: Family) -> None:
    import diffusers

    told = inspect.signature(getattr(diffusers, family.img2img).__call__).parameters
    assert family.guidance in told
    assert not family.negative_guidance or family.negative_guidance in told
    assert all(
        hasattr(diffusers, name) for name in (family.controlled, family.control_net, family.control_nets) if name
    )
    assert bool(family.controlled) == (family is families.FLUX)


def test_every_class_of_the_tables_exists() -> None:
    import diffusers
    import transformers
    from diffusers.pipelines import stable_diffusion
    from diffusers.pipelines.deprecated import unclip

    for name in PIPELINES:
        assert hasattr(diffusers, name)
    homes = {
        "diffusers": diffusers, "transformers": transformers, "stable_diffusion": stable_diffusion, "unclip": unclip,
    }  # fmt: skip
    gone = {name for name, library in COMPONENTS.items() if not hasattr(homes[library], name)}
    assert gone <= {"CLIPFeatureExtractor"}  # in folders of old; diffusers puts its successor there


def test_every_knob_is_somewhere_and_known() -> None:
    for knob in KNOBS:
        assert having(knob), knob
    for family in known():
        assert family.knobs <= KNOBS.keys()
        assert {"guidance", "steps"} <= family.knobs


def test_a_refusal_names_knob_family_and_who_has_it() -> None:
    refuse(families.SD, KNOBS)
    with pytest.raises(ConfigError) as refused:
        refuse(families.KLEIN, ["steps", "controls", "tile"])
    text = str(refused.value)
    assert "controls (guidance images by ControlNet) is set, but FLUX.2 klein has no such knob" in text
    assert "FLUX.1, Stable Diffusion 1/2, Stable Diffusion XL" in text
    assert "Kontext" not in text
    with pytest.raises(KeyError):
        refuse(families.KLEIN, ["contrls"])


@pytest.mark.parametrize("strength", [0.0, -1.0, 1.1, float("nan")])
def test_a_strength_out_of_range(strength: float) -> None:
    with pytest.raises(ConfigError, match=r"expected a share .* in \(0, 1\]"):
        check_strength(families.SD, strength, 30)


@pytest.mark.parametrize("steps", [1, 2, 4, 7, 30])
def test_a_strength_is_refused_exactly_where_no_step_is_left_or_the_picture_is(steps: int) -> None:
    for hundredth in range(1, 101):
        strength = hundredth / 100
        runs = int(steps * strength)
        for family in (families.SD, families.FLUX, families.AMUSED):
            # From the step at which the pipelines enter: at 0 nothing of the picture is left, or all of it.
            entry = steps - runs if family is families.AMUSED else int(max(steps - steps * strength, 0))
            bad = runs == 0 or (family is not families.SD and entry == 0)
            try:
                check_strength(family, strength, steps)
            except ConfigError:
                assert bad, (family.name, strength)
            else:
                assert not bad, (family.name, strength)


def test_planning_imports_no_model_library() -> None:
    code = (
        "import sys, synthaug.models.capabilities, synthaug.models.snapshot, synthaug.models.pipelines;"
        "print([m for m in ('diffusers', 'transformers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_latent_consistency_model_is_refused_where_its_pipeline_would_refuse_and_repairs_stay_above() -> None:
    import diffusers

    scheduler = diffusers.LCMScheduler()
    for steps in (4, 8, 16, 30):
        for hundredth in range(5, 101, 5):
            strength = hundredth / 100
            try:
                scheduler.set_timesteps(steps, original_inference_steps=50, strength=strength)
                runs = int(steps * strength) > 0
            except ValueError:
                runs = False
            try:
                check_strength(families.LCM, strength, steps)
                passed = True
            except ConfigError:
                passed = False
            assert passed == runs, (steps, strength)
        check_strength(families.LCM, least_strength(families.LCM, steps), steps)
        check_strength(families.SD, least_strength(families.SD, steps), steps)
