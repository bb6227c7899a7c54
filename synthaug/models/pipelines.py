"""Diffusers image-to-image pipelines from local folders, called so that pictures cannot influence each other."""

from __future__ import annotations

import inspect as signatures
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthaug.errors import ConfigError, SynthaugError
from synthaug.models.finite import FiniteWatch
from synthaug.models.hints import Hint, Tiles
from synthaug.models.latent import Hold, Job, LatentLoop
from synthaug.models.snapshot import Snapshot, inspect

if TYPE_CHECKING:
    import torch

_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DIFFUSERS_DISABLE_REMOTE_CODE": "1",
}
_SIDE = 64
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of one picture.

    Attributes:
        prompt: Words for the picture.
        negative: Words against; empty for none.
        strength: In (0, 1]; share of the denoising steps that are run.
        seed: 63 bits, behind all noise of this picture.
    """

    prompt: str
    negative: str
    strength: float
    seed: int


@dataclass(frozen=True, slots=True)
class Output:
    """Pictures [B, 3, H, W] float32 in [0, 1] and a reason per picture: empty, `safety` or `nonfinite`."""

    images: torch.Tensor
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Extras:
    """What the families of our own loop can be told beside words.

    Attributes:
        hints: Guidance images with their ControlNets, padded as the pictures are.
        hold: What holds places back (see `latent.Hold`), or None.
        tiles: Of the padded latent; None for one whole.
    """

    hints: Sequence[Hint] = ()
    hold: Hold | None = None
    tiles: Tiles | None = None


class Img2ImgModel:
    """A loaded pipeline. Call it with a micro-batch; each picture depends on its own request alone.

    As long as the length of the micro-batch stays, bytes do not depend on the neighbours, and with one CPU
    thread not on the place in the batch either (with more threads the place moves values by about 1e-6;
    the plan fixes it).

    Attributes:
        snapshot: What was loaded.
        factor: Pixels of the picture per place of the latent, along one side.
        multiple: Sides are padded to a multiple of this many pixels.
        loop: Ours, for the families that it knows; None where diffusers' own pipeline runs.
    """

    def __init__(self, pipe: Any, snapshot: Snapshot) -> None:
        self._pipe = pipe
        self.snapshot = snapshot
        # UNets are trained on multiples of 64; and on a CPU, where the last few values of a tensor go through
        # scalar code, whole vectors per picture keep its bytes independent of its place in the batch.
        self.factor = int(getattr(pipe, "vae_scale_factor", 8))
        self.multiple = math.lcm(self.factor * snapshot.family.patch, _SIDE)
        self._accepts = frozenset(signatures.signature(pipe.__call__).parameters)
        self._finite = FiniteWatch(pipe.image_processor)
        self.loop = LatentLoop(pipe) if snapshot.family.guided else None

    @property
    def text_width(self) -> int:
        """Channels of the text embeddings that the denoiser takes: 768 for Stable Diffusion 1, 2048 for XL."""
        return int(self._pipe.unet.config.cross_attention_dim)

    def check(self, *, negative: bool, steps: int, strength: float) -> None:
        """Refuses what this family cannot do. Raises `ConfigError`."""
        family = self.snapshot.family
        if negative and "negative_prompt" not in self._accepts:
            raise ConfigError(f"negative_prompt is set, but {family.name} takes none; leave it empty")
        if family.flow and int(max(steps - steps * strength, 0)) == 0:
            raise ConfigError(
                f"strength={strength} with steps={steps}: {family.name} would start from pure noise and ignore the"
                f" picture; use strength <= {1 - 1 / steps:.3g} or more steps"
            )

    def __call__(
        self,
        images: torch.Tensor,
        requests: Sequence[Request],
        *,
        steps: int,
        guidance: float,
        extras: Extras | None = None,
    ) -> Output:
        """Runs the pipeline, once for each distinct strength among the requests, always at full length.

        Args:
            images: [B, 3, H, W] float32 in [0, 1]; any size, padded by reflection and cropped back.
            requests: One per picture.
            steps: Denoising steps at strength 1.
            guidance: Classifier-free guidance; 1 or less switches it off.
            extras: Guidance images, protection, tiles; for the families of `loop`.

        Raises:
            SynthaugError: Extras for a family without our loop; the pipeline changed the size or drew noise outside
                of the requests' seeds.
        """
        import torch

        if extras is not None and self.loop is None:
            raise SynthaugError(f"{self.snapshot.family.name} takes no guidance images, protection or tiles")
        height, width = images.shape[-2:]
        padded = pad_reflect(images, self.multiple)
        result = torch.empty_like(images, dtype=torch.float32)
        reasons = [""] * len(requests)
        for strength in sorted({request.strength for request in requests}):
            if self.loop is None:
                pixels, flagged, finite = self._run(padded, requests, strength, steps, guidance)
            else:
                pixels, flagged, finite = self._own(padded, requests, strength, steps, guidance, extras or Extras())
            if pixels.shape != padded.shape:
                raise SynthaugError(
                    f"{self.snapshot.pipeline} returned {tuple(pixels.shape)} for {tuple(padded.shape)};"
                    " labels would not fit"
                )
            for i, request in enumerate(requests):
                if request.strength == strength:
                    result[i] = pixels[i, :, :height, :width]
                    reasons[i] = "safety" if flagged[i] else "" if finite[i] else "nonfinite"
        for i, reason in enumerate(reasons):
            if reason:
                result[i] = torch.nan
        return Output(result, tuple(reasons))

    def _own(
        self,
        images: torch.Tensor,
        requests: Sequence[Request],
        strength: float,
        steps: int,
        guidance: float,
        extras: Extras,
    ) -> tuple[torch.Tensor, list[bool], list[bool]]:
        """Our loop; then the pipeline's own safety checker, where it has one."""
        import torch

        from synthaug.models.noise import SampleNoise

        assert self.loop is not None
        prompts, negatives = [r.prompt for r in requests], [r.negative for r in requests]
        job = Job(images, prompts, negatives, strength, steps, guidance, extras.hints, extras.hold, extras.tiles)
        noise = SampleNoise([request.seed for request in requests])
        with torch.inference_mode(), noise:
            decoded = self.loop(job, noise)
            alive = torch.isfinite(decoded).flatten(1).all(1)
            checked, flags = decoded, None
            if getattr(self._pipe, "safety_checker", None) is not None:
                checked, flags = self._pipe.run_safety_checker(decoded, decoded.device, self._pipe.unet.dtype)
            pixels = (checked.to(torch.float32) / 2 + 0.5).clamp(0, 1)
        return pixels, [bool(f) for f in flags or [False] * len(requests)], alive.tolist()

    def _run(
        self, images: torch.Tensor, requests: Sequence[Request], strength: float, steps: int, guidance: float
    ) -> tuple[torch.Tensor, list[bool], list[bool]]:
        import torch

        from synthaug.models.noise import SampleNoise

        noise = SampleNoise([request.seed for request in requests])
        height, width = images.shape[-2:]
        arguments: Mapping[str, Any] = {
            "prompt": [request.prompt for request in requests],
            "negative_prompt": [request.negative for request in requests],
            "image": images.to(self._pipe.dtype),
            "strength": strength,
            "num_inference_steps": steps,
            self.snapshot.family.guidance: guidance,
            "height": height,
            "width": width,
            "generator": noise.tokens,
            "output_type": "pt",
        }
        self._finite.reset(len(requests))
        with torch.inference_mode(), noise, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            output = self._pipe(**{name: value for name, value in arguments.items() if name in self._accepts})
        pixels = output.images.to(torch.float32)
        flags = getattr(output, "nsfw_content_detected", None) or [False] * len(requests)
        alive = torch.isfinite(pixels).flatten(1).all(1).tolist()
        return pixels, [bool(flag) for flag in flags], [a and b for a, b in zip(alive, self._finite.alive, strict=True)]


