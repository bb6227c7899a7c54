"""A tile as a page of code words, and a language model that writes such pages.

Van den Oord, Vinyals and Kavukcuoglu, "Neural discrete representation learning" (NeurIPS 2017), with a transformer as
the prior: Ramesh et al., "Zero-shot text-to-image generation" (DALL-E, ICML 2021), Esser, Rombach and Ommer, "Taming
transformers" (CVPR 2021). Autoencoder and quantiser are diffusers', the transformer is GPT-2 of transformers.

The autoencoder wraps, so rolling a tile by cells rolls its codes. The transformer writes in raster order, but is told
of each cell which of its eight neighbours *on the torus* are written already: the last row is written to fit the
first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synthaug import seeds as philox
from synthaug.errors import ConfigError
from synthaug.models.texture.critic import Critic, hinge
from synthaug.models.texture.family import (
    Recipe,
    TextureModel,
    descend,
    drawn,
    moved,
    normals,
    periodic,
    scalars,
    uniforms,
    wrapping,
)
from synthaug.models.texture.looks import Looks, alike, levelled, look_of, toned

_CELL = 4
_GRAIN = 4
"""Numbers of noise per cell, from which the decoder makes what no word says."""
_COARSE = 1.0
"""Weight of the error of colours per cell, against a mean absolute error of 1."""
_OPINION = 0.25
"""Pull of the critic on the pixels, as a share of that of the error (Esser et al., equation 7)."""
_NEIGHBOURS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
_SOFT = 0.3
"""Share of the autoencoder's steps in which its latents turn into code words: what it cannot tell yet, no word can."""
_LEAST_USED = 0.1
"""A code word that is used less often than this share of an even use, in a running mean, is given up."""


