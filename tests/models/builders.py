"""Tiny, random pipelines of the families beside Stable Diffusion, made offline and saved as diffusers saves them.

Two processors need torchvision, which may not be there: `stub_processor` stands in for them, on disk too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.models.families import clip, flux_parts, plain_vae
from tests.models.tiny import WORDS

_BYTES = [*range(33, 127), *range(161, 173), *range(174, 256)]
_LETTERS = [chr(b) for b in _BYTES] + [chr(256 + i) for i in range(256 - len(_BYTES))]
SPECIAL = {
    w: 256 + i
    for i, w in enumerate(
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
    )
}
VOCABULARY = {letter: i for i, letter in enumerate(_LETTERS)} | SPECIAL
"""Of a byte-level tokenizer without merges."""
_CHAT = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def _qwen_tokens() -> Any:
    from transformers import Qwen2Tokenizer

    return Qwen2Tokenizer(vocab=VOCABULARY, merges=[], chat_template=_CHAT, model_max_length=512)


def _flow() -> Any:
    import diffusers

    return diffusers.FlowMatchEulerDiscreteScheduler()


def _unet(**changes: Any) -> Any:
    import diffusers

    return diffusers.UNet2DConditionModel(
        **{
            "block_out_channels": (8, 16), "layers_per_block": 1, "sample_size": 8, "in_channels": 4, "out_channels": 4,
            "norm_num_groups": 4, "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "cross_attention_dim": 16, "attention_head_dim": 4,
        } | changes
    ).eval()  # fmt: skip


def build_sd21(path: Path) -> Path:
    """Words of 1024 channels and a prediction of velocity, as SD 2.1 and SD-Turbo have them."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel

    text = CLIPTextConfig(
        vocab_size=64, hidden_size=1024, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    diffusers.StableDiffusionPipeline(
        unet=_unet(cross_attention_dim=1024, use_linear_projection=True), vae=plain_vae(4),
        text_encoder=CLIPTextModel(text).eval(), tokenizer=clip(False)[1], safety_checker=None, feature_extractor=None,
        requires_safety_checker=False, scheduler=diffusers.DDIMScheduler(prediction_type="v_prediction"),
    ).save_pretrained(path)  # fmt: skip
    return path


def build_lcm(path: Path) -> Path:
    import diffusers

    text, token = clip(False)
    diffusers.LatentConsistencyModelPipeline(
        unet=_unet(time_cond_proj_dim=8), vae=plain_vae(4), text_encoder=text, tokenizer=token, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False, scheduler=diffusers.LCMScheduler(),
    ).save_pretrained(path)  # fmt: skip
    return path


def build_pix2pix(path: Path) -> Path:
    import diffusers

    text, token = clip(False)
    diffusers.StableDiffusionInstructPix2PixPipeline(
        unet=_unet(in_channels=8), vae=plain_vae(4), text_encoder=text, tokenizer=token, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False, scheduler=diffusers.EulerAncestralDiscreteScheduler(),
    ).save_pretrained(path)  # fmt: skip
    return path


def build_pix2pix_xl(path: Path) -> Path:
    import diffusers

    unet = _unet(
        in_channels=8, cross_attention_dim=32, attention_head_dim=(2, 4), use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=8, transformer_layers_per_block=(1, 1),
        projection_class_embeddings_input_dim=64,
    )  # fmt: skip
    (one, token), (two, token_2) = clip(False), clip(True)
    diffusers.StableDiffusionXLInstructPix2PixPipeline(
        vae=plain_vae(4), unet=unet, text_encoder=one, text_encoder_2=two, tokenizer=token, tokenizer_2=token_2,
        scheduler=diffusers.EulerDiscreteScheduler(), add_watermarker=False,
    ).save_pretrained(path)  # fmt: skip
    return path


def build_kontext(path: Path) -> Path:
    import diffusers

    diffusers.FluxKontextPipeline(**flux_parts()).save_pretrained(path)
    return path


def build_flux_controlnet(path: Path, flux: Path, *, union: int | None = None) -> Path:
    """A ControlNet of the tiny FLUX in `flux`, its zero layers filled so that it has an effect."""
    import diffusers
    import torch

    transformer: Any = diffusers.FluxTransformer2DModel.from_pretrained(flux / "transformer")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = dict(transformer.config)
        net: Any = diffusers.FluxControlNetModel(
            **{k: v for k, v in config.items() if not k.startswith("_") and k not in ("out_channels",)}, num_mode=union
        )
        net.load_state_dict(transformer.state_dict(), strict=False)
        for block in (*net.controlnet_blocks, *net.controlnet_single_blocks, net.controlnet_x_embedder):
            torch.nn.init.normal_(block.weight, std=0.5)
    net.eval().save_pretrained(path)
    return path


def _qwen_vae() -> Any:
    import diffusers

    return diffusers.AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, False, False],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    ).eval()  # fmt: skip


