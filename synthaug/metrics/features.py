"""What one named, fixed network sees in a picture: the encoder of TAESD's 32-channel successor, `taef2`.

A tiny autoencoder's encoder has to keep what a picture looks like, grain included, and was trained on photos; a
classifier's network forgets grain. Figures from different networks cannot be compared: report the digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from synthaug.errors import InputError
from synthaug.models.plain import check_safetensors

LEVELS = (5, 9, 13)
"""Layers whose 64 channels are kept: after the blocks at a half, a quarter and an eighth of the resolution."""
GRID = 4
"""Pooled features are of GRID x GRID tiles."""
SMALLEST = 8 * GRID


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Of one picture.

    Attributes:
        local: By level, [places, 64] float32: every place of that layer.
        pooled: [16, 384] float32: for each of 4x4 tiles of the picture, mean and spread of each channel and level.
    """

    local: Mapping[int, NDArray[np.float32]]
    pooled: NDArray[np.float32]


class _Block(nn.Module):
    def __init__(self, width: int, *, pooled: bool) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _conv(width, width), nn.ReLU(), _conv(width, width), nn.ReLU(), _conv(width, width)
        )  # fmt: skip
        self.pool: nn.Module | None = None
        if pooled:
            wide = 4 * width
            self.pool = nn.Sequential(
                nn.Conv2d(width, wide, 1, bias=False), nn.GroupNorm(4, wide), nn.ReLU(),
                nn.Conv2d(wide, width, 1, bias=False),
            )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return torch.relu(self.conv(x) + x)


class Taef2:
    """The encoder of taef2 (github.com/madebyollin/taesd, MIT), in float32 on the CPU.

    Attributes:
        digest: SHA-256 of the file of weights.
    """

    def __init__(self, weights: str | Path) -> None:
        """Loads a safetensors file of 2.7 MB.

        Raises:
            InputError: No such file, a truncated one, or the weights of another network.
            SecurityError: Not safetensors.
        """
        path = Path(weights)
        if not path.is_file():
            raise InputError(f"{path} is not a file; expected taef2_encoder.safetensors")
        check_safetensors(path, path.name)
        from safetensors.torch import load

        data = path.read_bytes()
        self.digest = hashlib.sha256(data).hexdigest()
        self._layers = _network()
        try:
            self._layers.load_state_dict({name: value.float() for name, value in load(data).items()}, strict=True)
        except RuntimeError as error:
            raise InputError(f"{path.name} holds another network than the encoder of taef2: {error}") from error

    @torch.inference_mode()
    def __call__(self, picture: NDArray[np.uint8]) -> Features:
        """Features of [H, W, 3] sRGB, 32x32 at least; 0.15 s for 256x256 on one core.

        Raises:
            InputError: Another shape or dtype.
        """
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or min(picture.shape[:2]) < SMALLEST:
            raise InputError(
                f"picture {picture.dtype}{list(picture.shape)}: expected uint8 [H, W, 3], {SMALLEST} pixels or more"
            )
        x = torch.from_numpy(picture.astype(np.float32) / np.float32(255)).permute(2, 0, 1)[None]
        local = dict[int, NDArray[np.float32]]()
        pooled: list[torch.Tensor] = []
        for number, layer in enumerate(self._layers):
            x = layer(x)
            if number in LEVELS:
                local[number] = x[0].permute(1, 2, 0).reshape(-1, x.shape[1]).numpy()
                pooled += _pooled(x[0])
            if number == LEVELS[-1]:
                break
        return Features(local, torch.cat(pooled).T.contiguous().numpy())


def _pooled(maps: torch.Tensor) -> list[torch.Tensor]:
    """Mean and spread of [C, H, W] in each tile, each [C, 16]; rows and columns that do not fit are left out."""
    height, width = (length // GRID for length in maps.shape[1:])
    tiles = maps[:, : height * GRID, : width * GRID].reshape(-1, GRID, height, GRID, width)
    flat = tiles.permute(0, 1, 3, 2, 4).reshape(len(maps), GRID * GRID, -1)
    return [flat.mean(-1), flat.std(-1, correction=0)]


def _conv(into: int, out: int, **more: Any) -> nn.Conv2d:
    return nn.Conv2d(into, out, 3, padding=1, **more)


def _network() -> nn.Sequential:
    """Four resolutions, three blocks at each but the first; the last ones see their whole neighbourhood's norm."""
    layers: list[nn.Module] = [_conv(3, 64), _Block(64, pooled=False)]
    for pooled in (False, False, True):
        layers.append(_conv(64, 64, stride=2, bias=False))
        layers += [_Block(64, pooled=pooled) for _ in range(3)]
    return nn.Sequential(*layers, _conv(64, 32)).eval()
