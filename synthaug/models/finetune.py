"""A text-to-image base with low-rank adapters (LoRA) in its denoiser, laid out for training.

LoRA: Hu et al., ICLR 2022. The objective is the base's own (noise, velocity or picture, whatever its scheduler's
`prediction_type` says); weights by signal-to-noise ratio after Hang et al., ICCV 2023. The base is frozen, and so are
its text encoders: words keep their meaning, what changes is what is painted for them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthaug.models.pipelines import Img2ImgModel, Request, open_img2img
from synthaug.models.trainable import Rank, check_base, check_denoiser

if TYPE_CHECKING:
    import torch
    from torch import Tensor

WEIGHTS = "pytorch_lora_weights.safetensors"
"""What diffusers looks for in a folder."""
METADATA = "synthaug"
"""Key of our own facts in the file's metadata, JSON: which base the weights belong to."""
_ADAPTER = "default"
_NAME = f".{_ADAPTER}.weight"
_STEPS = 20
_GUIDANCE = 4.0


@dataclass(frozen=True, slots=True)
class Lesson:
    """One batch to learn from.

    Attributes:
        photos: [B, 3, H, W] in [0, 1].
        prompts: One per photo.
        sizes: [B, 6]: height and width of the whole photo, top and left of the crop in it (in the crop's pixels),
            height and width of the crop; XL is told.
        posterior: [B, C, h, w] standard normal, for the autoencoder's draw.
        noise: Likewise, what the denoiser must tell from the photo.
        times: [B] share of the noise schedule, in [0, 1).
    """

    photos: Tensor
    prompts: Sequence[str]
    sizes: Tensor
    posterior: Tensor
    noise: Tensor
    times: Tensor


