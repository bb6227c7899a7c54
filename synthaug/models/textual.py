"""Words that a model was taught: textual inversion (Gal et al., ICLR 2023), from safetensors files.

Each becomes new rows of the text encoder's table; texts without the new word are encoded as before, to the bit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from synthaug.errors import ConfigError, first_of, printable
from synthaug.models import weightfiles

if TYPE_CHECKING:
    from torch import Tensor

_TOKEN = re.compile(r"<[a-z0-9][a-z0-9_-]{0,62}>")
_ENCODERS = (("tokenizer", "text_encoder", "clip_l"), ("tokenizer_2", "text_encoder_2", "clip_g"))
_LEGACY_END = 2


@dataclass(frozen=True, slots=True)
class Learnt:
    """One learnt word.

    Attributes:
        token: What stands for it in prompts: `<...>` of small letters, digits, `-` and `_`, so that it cannot
            be found within other words.
        path: safetensors file, or a folder with one.
    """

    token: str
    path: str

    def __post_init__(self) -> None:
        if not _TOKEN.fullmatch(self.token):
            raise ConfigError(
                f"embeddings: token {printable(self.token)!r}: expected <...> of small letters, digits, '-' and '_',"
                " such as <dusty-asphalt>, so that it is never found within other words"
            )
        if not isinstance(cast(Any, self.path), str) or not self.path:
            raise ConfigError(f"{self.told}: no path; name a safetensors file or a folder with one")

    @property
    def told(self) -> str:
        """Who it is, in messages."""
        return f"embedding {self.token}"

    def digest(self) -> str:
        """SHA-256 of its file. Raises as `weightfiles.digest`."""
        return weightfiles.digest(self.path, self.told)


def parse(given: Mapping[str, Any] | None) -> tuple[Learnt, ...]:
    """From configuration, `{<token>: FILE}`, ordered by token; entries of None are skipped. Raises `ConfigError`."""
    if not isinstance(cast(Any, given), Mapping | None):
        raise ConfigError(f"embeddings={given}: expected {{<token>: FILE}}")
    return tuple(Learnt(str(token), path) for token, path in sorted((given or {}).items()) if path is not None)


def check_used(learnt: Sequence[Learnt], texts: Sequence[str]) -> None:
    """Refuses a learnt word that stands in no text, and a `<word>` in the texts that was not learnt.

    Args:
        texts: Every template and every word that can come into a prompt, for and against.

    Raises:
        ConfigError: Naming the tokens.
    """
    if not learnt:
        return
    known = {one.token for one in learnt}
    unused = sorted(token for token in known if not any(token in text.lower() for text in texts))
    if unused:
        raise ConfigError(f"embeddings: {', '.join(unused)} in no prompt; write the token where it is meant")
    strange = sorted({found for text in texts for found in _TOKEN.findall(text.lower())} - known)
    if strange:
        raise ConfigError(f"prompts say {', '.join(strange)}, but embeddings name {', '.join(sorted(known))}")


def teach(pipe: Any, learnt: Sequence[Learnt]) -> None:
    """Adds learnt words to the encoders of a loaded pipeline, one of Stable Diffusion 1 and 2, two of XL.

    All files are checked before anything is changed.

    Raises:
        ConfigError: Vectors of another width than the encoder's, another number of encoders, or a word that the
            tokenizer already has.
        InputError, SecurityError: A file that is broken or no safetensors.
    """
    encoders = [names for names in _ENCODERS if getattr(pipe, names[1], None) is not None]
    read = [(one, _vectors(pipe, encoders, one)) for one in learnt]
    for one, vectors in read:
        for (tokenizer, encoder, _), rows in zip(encoders, vectors, strict=True):
            words, network = getattr(pipe, tokenizer), getattr(pipe, encoder)
            try:
                pipe.load_textual_inversion(rows, token=one.token, tokenizer=words, text_encoder=network)
            except ValueError as error:
                raise ConfigError(f"{one.told} cannot be added to {tokenizer}: {error}") from error
            _mind_the_end(words, network)


def _vectors(pipe: Any, encoders: Sequence[tuple[str, str, str]], one: Learnt) -> list[Tensor]:
    """[vectors, width] for each encoder."""
    tensors = weightfiles.read(one.path, one.told)
    shown = f"{one.told} ({printable(one.path)})"
    if not encoders or not hasattr(pipe, "load_textual_inversion"):
        raise ConfigError(f"{shown}: {type(pipe).__name__} learns no words; Stable Diffusion 1, 2 and XL do")
    widths = [int(getattr(pipe, encoder).get_input_embeddings().weight.shape[1]) for _, encoder, _ in encoders]
    keys = [key for *_, key in encoders]
    if len(encoders) > 1:
        found = [tensors[key] for key in keys] if set(keys) == set(tensors) else []
    else:
        found = list(tensors.values()) if len(tensors) == 1 else []
    if not found:
        held = first_of((f"{key}: {tuple(value.shape)}" for key, value in tensors.items()), 3)
        wanted = f"the tensors {', '.join(keys)}" if len(encoders) > 1 else "one tensor"
        wanted += f" for {' and '.join(map(str, widths))} channels"
        raise ConfigError(f"{shown} was made for another base: expected {wanted}, the file holds:{held}")
    for key, vectors, width in zip(keys, found, widths, strict=True):
        if vectors.ndim not in (1, 2) or not vectors.numel() or vectors.shape[-1] != width:
            raise ConfigError(
                f"{shown} was made for another base: its {key if len(encoders) > 1 else 'vectors'} have shape"
                f" {tuple(vectors.shape)}, the model's text encoder has {width} channels"
            )
    return found


def _mind_the_end(tokenizer: Any, encoder: Any) -> None:
    """Old CLIP configurations find the end of a text as its largest id, which a new word would be."""
    inner = getattr(encoder, "text_model", encoder)
    if getattr(inner, "eos_token_id", None) == _LEGACY_END and tokenizer.eos_token_id is not None:
        inner.eos_token_id = tokenizer.eos_token_id
