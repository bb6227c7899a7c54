"""Prompts for diffusers' own pipelines: encoded one by one, each unique one once, and stacked to one length.

Pipelines that encode a batch together pad its prompts to the longest; then the bytes of a picture would depend on
its neighbours' words. Here lengths are rounded up to buckets, and only prompts of one bucket are run together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthaug.models.embeddings import EmbeddingCache
from synthaug.models.families import Words

if TYPE_CHECKING:
    from torch import Tensor

_BUCKET = 32
"""Tokens; Z-Image pads to multiples of it itself."""
_RAGGED = (Words.QWEN, Words.LIST)


@dataclass(frozen=True, slots=True)
class Encoded:
    """One prompt: [T, C], and [P] where the family pools it."""

    tokens: Tensor
    pooled: Tensor | None = None

    def silent(self) -> Encoded:
        """As many tokens that say nothing: what XL has learnt no words as."""
        return Encoded(self.tokens * 0, None if self.pooled is None else self.pooled * 0)


class Wording:
    """The words of one pipeline.

    Args:
        pipe: A diffusers pipeline.
        style: How it takes encoded prompts.

    Attributes:
        cache: Of encoded prompts; `cache.encodes` counts the runs of the text encoder.
    """

    def __init__(self, pipe: Any, style: Words) -> None:
        self._pipe = pipe
        self._style = style
        self.cache: EmbeddingCache[Encoded] = EmbeddingCache(self._encode)

    def bucket(self, prompt: str) -> int:
        """What prompts must share to be run together: 0 where all have one length, else a number of tokens."""
        if self._style not in _RAGGED:
            return 0
        length = len(self.cache([prompt])[0].tokens)
        # One place more than needed, so that Qwen-Image always gets a mask, whatever the lengths.
        return -(-(length + 1) // _BUCKET) * _BUCKET if self._style is Words.QWEN else -(-length // _BUCKET) * _BUCKET

    def arguments(self, prompts: Sequence[str], negatives: Sequence[str] | None) -> dict[str, Any]:
        """Arguments of the pipeline's call; prompts of one bucket, and negatives of one bucket or None."""
        if self._style is Words.PIPELINE:
            told: dict[str, Any] = {"prompt": list(prompts)}
            return told if negatives is None else told | {"negative_prompt": list(negatives)}
        found = self._stacked(prompts, "")
        return found if negatives is None else found | self._stacked(negatives, "negative_")

    def _stacked(self, prompts: Sequence[str], prefix: str) -> dict[str, Any]:
        import torch

        encoded = self.cache(prompts)
        if prefix and getattr(self._pipe.config, "force_zeros_for_empty_prompt", False):
            encoded = [one if text else one.silent() for one, text in zip(encoded, prompts, strict=True)]
        tokens = [one.tokens for one in encoded]
        if self._style is Words.LIST:
            return {f"{prefix}prompt_embeds": tokens}
        if self._style is Words.QWEN:
            length = max(self.bucket(prompt) for prompt in prompts)
            masks = [torch.arange(length, device=t.device) < len(t) for t in tokens]
            tokens = [torch.nn.functional.pad(t, (0, 0, 0, length - len(t))) for t in tokens]
            return {
                f"{prefix}prompt_embeds": torch.stack(tokens),
                f"{prefix}prompt_embeds_mask": torch.stack(masks).long(),
            }
        found = {f"{prefix}prompt_embeds": torch.stack(tokens)}
        pooled = [one.pooled for one in encoded if one.pooled is not None]
        return found | ({f"{prefix}pooled_prompt_embeds": torch.stack(pooled)} if pooled else {})

    def _encode(self, prompt: str) -> Encoded:
        """A prompt on its own; what `encode_prompt` returns differs by family."""
        pipe = self._pipe
        device = pipe.device
        match self._style:
            case Words.CLIP:
                return Encoded(pipe.encode_prompt(prompt, device, 1, False)[0][0])
            case Words.POOLED:
                more = {"prompt_3": None} if hasattr(pipe, "tokenizer_3") else {}
                found = pipe.encode_prompt(
                    prompt=prompt, prompt_2=None, device=device, do_classifier_free_guidance=False, **more
                )
                return Encoded(found[0][0], found[2][0])
            case Words.FLUX:
                found = pipe.encode_prompt(prompt=prompt, prompt_2=None, device=device)
                return Encoded(found[0][0], found[1][0])
            case Words.FLUX2 | Words.QWEN:
                return Encoded(pipe.encode_prompt(prompt=prompt, device=device)[0][0])
            case Words.LIST:
                return Encoded(
                    pipe.encode_prompt(prompt=prompt, device=device, do_classifier_free_guidance=False)[0][0]
                )
            case Words.PIPELINE:
                raise AssertionError("the pipeline encodes its prompts itself")
