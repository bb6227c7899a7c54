"""Tiles from words, by any diffusers pipeline of text to image, or from another tile and words.

The model paints on a torus (`models/tiling`), so its tiles wrap; what they show is the model's affair. It fails where a
model cannot keep to a surface: objects, perspective and light from one side come with many words, and a model that
has learnt large pictures repeats itself in small ones. Transformers with position embeddings wrap by rolling, which
averages a seam over all steps: few steps average little.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synthaug import seeds
from synthaug.errors import ConfigError, printable
from synthaug.labels import Size
from synthaug.metrics.texture import as_colour
from synthaug.models.pipelines import Request
from synthaug.texture.exemplar import Tile, settled

if TYPE_CHECKING:
    from synthaug.models.tile_model import TileModel

_LONGEST = 2000


@dataclass(frozen=True, slots=True)
class Prompts:
    """Words for materials.

    Attributes:
        template: With `{surface}` in it.
        negative: Words against.
        surfaces: What a surface of a material may look like, by material.
    """

    template: str
    negative: str
    surfaces: Mapping[str, Sequence[str]]

    def words(self, material: str, seed: int) -> str:
        """The words for one tile: one of the material's surfaces, drawn by the tile's seed, in the template."""
        known = self.surfaces.get(material) or (f"{material} surface",)
        place = seeds.generator(seed, "texture", 0, "surface").random()
        return self.template.format(surface=known[int(place * len(known))])


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked of a model, the same for all tiles.

    Attributes:
        size: (height, width) in pixels.
        negative: Words against; empty for none.
        steps: Denoising steps at strength 1.
        guidance: Classifier-free guidance; 1 or less switches it off.
        strength: With a start: share of the denoising that is done; None for models that have none.
        batch: Tiles at a time.
    """

    size: Size
    negative: str = ""
    steps: int = 30
    guidance: float = 5.0
    strength: float | None = None
    batch: int = 1

    def check(self, model: TileModel, *, start: bool) -> None:
        """Raises `ConfigError` for what the model cannot do, with or without a tile to start from."""
        if self.strength is not None and not start:
            raise ConfigError(f"strength={self.strength} is for an exemplar to start from; give one, or no strength")
        negative = bool(self.negative)
        model.check(self.size, negative=negative, steps=self.steps, strength=self.strength, start=start)


def paint(
    model: TileModel, prompts: Sequence[str], tile_seeds: Sequence[int], wish: Wish, start: NDArray[Any] | None = None
) -> Iterator[Tile]:
    """One tile per prompt and seed, each a function of its own.

    A batch always has its full length, so that a tile's bytes do not depend on how many were asked for.

    Args:
        model: A loaded pipeline.
        prompts: One per tile, as the text encoder shall see them.
        tile_seeds: As many.
        wish: What they share.
        start: [h, w, 3] sRGB to start from, uint8 or float in [0, 1]; scaled to the size. It should wrap.

    Yields:
        Tiles in order; without pixels where the model's safety checker flags one (`safety`) or a value is not finite
        (`nonfinite`).

    Raises:
        ConfigError: A setting that the model does not have.
        InputError: A start of another form.
    """
    import torch

    wish.check(model, start=start is not None)
    first = None if start is None else _scaled(as_colour(start, "exemplar"), wish.size)
    for place in range(0, len(prompts), wish.batch):
        these = range(place, min(place + wish.batch, len(prompts)))
        asked = [
            Request(prompts[i], wish.negative, wish.strength, _noise_seed(tile_seeds[i]))
            for i in (*these, *[these[0]] * (wish.batch - len(these)))
        ]
        images = None
        if first is not None:
            images = torch.from_numpy(first).permute(2, 0, 1).expand(wish.batch, -1, -1, -1)
        made = model(asked, wish.size, steps=wish.steps, guidance=wish.guidance, start=images)
        pixels = made.images.permute(0, 2, 3, 1).to("cpu", torch.float32).numpy()
        for row, i in enumerate(these):
            reason = made.reasons[row]
            yield Tile(tile_seeds[i], None if reason else settled(pixels[row]), reason)


def checked_prompt(text: str, material: str) -> str:
    """Words as they were typed, with `{material}` filled in.

    Raises:
        ConfigError: Other braces, nothing at all, or too long a text.
    """
    try:
        found = " ".join(text.format(material=material).split())
    except (LookupError, ValueError) as error:
        raise ConfigError(f"prompt={printable(text)}: only {{material}} may stand in braces") from error
    if not found or len(found) > _LONGEST:
        raise ConfigError(f"prompt={printable(text[:80])}: expected words, at most {_LONGEST} characters")
    return found


def _noise_seed(seed: int) -> int:
    return seeds.fork(seeds.generator(seed, "texture", 0, "prompted"))


def _scaled(picture: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
    if picture.shape[:2] == tuple(size):
        return picture
    smaller = picture.shape[0] > size[0]
    resized = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
    return np.clip(resized, 0, 1).astype(np.float32)
