"""Image-to-image diffusion from a local model folder, as an Appearance.

SDEdit (Meng et al., ICLR 2022): the picture is noised part of the way and denoised again under a prompt. The
more of the way (`strength`), the more is invented, so what comes out has to pass a gate. What the renderer knows
narrows it: guidance images hold the shapes (ControlNet, Zhang et al., ICCV 2023), a strength per pixel holds back
what must not change (differential diffusion, Levin and Fried, 2023), and what must not be touched is pasted back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np

from synthaug import seeds
from synthaug.contracts import Appearance, Draw, Painted, Place
from synthaug.errors import ConfigError, SynthaugError, nearest
from synthaug.labels import Category, Labels
from synthaug.models import controlnets
from synthaug.models.pipelines import DTYPES, Img2ImgModel, Request, open_img2img
from synthaug.models.snapshot import inspect, weights_digest
from synthaug.refine import conditions
from synthaug.refine.guidance import control
from synthaug.refine.prompts import Prompts
from synthaug.refine.protect import PASSES, Protection


class Img2Img(Appearance):
    """Repaints a picture with a diffusion model; every pixel depends on its own sample alone.

    Any size goes in and comes out: sides are mirrored out to the model's multiple and cropped back. Pictures
    that the model's safety checker flags are rejected as `safety`, pictures with a value that is not
    finite as `nonfinite`; neither leaves pixels behind. The model runs on the VAE's own precision rules
    (`force_upcast`); where half precision still overflows, use `bfloat16`.

    Args:
        model: Folder of a diffusers pipeline with safetensors weights (Stable Diffusion 1/2/XL/3, LCM,
            FLUX.1, Qwen-Image, Z-Image).
        prompt: Words: a text, a list of which one is drawn, a mapping from text to weight, or `@FILE` with one a
            line. `{classes}` names what is in the picture, `{count}` how many; further placeholders come from
            `words` and `attributes`.
        negative_prompt: Words against, likewise; empty for none. Needs a family that takes them.
        words: Lists by placeholder, each as `prompt`.
        attributes: Placeholders that say an attribute of the labels; what to say where there is none.
        phrases: What to say for a class in `{classes}`, by its name, each as `prompt`.
        strength: In (0, 1]; share of the denoising that is done. 0.2 to 0.4 keeps small objects.
        steps: Denoising steps at strength 1, from 1; `int(steps * strength)` of them run.
        guidance: Classifier-free guidance, 0 or more; 1 or less runs the model once per step.
        strength_decay: In (0, 1]; each repair multiplies the strength by it, down to one step.
        controls: Guidance from the renderer's passes by name, `{depth: {model: DIR, weight: 0.8}}`; kinds are
            depth, normals, edges, segmentation, skeleton, tile, blur and grey. Stable Diffusion 1, 2 and XL.
        protect: Strength by class, attribute and small thing, and what is never touched:
            `{classes: {car: 0.5}, never_classes: [sign]}`. Stable Diffusion 1, 2 and XL.
        feather: Pixels, 0 to 256; how softly untouched regions meet the rest.
        tile: Pixels, 0 or a multiple of 64; larger pictures are denoised in tiles of this side that share one
            latent. 0 for one piece. Stable Diffusion 1, 2 and XL.
        overlap: Pixels that tiles share, from 0.
        dtype: `float32`, `bfloat16` or `float16`.
    """

    place: ClassVar[Place] = "device"
    generative: ClassVar[bool] = True
    operational: ClassVar[frozenset[str]] = frozenset({"model"})

    def __init__(
        self,
        *,
        model: str,
        prompt: Any = "",
        negative_prompt: Any = "",
        words: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
        phrases: Mapping[str, Any] | None = None,
        strength: float = 0.3,
        steps: int = 30,
        guidance: float = 5.0,
        strength_decay: float = 0.7,
        controls: Mapping[str, Any] | None = None,
        protect: Mapping[str, Any] | None = None,
        feather: float = 4.0,
        tile: int = 0,
        overlap: int = 64,
        dtype: str = "float32",
    ) -> None:
        _check_steps(strength, steps)
        _check_range("guidance", guidance, 0, 100)
        _check_range("feather", feather, 0, 256)
        if not 0 < strength_decay <= 1:
            raise ConfigError(f"strength_decay={strength_decay}: expected a factor in (0, 1]")
        if tile < 0 or tile % 64:
            raise ConfigError(f"tile={tile}: expected 0 or a multiple of 64 pixels")
        if tile and not 0 <= overlap <= tile - 8:
            raise ConfigError(f"overlap={overlap}: expected 0 to {tile - 8} for tiles of {tile}")
        if dtype not in DTYPES:
            raise ConfigError(f"dtype={dtype}: unknown.{nearest(dtype, DTYPES)}")
        self.model = model
        self.prompts = Prompts.parse(prompt, negative_prompt, words=words, attributes=attributes, phrases=phrases)
        self.strength = strength
        self.steps = steps
        self.guidance = guidance
        self.strength_decay = strength_decay
        self.dtype = dtype
        asked = control.parse(controls or {})
        self.rules = conditions.Rules(asked, Protection.parse(protect), feather, tile, overlap)
        self.wants = tuple(sorted({*PASSES, *control.wanted_passes(asked)}))
        self._loaded: Img2ImgModel | None = None
        self._nets: list[Any] = []

    def identity(self) -> Mapping[str, Any]:
        """SHA-256 of all weights, and texts as they were read. Checks the whole folder; the first call hashes it."""
        nets = {f"control.{i}": controlnets.digest(c.model) for i, c in enumerate(self.rules.controls)}
        return {"weights": weights_digest(self.model), "texts": self.prompts.identity(), **nets}

    def expect(self, categories: Sequence[Category], passes: Sequence[str]) -> None:
        """Holds prompts, protection and guidance against the dataset, and all of them against the family."""
        self.prompts.check([category.name for category in categories])
        self.rules.protection.check(categories)
        control.plan(self.rules.controls, passes=passes, categories=categories)
        family = inspect(self.model).family
        if not self.rules.plain and not family.guided:
            raise ConfigError(
                f"controls, protect and tile are not there for {family.name}; Stable Diffusion 1, 2 and XL have them"
            )

    def load(self, device: str) -> None:
        """Opens the pipeline on `device`. Raises as `open_img2img`, and `ConfigError` for a field it cannot use."""
        loaded = open_img2img(self.model, device=device, dtype=self.dtype)
        loaded.check(negative=self.prompts.negates, steps=self.steps, strength=self.strength)
        self._nets = [
            controlnets.open_controlnet(c.model, device=device, dtype=self.dtype, width=loaded.text_width)
            for c in self.rules.controls
        ]
        self._loaded = loaded

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        """The seed of all noise, the strength of this attempt, and the exact words."""
        # One step is the least; the epsilon keeps int(steps * (1 / steps)) from rounding down to none.
        least = min(1.0, (1 + 1e-9) / self.steps)
        strength = self.strength if attempt == 0 else max(self.strength * self.strength_decay**attempt, least)
        noise = seeds.fork(rng)
        said = self.prompts.draw(seeds.from_seed(seeds.fork(rng)), labels)
        return {"seed": noise, "strength": strength, **asdict(said)}

    def paint(self, images: Any, labels: Sequence[Labels], draws: Sequence[Draw]) -> Painted:
        """Runs the model; a pass for each distinct strength among the draws."""
        if self._loaded is None:
            raise SynthaugError("Img2Img.paint before load(device)")
        requests = [Request(d["prompt"], d["negative"], d["strength"], d["seed"]) for d in draws]
        if self.rules.plain:
            output = self._loaded(images, requests, steps=self.steps, guidance=self.guidance)
            return Painted(output.images, output.reasons)
        grid = conditions.Grid(self._loaded.factor, self._loaded.multiple)
        told = conditions.make(images, labels, self.rules, self._nets, grid)
        output = self._loaded(images, requests, steps=self.steps, guidance=self.guidance, extras=told.extras)
        done, facts = conditions.finish(output.images, images, told)
        return Painted(done, output.reasons, facts)


def _check_steps(strength: float, steps: int) -> None:
    if not 0 < strength <= 1:
        raise ConfigError(f"strength={strength}: expected a share of the denoising in (0, 1]")
    if steps < 1:
        raise ConfigError(f"steps={steps}: expected 1 or more")
    if int(steps * strength) == 0:
        raise ConfigError(
            f"steps={steps} with strength={strength} runs no step at all; raise one of them"
            " so that steps * strength >= 1"
        )


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name}={value}: expected {low:g} to {high:g}")
