"""A detector of small things that trains in minutes on one core: what a set of training pictures is worth downstream.

Objects are centres on a map of a quarter of the resolution (Zhou, Wang and Kraehenbuehl, "Objects as points", 2019);
one map says where an object is, others which class, how large and how far from the cell its centre is. Own code because
a detector with pretrained weights would measure those; 0.3 million parameters, no weights from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from synthaug.errors import InputError
from synthaug.metrics.average_precision import Boxes, overlap

STRIDE = 4
TYPICAL = 16.0
"""Pixels: boxes are predicted as the logarithm of their sides over it."""
LEAST, MOST = 0.01, 100
"""Objects below this score are not reported; so many of one picture at most."""
APART = 0.5
"""Of two centres whose boxes overlap by more, one is reported."""
_MULTIPLE = 8
_RARE = -4.0


class Detector(nn.Module):
    """The network; made by `downstream.fit`.

    Attributes:
        classes: How many; their ids are 1 to `classes`.
    """

    def __init__(self, classes: int) -> None:
        """Random weights, from torch's own generator."""
        super().__init__()
        self.classes = classes
        self.stem = _conv(12, 24)
        self.quarter = nn.Sequential(_conv(24, 48, stride=2), _Residual(48), _Residual(48))
        self.eighth = nn.Sequential(_conv(48, 64, stride=2), _Residual(64), _Residual(64))
        self.up = nn.Conv2d(64, 48, 1)
        self.joined = _conv(48, 48)
        self.out = nn.Conv2d(48, 5 + classes, 1)
        # Objects are rare: a head that starts by saying so spares the first hundred steps (Lin et al., ICCV 2017).
        with torch.no_grad():
            self.out.weight.zero_()
            self.out.bias.copy_(torch.tensor([_RARE] + [0.0] * (4 + classes)))  # pyright: ignore[reportOptionalMemberAccess]

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Maps of [B, 3, H, W] in [0, 1], sides multiples of 8.

        Returns:
            [B, 5 + classes, H / 4, W / 4]: logit of an object, centre (x, y, cells from the cell's middle), logarithm
            of width and height over `TYPICAL`, logits of the classes.
        """
        fine = self.quarter(self.stem(nn.functional.pixel_unshuffle(pictures - 0.5, 2)))
        coarse = nn.functional.interpolate(self.up(self.eighth(fine)), scale_factor=2.0)
        return self.out(self.joined(fine + coarse))

    @torch.inference_mode()
    def detect(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Boxes]:
        """What is in each [H, W, 3] sRGB picture; each object once for every class, with that class's score.

        About 20 ms for 320x320 on one core.

        Raises:
            InputError: Another shape or dtype.
        """
        self.eval()
        return [self._one(picture) for picture in pictures]

    def _one(self, picture: NDArray[np.uint8]) -> Boxes:
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise InputError(f"picture {picture.dtype}{list(picture.shape)}: expected uint8 [H, W, 3]")
        more = [(0, -side % _MULTIPLE) for side in picture.shape[:2]]
        whole = np.pad(picture, [*more, (0, 0)], mode="edge").astype(np.float32) / np.float32(255)
        maps = self(torch.from_numpy(whole).permute(2, 0, 1)[None])[0]
        heat = torch.sigmoid(maps[0])
        peak = heat == nn.functional.max_pool2d(heat[None], 3, stride=1, padding=1)[0]
        rows, columns = (peak & (heat >= LEAST)).nonzero(as_tuple=True)
        order = heat[rows, columns].argsort(descending=True, stable=True)[:MOST]
        rows, columns = rows[order], columns[order]
        at = maps[:, rows, columns].double().numpy()
        centres = (np.stack([columns.numpy(), rows.numpy()]) + 0.5 + at[1:3]) * STRIDE
        halves = np.exp(at[3:5].clip(-3, 5)) * TYPICAL / 2
        corners = np.concatenate([centres - halves, centres + halves]).T
        shares = torch.softmax(maps[5:, rows, columns], 0).numpy()
        kept = _distinct(corners)
        scores = (heat[rows, columns].numpy() * shares).T[kept]
        named = np.tile(np.arange(1, self.classes + 1), len(kept))
        return Boxes(np.repeat(corners[kept], self.classes, axis=0).astype(np.float32), named, scores.reshape(-1))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv(width, width)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.second(self.first(x)))


def _conv(into: int, out: int, **more: Any) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(into, out, 3, padding=1, bias=False, **more), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
    )


def _distinct(corners: NDArray[np.float64]) -> list[int]:
    """Rows of [N, 4], best first, that overlap none before them by more than `APART`."""
    table = overlap(corners, corners)
    kept: list[int] = []
    for number in range(len(corners)):
        if all(table[number, other] <= APART for other in kept):
            kept.append(number)
    return kept
