"""Families by name. Files of models name a family; which class that is, this table alone decides."""

from __future__ import annotations

from synthaug.errors import ConfigError, nearest, printable
from synthaug.models.texture.family import TextureModel

FAMILIES = ("vae", "aae", "ddpm", "latent_diffusion", "pixelcnn", "stylegan", "vq_transformer")


def family_of(name: str) -> type[TextureModel]:
    """The class of a family. Raises `ConfigError` for a name that is none."""
    match name:
        case "vae":
            from synthaug.models.texture.vae import VAE as found
        case "aae":
            from synthaug.models.texture.aae import AAE as found
        case "ddpm":
            from synthaug.models.texture.ddpm import DDPM as found
        case "latent_diffusion":
            from synthaug.models.texture.latent_diffusion import LatentDiffusion as found
        case "pixelcnn":
            from synthaug.models.texture.pixelcnn import PixelCNN as found
        case "stylegan":
            from synthaug.models.texture.stylegan import StyleGAN as found
        case "vq_transformer":
            from synthaug.models.texture.vq_transformer import VQTransformer as found
        case _:
            raise ConfigError(f"family={printable(name)}: unknown.{nearest(name, FAMILIES)}")
    return found