def open_img2img(path: str | Path, *, device: str, dtype: str) -> Img2ImgModel:
    """Loads a pipeline folder that passed `snapshot.inspect`. Offline, from safetensors alone.

    Args:
        path: A diffusers pipeline folder of a text-to-image or image-to-image family in our table.
        device: `cpu`, `cuda:0`, ...
        dtype: `float32`, `bfloat16` or `float16`.

    Raises:
        ConfigError: No such pipeline, or a family without `strength`.
        InputError: Truncated, altered or incomplete files.
        SecurityError: Code, pickles, or classes outside our table.
    """
    snapshot = inspect(path)
    for name, value in _OFFLINE.items():
        os.environ[name] = value
    import torch

    _quiet()  # before the pipelines: their import already complains of processors that it does not need
    from diffusers.pipelines.auto_pipeline import AutoPipelineForImage2Image

    wanted = getattr(torch, dtype)
    try:
        pipe: Any = AutoPipelineForImage2Image.from_pretrained(
            str(snapshot.path), dtype=wanted, use_safetensors=True, local_files_only=True, variant=_variant(snapshot)
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ConfigError(f"model={snapshot.path}: {snapshot.pipeline} does not load: {error}") from error
    if type(pipe).__name__ != snapshot.family.img2img:
        raise ConfigError(
            f"model={snapshot.path}: diffusers made a {type(pipe).__name__}, expected {snapshot.family.img2img}"
        )
    pipe.to(device) if pipe.dtype == wanted else pipe.to(device, wanted)
    pipe.set_progress_bar_config(disable=True)
    for name in snapshot.components:
        module = getattr(pipe, name, None)
        if isinstance(module, torch.nn.Module):
            module.eval().requires_grad_(False)
    return Img2ImgModel(pipe, snapshot)


def _quiet() -> None:
    """Silences the loaders: their bars and hints would run through our own progress bar."""
    import diffusers.utils.logging as diffusers_log
    import transformers.utils.logging as transformers_log

    for log in (diffusers_log, transformers_log):
        log.disable_progress_bar()
        log.set_verbosity_error()


def _variant(snapshot: Snapshot) -> str | None:
    """`fp16` where the folder holds half-precision weights alone, as most downloads of SDXL do."""
    weights = [file.name for file in snapshot.path.glob("*/*.safetensors")]
    return "fp16" if weights and all(".fp16" in name for name in weights) else None


def pad_reflect(images: torch.Tensor, multiple: int) -> torch.Tensor:
    """[B, 3, H, W] with its right and bottom mirrored out to the next multiple; works from 1x1 up."""
    import torch

    for axis in (-2, -1):
        side = images.shape[axis]
        target = -(-side // multiple) * multiple
        if target != side:
            ramp = torch.arange(target, device=images.device)
            period = max(2 * side - 2, 1)
            folded = ramp % period
            images = images.index_select(axis, torch.where(folded < side, folded, period - folded))
    return images