def _qwen_parts() -> dict[str, Any]:
    import diffusers
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    transformer = diffusers.QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, guidance_embeds=False, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    ids = {
        "image_token_id": SPECIAL["<|image_pad|>"], "vision_start_token_id": SPECIAL["<|vision_start|>"],
        "vision_end_token_id": SPECIAL["<|vision_end|>"], "video_token_id": SPECIAL["<|endoftext|>"],
    }  # fmt: skip
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(VOCABULARY), "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 1024,
            "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"}, "rope_theta": 1e4,
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
            "patch_size": 14, "spatial_merge_size": 2, "fullatt_block_indexes": [0],
        },
        **ids,
    )  # fmt: skip
    return {
        "vae": _qwen_vae(), "transformer": transformer.eval(), "tokenizer": _qwen_tokens(), "scheduler": _flow(),
        "text_encoder": Qwen2_5_VLForConditionalGeneration(config).eval(),
    }  # fmt: skip


def build_qwen(path: Path) -> Path:
    import diffusers

    diffusers.QwenImagePipeline(**_qwen_parts()).save_pretrained(path)
    return path


def stub_processor() -> type:
    """Stands in for `Qwen2VLProcessor` and `PixtralProcessor`: bytes as tokens, pictures as 56x56 pixels."""
    from transformers import ProcessorMixin

    class StubProcessor(ProcessorMixin):
        def __init__(self) -> None: ...

        @classmethod
        def from_pretrained(cls, *ignored: Any, **more: Any) -> Any:
            return cls()

        __call__ = _read
        apply_chat_template = _chat

    return StubProcessor


def _read(_self: Any, *, text: list[str], images: Any, **ignored: Any) -> Any:
    """One picture and one text: the picture fills 4 places of the text and 16 patches."""
    import numpy as np
    import torch
    from transformers import BatchFeature

    pictures = images if isinstance(images, list) else [images]
    assert len(text) == 1
    assert len(pictures) == 1
    before, after = (_qwen_tokens()(part).input_ids for part in text[0].split("<|image_pad|>"))
    ids = torch.tensor([before + [SPECIAL["<|image_pad|>"]] * 4 + after])
    small = np.asarray(pictures[0].resize((56, 56)), np.float32) / 255
    patches = torch.from_numpy(small).reshape(4, 14, 4, 14, 3).permute(0, 2, 4, 1, 3).reshape(16, 3, 1, 14, 14)
    return BatchFeature(
        {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "pixel_values": patches.repeat(1, 1, 2, 1, 1).reshape(16, -1),
            "image_grid_thw": torch.tensor([[1, 4, 4]]),
        }
    )


def _chat(_self: Any, messages: list[Any], *, max_length: int, **ignored: Any) -> Any:
    """As the tokenizer of FLUX.2 is called: words alone."""
    import torch
    from transformers import BatchFeature

    words = [turns[-1]["content"][0]["text"] for turns in messages]
    rows = [[ord(letter) % 250 + 1 for letter in word][:max_length] for word in words]
    ids = torch.tensor([row + [0] * (max_length - len(row)) for row in rows])
    return BatchFeature({"input_ids": ids, "attention_mask": (ids > 0).long()})


def build_qwen_edit(path: Path, cls: str = "QwenImageEditPipeline") -> Path:
    """With `stub_processor` where `Qwen2VLProcessor` belongs."""
    import diffusers

    parts = _qwen_parts()
    pipe = getattr(diffusers, cls)(**parts, processor=None)
    pipe.save_pretrained(path)
    _add(path, "processor", "Qwen2VLProcessor")
    return path


def _add(path: Path, component: str, cls: str) -> None:
    """Enters a component that diffusers could not save."""
    (path / component).mkdir(exist_ok=True)
    (path / component / "processor_config.json").write_text(json.dumps({"processor_class": cls}))
    index = json.loads((path / "model_index.json").read_text())
    (path / "model_index.json").write_text(json.dumps(index | {component: ["transformers", cls]}))


