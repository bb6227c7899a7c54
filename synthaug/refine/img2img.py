"""Image-to-image diffusion from a local model folder, as an Appearance.

SDEdit (Meng et al., ICLR 2022): the picture is noised part of the way and denoised again under a prompt. The
more of the way (`strength`), the more is invented, so what comes out has to pass a gate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from synthaug import seeds
from synthaug.contracts import Appearance, Draw, Painted, Place
from synthaug.errors import ConfigError, SynthaugError, nearest
from synthaug.labels import Labels
from synthaug.models.pipelines import DTYPES, Img2ImgModel, Request, open_img2img
from synthaug.models.snapshot import weights_digest


class Img2Img(Appearance):
    """Repaints a picture with a diffusion model; every pixel depends on its own sample alone.

    Any size goes in and comes out: sides are mirrored out to the model's multiple and cropped back. Pictures
    that the model's safety checker flags are rejected as `safety`, pictures with a value that is not
    finite as `nonfinite`; neither leaves pixels behind. The model runs on the VAE's own precision rules
    (`force_upcast`); where half precision still overflows, use `bfloat16`.

    Args:
        model: Folder of a diffusers pipeline with safetensors weights (Stable Diffusion 1/2/XL/3, LCM,
            FLUX.1, Qwen-Image, Z-Image).
        prompt: Words for every picture.
        negative_prompt: Words against; empty for none. Needs a family that takes them.
        strength: In (0, 1]; share of the denoising that is done. 0.2 to 0.4 keeps small objects.
        steps: Denoising steps at strength 1, from 1; `int(steps * strength)` of them run.
        guidance: Classifier-free guidance, 0 or more; 1 or less runs the model once per step.
        strength_decay: In (0, 1]; each repair multiplies the strength by it, down to one step.
        dtype: `float32`, `bfloat16` or `float16`.
    """

    place: ClassVar[Place] = "device"
    generative: ClassVar[bool] = True
    operational: ClassVar[frozenset[str]] = frozenset({"model"})

    def __init__(
        self,
        *,
        model: str,
        prompt: str = "",
        negative_prompt: str = "",
        strength: float = 0.3,
        steps: int = 30,
        guidance: float = 5.0,
        strength_decay: float = 0.7,
        dtype: str = "float32",
    ) -> None:
        if not 0 < strength <= 1:
            raise ConfigError(f"strength={strength}: expected a share of the denoising in (0, 1]")
        if steps < 1:
            raise ConfigError(f"steps={steps}: expected 1 or more")
        if int(steps * strength) == 0:
            raise ConfigError(
                f"steps={steps} with strength={strength} runs no step at all; raise one of them"
                " so that steps * strength >= 1"
            )
        if not 0 <= guidance <= 100:
            raise ConfigError(f"guidance={guidance}: expected 0 to 100")
        if not 0 < strength_decay <= 1:
            raise ConfigError(f"strength_decay={strength_decay}: expected a factor in (0, 1]")
        if dtype not in DTYPES:
            raise ConfigError(f"dtype={dtype}: unknown.{nearest(dtype, DTYPES)}")
        self.model = model
        self.prompt = prompt
        self.negative_prompt = negative_prompt
        self.strength = strength
        self.steps = steps
        self.guidance = guidance
        self.strength_decay = strength_decay
        self.dtype = dtype
        self._loaded: Img2ImgModel | None = None

    def identity(self) -> Mapping[str, Any]:
        """SHA-256 of the weights. Checks the whole folder; the first call hashes every file."""
        return {"weights": weights_digest(self.model)}

    def load(self, device: str) -> None:
        """Opens the pipeline on `device`. Raises as `open_img2img`, and `ConfigError` for a field it cannot use."""
        loaded = open_img2img(self.model, device=device, dtype=self.dtype)
        loaded.check(negative=bool(self.negative_prompt), steps=self.steps, strength=self.strength)
        self._loaded = loaded

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        """The seed of all noise, and the strength of this attempt."""
        # One step is the least; the epsilon keeps int(steps * (1 / steps)) from rounding down to none.
        least = min(1.0, (1 + 1e-9) / self.steps)
        strength = self.strength if attempt == 0 else max(self.strength * self.strength_decay**attempt, least)
        return {"seed": seeds.fork(rng), "strength": strength}

    def paint(self, images: Any, labels: Sequence[Labels], draws: Sequence[Draw]) -> Painted:
        """Runs the model; a pass for each distinct strength among the draws."""
        if self._loaded is None:
            raise SynthaugError("Img2Img.paint before load(device)")
        requests = [Request(self.prompt, self.negative_prompt, d["strength"], d["seed"]) for d in draws]
        output = self._loaded(images, requests, steps=self.steps, guidance=self.guidance)
        return Painted(output.images, output.reasons)
