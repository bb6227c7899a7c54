"""Image-to-image diffusion from a local model folder, as an Appearance.

SDEdit (Meng et al., ICLR 2022): the picture is noised part of the way and denoised again under a prompt. The
more of the way (`strength`), the more is invented, so what comes out has to pass a gate. What the renderer knows
narrows it: guidance images hold the shapes (ControlNet, Zhang et al., ICCV 2023), a strength per pixel holds back
what must not change (differential diffusion, Levin and Fried, 2023), and what must not be touched is pasted back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from synthaug import seeds
from synthaug.contracts import Appearance, Draw, Painted, Place
from synthaug.errors import ConfigError, SynthaugError, nearest
from synthaug.labels import Category, Labels
from synthaug.models import capabilities, controlnets
from synthaug.models.additions import Additions
from synthaug.models.families import Family
from synthaug.models.pipelines import DTYPES, Img2ImgModel, Request, open_img2img
from synthaug.models.schedulers import draws_noise
from synthaug.models.snapshot import inspect, weights_digest
from synthaug.models.speed import Speed, prepare_net
from synthaug.refine import conditions, enlarged
from synthaug.refine.brush import Brush
from synthaug.refine.conditions import Rules
from synthaug.refine.photos import Photos
from synthaug.refine.photos import find as find_photos
from synthaug.refine.prompts import Prompts
from synthaug.refine.small import Small


class Img2Img(Appearance):
    """Repaints a picture with a diffusion model; every pixel depends on its own sample alone.

    Any size goes in and comes out: sides are mirrored out to the model's multiple and cropped back. Pictures
    that the model's safety checker flags are rejected as `safety`, pictures with a value that is not
    finite as `nonfinite`; neither leaves pixels behind. The model runs on the VAE's own precision rules
    (`force_upcast`); where half precision still overflows, use `bfloat16`.

    Args:
        model: Folder of a diffusers pipeline with safetensors weights, or one safetensors file; `docs/models.md` has
            the families, and which of the fields below each of them knows.
        base: What the model lacks: for a file, a diffusers folder of its family; for a decoder of Kandinsky, the
            folder of its prior. Empty otherwise.
        prompt: Words: a text, a list of which one is drawn, a mapping from text to weight, or `@FILE` with one a
            line. `{classes}` names what is in the picture, `{count}` how many; further placeholders come from
            `words` and `attributes`.
        negative_prompt: Words against, likewise; empty for none. Needs a family that takes them.
        words: Lists by placeholder, each as `prompt`.
        attributes: Placeholders that say an attribute of the labels; what to say where there is none.
        phrases: What to say for a class in `{classes}`, by its name, each as `prompt`.
        strength: In (0, 1]; share of the denoising that is done. 0.2 to 0.4 keeps small objects. None for families
            that have no strength, the instruction editors.
        steps: Denoising steps at strength 1, from 1; `int(steps * strength)` of them run.
        guidance: Classifier-free guidance, 0 or more; 1 or less runs the model once per step.
        strength_decay: In (0, 1]; each repair multiplies the strength by it, down to one step, or to the fewest that
            a step cache or the model's family needs.
        controls: Guidance from the renderer's passes by name, `{depth: {model: DIR, weight: 0.8}}`; kinds are
            depth, normals, edges, segmentation, skeleton, tile, blur and grey.
        protect: Strength by class, attribute and small thing, and what is never touched:
            `{classes: {car: 0.5}, never_classes: [sign]}`.
        feather: Pixels, 0 to 256; how softly untouched regions meet the rest.
        tile: Pixels, 0 or a multiple of 64; larger pictures are denoised in tiles of this side that share one
            latent. 0 for one piece.
        overlap: Pixels that tiles share, from 0.
        small: Small objects are cut out, enlarged and painted again, `{below: 48, target: 512}`, in pixels; further
            fields are at_least, most, padding, feather and limit. Empty: they are painted with the rest.
        sequence: Whether starting noise sticks to surfaces, so that the frames of a group are painted alike; or
            `{cell: 2.5}`, in pixels. Needs depth or position, and cameras with poses.
        loras: A stack of LoRAs by name, `{grain: {path: FILE, weight: 0.8}}`, weights -4 to 4.
        scheduler: Name of another scheduler than the model's own (`models.schedulers.KINDS`), or
            `{name: euler, trailing: true, karras: false}`; empty for the model's own.
        image_prompt: An IP-Adapter and a folder of real photos, one of which is drawn for each sample:
            `{adapter: FILE, encoder: DIR, photos: DIR, weight: 0.6}`.
        embeddings: Learnt words by token (textual inversion), `{<grain>: FILE}`; the token stands in a prompt.
        speed: `{channels_last, compile, graphs, vae, fp8, cache}`, see `models.speed.Speed`; each changes bytes.
        dtype: `float32`, `bfloat16` or `float16`.
    """

    place: ClassVar[Place] = "device"
    generative: ClassVar[bool] = True
    operational: ClassVar[frozenset[str]] = frozenset(
        {"model", "base", "controls", "loras", "image_prompt", "embeddings", "speed"}
    )

    def __init__(
        self,
        *,
        model: str,
        base: str = "",
        prompt: Any = "",
        negative_prompt: Any = "",
        words: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
        phrases: Mapping[str, Any] | None = None,
        strength: float | None = 0.3,
        steps: int = 30,
        guidance: float = 5.0,
        strength_decay: float = 0.7,
        controls: Mapping[str, Any] | None = None,
        protect: Mapping[str, Any] | None = None,
        feather: float = 4.0,
        tile: int = 0,
        overlap: int = 64,
        small: Mapping[str, Any] | None = None,
        sequence: bool | Mapping[str, Any] = False,
        loras: Mapping[str, Any] | None = None,
        scheduler: Any = "",
        image_prompt: Mapping[str, Any] | None = None,
        embeddings: Mapping[str, Any] | None = None,
        speed: Mapping[str, Any] | None = None,
        dtype: str = "float32",
    ) -> None:
        _check_steps(strength, steps)
        _check_range("guidance", guidance, 0, 100)
        if not 0 < strength_decay <= 1:
            raise ConfigError(f"strength_decay={strength_decay}: expected a factor in (0, 1]")
        if dtype not in DTYPES:
            raise ConfigError(f"dtype={dtype}: unknown.{nearest(dtype, DTYPES)}")
        self.model = model
        self.base = base
        self.prompts = Prompts.parse(prompt, negative_prompt, words=words, attributes=attributes, phrases=phrases)
        self.strength = strength
        self.steps = steps
        self.guidance = guidance
        self.strength_decay = strength_decay
        self.dtype = dtype
        self.rules = Rules.parse(controls, protect, feather, tile, overlap, sequence)
        self.small = Small.parse(small)
        self.additions = Additions.parse(
            loras=loras, scheduler=scheduler, image_prompt=image_prompt, embeddings=embeddings
        )
        self.speed = Speed.parse(speed)
        self.wants = self.rules.wants
        # Frames of a group share the number that names the noise of a place.
        self.scope = "sample" if self.rules.anchoring is None else "group"
        self._loaded: Img2ImgModel | None = None
        self._family: Family | None = None
        self._nets: list[Any] = []

    @cached_property
    def photos(self) -> Photos | None:
        """The photos of the image prompt, looked at once; None without one."""
        looks = self.additions.looks
        return None if looks is None else find_photos(looks.photos, looks.limit)

    def identity(self) -> Mapping[str, Any]:
        """SHA-256 of all weights, and texts as they were read. Checks whole folders; the first call hashes them."""
        own = {
            "controls": self.rules.identity(),
            "additions": self.additions.identity(),
            "photos": None if self.photos is None else self.photos.identity(),
            "speed": self.speed.identity() if self.speed != Speed() else None,
        }
        told = {name: value for name, value in own.items() if value}
        return {"weights": weights_digest(self.model, self.base), "texts": self.prompts.identity(), **told}

    def expect(self, categories: Sequence[Category], passes: Sequence[str]) -> None:
        """Holds prompts, protection and guidance against the dataset, and every field against the family."""
        snapshot = inspect(self.model, self.base)
        self._family = snapshot.family
        capabilities.refuse(snapshot.family, [*self.rules.knobs, *self.additions.knobs, *self.prompts.knobs])
        capabilities.check_strength(snapshot.family, self.strength, self.steps)
        self.prompts.check([category.name for category in categories])
        self.rules.check(categories, passes)
        self.additions.check(snapshot.family, self.prompts.texts)
        share = 1.0 if self.strength is None else self.strength
        own = snapshot.components.get("scheduler", "")
        noisy = draws_noise(self.additions.scheduler, own)
        if self.rules.anchoring is not None and noisy and int(self.steps * share) > 1:
            raise ConfigError(
                f"sequence with {self.additions.scheduler or own}, which draws noise of its own in every step, so none"
                " would stick to surfaces: choose ddim, euler, unipc or dpmpp_2m as scheduler"
            )
        self.speed.check(components=snapshot.components, steps=self.steps, strength=share, dtype=self.dtype)

    def load(self, device: str) -> None:
        """Opens the pipeline on `device`. Raises as `open_img2img`, and `ConfigError` for a field it cannot use."""
        loaded = open_img2img(self.model, device=device, dtype=self.dtype, base=self.base)
        loaded.check(negative=self.prompts.negates, steps=self.steps, strength=self.strength)
        read = None if self.photos is None else self.photos.read
        loaded.equip(self.additions, self.speed, steps=self.steps, read=read)
        models = [c.model for c in self.rules.controls]
        self._nets = controlnets.shared(models, loaded.open_net, controlnets.digest)
        for net in {id(net): net for net in self._nets}.values():
            prepare_net(net, self.speed, device=device)
        self._loaded, self._family = loaded, loaded.snapshot.family

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        """The seed of all noise, the strength of this attempt, and the exact words, those of windows as well."""
        noise, words = seeds.fork(rng), seeds.fork(rng)
        said = asdict(self.prompts.draw(seeds.from_seed(words), labels))
        draw = {"seed": noise, "strength": self._strength_at(attempt), **said}
        if self.photos is not None:
            draw["photo"] = self.photos.draw(rng)
        if self.small is not None:
            draw["windows"] = enlarged.drawn(labels, self.small, self.prompts, words, noise)
        return draw

    def paint(self, images: Any, labels: Sequence[Labels], draws: Sequence[Draw]) -> Painted:
        """Runs the model; a pass for each distinct strength among the draws, and for each round of windows."""
        if self._loaded is None:
            raise SynthaugError("Img2Img.paint before load(device)")
        brush = Brush(self._loaded, self._nets, self.rules, self.steps, self.guidance)
        requests = [Request(d["prompt"], d["negative"], d["strength"], d["seed"], d.get("photo", "")) for d in draws]
        about = brush.told(images, labels, [d["seed"] for d in draws])
        output = brush(images, requests, about)
        done, reasons = conditions.pasted(output.images, images, about), output.reasons
        if self.small is not None:
            batch = enlarged.Batch(images, labels, draws, requests, about)
            done, reasons = enlarged.refined(done, reasons, batch, brush, self.small)
        return Painted(done, reasons, conditions.told(done, output.images, images, about))

    def _strength_at(self, attempt: int) -> float | None:
        if self.strength is None or attempt == 0:
            return self.strength
        executed = 1 if self.speed.cache is None else self.speed.cache.least
        least = capabilities.least_strength(self._family, self.steps, executed)
        return max(self.strength * self.strength_decay**attempt, min(self.strength, least))


def _check_steps(strength: float | None, steps: int) -> None:
    if strength is not None and not 0 < strength <= 1:
        raise ConfigError(f"strength={strength}: expected a share of the denoising in (0, 1], or null")
    if steps < 1:
        raise ConfigError(f"steps={steps}: expected 1 or more")
    if strength is not None and int(steps * strength) == 0:
        raise ConfigError(
            f"steps={steps} with strength={strength} runs no step at all; raise one of them"
            " so that steps * strength >= 1"
        )


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{name}={value}: expected {low:g} to {high:g}")