def build_z(path: Path) -> Path:
    import diffusers
    import torch
    from transformers import Qwen3Config, Qwen3Model

    transformer: Any = diffusers.ZImageTransformer2DModel(
        all_patch_size=(2,), all_f_patch_size=(1,), in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2,
        n_kv_heads=2, cap_feat_dim=16, rope_theta=256.0, axes_dims=[8, 4, 4], axes_lens=[256, 64, 64],
    )  # fmt: skip
    for token in (transformer.x_pad_token, transformer.cap_pad_token):  # torch.empty, as built
        torch.nn.init.normal_(token)
    config = Qwen3Config(
        vocab_size=len(VOCABULARY), hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=512,
    )  # fmt: skip
    diffusers.ZImagePipeline(
        transformer=transformer.eval(), vae=plain_vae(4), text_encoder=Qwen3Model(config).eval(),
        tokenizer=_qwen_tokens(), scheduler=_flow(),
    ).save_pretrained(path)  # fmt: skip
    return path


def _flux2(width: int) -> dict[str, Any]:
    import diffusers

    transformer = diffusers.Flux2Transformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=width, axes_dims_rope=(4, 4, 4, 4), timestep_guidance_channels=8, guidance_embeds=False,
    )  # fmt: skip
    vae = diffusers.AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8), latent_channels=4, norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
    )  # fmt: skip
    return {"transformer": transformer.eval(), "vae": vae.eval(), "scheduler": _flow()}


def build_klein(path: Path) -> Path:
    import diffusers
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(  # the pipeline reads layers 9, 18 and 27
        vocab_size=len(VOCABULARY), hidden_size=8, intermediate_size=8, num_hidden_layers=28, num_attention_heads=1,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=512,
    )  # fmt: skip
    diffusers.Flux2KleinPipeline(
        **_flux2(24), tokenizer=_qwen_tokens(), text_encoder=Qwen3ForCausalLM(config).eval(), is_distilled=False
    ).save_pretrained(path)
    return path


def build_flux2(path: Path) -> Path:
    """With `stub_processor` where `PixtralProcessor` belongs."""
    import diffusers
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

    config = Mistral3Config(  # the pipeline reads layers 10, 20 and 30
        text_config={
            "model_type": "mistral", "vocab_size": 300, "hidden_size": 8, "intermediate_size": 8,
            "num_hidden_layers": 31, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8,
        },
        vision_config={
            "model_type": "pixtral", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 1, "image_size": 28, "patch_size": 14, "head_dim": 8,
        },
    )  # fmt: skip
    pipe: Any = diffusers.Flux2Pipeline(
        **_flux2(24), tokenizer=None, text_encoder=Mistral3ForConditionalGeneration(config).eval()
    )
    pipe.save_pretrained(path)
    _add(path, "tokenizer", "PixtralProcessor")
    return path


def _vision(width: int) -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28,
            patch_size=14, projection_dim=width,
        )
    ).eval()  # fmt: skip


def _sight() -> Any:
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})


def kandinsky_parts() -> tuple[dict[str, Any], dict[str, Any]]:
    """Decoder and prior."""
    import diffusers
    import torch

    unet = _unet(
        out_channels=8, addition_embed_type="image", encoder_hid_dim=16, encoder_hid_dim_type="image_proj",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn", resnet_time_scale_shift="scale_shift",
    )  # fmt: skip
    movq = diffusers.VQModel(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4, norm_type="spatial",
        num_vq_embeddings=12, vq_embed_dim=4,
    )  # fmt: skip
    scheduler = diffusers.DDPMScheduler(variance_type="learned_range", clip_sample=False)
    prior: Any = diffusers.PriorTransformer(
        num_attention_heads=2, attention_head_dim=8, embedding_dim=16, num_layers=1, num_embeddings=16
    )
    torch.nn.init.ones_(prior.clip_std)
    text, token = clip(True)
    return {"unet": unet, "movq": movq.eval(), "scheduler": scheduler}, {
        "prior": prior.eval(), "image_encoder": _vision(16), "text_encoder": text, "tokenizer": token,
        "image_processor": _sight(),
        "scheduler": diffusers.UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=10.0
        ),
    }  # fmt: skip


def build_kandinsky(path: Path) -> Path:
    """Decoder and prior in one folder, as the combined pipeline saves them."""
    import diffusers

    decoder, prior = kandinsky_parts()
    pipe: Any = diffusers.KandinskyV22Img2ImgCombinedPipeline(
        **decoder, **{f"prior_{name}": part for name, part in prior.items()}
    )
    pipe.save_pretrained(path)
    return path


