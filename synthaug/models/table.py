"""The classes that a model folder may ask for. What is not here is not loaded, whatever a file says.

A folder names its classes in `model_index.json`; those words only select rows of these tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from synthaug.models import families
from synthaug.models.families import Family

PIPELINES: Mapping[str, Family] = MappingProxyType(
    {
        "StableDiffusionPipeline": families.SD,
        "StableDiffusionImg2ImgPipeline": families.SD,
        "StableDiffusionXLPipeline": families.SDXL,
        "StableDiffusionXLImg2ImgPipeline": families.SDXL,
        "LatentConsistencyModelPipeline": families.LCM,
        "LatentConsistencyModelImg2ImgPipeline": families.LCM,
        "StableDiffusion3Pipeline": families.SD3,
        "StableDiffusion3Img2ImgPipeline": families.SD3,
        "FluxPipeline": families.FLUX,
        "FluxImg2ImgPipeline": families.FLUX,
        "FluxKontextPipeline": families.KONTEXT,
        "Flux2Pipeline": families.FLUX2,
        "Flux2KleinPipeline": families.KLEIN,
        "QwenImagePipeline": families.QWEN,
        "QwenImageImg2ImgPipeline": families.QWEN,
        "QwenImageEditPipeline": families.QWEN_EDIT,
        "QwenImageEditPlusPipeline": families.QWEN_EDIT_PLUS,
        "QwenImageLayeredPipeline": families.LAYERED,
        "ZImagePipeline": families.Z,
        "ZImageImg2ImgPipeline": families.Z,
        "KandinskyV22Pipeline": families.KANDINSKY,
        "KandinskyV22Img2ImgPipeline": families.KANDINSKY,
        "KandinskyV22CombinedPipeline": families.KANDINSKY,
        "KandinskyV22Img2ImgCombinedPipeline": families.KANDINSKY,
        "KandinskyV22PriorPipeline": families.PRIOR,
        "KandinskyV22PriorEmb2EmbPipeline": families.PRIOR,
        "StableUnCLIPImg2ImgPipeline": families.UNCLIP,
        "UnCLIPImageVariationPipeline": families.KARLO,
        "UnCLIPPipeline": families.KARLO_WORDS,
        "AmusedPipeline": families.AMUSED,
        "AmusedImg2ImgPipeline": families.AMUSED,
        "StableDiffusionInstructPix2PixPipeline": families.PIX2PIX,
        "StableDiffusionXLInstructPix2PixPipeline": families.PIX2PIX_XL,
    }
)
"""Class in `model_index.json` to its family."""

_DIFFUSERS = (
    "UNet2DConditionModel",
    "UNet2DModel",
    "AutoencoderKL",
    "AutoencoderTiny",
    "AutoencoderKLFlux2",
    "AutoencoderKLQwenImage",
    "Flux2Transformer2DModel",
    "PriorTransformer",
    "UVit2DModel",
    "VQModel",
    "SD3Transformer2DModel",
    "FluxTransformer2DModel",
    "QwenImageTransformer2DModel",
    "ZImageTransformer2DModel",
    "AmusedScheduler",
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
    "UnCLIPScheduler",
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
    "Mistral3ForConditionalGeneration",
    "PixtralProcessor",
    "Qwen2Tokenizer",
    "Qwen2TokenizerFast",
    "Qwen2VLProcessor",
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
    | {"CLIPFeatureExtractor": "transformers"}
    | dict.fromkeys(("StableDiffusionSafetyChecker", "StableUnCLIPImageNormalizer"), "stable_diffusion")
    | {"UnCLIPTextProjModel": "unclip"}
)
"""Component class to the library word that must stand beside it in `model_index.json`."""

MOVED: Mapping[str, str] = MappingProxyType({"UnCLIPTextProjModel": "diffusers"})
"""The word that diffusers writes today for a class that it has moved; it finds it under neither, `opening` does."""

OPTIONS: Mapping[str, type] = MappingProxyType(
    {
        "requires_safety_checker": bool,
        "force_zeros_for_empty_prompt": bool,
        "add_watermarker": bool,
        "requires_aesthetics_score": bool,
        "is_cosxl_edit": bool,
        "is_distilled": bool,
    }
)
"""Plain values that `model_index.json` may hold beside components."""
