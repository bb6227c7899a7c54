"""The denoising loop of Stable Diffusion 1, 2 and XL: one batch, every prompt encoded once, places held back at will.

The arithmetic is that of diffusers' image-to-image pipelines (a test compares the latents). What they cannot do is
why it is here: noise, prompt and guidance images per picture, ControlNet weights per pixel, tiles, and a say in what
each place of the latent may become before every step. Within a batch nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthaug.models.embeddings import EmbeddingCache
from synthaug.models.hints import Asked, Hint, Shown, Tiles, residuals

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from synthaug.models.image_prompt import Seen
    from synthaug.models.noise import SampleNoise


Held = Callable[[int, "Tensor | None"], "Tensor"]
Hold = Callable[["Tensor", Callable[[int], "Tensor"], int], Held]
"""From original latents, the original at the noise level of a step, and the number of steps, to what decides before
each step (and after the last) which latents go on."""


@dataclass(frozen=True, slots=True)
class Words:
    """One prompt, encoded: [1, T, C], and for XL its pooled form [1, P]."""

    tokens: Tensor
    pooled: Tensor | None

    def silent(self) -> Words:
        """As many tokens that say nothing."""
        return Words(self.tokens * 0, None if self.pooled is None else self.pooled * 0)


@dataclass(frozen=True, slots=True)
class Job:
    """One batch for the loop.

    Attributes:
        images: [B, 3, H, W] in [0, 1], padded to what the model needs.
        prompts: One per picture.
        negatives: One per picture; used where `guidance` is above 1.
        strength: In (0, 1], of all.
        steps: At strength 1.
        guidance: Classifier-free guidance.
        hints: Guidance images; none for plain image-to-image.
        hold: Holds places back; None lets everything move.
        tiles: Of the latent; None for one whole.
        noise: [B, C, h, w] standard normal, to start from; None draws it from each picture's own seed.
        photos: An image prompt per picture; needed where the pipeline has an adapter for them, otherwise none.
    """

    images: Tensor
    prompts: Sequence[str]
    negatives: Sequence[str]
    strength: float
    steps: int
    guidance: float
    hints: Sequence[Hint] = ()
    hold: Hold | None = None
    tiles: Tiles | None = None
    noise: Tensor | None = None
    photos: Sequence[Seen] = ()


class LatentLoop:
    """The loop over one loaded pipeline.

    Args:
        pipe: A diffusers image-to-image pipeline of a family that is `guided`; its networks, scheduler and encoders
            are used.

    Attributes:
        words: The cache of encoded prompts; `words.encodes` counts the runs of the text encoder.
    """

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._xl = hasattr(pipe, "text_encoder_2")
        self.words: EmbeddingCache[Words] = EmbeddingCache(self._encode)

    def __call__(self, job: Job, noise: SampleNoise) -> Tensor:
        """[B, 3, H, W] decoded, in [-1, 1] where finite and not yet clamped. Call it under `noise`."""
        original, start = self._encoded(job, noise)
        latents = self._denoised(job, original, start, noise)
        return self._decoded(latents)

    def _encode(self, prompt: str) -> Words:
        """A prompt on its own, so that its neighbours cannot change it."""
        more = {"prompt_2": None} if self._xl else {}
        found = self._pipe.encode_prompt(
            prompt=prompt,
            device=self._pipe.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
            **more,
        )
        return Words(found[0], found[2] if self._xl else None)

    def _against(self, negatives: Sequence[str], positive: Sequence[Words]) -> list[Words]:
        """Words against; for XL's base, which has learnt it so, none are zeros and not the words of an empty text."""
        if not (self._xl and self._pipe.config.force_zeros_for_empty_prompt):
            return self.words(negatives)
        found = iter(self.words([text for text in negatives if text]))
        return [next(found) if text else one.silent() for text, one in zip(negatives, positive, strict=True)]

    def _encoded(self, job: Job, noise: SampleNoise) -> tuple[Tensor, Tensor]:
        """Latents of the pictures, and their starting noise; drawn per sample: posterior first, as in diffusers.

        Where the noise is given, so that frames agree on it, the posterior's mean stands for its draw.
        """
        from diffusers.utils.torch_utils import randn_tensor

        vae, dtype = self._pipe.vae, self._pipe.unet.dtype
        with _Upcast(vae):
            coded = vae.encode(job.images.to(vae.dtype) * 2 - 1)
        if not hasattr(coded, "latent_dist"):
            latents = coded.latents
        elif job.noise is not None:
            latents = coded.latent_dist.mean
        else:
            mean, std = coded.latent_dist.mean, coded.latent_dist.std
            latents = mean + std * randn_tensor(mean.shape, noise.tokens, mean.device, mean.dtype)
        latents = self._normalised(latents.to(dtype), inverse=False)
        if job.noise is not None:
            return latents, job.noise.to(latents)
        return latents, randn_tensor(latents.shape, noise.tokens, latents.device, dtype)

    def _normalised(self, latents: Tensor, *, inverse: bool) -> Tensor:
        """To what the denoiser was trained on, or back."""
        config = self._pipe.vae.config
        mean, std = (getattr(config, name, None) for name in ("latents_mean", "latents_std"))
        factor = config.scaling_factor
        if mean is None or std is None:
            return latents / factor if inverse else latents * factor
        mean, std = (latents.new_tensor(v).view(1, -1, 1, 1) for v in (mean, std))
        return latents * std / factor + mean if inverse else (latents - mean) * factor / std

    def _denoised(self, job: Job, original: Tensor, start: Tensor, noise: SampleNoise) -> Tensor:
        scheduler = self._pipe.scheduler
        # On the host: there every scheduler looks its constants up by the timestep, and a device would be waited for.
        scheduler.set_timesteps(job.steps, device="cpu")
        first = max(job.steps - min(int(job.steps * job.strength), job.steps), 0) * scheduler.order
        timesteps = scheduler.timesteps[first:]
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first)

        def noised(step: int) -> Tensor:
            return scheduler.add_noise(original, start, timesteps[step : step + 1].repeat(len(original)))

        held = job.hold(original, noised, len(timesteps)) if job.hold is not None else None
        predict = self._predictor(job, original)
        extra = self._pipe.prepare_extra_step_kwargs(noise.tokens, 0.0)
        latents = noised(0) if held is None else held(0, None)
        for step, timestep in enumerate(timesteps):
            prediction = predict(latents, step, timestep, len(timesteps))
            latents = scheduler.step(prediction, timestep, latents, **extra, return_dict=False)[0]
            if held is not None:
                latents = held(step + 1, latents)
        return latents

    def _predictor(self, job: Job, latents: Tensor) -> Callable[[Tensor, int, Tensor, int], Tensor]:
        """What the denoiser says of latents at a step, guided; on whole latents or tile by tile."""
        import torch

        guided = job.guidance > 1 and self._pipe.unet.config.time_cond_proj_dim is None
        positive = self.words(job.prompts)
        negative = self._against(job.negatives, positive) if guided else []
        tokens = torch.cat([w.tokens for w in (*negative, *positive)])
        scale = self._scale_embedding(job, latents)
        seen = _seen(job.photos, tokens, twice=guided)
        hints = [Shown.of(hint, job.tiles, twice=guided) for hint in job.hints]

        def looked(more: dict[str, Tensor] | None) -> dict[str, Any] | None:
            return more if seen is None else {**(more or {}), "image_embeds": [seen]}

        def one(crop: Tensor, tile: int, step: int, timestep: Tensor, steps: int) -> Tensor:
            both = torch.cat([crop, crop]) if guided else crop
            both = self._pipe.scheduler.scale_model_input(both, timestep)
            more = self._sizes((*negative, *positive), crop, job.images) if self._xl else None
            shown = [h for h in hints if h.hint.active(step, steps)]
            added = residuals(shown, Asked(both, timestep, tokens, more, tile))
            prediction = self._pipe.unet(
                both, timestep, encoder_hidden_states=tokens, timestep_cond=scale, added_cond_kwargs=looked(more),
                return_dict=False, **added,
            )[0]  # fmt: skip
            if not guided:
                return prediction
            against, toward = prediction.chunk(2)
            return against + job.guidance * (toward - against)

        def predict(latents: Tensor, step: int, timestep: Tensor, steps: int) -> Tensor:
            if job.tiles is None:
                return one(latents, 0, step, timestep, steps)
            return job.tiles.each(lambda crop, tile: one(crop, tile, step, timestep, steps), latents)

        return predict

    def _scale_embedding(self, job: Job, latents: Tensor) -> Tensor | None:
        """The guidance scale as an input, for denoisers that were distilled with it."""
        import torch

        width = self._pipe.unet.config.time_cond_proj_dim
        if width is None:
            return None
        scales = torch.full((len(latents),), job.guidance - 1)
        return self._pipe.get_guidance_scale_embedding(scales, embedding_dim=width).to(latents)

    def _sizes(self, words: Sequence[Words], crop: Tensor, images: Tensor) -> dict[str, Tensor]:
        """XL is told sizes: of the picture, of its crop, and an aesthetic score where it was trained on one."""
        import torch

        pipe = self._pipe
        pooled = torch.cat([w.pooled for w in words if w.pooled is not None])
        size = tuple(int(side * pipe.vae_scale_factor) for side in crop.shape[-2:])
        width = pipe.text_encoder_2.config.projection_dim
        told, against = pipe._get_add_time_ids(
            size, (0, 0), size, 6.0, 2.5, size, (0, 0), size,
            dtype=pooled.dtype, text_encoder_projection_dim=width,
        )  # fmt: skip
        count = len(images)
        rows = [against.repeat(len(words) - count, 1), told.repeat(count, 1)]
        return {"text_embeds": pooled, "time_ids": torch.cat(rows).to(crop.device)}

    def _decoded(self, latents: Tensor) -> Tensor:
        vae = self._pipe.vae
        with _Upcast(vae):
            return vae.decode(self._normalised(latents, inverse=True).to(vae.dtype), return_dict=False)[0]


def _seen(photos: Sequence[Seen], like: Tensor, *, twice: bool) -> Tensor | None:
    """The embeddings of all photos, those against before those toward, as words are."""
    import torch

    if not photos:
        return None
    against = [photo.against for photo in photos] if twice else []
    return torch.cat([*against, *(photo.toward for photo in photos)]).to(like)


class _Upcast:
    """Runs an autoencoder in float32 that says it overflows in half precision (`force_upcast`), then puts it back."""

    def __init__(self, vae: Any) -> None:
        import torch

        self._vae, self._dtype = vae, vae.dtype
        self._lift = bool(getattr(vae.config, "force_upcast", False)) and vae.dtype == torch.float16

    def __enter__(self) -> None:
        if self._lift:
            self._vae.to(dtype=_float32())

    def __exit__(self, *ignored: object) -> None:
        if self._lift:
            self._vae.to(dtype=self._dtype)


def _float32() -> torch.dtype:
    import torch

    return torch.float32
