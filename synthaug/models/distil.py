"""A refiner in few steps: a pupil learns to do in one step what its teacher does in several.

Reflow (Liu, Gong & Liu, ICLR 2023) within windows of time, as in PeRFlow (Yan et al., NeurIPS 2024) and progressive
distillation (Salimans & Ho, ICLR 2022): the teacher is followed from noise to its end, and in each window the
pupil learns the straight way from where the teacher came in to where it went out. Places and ends are the teacher's
own, so nothing is averaged over what noise might have become: there is one right answer, and no second teacher.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import mse_loss

from synthaug.models import rectified

_WHOLE = 0.75
"""Share of the examples that start from pure noise; the rest starts where repairs start, at less strength."""
_WEAKEST = 0.3


class Teacher:
    """A trained refiner, run in `steps` steps, for a pupil of `pupil_steps`.

    Args:
        unet: The teacher's network; not changed.
        steps: Of the teacher, a multiple of `pupil_steps`.
        pupil_steps: Of the pupil, from 1.
    """

    def __init__(self, unet: Any, steps: int, pupil_steps: int) -> None:
        self._unet, self._each, self._windows = unet, steps // pupil_steps, pupil_steps

    def loss(
        self,
        pupil: Any,
        condition: torch.Tensor,
        noise: torch.Tensor,
        strength: torch.Tensor,
        maps: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Mean squared error of the pupil's velocity in all windows.

        Args:
            pupil: As `rectified.network` makes it.
            condition: [B, 3, H, W], sides a multiple of the network's.
            noise: [B, 12, H/2, W/2] standard normal.
            strength: [B] in (0, 1], times at which the flow starts.
            maps: As in `rectified.velocity`.
        """
        places, times = self.windows(condition, noise, strength, maps)
        count = self._windows
        start, end = torch.cat(places[:-1]), torch.cat(places[1:])
        length = (torch.cat(times[:-1]) - torch.cat(times[1:]))[:, None, None, None]
        told = None if maps is None else maps.repeat(count, 1, 1, 1)
        answer = rectified.velocity(pupil, start, condition.repeat(count, 1, 1, 1), torch.cat(times[:-1]), told)
        return mse_loss(answer.float(), (start - end) / length)

    @torch.no_grad()
    def windows(
        self, condition: torch.Tensor, noise: torch.Tensor, strength: torch.Tensor, maps: torch.Tensor | None = None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Where the teacher is at the borders of the windows, and when: `pupil_steps + 1` of each."""
        total = self._each * self._windows
        x = strength[:, None, None, None] * noise
        places, times = [x], [strength]
        for step in range(total):
            now = strength * (1 - step / total)
            answer = rectified.velocity(self._unet, x, condition, now, maps).float()
            x = x - (strength / total)[:, None, None, None] * answer
            if (step + 1) % self._each == 0:
                places.append(x)
                times.append(strength * (1 - (step + 1) / total))
        return places, times


def strengths(normals: torch.Tensor) -> torch.Tensor:
    """Where examples start, from standard normal numbers: most at 1, the rest evenly from 0.3 to 1."""
    share = torch.special.ndtr(normals)
    return torch.where(share < _WHOLE, 1.0, _WEAKEST + (1 - _WEAKEST) * (share - _WHOLE) / (1 - _WHOLE))
