"""What others do, in plain form: the loop that people write, diffusers in its best batch, and frames as a stream."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from synthaug.models.noise import SampleNoise

_WHOLE = {"controlnet_conditioning_scale": 1.0}  # their default is 0.8


@dataclass(frozen=True, slots=True)
class Asked:
    """One setting for every contender.

    Attributes:
        steps: At strength 1; `steps * strength` run.
        control: A ControlNet, or None.
    """

    prompt: str
    steps: int
    strength: float
    guidance: float = 1.0
    control: Any = None


def one_by_one(pipe: Any, files: Sequence[Path], asked: Asked, out: Path | None) -> float:
    """Seconds per picture of the naive loop: file in, prompt encoded every time, PNG out where `out` says so."""
    begun = time.perf_counter()
    for number, file in enumerate(files):
        picture = Image.open(file).convert("RGB")
        more = {"control_image": picture, **_WHOLE} if asked.control is not None else {}
        generator = torch.Generator("cpu").manual_seed(number)
        with torch.inference_mode():
            made = pipe(
                prompt=asked.prompt, image=picture, strength=asked.strength, num_inference_steps=asked.steps,
                guidance_scale=asked.guidance, generator=generator, **more,
            ).images[0]  # fmt: skip
        if out is not None:
            made.save(out / f"{number}.png")
    return (time.perf_counter() - begun) / len(files)


def in_a_batch(pipe: Any, images: torch.Tensor, asked: Asked, seeds: Sequence[int]) -> torch.Tensor:
    """Diffusers' own pipeline in its best documented form, with our noise: [B, 3, H, W] in [0, 1]."""
    noise = SampleNoise(seeds)
    more = {"control_image": images.to(pipe.unet.dtype), **_WHOLE} if asked.control is not None else {}
    with torch.inference_mode(), noise:
        return pipe(
            prompt=[asked.prompt] * len(images), image=images.to(pipe.unet.dtype), strength=asked.strength,
            num_inference_steps=asked.steps, guidance_scale=asked.guidance, generator=noise.tokens, output_type="pt",
            **more,
        ).images.float()  # fmt: skip


def controlled(pipe: Any, control: Any) -> Any:
    """The pipeline with a ControlNet, as diffusers has it, over the same networks."""
    from diffusers.pipelines.controlnet.pipeline_controlnet_img2img import StableDiffusionControlNetImg2ImgPipeline
    from diffusers.pipelines.controlnet.pipeline_controlnet_sd_xl_img2img import (
        StableDiffusionXLControlNetImg2ImgPipeline,
    )

    xl = hasattr(pipe, "text_encoder_2")
    cls: Any = StableDiffusionXLControlNetImg2ImgPipeline if xl else StableDiffusionControlNetImg2ImgPipeline
    parts = dict(pipe.components)
    more = {"add_watermarker": False} if xl else {"requires_safety_checker": False}
    found = cls(**parts, controlnet=control, **more)
    found.set_progress_bar_config(disable=True)
    return found


class Stream:
    """The published recipe of StreamDiffusion (Kodaira et al., 2023) in plain torch, made again for comparison.

    One frame in, one frame out; the steps of consecutive frames are one batch of the UNet; tiny autoencoder, prompt
    encoded once, no guidance. Its similarity filter, which skips frames, is left out.

    Args:
        unet: Whose `forward` may be a CUDA graph.
        tiny: The tiny autoencoder.
        words: [1, T, C] encoded prompt.
        scheduler: Whose noise levels are used.
        timesteps: Of the steps, falling.
    """

    def __init__(self, unet: Any, tiny: Any, words: torch.Tensor, scheduler: Any, timesteps: Sequence[int]) -> None:
        self._unet, self._tiny = unet, tiny
        count, device, dtype = len(timesteps), words.device, words.dtype
        self._words = words.repeat(count, 1, 1)
        self._times = torch.tensor(timesteps, device=device)
        alphas = scheduler.alphas_cumprod[torch.tensor(timesteps)].to(device).view(-1, 1, 1, 1)
        self._signal, self._grain = alphas.sqrt().to(dtype), (1 - alphas).sqrt().to(dtype)
        self._waiting: torch.Tensor | None = None
        self._noise: torch.Tensor | None = None

    def __call__(self, frame: torch.Tensor) -> torch.Tensor:
        """[1, 3, H, W] in [0, 1] to a picture: that of the frame `len(timesteps) - 1` calls ago."""
        latents = self._tiny.encode(frame.to(self._words.dtype) * 2 - 1).latents
        if self._noise is None or self._waiting is None:
            count = len(self._times)
            self._noise = torch.randn(count, *latents.shape[1:], device=latents.device, dtype=latents.dtype)
            self._waiting = latents.repeat(count - 1, 1, 1, 1)
        fresh = self._signal[:1] * latents + self._grain[:1] * self._noise[:1]
        batch = torch.cat([fresh, self._waiting])
        predicted = self._unet(batch, self._times, encoder_hidden_states=self._words, return_dict=False)[0]
        clean = (batch - self._grain * predicted) / self._signal
        self._waiting = self._signal[1:] * clean[:-1] + self._grain[1:] * self._noise[1:]
        return (self._tiny.decode(clean[-1:], return_dict=False)[0] / 2 + 0.5).clamp(0, 1)
