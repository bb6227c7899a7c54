"""Tiles by diffusers pipelines, from words alone or from another tile: made on a torus, so that they wrap."""

from __future__ import annotations

import inspect as signatures
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthaug.errors import ConfigError
from synthaug.labels import Size
from synthaug.models import capabilities, loras, opening
from synthaug.models.hashes import joined
from synthaug.models.loras import Lora
from synthaug.models.native import NativeRun, Task
from synthaug.models.pipelines import Img2ImgModel, Output, Request
from synthaug.models.snapshot import Snapshot, inspect
from synthaug.models.table import OPTIONS

if TYPE_CHECKING:
    import torch


class TileModel:
    """A loaded pipeline that makes tiles. Each depends on its own request alone, as in `Img2ImgModel`.

    Attributes:
        snapshot: What was loaded.
        multiple: Sides of tiles are multiples of this many pixels.
        pictures: The same networks, from picture to picture.
        device: Where it runs.
    """

    def __init__(self, pipe: Any, snapshot: Snapshot, prior: Any = None) -> None:
        self.snapshot = snapshot
        self.device = str(pipe.device)
        self.pictures = Img2ImgModel(pipe, snapshot, prior)
        self.multiple = self.pictures.multiple
        family = snapshot.family
        self._words: NativeRun | None = None
        if family.text2img:
            own = family.text2img == type(pipe).__name__
            self._words = self.pictures.native if own else NativeRun(_beside(pipe, family.text2img), family, prior)
        if family.flow:
            for run in (self.pictures.native, self._words):
                if run is not None:
                    run.token = self.pictures.factor * family.patch

    def check(self, size: Size, *, negative: bool, steps: int, strength: float | None, start: bool) -> None:
        """Refuses what this model cannot do. Raises `ConfigError`.

        Args:
            size: (height, width) of a tile.
            negative: Whether there are words against.
            steps: Denoising steps at strength 1.
            strength: Of a tile from another; None from words alone, and for families that have none.
            start: Whether there is a tile to start from.
        """
        family, unit = self.snapshot.family, self.multiple
        for side in size:
            if side < unit or side % unit:
                near = sorted({max(unit, side // unit * unit), -(-side // unit) * unit})
                raise ConfigError(
                    f"size={side}: tiles of {family.name} have sides that are multiples of {unit}, or they would not"
                    f" wrap; use {' or '.join(map(str, near))}"
                )
        if start:
            self.pictures.check(negative=negative, steps=steps, strength=strength)
            return
        if self._words is None:
            raise ConfigError(f"{family.name} makes no picture of words alone here; give a tile to start from")
        capabilities.refuse(family, ["negative_prompt"] if negative else [])

    def __call__(
        self,
        requests: Sequence[Request],
        size: Size,
        *,
        steps: int,
        guidance: float,
        start: torch.Tensor | None = None,
    ) -> Output:
        """Makes one tile per request.

        Args:
            requests: Words and seeds; their strength counts where there is a start.
            size: (height, width) of the tiles, multiples of `multiple`.
            steps: Denoising steps at strength 1.
            guidance: Classifier-free guidance; 1 or less switches it off.
            start: [B, 3, H, W] in [0, 1], of that size, which should wrap itself; None from words alone.

        Raises:
            ConfigError: As `check`, and settings that the pipeline itself refuses.
        """
        from synthaug.models.tiling import Torus

        negative = any(request.negative for request in requests)
        for strength in {request.strength for request in requests}:
            self.check(size, negative=negative, steps=steps, strength=strength, start=start is not None)
        with Torus():
            if start is not None:
                return self.pictures(start.to(self.device), requests, steps=steps, guidance=guidance)
            return self._from_words(requests, size, steps, guidance)

    def _from_words(self, requests: Sequence[Request], size: Size, steps: int, guidance: float) -> Output:
        import torch

        assert self._words is not None
        nothing = torch.empty((len(requests), 0, *size))
        prompts, negatives = [r.prompt for r in requests], [r.negative for r in requests]
        made = self._words(Task(nothing, prompts, negatives, [r.seed for r in requests], None, steps, guidance))
        pixels = made.pixels.clamp(0, 1)
        reasons = [
            "safety" if flagged else "" if alive else "nonfinite"
            for flagged, alive in zip(made.flagged, made.alive, strict=True)
        ]
        for i, reason in enumerate(reasons):
            if reason:
                pixels[i] = torch.nan
        return Output(pixels, tuple(reasons))


def open_tiles(
    path: str | Path, *, device: str, dtype: str, base: str | Path = "", stack: Sequence[Lora] = ()
) -> TileModel:
    """Loads a pipeline for tiles; arguments and errors are those of `pipelines.open_img2img`.

    Args:
        path: A diffusers pipeline folder of a family in our table, or one safetensors file.
        device: `cpu`, `cuda:0`, ...
        dtype: `float32`, `bfloat16` or `float16`.
        base: What the model lacks.
        stack: LoRAs, added to the model's weights; its digest takes theirs up.
    """
    snapshot = inspect(path, base)
    if stack:
        capabilities.refuse(snapshot.family, ["loras"])
        told = [f"{one.digest()} {one.weight!r}" for one in stack]
        snapshot = replace(snapshot, digest=joined(snapshot.digest, *told))
    opened = opening.open_pipe(snapshot, device=device, dtype=dtype)
    if stack:
        loras.merge(opened.pipe, stack)
    return TileModel(opened.pipe, snapshot, opened.prior)


def _beside(pipe: Any, cls_name: str) -> Any:
    """Another pipeline around the same networks."""
    import diffusers

    cls: Any = getattr(diffusers, cls_name)
    wanted = signatures.signature(cls.__init__).parameters
    parts = {name: part for name, part in pipe.components.items() if name in wanted}
    options = {name: pipe.config[name] for name in OPTIONS if name in wanted and name in pipe.config}
    with warnings.catch_warnings():  # of old schedulers: said once when the model was opened
        warnings.simplefilter("ignore")
        made = cls(**parts, **options)
    made.set_progress_bar_config(disable=True)
    return made
