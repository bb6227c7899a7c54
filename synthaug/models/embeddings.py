"""Encoded prompts, kept: a text encoder runs once for each unique prompt."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from synthaug.errors import ConfigError

T = TypeVar("T")


class EmbeddingCache(Generic[T]):
    """What prompts were encoded to, each unique one once, the least recently used dropped first.

    Prompts are encoded one at a time: what a text becomes then does not depend on which others were in its batch.

    Args:
        encode: From a prompt to its embeddings, of whatever type.
        limit: Prompts kept, 1 or more. An SD 1.5 embedding takes 0.2 MB, one of SDXL 0.6 MB in float32.

    Attributes:
        encodes: How often `encode` was called.
    """

    def __init__(self, encode: Callable[[str], T], limit: int = 256) -> None:
        if limit < 1:
            raise ConfigError(f"embedding cache of {limit} prompts: expected 1 or more")
        self.encodes = 0
        self._encode = encode
        self._limit = limit
        self._kept: OrderedDict[str, T] = OrderedDict()

    def __call__(self, prompts: Iterable[str]) -> list[T]:
        """The embeddings, in order; a batch may hold more unique prompts than are kept."""
        wanted = list(prompts)
        unique = dict.fromkeys(wanted)
        # Those at hand first: a new one must not push out what this very batch needs.
        found = {prompt: self._kept[prompt] for prompt in unique if prompt in self._kept}
        for prompt in found:
            self._kept.move_to_end(prompt)
        for prompt in unique:
            if prompt not in found:
                self.encodes += 1
                found[prompt] = self._kept[prompt] = self._encode(prompt)
                if len(self._kept) > self._limit:
                    self._kept.popitem(last=False)
        return [found[prompt] for prompt in wanted]