class VQTransformer(TextureModel):
    """Discrete autoencoder (cells of 4 x 4 pixels) and transformer, trained one after the other.

    Words say structure alone: colours and contrast are those of a look, drawn first (`looks`). Good at structure over
    the whole tile: bricks, tiles, grates. Fails in grain, which no word holds and a critic only asks for, and makes
    tiles of the side that it learnt from alone.

    Args:
        side: Of the tiles, pixels.
        classes: How many; 0 for none.
        width: Channels of the autoencoder.
        codes: Words of the code book.
        depth: Numbers of a word.
        hidden: Width of the transformer.
        layers: Of the transformer.
        heads: Of each layer.
        first: Share of all steps in which the autoencoder is trained; the transformer has the rest.
    """

    family: ClassVar[str] = "vq_transformer"
    recipe: ClassVar[Recipe] = Recipe(steps=3500, batch=8, lr=2e-3)
    training_only: ClassVar[tuple[str, ...]] = ("told", "critic")
    any_side: ClassVar[bool] = False

    told: Tensor

    def __init__(
        self,
        *,
        side: int = 64,
        classes: int = 0,
        width: int = 32,
        codes: int = 512,
        depth: int = 6,
        hidden: int = 128,
        layers: int = 4,
        heads: int = 4,
        first: float = 0.3,
    ) -> None:
        super().__init__(
            side=side,
            classes=classes,
            width=width,
            codes=codes,
            depth=depth,
            hidden=hidden,
            layers=layers,
            heads=heads,
            first=first,
        )
        if hidden % heads or not 0 < first < 1:
            raise ConfigError(
                f"hidden={hidden}, heads={heads}, first={first}: expected a hidden width that is a multiple of heads, "
                "and a share between 0 and 1"
            )
        self.codes, self.first, self.cells = codes, first, side // _CELL
        self.tokenizer = _Tokenizer(width, codes, depth)
        self.prior = _Prior(self.cells, codes, classes, hidden, layers, heads)
        self.critic = Critic(width, classes=classes)
        self.register_buffer("told", torch.tensor([1.0, math.log2(codes)]))

    def optimisers(self, lr: float) -> list[torch.optim.Optimizer]:
        """Of the autoencoder, of the transformer, and of the critic."""
        both = [torch.optim.AdamW(part.parameters(), lr=lr, betas=(0.9, 0.99)) for part in (self.tokenizer, self.prior)]
        return [*both, torch.optim.Adam(self.critic.parameters(), lr=lr, betas=(0.5, 0.99))]

    def fit(
        self,
        images: Tensor,
        labels: Tensor | None,
        optimisers: Sequence[torch.optim.Optimizer],
        progress: float,
        rng: torch.Generator,
    ) -> dict[str, Tensor]:
        """A step of the autoencoder, or of the transformer.

        `loss` is that of the one that learns; `reconstruction` (mean absolute) and `bits` of a word are the last known.
        """
        if progress < self.first:
            loss = self._fit_tokenizer(images, labels, optimisers, progress / self.first, rng)
        else:
            loss = self._fit_prior(images, labels, optimisers[1], rng)
        return scalars({"loss": loss, "reconstruction": self.told[0].clone(), "bits": self.told[1].clone()})

    def _fit_tokenizer(
        self,
        images: Tensor,
        labels: Tensor | None,
        optimisers: Sequence[torch.optim.Optimizer],
        progress: float,
        rng: torch.Generator,
    ) -> Tensor:
        look = look_of(images)
        structure, commitment = self.tokenizer(levelled(images, look), min(1.0, progress / _SOFT), rng)
        made = toned(structure, look)
        error, coarse = (made - images).abs().mean(), F.avg_pool2d(made - images, _CELL).abs().mean()
        wrong, loss = error + _COARSE * coarse, error + _COARSE * coarse + commitment
        if progress >= _SOFT:
            opinion = -self.critic(made, labels).mean()
            pulls = [torch.autograd.grad(part, made, retain_graph=True)[0].norm() for part in (wrong, opinion)]
            descend(loss + _OPINION * pulls[0] / (pulls[1] + 1e-8) * opinion, optimisers[0])
            descend(hinge(self.critic(images, labels), self.critic(made.detach(), labels)), optimisers[2])
        else:
            descend(loss, optimisers[0])
        self.told[0] = error.detach()
        return loss

    def _fit_prior(
        self, images: Tensor, labels: Tensor | None, optimiser: torch.optim.Optimizer, rng: torch.Generator
    ) -> Tensor:
        looks = self.prior.looks
        with torch.no_grad():
            words = self.tokenizer.words(levelled(images, look_of(images))).flatten(1)
        logits = self.prior(words, looks(looks.learn(images, labels, rng), labels))
        loss = F.cross_entropy(logits.flatten(0, 1), words.flatten())
        descend(loss, optimiser)
        self.told[1] = loss.detach() / math.log(2)
        return loss

    @torch.no_grad()
    def sample(self, labels: Tensor | None, seeds: Sequence[int], side: int) -> Tensor:
        """As the contract says. One pass of the transformer per cell, over its cache."""
        labels = self.wanted(labels, seeds, side)
        apart = [philox.fork(philox.from_seed(seed)) for seed in seeds]
        grain = normals(apart, (_GRAIN, self.cells, self.cells), self.device)
        look = self.prior.looks.draw(seeds, labels)
        words = self.prior.write(self.prior.looks(look, labels), uniforms(seeds, (self.cells**2,), self.device))
        structure = self.tokenizer.decoded(words.unflatten(1, (self.cells, self.cells)), grain)
        return moved(alike(periodic(structure), look), seeds).clamp(-1, 1)