def build_kandinsky_apart(path: Path) -> tuple[Path, Path]:
    """The folders of decoder and prior, as their makers publish them."""
    import diffusers

    decoder, prior = kandinsky_parts()
    one: Any = diffusers.KandinskyV22Pipeline(**decoder)
    one.save_pretrained(path / "decoder")
    two: Any = diffusers.KandinskyV22PriorPipeline(**prior)
    two.save_pretrained(path / "prior")
    return path / "decoder", path / "prior"


def build_unclip(path: Path) -> Path:
    import diffusers
    from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer

    text, token = clip(False)
    unet = _unet(
        class_embed_type="projection", projection_class_embeddings_input_dim=32, attention_head_dim=(2, 4),
        use_linear_projection=True,
    )  # fmt: skip
    diffusers.StableUnCLIPImg2ImgPipeline(
        feature_extractor=_sight(), image_encoder=_vision(16),
        image_normalizer=StableUnCLIPImageNormalizer(embedding_dim=16).eval(),
        image_noising_scheduler=diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"), tokenizer=token,
        text_encoder=text, unet=unet, vae=plain_vae(4),
        scheduler=diffusers.DDIMScheduler(prediction_type="v_prediction"),
    ).save_pretrained(path)  # fmt: skip
    return path


def build_karlo(path: Path, cls: str = "UnCLIPImageVariationPipeline") -> Path:
    """Karlo's image variations: a decoder of 8 pixels a side and two networks that bring it to 32; or, as
    `UnCLIPPipeline`, its pictures of words alone."""
    import diffusers
    from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel

    decoder = _unet(
        in_channels=3, out_channels=6, class_embed_type="identity", resnet_time_scale_shift="scale_shift",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
    )  # fmt: skip
    text, token = clip(True)
    scheduler = diffusers.UnCLIPScheduler
    parts: dict[str, Any] = {
        "decoder": decoder, "text_encoder": text, "tokenizer": token,
        "text_proj": UnCLIPTextProjModel(time_embed_dim=32, cross_attention_dim=16, clip_embeddings_dim=16).eval(),
        "super_res_first": _super_resolution(), "super_res_last": _super_resolution(),
        "decoder_scheduler": scheduler(variance_type="learned_range"),
        "super_res_scheduler": scheduler(variance_type="fixed_small_log"),
    }  # fmt: skip
    if cls == "UnCLIPPipeline":
        prior = kandinsky_parts()[1]
        parts |= {"prior": prior["prior"], "prior_scheduler": prior["scheduler"]}
    else:
        parts |= {"feature_extractor": _sight(), "image_encoder": _vision(16)}
    getattr(diffusers, cls)(**parts).save_pretrained(path)
    return path


def _super_resolution() -> Any:
    """From a small picture, enlarged, and noise."""
    import diffusers

    return diffusers.UNet2DModel(
        sample_size=32, in_channels=6, out_channels=3, layers_per_block=1, block_out_channels=(8, 8), norm_num_groups=4,
        down_block_types=("ResnetDownsampleBlock2D",) * 2, up_block_types=("ResnetUpsampleBlock2D",) * 2,
        resnet_time_scale_shift="scale_shift", add_attention=False,
    ).eval()  # fmt: skip


def build_amused(path: Path) -> Path:
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

    transformer = diffusers.UVit2DModel(
        hidden_size=8, use_bias=False, hidden_dropout=0.0, cond_embed_dim=8, micro_cond_encode_dim=2,
        micro_cond_embed_dim=10, encoder_hidden_size=8, vocab_size=32, codebook_size=32, in_channels=8,
        block_out_channels=8, num_res_blocks=1, downsample=True, upsample=True, block_num_heads=1, num_hidden_layers=1,
        num_attention_heads=1, attention_dropout=0.0, intermediate_size=8, layer_norm_eps=1e-6,
        ln_elementwise_affine=True,
    )  # fmt: skip
    vqvae = diffusers.VQModel(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=8, norm_num_groups=4, num_vq_embeddings=32,
        mid_block_add_attention=False, lookup_from_codebook=True,
    )  # fmt: skip
    text = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=64, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=1,
            max_position_embeddings=16, bos_token_id=0, eos_token_id=1, pad_token_id=1, projection_dim=8,
        )
    )  # fmt: skip
    pipe: Any = diffusers.AmusedPipeline(
        vqvae=vqvae.eval(), tokenizer=CLIPTokenizer(vocab=WORDS, merges=[], model_max_length=16),
        text_encoder=text.eval(), transformer=transformer.eval(), scheduler=diffusers.AmusedScheduler(mask_token_id=31),
    )  # fmt: skip
    pipe.save_pretrained(path)
    return path
