"""Families at sizes that say nothing of quality, and a step of training for each."""

from __future__ import annotations

from typing import Any

import torch

from synthaug.models.texture.family import TextureModel
from synthaug.models.texture.table import family_of

TINY: dict[str, dict[str, Any]] = {
    "vae": {"width": 8, "latents": 2, "style": 4},
    "aae": {"width": 8, "code": 4},
    "ddpm": {"widths": [8, 16], "calls": 3},
    "latent_diffusion": {"latents": 2, "width": 8, "denoiser": [8, 16], "calls": 3},
    "pixelcnn": {"channels": 4, "layers": 2, "levels": 8, "reach": 2},
    "stylegan": {"widths": [8, 8], "style": 8},
    "vq_transformer": {"width": 8, "codes": 12, "depth": 3, "hidden": 16, "layers": 1, "heads": 2},
}
SIDE = 16


def build(family: str, *, classes: int = 0, seed: int = 0, side: int = SIDE, **more: Any) -> TextureModel:
    """A tiny one, in eval mode, with weights that differ from where training starts: zeros hide faults."""
    torch.manual_seed(seed)
    model = family_of(family)(side=side, classes=classes, **TINY[family], **more)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "parametrizations" not in name:
                value.add_(0.1 * torch.randn_like(value))
    return model.eval()


def steps(model: TextureModel, count: int, seed: int = 0) -> list[dict[str, torch.Tensor]]:
    """Losses of some steps on fixed noise, spread over the whole training."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 3, model.side, model.side, generator=rng) * 2 - 1
    labels = torch.arange(2) % model.classes if model.classes else None
    optimisers = model.optimisers(1e-3)
    model.train()
    return [
        model.fit(images, labels, optimisers, step / count, torch.Generator().manual_seed(step))
        for step in range(count)
    ]