class _Tokenizer(nn.Module):
    """Autoencoder with a code book; it wraps.

    One linear layer reads each cell, a network adds what its neighbours say. Four pixels are one at the door of both
    networks, so that they are cheap.
    """

    used: Tensor

    def __init__(self, width: int, codes: int, depth: int) -> None:
        super().__init__()
        from diffusers.models.autoencoders.vae import DecoderTiny, EncoderTiny, VectorQuantizer

        self.read = nn.Conv2d(3 * _CELL**2, depth, 1)
        self.encoder = wrapping(EncoderTiny(12, depth, (1, 1), (width, width), "relu"))
        self.decoder = wrapping(DecoderTiny(depth + _GRAIN, 12, (2, 1), (width, width), 2, "relu", "nearest"))
        self.book: Any = VectorQuantizer(codes, depth, beta=0.25, legacy=False, sane_index_shape=True)
        self.register_buffer("used", torch.zeros(codes))

    def forward(self, images: Tensor, hardness: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """What comes back, and how far the latents are from their code words, of which the decoder sees a share."""
        latents = self._latents(images)
        quantised, commitment, (_, _, words) = self.book(latents)
        self._revive(latents.detach(), words, rng)
        grain = drawn(rng, (len(images), _GRAIN, *latents.shape[2:]), latents)
        return self._shown(torch.lerp(latents, quantised, hardness), grain), commitment

    def words(self, images: Tensor) -> Tensor:
        """[B, side / 4, side / 4] numbers of code words, of [B, 3, side, side] levelled tiles."""
        return self.book(self._latents(images))[2][2]

    def decoded(self, words: Tensor, grain: Tensor) -> Tensor:
        """[B, 3, side, side], levelled, of [B, side / 4, side / 4] words and [B, 4, side / 4, side / 4] noise."""
        return self._shown(self.book.embedding(words).movedim(-1, 1), grain)

    def _latents(self, images: Tensor) -> Tensor:
        found = self.read(F.pixel_unshuffle(images, _CELL)) + self.encoder(F.pixel_unshuffle(images, 2))
        return found.to(self.book.embedding.weight)

    def _shown(self, latents: Tensor, grain: Tensor) -> Tensor:
        return F.pixel_shuffle(self.decoder(torch.cat([latents, grain], 1)), 2)

    @torch.no_grad()
    def _revive(self, latents: Tensor, words: Tensor, rng: torch.Generator) -> None:
        """Moves code words that nobody uses to latents of this batch: a book learns only where it is read."""
        counts = torch.bincount(words.flatten(), minlength=len(self.used))
        self.used.lerp_(counts / counts.sum() * len(self.used), 0.02)
        dead = (self.used < _LEAST_USED).nonzero()[:, 0]
        places = latents.movedim(1, -1).flatten(0, 2)
        chosen = torch.randint(len(places), (len(dead),), generator=rng).to(places.device)
        self.book.embedding.weight[dead] = places[chosen].to(self.book.embedding.weight)
        self.used[dead] = 1.0


class _Prior(nn.Module):
    """GPT-2 over the words of a tile, told of its look at every word."""

    known: Tensor

    def __init__(self, cells: int, codes: int, classes: int, hidden: int, layers: int, heads: int) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2Model

        settings = GPT2Config(
            vocab_size=codes + 1,
            bos_token_id=None,
            eos_token_id=None,
            n_positions=cells**2,
            n_embd=hidden,
            n_layer=layers,
            n_head=heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
        self.codes, self.transformer = codes, GPT2Model(settings)
        self.neighbours = nn.Embedding(codes + 1, hidden // 4, padding_idx=codes)
        self.around = nn.Linear(hidden // 4 * len(_NEIGHBOURS), hidden)
        self.logits = nn.Linear(hidden, codes)
        self.looks = Looks(hidden, classes)
        self.register_buffer("known", _known(cells), persistent=False)

    def forward(self, words: Tensor, look: Tensor) -> Tensor:
        """Logits [B, T, codes] of each word, given those before it, and the look as `looks` tells it."""
        read = torch.cat([torch.full_like(words[:, :1], self.codes), words[:, :-1]], 1)
        inputs = self.transformer.wte(read) + self._told(words, slice(None)) + look[:, None]
        return self.logits(self.transformer(inputs_embeds=inputs, use_cache=False).last_hidden_state)

    def write(self, look: Tensor, chances: Tensor) -> Tensor:
        """[B, T] words, from uniform numbers [B, T]: the inverse of the distribution, word by word."""
        words = torch.full(chances.shape, self.codes, device=chances.device)
        read, cache = words[:, :1], None
        for place in range(words.shape[1]):
            inputs = self.transformer.wte(read) + self._told(words, slice(place, place + 1)) + look[:, None]
            found = self.transformer(inputs_embeds=inputs, past_key_values=cache, use_cache=True)
            cache = found.past_key_values
            sums = self.logits(found.last_hidden_state[:, -1]).softmax(-1).cumsum(-1)
            read = (sums < chances[:, place, None]).sum(-1, keepdim=True).clamp_(max=self.codes - 1)
            words[:, place] = read[:, 0]
        return words

    def _told(self, words: Tensor, places: slice) -> Tensor:
        """[B, T, hidden] of the neighbours that are written before each place."""
        nothing = torch.full_like(words[:, :1], self.codes)
        found = torch.cat([words, nothing], 1)[:, self.known[places]]
        return self.around(self.neighbours(found).flatten(2))


def _known(cells: int) -> Tensor:
    """[T, 8] places of the neighbours of each place on the torus, T for those that are written later."""
    rows, columns = torch.meshgrid(torch.arange(cells), torch.arange(cells), indexing="ij")
    found = [(rows + y) % cells * cells + (columns + x) % cells for y, x in _NEIGHBOURS]
    places = torch.stack(found, -1).flatten(0, 1)
    own = torch.arange(cells**2)[:, None]
    return torch.where(places < own, places, cells**2)
