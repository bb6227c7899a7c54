"""The classes that a model folder may ask for. What is not here is not loaded, whatever a file says.

A folder names its classes in `model_index.json`; those words only select rows of these tables. Signatures
and behaviour of the families were read from diffusers 0.42.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Family:
    """What one family of image-to-image pipelines needs to be told.

    Attributes:
        name: As its makers call it.
        img2img: Class in diffusers that runs it; empty where the family has no `strength`.
        guidance: Its argument for classifier-free guidance.
        patch: Latent pixels per transformer patch; sides must divide by the VAE's factor times this.
        guided: Our own loop runs it: guidance images, strength per pixel, tiles.
        flow: Flow matching: a strength above 1 - 1/steps starts at pure noise and ignores the picture.
    """

    name: str
    img2img: str = ""
    guidance: str = "guidance_scale"
    patch: int = 1
    flow: bool = False
    guided: bool = False


_SD = Family("Stable Diffusion 1/2", "StableDiffusionImg2ImgPipeline", guided=True)
_SDXL = Family("Stable Diffusion XL", "StableDiffusionXLImg2ImgPipeline", guided=True)
_LCM = Family("Latent Consistency Model", "LatentConsistencyModelImg2ImgPipeline")
_SD3 = Family("Stable Diffusion 3", "StableDiffusion3Img2ImgPipeline", patch=2, flow=True)
_FLUX = Family("FLUX.1", "FluxImg2ImgPipeline", patch=2, flow=True)
_QWEN = Family("Qwen-Image", "QwenImageImg2ImgPipeline", "true_cfg_scale", patch=2, flow=True)
_Z = Family("Z-Image", "ZImageImg2ImgPipeline", patch=2, flow=True)
_EDIT = "an instruction editor"

PIPELINES: Mapping[str, Family] = MappingProxyType(
    {
        "StableDiffusionPipeline": _SD,
        "StableDiffusionImg2ImgPipeline": _SD,
        "StableDiffusionXLPipeline": _SDXL,
        "StableDiffusionXLImg2ImgPipeline": _SDXL,
        "LatentConsistencyModelPipeline": _LCM,
        "LatentConsistencyModelImg2ImgPipeline": _LCM,
        "StableDiffusion3Pipeline": _SD3,
        "StableDiffusion3Img2ImgPipeline": _SD3,
        "FluxPipeline": _FLUX,
        "FluxImg2ImgPipeline": _FLUX,
        "QwenImagePipeline": _QWEN,
        "QwenImageImg2ImgPipeline": _QWEN,
        "ZImagePipeline": _Z,
        "ZImageImg2ImgPipeline": _Z,
        "FluxKontextPipeline": Family(f"FLUX.1 Kontext, {_EDIT}"),
        "Flux2Pipeline": Family(f"FLUX.2, {_EDIT}"),
        "Flux2KleinPipeline": Family(f"FLUX.2 klein, {_EDIT}"),
        "QwenImageEditPipeline": Family(f"Qwen-Image-Edit, {_EDIT}"),
        "QwenImageEditPlusPipeline": Family(f"Qwen-Image-Edit Plus, {_EDIT}"),
        "QwenImageLayeredPipeline": Family("Qwen-Image-Layered, which splits pictures"),
        "StableDiffusionInstructPix2PixPipeline": Family(f"InstructPix2Pix, {_EDIT}"),
        "StableDiffusionXLInstructPix2PixPipeline": Family(f"InstructPix2Pix XL, {_EDIT}"),
        "StableUnCLIPImg2ImgPipeline": Family("Stable unCLIP, which makes variations"),
    }
)
"""Class in `model_index.json` to its family."""

_DIFFUSERS = (
    "UNet2DConditionModel",
    "AutoencoderKL",
    "AutoencoderTiny",
    "AutoencoderKLQwenImage",
    "SD3Transformer2DModel",
    "FluxTransformer2DModel",
    "QwenImageTransformer2DModel",
    "ZImageTransformer2DModel",
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
)
_TRANSFORMERS = (
    "CLIPImageProcessor",
    "CLIPImageProcessorPil",
    "CLIPTextModel",
    "CLIPTextModelWithProjection",
    "CLIPTokenizer",
    "CLIPTokenizerFast",
    "CLIPVisionModelWithProjection",
    "Qwen2Tokenizer",
    "Qwen2TokenizerFast",
    "Qwen2_5_VLForConditionalGeneration",
    "Qwen3ForCausalLM",
    "Qwen3Model",
    "T5EncoderModel",
    "T5Tokenizer",
    "T5TokenizerFast",
)

COMPONENTS: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(_DIFFUSERS, "diffusers")
    | dict.fromkeys(_TRANSFORMERS, "transformers")
    | {"CLIPFeatureExtractor": "transformers", "StableDiffusionSafetyChecker": "stable_diffusion"}
)
"""Component class to the library word that must stand beside it in `model_index.json`."""

OPTIONS: Mapping[str, type] = MappingProxyType(
    {
        "requires_safety_checker": bool,
        "force_zeros_for_empty_prompt": bool,
        "add_watermarker": bool,
        "is_distilled": bool,
    }
)
"""Plain values that `model_index.json` may hold beside components."""
