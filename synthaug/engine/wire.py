"""Pictures on their way to the device and back: as bytes where they are bytes, beside what the device computes.

On CUDA, copies go through page-locked memory on streams of their own, so neither the device nor the thread that
computes waits for them. Everywhere else they are plain copies; the values are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synthaug.engine import appearance
from synthaug.sample import Picture, Space

if TYPE_CHECKING:
    from torch import Tensor


def sent(pictures: Sequence[Picture], space: Space, device: str) -> Tensor:
    """[B, 3, H, W] float32 in `space` on the device; 8-bit sRGB travels as bytes and is divided there.

    Args:
        pictures: Of one size.
        device: As torch names it.
    """
    import torch

    if space == "srgb" and all(picture.pixels.dtype == np.uint8 for picture in pictures):
        there = _up([picture.pixels for picture in pictures], device)
        return there.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    return _up([appearance.to_planes(picture, space)[0] for picture in pictures], device)


@dataclass(frozen=True, slots=True)
class Packed:
    """A batch that is computed, or will be when `ready` has happened: [B, H, W, 3] on the device."""

    pixels: Tensor
    ready: Any


def packed(images: Tensor, *, as_bytes: bool) -> Packed:
    """Makes [B, 3, H, W] ready to travel; call it in the turn of what computed them, which it ends.

    Args:
        as_bytes: Rounds [0, 1] to 0..255, on the device.
    """
    import torch

    values = (images * 255).round_().to(torch.uint8) if as_bytes else images
    pixels = values.permute(0, 2, 3, 1).contiguous()
    if not pixels.is_cuda:
        return Packed(pixels, None)
    ready = torch.cuda.Event()
    ready.record(torch.cuda.current_stream(pixels.device))
    return Packed(pixels, ready)


def fetched(there: Packed) -> NDArray[Any]:
    """The batch on the host; waits for its own copy alone, not for what the device was given since."""
    import torch

    if there.ready is None:
        return there.pixels.to("cpu").numpy()
    stream = _streams(str(there.pixels.device))[1]
    here = torch.empty(there.pixels.shape, dtype=there.pixels.dtype, pin_memory=True)
    arrived = torch.cuda.Event(blocking=True)  # the thread sleeps: its processor encodes meanwhile
    with torch.cuda.stream(stream):
        stream.wait_event(there.ready)
        here.copy_(there.pixels, non_blocking=True)
        arrived.record(stream)
    there.pixels.record_stream(stream)
    arrived.synchronize()
    return here.numpy()


def _up(rows: Sequence[NDArray[Any]], device: str) -> Tensor:
    """Rows of one shape, stacked on the device."""
    import torch

    if not device.startswith("cuda"):
        return torch.as_tensor(np.stack(rows), device=device)
    kind = getattr(torch, rows[0].dtype.name)
    here = torch.empty((len(rows), *rows[0].shape), dtype=kind, pin_memory=True)
    np.stack(rows, out=here.numpy())
    stream, current = _streams(device)[0], torch.cuda.current_stream(device)
    with torch.cuda.stream(stream):
        there = here.to(device, non_blocking=True)
    current.wait_stream(stream)
    there.record_stream(current)
    return there


@cache
def _streams(device: str) -> tuple[Any, Any]:
    """One for each direction."""
    import torch

    return torch.cuda.Stream(device), torch.cuda.Stream(device)
