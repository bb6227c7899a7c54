"""The families of image-to-image models: what runs each, what it is told, and which knobs it has.

Signatures and behaviour were read from diffusers 0.42.1; a test reads them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Words(Enum):
    """How a family's pipeline takes a prompt that is already encoded (see `wording`)."""

    PIPELINE = "it encodes prompts itself, all padded to one length"
    CLIP = "tokens"
    POOLED = "tokens and a pooled vector, then the same for negative words"
    FLUX = "tokens and a pooled vector"
    FLUX2 = "tokens, always as many"
    QWEN = "tokens, as many as there are words, and a mask"
    LIST = "a list of tokens, as many as there are words"


class Runner(Enum):
    """What carries out a batch."""

    LOOP = "our own loop"
    BATCH = "the pipeline, with the whole batch"
    SINGLE = "the pipeline, picture by picture: to it, several pictures are several views of one scene"
    PRIOR = "a prior that makes image embeddings of words, then a decoder"


KNOBS = {
    "prompt": "words",
    "strength": "share of the denoising that is done",
    "guidance": "classifier-free guidance",
    "negative_prompt": "words against",
    "controls": "guidance images by ControlNet",
    "class_weights": "weights of guidance images by class",
    "protect": "strength per pixel; regions that are never touched every family has",
    "tile": "tiles of large pictures",
    "sequence": "noise that sticks to surfaces",
    "image_prompt": "a picture as prompt (IP-Adapter)",
    "loras": "LoRA adapters",
    "embeddings": "learned words (textual inversion)",
    "single_file": "one safetensors file as model",
    "steps": "denoising steps",
    "scheduler": "another scheduler",
}
"""What a user may ask for, in words."""

_ALL = frozenset({"prompt", "guidance", "steps"})
_OURS = frozenset({"class_weights", "protect", "tile", "sequence", "image_prompt"})


@dataclass(frozen=True, slots=True)
class Family:
    """One family of image-to-image pipelines.

    Attributes:
        name: As its makers call it.
        img2img: Class in diffusers that runs it; empty where it cannot serve here, and then `name` says why.
        knobs: Of `KNOBS`.
        guidance: Its argument for classifier-free guidance.
        guidance_off: At or below this its guidance is off; its pipeline counts as its makers do.
        negative_guidance: Argument that negative words need, where it is another one; with it `guidance` is 1.
        text2img: Class that makes pictures of words alone, with the same networks; empty where there is none that
            shows what it has decoded.
        patch: Latent pixels per transformer patch; sides must divide by the VAE's factor times this.
        flow: Flow matching; where it has a strength, one above 1 - 1/steps starts at pure noise, without the picture.
        runner: What carries out a batch.
        words: How it takes encoded prompts.
        pictures: Its pipeline takes the input as 8-bit pictures, not as a tensor.
        fixed: It paints squares of one side, whatever size the input has.
        controlled: Class that runs it with ControlNets, where that is another one than ours.
        control_net: Class of those ControlNets.
        control_nets: Class that joins several of them.
    """

    name: str
    img2img: str = ""
    knobs: frozenset[str] = frozenset()
    guidance: str = "guidance_scale"
    guidance_off: float = 1.0
    negative_guidance: str = ""
    text2img: str = ""
    patch: int = 1
    flow: bool = False
    runner: Runner = Runner.BATCH
    words: Words = Words.PIPELINE
    pictures: bool = False
    fixed: bool = False
    controlled: str = ""
    control_net: str = ""
    control_nets: str = ""

    @property
    def guided(self) -> bool:
        """Whether our own loop runs it: guidance by class, strength per pixel, tiles."""
        return self.runner is Runner.LOOP


def _has(*knobs: str) -> frozenset[str]:
    return _ALL | set(knobs)


_ADDED = ("loras", "embeddings", "single_file", "scheduler")
_OWN = _OURS | _has("strength", "negative_prompt", "controls", *_ADDED)
_EDITOR = _has("negative_prompt", "loras", "scheduler")

