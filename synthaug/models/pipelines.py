"""Diffusers image-to-image pipelines from local folders, called so that pictures cannot influence each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthaug.errors import ConfigError, SynthaugError
from synthaug.models import capabilities, controlnets, opening
from synthaug.models.additions import Additions, apply
from synthaug.models.hints import Hint, Tiles
from synthaug.models.image_prompt import Read, Viewer
from synthaug.models.latent import Hold, Job, LatentLoop
from synthaug.models.native import Made, NativeRun, Task
from synthaug.models.snapshot import Snapshot, inspect
from synthaug.models.speed import Speed, prepare

if TYPE_CHECKING:
    import torch

_SIDE = 64
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of one picture.

    Attributes:
        prompt: Words for the picture.
        negative: Words against; empty for none.
        strength: In (0, 1]; share of the denoising steps that are run. None for families that have none.
        seed: 63 bits, behind all noise of this picture.
        photo: Name of the photo that is its image prompt; empty where the model has none.
    """

    prompt: str
    negative: str
    strength: float | None
    seed: int
    photo: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """Pictures [B, 3, H, W] float32 in [0, 1] and a reason per picture: empty, `safety` or `nonfinite`."""

    images: torch.Tensor
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Extras:
    """What can be told beside words; all of it to the families of our own loop, `hints` to all with ControlNets.

    Attributes:
        hints: Guidance images with their ControlNets (see `Img2ImgModel.open_net`), padded as the pictures are.
        hold: What holds places back (see `latent.Hold`), or None.
        tiles: Of the padded latent; None for one whole.
        noise: [B, C, h, w] standard normal on the padded latent's grid, to start from; None draws it from the
            requests' seeds.
    """

    hints: Sequence[Hint] = ()
    hold: Hold | None = None
    tiles: Tiles | None = None
    noise: torch.Tensor | None = None


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
        native: Diffusers' own pipeline, so called that pictures cannot influence each other.
    """

    def __init__(self, pipe: Any, snapshot: Snapshot, prior: Any = None) -> None:
        self._pipe = pipe
        self.snapshot = snapshot
        # UNets are trained on multiples of 64; and on a CPU, where the last few values of a tensor go through
        # scalar code, whole vectors per picture keep its bytes independent of its place in the batch.
        own = hasattr(pipe, "vae_scale_factor")
        self.factor = int(pipe.vae_scale_factor if own else pipe.image_processor.config.vae_scale_factor)
        self.multiple = 1 if snapshot.family.fixed else math.lcm(self.factor * snapshot.family.patch, _SIDE)
        self.native = NativeRun(pipe, snapshot.family, prior)
        self.loop = LatentLoop(pipe) if snapshot.family.guided else None
        self._viewer: Viewer | None = None

    def equip(self, additions: Additions, speed: Speed, *, steps: int, read: Read | None = None) -> Mapping[str, Any]:
        """Adds what was asked for beside the model's own weights; once, before the first batch.

        Args:
            additions: LoRAs, learnt words, a scheduler, an image prompt; `check` has passed.
            speed: Ways to run faster; `check` has passed.
            steps: Denoising steps at strength 1.
            read: From a photo's name to its pixels [H, W, 3] uint8; needed for an image prompt.

        Returns:
            Facts of `speed.prepare`.

        Raises:
            ConfigError: Something made for another base, or that this device cannot run.
            InputError, SecurityError: Files that are broken, or no plain data.
        """
        self._viewer = apply(self._pipe, additions, steps=steps, read=read)
        return prepare(self._pipe, speed, device=str(self._pipe.device))

    @property
    def text_width(self) -> int:
        """Channels of the text embeddings that the denoiser takes: 768 for Stable Diffusion 1, 2048 for XL."""
        return int(self._pipe.unet.config.cross_attention_dim)

    @property
    def channels(self) -> int:
        """Channels of the latents; for the families of `loop`."""
        return int(self._pipe.vae.config.latent_channels)

    def open_net(self, path: str | Path) -> Any:
        """Loads a ControlNet of this family, onto the model's device.

        Raises:
            ConfigError: The family takes none, or the ControlNet is of another one.
            InputError, SecurityError: As `open_img2img`.
        """
        family = self.snapshot.family
        capabilities.refuse(family, ["controls"])
        if family.control_net:
            return opening.open_control_net(path, family.control_net, self._pipe)
        dtype = str(self._pipe.unet.dtype).removeprefix("torch.")
        return controlnets.open_controlnet(path, device=str(self._pipe.device), dtype=dtype, width=self.text_width)

    def check(self, *, negative: bool, steps: int, strength: float | None) -> None:
        """Refuses what this family cannot do; needs nothing loaded, see `capabilities`. Raises `ConfigError`."""
        capabilities.refuse(self.snapshot.family, ["negative_prompt"] if negative else [])
        capabilities.check_strength(self.snapshot.family, strength, steps)

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
            ConfigError: A strength that the family does not have, or lacks; settings that its pipeline refuses.
            SynthaugError: Extras for a family without our loop; the pipeline changed the size or drew noise outside
                of the requests' seeds.
        """
        import torch

        self._check_extras(extras)
        height, width = images.shape[-2:]
        padded = pad_reflect(images, self.multiple)
        result = torch.empty_like(images, dtype=torch.float32)
        reasons = [""] * len(requests)
        for strength in sorted({request.strength for request in requests}, key=lambda s: s or 0.0):
            capabilities.check_strength(self.snapshot.family, strength, steps)
            hints = extras.hints if extras is not None else ()
            if self.loop is None:
                pixels, flagged, finite = self._run(padded, requests, strength, steps, guidance, hints)
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

    def _check_extras(self, extras: Extras | None) -> None:
        if extras is None or self.loop is not None:
            return
        family = self.snapshot.family
        asked = [name for name in ("hold", "tiles", "noise") if getattr(extras, name) is not None]
        if asked or (extras.hints and "controls" not in family.knobs):
            raise SynthaugError(f"{family.name} takes no {', '.join(asked) or 'guidance images'}")

    def _own(
        self,
        images: torch.Tensor,
        requests: Sequence[Request],
        strength: float | None,
        steps: int,
        guidance: float,
        extras: Extras,
    ) -> tuple[torch.Tensor, list[bool], list[bool]]:
        """Our loop; then the pipeline's own safety checker, where it has one."""
        import torch

        from synthaug.models.noise import SampleNoise

        assert self.loop is not None
        assert strength is not None
        prompts, negatives = [r.prompt for r in requests], [r.negative for r in requests]
        told = (extras.hints, extras.hold, extras.tiles, extras.noise)
        photos = () if self._viewer is None else self._viewer([request.photo for request in requests])
        job = Job(images, prompts, negatives, strength, steps, guidance, *told, photos=photos)
        noise = SampleNoise([request.seed for request in requests])
        with torch.inference_mode(), noise:
            decoded = self.loop(job, noise)
            if extras.noise is not None and any(noise.counts):
                raise ConfigError(
                    f"{type(self._pipe.scheduler).__name__} draws noise of its own in every step, which would not stick"
                    " to surfaces; for sequence choose DDIM, Euler, UniPC or DPM-Solver++"
                )
            alive = torch.isfinite(decoded).flatten(1).all(1)
            checked, flags = decoded, None
            if getattr(self._pipe, "safety_checker", None) is not None:
                checked, flags = self._pipe.run_safety_checker(decoded, decoded.device, self._pipe.unet.dtype)
            pixels = (checked.to(torch.float32) / 2 + 0.5).clamp(0, 1)
        return pixels, [bool(f) for f in flags or [False] * len(requests)], alive.tolist()

    def _run(
        self,
        images: torch.Tensor,
        requests: Sequence[Request],
        strength: float | None,
        steps: int,
        guidance: float,
        hints: Sequence[Hint] = (),
    ) -> tuple[torch.Tensor, list[bool], list[bool]]:
        prompts, negatives = [r.prompt for r in requests], [r.negative for r in requests]
        seeds = [r.seed for r in requests]
        made: Made = self.native(Task(images, prompts, negatives, seeds, strength, steps, guidance, hints))
        return made.pixels, made.flagged, made.alive


def open_img2img(path: str | Path, *, device: str, dtype: str, base: str | Path = "") -> Img2ImgModel:
    """Loads a model that passed `snapshot.inspect`. Offline, from safetensors alone.

    Args:
        path: A diffusers pipeline folder of a family in our table, or one safetensors file.
        device: `cpu`, `cuda:0`, ...
        dtype: `float32`, `bfloat16` or `float16`.
        base: What the model lacks: for a file, a diffusers folder of its family; for a decoder of Kandinsky, the
            folder of the prior.

    Raises:
        ConfigError: No such model, one that cannot serve here, or that needs a library which is not installed.
        InputError: Truncated, altered or incomplete files.
        SecurityError: Code, pickles, or classes outside our table.
    """
    snapshot = inspect(path, base)
    opened = opening.open_pipe(snapshot, device=device, dtype=dtype)
    return Img2ImgModel(opened.pipe, snapshot, opened.prior)


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