class Adapted:
    """A base whose adapters can be trained, tried and written.

    Args:
        model: The loaded base.
        rank: Of the adapters. They start as nothing: their second matrix is zero. The first is drawn from torch's
            own generator, which the caller seeds.

    Attributes:
        parameters: The adapters' matrices by name, float32; everything else is frozen.

    Raises:
        ConfigError: Targets that the denoiser lacks, or a denoiser with inputs that nothing here could give.
    """

    def __init__(self, model: Img2ImgModel, rank: Rank) -> None:
        from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
        from peft import LoraConfig

        self.model, self._pipe, self._rank = model, model._pipe, rank
        self.unet: Any = self._pipe.unet
        self._xl = hasattr(self._pipe, "text_encoder_2")
        check_denoiser(model, rank)
        self._schedule: Any = DDPMScheduler.from_config(self._pipe.scheduler.config)
        # The autoencoder of XL overflows in half precision and loses shades in bfloat16; it is small.
        self._pipe.vae.to(_float32())
        alpha: Any = rank.alpha  # a whole number to peft's types alone
        config = LoraConfig(
            r=rank.rank, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=list(rank.targets)
        )
        self.unet.add_adapter(config, adapter_name=_ADAPTER)
        self.parameters: dict[str, torch.nn.Parameter] = {
            name: value for name, value in self.unet.named_parameters() if value.requires_grad
        }
        for value in self.parameters.values():
            value.data = value.data.float()

    @property
    def multiple(self) -> int:
        """Sides of crops must divide by this many pixels: places of the latent at the denoiser's coarsest level."""
        return self.model.factor * 2 ** (len(self.unet.config.block_out_channels) - 1)

    @property
    def channels(self) -> int:
        """Of the latents."""
        return int(self._pipe.vae.config.latent_channels)

    def loss(self, unet: Any, lesson: Lesson, min_snr: float = 0.0) -> Tensor:
        """The mean squared error of the base's prediction, over a batch.

        Args:
            unet: The denoiser, as it is called: perhaps wrapped for several devices.
            lesson: On the device.
            min_snr: Weight steps by `min(snr, min_snr)` instead of by what the prediction itself weighs; 0 does not.
        """
        import torch

        # Not by autocast: what is learnt from must not depend on who encoded a prompt first, samples or steps.
        with torch.no_grad(), torch.autocast(lesson.photos.device.type, enabled=False):
            latents = self._latents(lesson)
            tokens, more = self._words(lesson)
            steps = self._schedule.config["num_train_timesteps"]
            times = (lesson.times * steps).long().clamp(0, steps - 1)
            noised = self._schedule.add_noise(latents, lesson.noise, times)
        kind = self._schedule.config["prediction_type"]
        target = latents
        if kind == "epsilon":
            target = lesson.noise
        elif kind == "v_prediction":
            target = self._schedule.get_velocity(latents, lesson.noise, times)
        predicted = unet(
            noised.to(self.unet.dtype), times, encoder_hidden_states=tokens, added_cond_kwargs=more, return_dict=False
        )[0]
        each = (predicted.float() - target).square().flatten(1).mean(1)
        return (each * self._weights(times, kind, min_snr)).mean()

    def _weights(self, times: Tensor, kind: str, limit: float) -> Tensor:
        """[B] of Min-SNR, by the form that each kind of prediction takes."""
        import torch

        if not limit:
            return torch.ones_like(times, dtype=torch.float32)
        kept = self._schedule.alphas_cumprod.to(times.device)[times]
        snr = kept / (1 - kept)
        clamped = snr.clamp(max=limit)
        # At zero signal the ratio of both is 1.
        return {"epsilon": (limit / snr).clamp(max=1), "v_prediction": clamped / (snr + 1), "sample": clamped}[kind]

    def _latents(self, lesson: Lesson) -> Tensor:
        coded = self._pipe.vae.encode(lesson.photos * 2 - 1)
        if hasattr(coded, "latent_dist"):
            latents = coded.latent_dist.mean + coded.latent_dist.std * lesson.posterior
        else:
            latents = coded.latents
        assert self.model.loop is not None
        return self.model.loop._normalised(latents, inverse=False)

    def _words(self, lesson: Lesson) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Embeddings of the prompts, each unique one encoded once, and what XL is told beside them."""
        import torch

        assert self.model.loop is not None
        # Joined anew: those in the cache may have been made where no gradient can pass.
        words = self.model.loop.words(lesson.prompts)
        tokens = torch.cat([each.tokens for each in words])
        if not self._xl:
            return tokens, None
        pooled = torch.cat([each.pooled for each in words if each.pooled is not None])
        return tokens, {"text_embeds": pooled, "time_ids": lesson.sizes.to(pooled)}

    @contextlib.contextmanager
    def wearing(self, values: Mapping[str, Tensor]) -> Generator[None]:
        """Within it the adapters are `values`, the mean of a training, say; then what they were before."""
        import torch

        before = {name: value.detach().clone() for name, value in self.parameters.items()}
        self.set(values)
        self.unet.eval()
        try:
            yield
        finally:
            with torch.no_grad():
                self.set(before)
            self.unet.train()

    def set(self, values: Mapping[str, Tensor]) -> None:
        """Gives the adapters other values, by name."""
        import torch

        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(values[name])

    def redraw(self, pictures: Tensor, prompts: Sequence[str], seeds: Sequence[int], strength: float) -> Tensor:
        """Image-to-image at 20 steps and guidance 4, as the stage `img2img` would do it.

        Args:
            pictures: [B, 3, H, W] in [0, 1].
            prompts: One per picture.
            seeds: One per picture, 63 bits.
            strength: In (0, 1].
        """
        asked = [Request(prompt, "", strength, seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        return self.model(pictures, asked, steps=_STEPS, guidance=_GUIDANCE).images

    @contextlib.contextmanager
    def without(self) -> Generator[None]:
        """Within it the base is as it came."""
        self.unet.disable_adapters()
        try:
            yield
        finally:
            self.unet.enable_adapters()

    def weights(self, values: Mapping[str, Tensor], told: Mapping[str, Any]) -> bytes:
        """A file that `load_lora_weights` of diffusers takes.

        `alpha / rank` is multiplied in, so that every reader, whether it looks for an alpha or not, adds the same.

        Args:
            values: Of the adapters, by name.
            told: More facts for the metadata, JSON.
        """
        from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
        from safetensors.torch import save

        scale = self._rank.alpha / self._rank.rank
        layers: dict[str, Tensor] = {}
        for name, value in values.items():
            scaled = value * scale if ".lora_B." in name else value
            layers[f"{name.removesuffix(_NAME)}.weight"] = scaled.detach().to("cpu").contiguous().clone()
        named: Any = convert_state_dict_to_diffusers(layers)
        tensors = {f"unet.{name}": value for name, value in named.items()}
        snapshot = self.model.snapshot
        facts = {
            "base": snapshot.digest,
            "family": snapshot.family.name,
            "text_width": self.model.text_width,
            "prediction": self._schedule.config["prediction_type"],
            "rank": self._rank.rank,
            **told,
        }
        # One key: of several, safetensors writes any first, and the same weights would be another file.
        return save(tensors, metadata={METADATA: json.dumps(facts, sort_keys=True)})


def open_adapted(path: str | Path, rank: Rank, *, device: str, dtype: str) -> Adapted:
    """Loads a base and gives its denoiser adapters. Raises as `check_base`, `open_img2img` and `Adapted`."""
    check_base(path)
    return Adapted(open_img2img(path, device=device, dtype=dtype), rank)


def _float32() -> torch.dtype:
    import torch

    return torch.float32
