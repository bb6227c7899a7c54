"""Whether a picture is finite, seen before a clamp makes an infinity a plain white."""

from __future__ import annotations

from typing import Any


class FiniteWatch:
    """Looks at what the VAE decoded before it is clamped: the clamp makes an infinity a plain white.

    Args:
        processor: The pipeline's own image processor; its `postprocess` is wrapped on this one object.
    """

    def __init__(self, processor: Any) -> None:
        self._count = 0
        self._seen: list[Any] = []
        self._inner = processor.postprocess
        processor.postprocess = self._watched

    @property
    def alive(self) -> list[bool]:
        """By picture. Waits for the device, once for all that was seen."""
        import torch

        if not self._seen:
            return [True] * self._count
        return torch.stack(self._seen).all(0).tolist()

    def reset(self, count: int) -> None:
        """Before each call: every picture is alive until seen otherwise."""
        self._count = count
        self._seen = []

    def see(self, image: Any) -> None:
        """Looks at [B, ...] values, for pipelines that clip before they process; [2 B, ...] where guidance runs both
        halves at once."""
        import torch

        if isinstance(image, torch.Tensor) and self._count and len(image) % self._count == 0:
            self._seen.append(torch.isfinite(image).flatten(1).all(1).view(-1, self._count).all(0))

    def _watched(self, image: Any, *args: Any, **kwargs: Any) -> Any:
        self.see(image)
        return self._inner(image, *args, **kwargs)
