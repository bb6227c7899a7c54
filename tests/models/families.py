"""Tiny, random pipelines of further families, made offline, to prove our table against the real classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.models.tiny import WORDS


def clip(projection: bool, width: int = 16) -> tuple[Any, Any]:
    """A text encoder and its tokenizer."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    config = CLIPTextConfig(
        vocab_size=64, hidden_size=width, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16, bos_token_id=0, eos_token_id=1, pad_token_id=1, projection_dim=16,
    )  # fmt: skip
    model = (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)
    return model.eval(), CLIPTokenizer(vocab=WORDS, merges=[], model_max_length=16)


def _t5(width: int) -> tuple[Any, Any]:
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    config = T5Config(vocab_size=64, d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0), *((chr(97 + i), -2.0) for i in range(26))]
    return T5EncoderModel(config).eval(), T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=16)


def plain_vae(channels: int) -> Any:
    """Halves each side once."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8), in_channels=3, out_channels=3, latent_channels=channels, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        use_quant_conv=channels == 4, use_post_quant_conv=channels == 4, shift_factor=0.06, scaling_factor=1.5,
    ).eval()  # fmt: skip


def build_sdxl(path: Path, width: int = 16) -> Path:
    """`width` is that of its second text encoder."""
    import diffusers

    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, sample_size=8, in_channels=4, out_channels=4, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16 + width, attention_head_dim=(2, 4), use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8, transformer_layers_per_block=(1, 1), projection_class_embeddings_input_dim=64,
    )  # fmt: skip
    (one, token), (two, token_2) = clip(False), clip(True, width)
    diffusers.StableDiffusionXLPipeline(
        vae=plain_vae(4), unet=unet.eval(), text_encoder=one, text_encoder_2=two, tokenizer=token, tokenizer_2=token_2,
        scheduler=diffusers.EulerDiscreteScheduler(), add_watermarker=False,
    ).save_pretrained(path)  # fmt: skip
    return path


def flux_parts(**changes: Any) -> dict[str, Any]:
    """Components of a tiny FLUX.1; `changes` are to its transformer's configuration."""
    import diffusers

    transformer = diffusers.FluxTransformer2DModel(
        **{
            "patch_size": 1, "in_channels": 16, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16,
            "num_attention_heads": 2, "joint_attention_dim": 16, "pooled_projection_dim": 16,
            "axes_dims_rope": (4, 4, 8), "guidance_embeds": False,
        } | changes
    )  # fmt: skip
    (text, token), (t5, token_2) = clip(False), _t5(16)
    return {
        "vae": plain_vae(4), "transformer": transformer.eval(), "text_encoder": text, "text_encoder_2": t5,
        "tokenizer": token, "tokenizer_2": token_2, "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(),
    }  # fmt: skip


def build_flux(path: Path, **changes: Any) -> Path:
    import diffusers

    diffusers.FluxPipeline(**flux_parts(**changes)).save_pretrained(path)
    return path


def build_sd3(path: Path) -> Path:
    import diffusers

    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=1, in_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=32, caption_projection_dim=32, pooled_projection_dim=32, out_channels=4,
    )  # fmt: skip
    (one, token), (two, token_2), (t5, token_3) = clip(True), clip(True), _t5(32)
    diffusers.StableDiffusion3Pipeline(
        vae=plain_vae(4), transformer=transformer.eval(), text_encoder=one, text_encoder_2=two, text_encoder_3=t5,
        tokenizer=token, tokenizer_2=token_2, tokenizer_3=token_3,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
    ).save_pretrained(path)  # fmt: skip
    return path


def build_sd35(path: Path) -> Path:
    """As SD 3.5 medium: normed queries and keys, a block with a second attention, 16 latent channels; the first text
    encoder gives what it pools as it is."""
    import diffusers
    import torch

    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=16, num_layers=2, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=48, caption_projection_dim=32, pooled_projection_dim=32, out_channels=16,
        qk_norm="rms_norm", dual_attention_layers=(0,), pos_embed_max_size=64,
    )  # fmt: skip
    (one, token), (two, token_2), (t5, token_3) = clip(True), clip(True, 24), _t5(48)
    one.text_projection.weight.data = torch.eye(16)
    diffusers.StableDiffusion3Pipeline(
        vae=plain_vae(16), transformer=transformer.eval(), text_encoder=one, text_encoder_2=two, text_encoder_3=t5,
        tokenizer=token, tokenizer_2=token_2, tokenizer_3=token_3,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
    ).save_pretrained(path)  # fmt: skip
    return path
