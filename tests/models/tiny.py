"""A tiny, random Stable Diffusion 1.5 pipeline on disk, made offline; other tests reuse it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_SCHEDULE = {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip
WORDS = {"<|startoftext|>": 0, "<|endoftext|>": 1} | {
    chr(97 + i) + end: 2 + i + start for start, end in ((0, "</w>"), (26, "")) for i in range(26)
}
"""Vocabulary of a CLIP tokenizer that knows single letters."""
_CHECKER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def build_tiny_sd(
    path: Path,
    *,
    scheduler: str = "DDIMScheduler",
    checker: bool = False,
    seed: int = 0,
    cls: str = "StableDiffusionPipeline",
) -> Path:
    """Saves an SD1.5-like pipeline (about 0.3 MB) below `path` with safetensors weights; 0.3 s.

    Args:
        scheduler: Any scheduler class of diffusers.
        checker: With a safety checker, whose concept thresholds the caller may tune in the folder's weights.
        seed: Of the random weights.
        cls: Pipeline class that saves it.
    """
    import diffusers
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet = diffusers.UNet2DConditionModel(
            block_out_channels=(8, 16), layers_per_block=1, sample_size=8, in_channels=4, out_channels=4,
            norm_num_groups=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=16, attention_head_dim=4,
        )  # fmt: skip
        vae = diffusers.AutoencoderKL(
            block_out_channels=(8, 8, 8, 8), in_channels=3, out_channels=3, latent_channels=4, norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        )  # fmt: skip
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                max_position_embeddings=16, bos_token_id=0, eos_token_id=1, pad_token_id=1,
            )
        )  # fmt: skip
        safety, extractor = _safety() if checker else (None, None)
    tokenizer = CLIPTokenizer(vocab=WORDS, merges=[], model_max_length=16)
    pipe = getattr(diffusers, cls)(
        unet=unet.eval(), vae=vae.eval(), text_encoder=text.eval(), tokenizer=tokenizer, safety_checker=safety,
        scheduler=getattr(diffusers, scheduler).from_config(_SCHEDULE), feature_extractor=extractor,
        requires_safety_checker=checker,
    )  # fmt: skip
    pipe.save_pretrained(path, safe_serialization=True)
    return path


def build_tiny_controlnet(path: Path, sd: Path, *, seed: int = 3) -> Path:
    """Saves a ControlNet of the tiny pipeline in `sd` whose zero convolutions are filled, so that it has an effect."""
    import torch
    from diffusers.models.controlnets.controlnet import ControlNetModel
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    unet: Any = UNet2DConditionModel.from_pretrained(sd / "unet")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net: Any = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 4, 8, 8))
        for block in (*net.controlnet_down_blocks, net.controlnet_mid_block, net.controlnet_cond_embedding.conv_out):
            torch.nn.init.normal_(block.weight, std=0.2)
    net.eval().save_pretrained(path, safe_serialization=True)
    return path


def _safety() -> tuple[Any, Any]:
    """A safety checker that lets everything pass, and its preprocessor."""
    import torch
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    config = CLIPConfig(
        text_config=dict(_CHECKER, vocab_size=64),
        vision_config=dict(_CHECKER, image_size=16, patch_size=8),
        projection_dim=8,
    )
    checker = StableDiffusionSafetyChecker(config).eval()
    for weights in (checker.concept_embeds_weights, checker.special_care_embeds_weights):
        torch.nn.init.constant_(weights, 2.0)
    return checker, CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})


def edit_weights(path: Path, **changes: float) -> None:
    """Overwrites whole tensors of one safetensors file with a constant, `NaN` included."""
    from safetensors.torch import load_file, save_file

    weights = load_file(path)
    for name, value in changes.items():
        weights[name].fill_(value)
    save_file(weights, path, metadata={"format": "pt"})