SD = Family(
    "Stable Diffusion 1/2", "StableDiffusionImg2ImgPipeline", _OWN,
    text2img="StableDiffusionPipeline", runner=Runner.LOOP,
)  # fmt: skip
SDXL = Family(
    "Stable Diffusion XL", "StableDiffusionXLImg2ImgPipeline", _OWN,
    text2img="StableDiffusionXLPipeline", runner=Runner.LOOP,
)  # fmt: skip
LCM = Family(
    "Latent Consistency Model", "LatentConsistencyModelImg2ImgPipeline",
    _has("strength", "loras", "embeddings", "single_file"),
    text2img="LatentConsistencyModelPipeline", words=Words.CLIP,
)  # fmt: skip
SD3 = Family(
    "Stable Diffusion 3", "StableDiffusion3Img2ImgPipeline",
    _has("strength", "negative_prompt", "loras", "single_file", "scheduler"),
    text2img="StableDiffusion3Pipeline",
    patch=2, flow=True, words=Words.POOLED,
)  # fmt: skip
FLUX = Family(
    "FLUX.1", "FluxImg2ImgPipeline",
    _has("strength", "negative_prompt", "controls", "loras", "single_file", "scheduler"),
    text2img="FluxPipeline",
    negative_guidance="true_cfg_scale", patch=2, flow=True, words=Words.FLUX,
    controlled="FluxControlNetImg2ImgPipeline", control_net="FluxControlNetModel",
    control_nets="FluxMultiControlNetModel",
)  # fmt: skip
KONTEXT = Family(
    "FLUX.1 Kontext", "FluxKontextPipeline", _has("negative_prompt", "loras", "single_file", "scheduler"),
    text2img="FluxKontextPipeline",
    negative_guidance="true_cfg_scale", patch=2, flow=True, words=Words.FLUX,
)  # fmt: skip
FLUX2 = Family(
    "FLUX.2", "Flux2Pipeline", _has("loras", "scheduler"),
    text2img="Flux2Pipeline",
    patch=2, flow=True, runner=Runner.SINGLE, words=Words.FLUX2, pictures=True,
)  # fmt: skip
KLEIN = Family(
    "FLUX.2 klein", "Flux2KleinPipeline", _has("loras", "scheduler"),
    text2img="Flux2KleinPipeline",
    patch=2, flow=True, runner=Runner.SINGLE, words=Words.FLUX2, pictures=True,
)  # fmt: skip
QWEN = Family(
    "Qwen-Image", "QwenImageImg2ImgPipeline", _has("strength", "negative_prompt", "loras", "scheduler"),
    text2img="QwenImagePipeline",
    guidance="true_cfg_scale", patch=2, flow=True, words=Words.QWEN,
)  # fmt: skip
QWEN_EDIT = Family(
    "Qwen-Image-Edit", "QwenImageEditPipeline", _EDITOR,
    guidance="true_cfg_scale", patch=2, flow=True, runner=Runner.SINGLE, pictures=True,
)  # fmt: skip
QWEN_EDIT_PLUS = Family(
    "Qwen-Image-Edit Plus", "QwenImageEditPlusPipeline", _EDITOR,
    guidance="true_cfg_scale", patch=2, flow=True, runner=Runner.SINGLE, pictures=True,
)  # fmt: skip
Z = Family(
    "Z-Image", "ZImageImg2ImgPipeline", _has("strength", "negative_prompt", "loras", "single_file", "scheduler"),
    text2img="ZImagePipeline",
    guidance_off=0.0, patch=2, flow=True, words=Words.LIST,
)  # fmt: skip
KANDINSKY = Family(
    "Kandinsky 2.2", "KandinskyV22Img2ImgPipeline", _has("strength", "negative_prompt"), runner=Runner.PRIOR
)
UNCLIP = Family(
    "Stable unCLIP", "StableUnCLIPImg2ImgPipeline", _has("negative_prompt", "loras", "embeddings", "scheduler"),
    words=Words.CLIP, pictures=True,
)  # fmt: skip
KARLO = Family(
    "unCLIP (Karlo)", "UnCLIPImageVariationPipeline", _ALL - {"prompt"},
    guidance="decoder_guidance_scale", pictures=True, fixed=True,
)  # fmt: skip
AMUSED = Family("aMUSEd", "AmusedImg2ImgPipeline", _has("strength", "negative_prompt"), text2img="AmusedPipeline")
PIX2PIX = Family("InstructPix2Pix", "StableDiffusionInstructPix2PixPipeline", _has("negative_prompt", *_ADDED))
PIX2PIX_XL = Family(
    "InstructPix2Pix XL", "StableDiffusionXLInstructPix2PixPipeline", _has("negative_prompt", *_ADDED),
    words=Words.POOLED,
)  # fmt: skip

KARLO_WORDS = Family(
    "unCLIP (Karlo) from words alone, without the network that looks at pictures (its image variations have one)"
)
LAYERED = Family("Qwen-Image-Layered, which splits a picture into layers")
PRIOR = Family(
    "the prior of Kandinsky 2.2, which makes no pictures: give its folder as `base`, and the decoder's as `model`"
)
