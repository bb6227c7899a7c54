"""Whether a picture is finite, seen before a clamp makes an infinity a plain white."""

from __future__ import annotations

from typing import Any


class FiniteWatch:
    """Looks at what the VAE decoded before it is clamped: the clamp makes an infinity a plain white.

    Args:
        processor: The pipeline's own image processor; its `postprocess` is wrapped on this one object.
    """

    def __init__(self, processor: Any) -> None:
        self.alive: list[bool] = []
        self._inner = processor.postprocess
        processor.postprocess = self._watched

    def reset(self, count: int) -> None:
        """Before each call: every picture is alive until seen otherwise."""
        self.alive = [True] * count

    def see(self, image: Any) -> None:
        """Looks at [B, ...] values that were decoded, for pipelines that clip them before they process them."""
        import torch

        if isinstance(image, torch.Tensor) and len(image) == len(self.alive):
            finite = torch.isfinite(image).flatten(1).all(1).tolist()
            self.alive = [a and b for a, b in zip(self.alive, finite, strict=True)]

    def _watched(self, image: Any, *args: Any, **kwargs: Any) -> Any:
        self.see(image)
        return self._inner(image, *args, **kwargs)
