"""Families through diffusers' own pipelines, batched: so called that a picture depends on its own request alone."""

from __future__ import annotations

import inspect as signatures
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthaug.errors import ConfigError, SynthaugError
from synthaug.models import capabilities, squares
from synthaug.models.families import AMUSED, Family, Runner
from synthaug.models.finite import FiniteWatch
from synthaug.models.hints import Hint
from synthaug.models.wording import Wording

if TYPE_CHECKING:
    from torch import Tensor

    from synthaug.models.noise import SampleNoise


@dataclass(frozen=True, slots=True)
class Task:
    """One call's worth: pictures that share strength, steps and guidance.

    Attributes:
        images: [B, 3, H, W] in [0, 1], padded to what the model needs; from words alone [B, 0, H, W], which says the
            size.
        prompts: One per picture.
        negatives: One per picture; empty for none.
        seeds: One per picture.
        strength: Of all; None for families without, and from words alone.
        steps: At strength 1.
        guidance: Classifier-free guidance.
        hints: Guidance images, for families with a class for them.
    """

    images: Tensor
    prompts: Sequence[str]
    negatives: Sequence[str]
    seeds: Sequence[int]
    strength: float | None
    steps: int
    guidance: float
    hints: Sequence[Hint] = ()

    def pick(self, order: Sequence[int]) -> Task:
        """The same for other pictures, by their places."""
        index = list(order)
        hints = [
            Hint(h.net, h.images[index], h.weights[index], h.start, h.end, h.mode) for h in self.hints
        ]  # fmt: skip
        return Task(
            self.images[index], [self.prompts[i] for i in index], [self.negatives[i] for i in index],
            [self.seeds[i] for i in index], self.strength, self.steps, self.guidance, hints,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Made:
    """Pictures [B, 3, H, W], which were flagged as unsafe, and which are finite."""

    pixels: Tensor
    flagged: list[bool]
    alive: list[bool]


class NativeRun:
    """One pipeline that is not in our loop.

    Args:
        pipe: A loaded pipeline of diffusers; for Kandinsky its decoder.
        family: Its row.
        prior: The loaded prior, for a family with one.

    Attributes:
        words: The prompts; `words.cache.encodes` counts the runs of the text encoder.
        token: Pixels per token along a side, for a transformer that is to see rolled latents (`tiling.rolled`); None
            for all others.
    """

    def __init__(self, pipe: Any, family: Family, prior: Any = None) -> None:
        self._plain = pipe
        self._family = family
        self._prior = prior
        self._watch = FiniteWatch(pipe.image_processor)
        self._nets: tuple[Any, ...] = ()
        self._controlled: tuple[Any, FiniteWatch] | None = None
        self.words = Wording(pipe, family.words)
        self.token: int | None = None
        for part in _clipped(pipe):
            part.register_forward_hook(lambda _net, _told, out: self._watch.see(getattr(out, "sample", out)))

    def __call__(self, task: Task) -> Made:
        """Runs all pictures. Raises `ConfigError` for settings that the pipeline itself refuses, and for words where
        it hears none."""
        import torch

        capabilities.refuse(self._family, ["prompt"] if any(task.prompts) else [])
        if self._family.runner is Runner.SINGLE:
            parts = [self.once(task.pick([i])) for i in range(len(task.prompts))]
            return Made(
                torch.cat([p.pixels for p in parts]),
                [flag for p in parts for flag in p.flagged],
                [alive for p in parts for alive in p.alive],
            )
        kinds = [self._kind(p, n, task.guidance) for p, n in zip(task.prompts, task.negatives, strict=True)]
        done: list[tuple[int, Made, int]] = []
        for kind in sorted(set(kinds)):
            # The batch keeps its length: on a device, arithmetic follows the shape.
            order = [i if kinds[i] == kind else kinds.index(kind) for i in range(len(kinds))]
            made = self.once(task.pick(order))
            done += [(i, made, i) for i in range(len(kinds)) if kinds[i] == kind]
        done.sort(key=lambda row: row[0])
        return Made(
            torch.stack([made.pixels[i] for _, made, i in done]),
            [made.flagged[i] for _, made, i in done],
            [made.alive[i] for _, made, i in done],
        )

    def _kind(self, prompt: str, negative: str, guidance: float) -> tuple[int, int, bool]:
        """What pictures must share to be run in one call."""
        if not self._negates(guidance):
            return self.words.bucket(prompt), 0, False
        own = self._family.negative_guidance or self._prior is not None
        return self.words.bucket(prompt), self.words.bucket(negative), bool(own and negative)

    def _negates(self, guidance: float) -> bool:
        """Whether negative words are heard; where they are, empty ones are words too."""
        return guidance > self._family.guidance_off and "negative_prompt" in self._family.knobs

    def once(self, task: Task) -> Made:
        """One call of the pipeline."""
        import torch

        from synthaug.models.noise import SampleNoise

        pipe, watch = self._with(task)
        noise = SampleNoise(task.seeds)
        watch.reset(len(task.prompts))
        with torch.inference_mode(), noise, self._rolled(pipe, task), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            told = self._told(pipe, task, noise)
            try:
                output = pipe(**told)
            except ValueError as error:
                raise ConfigError(f"{type(pipe).__name__} refuses these settings: {error}") from error
        pixels = self._canvas(output.images, task.images)
        flags = getattr(output, "nsfw_content_detected", None) or [False] * len(task.prompts)
        alive = torch.isfinite(pixels).flatten(1).all(1).tolist()
        return Made(pixels, [bool(flag) for flag in flags], [a and b for a, b in zip(alive, watch.alive, strict=True)])

    def _canvas(self, made: Any, like: Tensor) -> Tensor:
        """What came out, float32, on the canvas that was asked for."""
        import torch

        if not self._family.fixed:
            return made.to(torch.float32)
        pixels = torch.from_numpy(made).permute(0, 3, 1, 2).to(like.device, torch.float32)
        return squares.resized(pixels, *like.shape[-2:])

    def _rolled(self, pipe: Any, task: Task) -> AbstractContextManager[None]:
        from synthaug.models.tiling import rolled

        if self.token is None:
            return nullcontext()
        height, width = task.images.shape[-2:]
        return rolled(pipe.transformer, pipe.scheduler, task.seeds, (height // self.token, width // self.token))

    def _told(self, pipe: Any, task: Task, noise: SampleNoise) -> dict[str, Any]:
        """What the pipeline is called with; what it has no argument for is left out."""
        accepts = signatures.signature(pipe.__call__).parameters
        height, width = task.images.shape[-2:]
        told: dict[str, Any] = {
            "image": self._shown(pipe, task.images),
            "strength": task.strength,
            "num_inference_steps": task.steps,
            "decoder_num_inference_steps": task.steps,
            "height": height,
            "width": width,
            "max_area": height * width,
            "_auto_resize": False,
            "generator": noise.tokens,
            "output_type": "pt",
        }
        if self._family is AMUSED:
            told["generator"] = noise.whole
        told |= self._worded(task, noise)
        told |= _hinted(task.hints)
        return {name: value for name, value in told.items() if name in accepts}

    def _shown(self, pipe: Any, images: Tensor) -> Any:
        if not images.shape[1]:
            return None
        if not self._family.pictures:
            return images.to(pipe.dtype)
        if self._family.fixed:
            images = squares.squeezed(images, pipe.feature_extractor)
        arrays = pipe.image_processor.pt_to_numpy(images.to(device="cpu").clamp(0, 1))
        return pipe.image_processor.numpy_to_pil(arrays)

    def _worded(self, task: Task, noise: SampleNoise) -> dict[str, Any]:
        """Prompts and guidance."""
        family, negates = self._family, self._negates(task.guidance)
        if self._prior is not None:
            return self._embedded(task, noise) | {family.guidance: task.guidance}
        if not family.negative_guidance:
            negatives = task.negatives if negates else None
            return self.words.arguments(task.prompts, negatives) | {family.guidance: task.guidance}
        if not (negates and any(task.negatives)):
            return self.words.arguments(task.prompts, None) | {family.guidance: task.guidance}
        # The guidance that was distilled into the model steps back where it is done in full.
        told = self.words.arguments(task.prompts, task.negatives)
        return told | {family.negative_guidance: task.guidance, family.guidance: 1.0}

    def _embedded(self, task: Task, noise: SampleNoise) -> dict[str, Any]:
        """Image embeddings of the words, by the prior; zero words stand against where none were given."""
        against = task.negatives if self._negates(task.guidance) and any(task.negatives) else None
        found = self._prior(
            prompt=list(task.prompts),
            negative_prompt=None if against is None else list(against),
            generator=noise.tokens if against is None else noise.tokens * 2,
            guidance_scale=task.guidance,
        )
        return {"image_embeds": found.image_embeds, "negative_image_embeds": found.negative_image_embeds}

    def _with(self, task: Task) -> tuple[Any, FiniteWatch]:
        """The pipeline, or the one that takes guidance images, around the same networks."""
        hints = task.hints
        if not hints:
            return self._plain, self._watch
        if not self._family.controlled:
            raise SynthaugError(f"{self._family.name} takes no guidance images")
        if any(task.negatives):
            capabilities.refuse(self._family, ["controls", "negative_prompt"])
        nets = tuple(hint.net for hint in hints)
        if self._controlled is None or self._nets != nets:
            pipe = _controlled(self._plain, self._family, nets)
            self._nets, self._controlled = nets, (pipe, FiniteWatch(pipe.image_processor))
        return self._controlled


def _clipped(pipe: Any) -> list[Any]:
    """Networks whose output the pipeline clips before anyone can look."""
    if hasattr(pipe, "vqvae"):
        return [pipe.vqvae.decoder]
    return [getattr(pipe, name) for name in ("decoder", "super_res_first", "super_res_last") if hasattr(pipe, name)]


def _controlled(plain: Any, family: Family, nets: Sequence[Any]) -> Any:
    import diffusers

    cls = getattr(diffusers, family.controlled)
    wanted = signatures.signature(cls.__init__).parameters
    parts = {name: part for name, part in plain.components.items() if name in wanted}
    several: Any = getattr(diffusers, family.control_nets, None)
    net = nets[0] if len(nets) == 1 else several(list(nets))
    pipe = cls(**parts, controlnet=net)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _hinted(hints: Sequence[Hint]) -> Mapping[str, Any]:
    """Guidance images as the pipeline takes them: one weight for each whole image."""
    if not hints:
        return {}
    scales = [float(hint.weights.flatten()[0]) for hint in hints]
    if any(bool((hint.weights != scale).any()) for hint, scale in zip(hints, scales, strict=True)):
        raise ConfigError(
            "weights of guidance images by class need our own loop: Stable Diffusion 1, 2 and XL have it; give one"
            " weight"
        )
    modes = [hint.mode for hint in hints]
    if len(hints) > 1 and any(mode is not None for mode in modes):
        raise ConfigError("several guidance images with a union ControlNet of FLUX.1: give it one at a time")
    one = len(hints) == 1
    count = len(hints[0].images)
    return {
        "control_image": hints[0].images if one else [hint.images for hint in hints],
        "controlnet_conditioning_scale": scales[0] if one else scales,
        "control_guidance_start": hints[0].start if one else [hint.start for hint in hints],
        "control_guidance_end": hints[0].end if one else [hint.end for hint in hints],
        "control_mode": (None if modes[0] is None else [modes[0]] * count) if one else modes,
    }
