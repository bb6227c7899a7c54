"""Pictures through warps on the device, batch by batch: what `resample` does on the host, in torch.

Pictures only. Ids, depth and all other labels move on the host (`move`), where there is one rule for each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import Rejected
from synthaug.warp import sampling
from synthaug.warp.motion import Warp
from synthaug.warp.resample import Resampler, shrunk_window
from synthaug.warp.sampling import Sampling
from synthaug.warp.steps import Border
from synthaug.warp.whole import Turn

if TYPE_CHECKING:
    from torch import Tensor

Float64 = NDArray[np.float64]
Pixels = NDArray[Any]

_BAND = 1 << 24
"""Samples taken at once: bounds the memory of a strong minification to about 0.4 GB."""


def picture(images: Tensor, warps: Sequence[Warp], border: Border = "constant") -> Tensor:
    """Each picture through its warp in one resampling, anti-aliased as `Resampler.picture` is.

    Whole-pixel motions copy; a plain scaling down averages areas; any other minification averages a grid of
    samples; the rest is bilinear. Rounding apart, the values are the host's; what a picture becomes does not
    depend on its batch-mates.

    Args:
        images: [B, 3, H, W] float32 in [0, 1], never ids: they would be blended.
        warps: One per picture; all from one canvas to one canvas.
        border: `constant`: black outside; `reflect`: the picture mirrored at its edges.

    Returns:
        A new [B, 3, H', W'] tensor on the same device.

    Raises:
        TypeError: Not float32.
        Rejected: Under `warp`, when the pictures are not on the warps' source, or the canvases differ.
    """
    _check(images, warps)
    out = images.new_empty((*images.shape[:2], *warps[0].target))
    fine: dict[tuple[int, int], list[int]] = {}
    for index, warp in enumerate(warps):
        resampler = Resampler(warp)
        done = None if resampler.turn is None else _turned(images[index], resampler.turn, warp.target, border)
        if done is None and resampler.density != (1, 1):
            window = shrunk_window(warp)
            done = None if window is None else _averaged(images[index], window, warp.target)
        if done is None:
            fine.setdefault(resampler.density, []).append(index)
        else:
            out[index] = done
    for density, members in fine.items():
        whole = len(members) == len(warps)
        sampled = _sampled(images if whole else images[members], [warps[i] for i in members], density, border)
        if whole:
            return sampled
        out[members] = sampled
    return out


def pixels(values: Pixels, warp: Warp, border: Border, device: str) -> Pixels:
    """What `Resampler.picture` makes of [H, W, 3] pixels on the host, computed on `device`.

    8-bit pixels travel as bytes and are rounded once; they come out within one step of the host's.

    Args:
        values: uint8, or float32 in any range, HDR included.
        warp: The motion.
        border: As for `picture`.
        device: As torch names it.

    Returns:
        Same dtype on the target canvas, in host memory.
    """
    import torch

    whole = values.dtype == np.uint8
    with torch.inference_mode():
        sent = torch.as_tensor(values.copy(), device=device).permute(2, 0, 1)[None].to(torch.float32)
        found = picture(sent.contiguous(), [warp], border)
        found = found.round_().clamp_(0, 255).to(torch.uint8) if whole else found
        return found[0].permute(1, 2, 0).contiguous().to("cpu").numpy()


def _check(images: Tensor, warps: Sequence[Warp]) -> None:
    if str(images.dtype) != "torch.float32":
        raise TypeError(f"pictures of {images.dtype}; only float32 in [0, 1] is resampled here, ids and maps never")
    canvases = {(warp.source, warp.target) for warp in warps}
    if len(warps) != len(images) or len(canvases) != 1 or warps[0].source != tuple(images.shape[2:]):
        raise Rejected("warp", f"{len(warps)} warps {sorted(canvases)} do not fit pictures {tuple(images.shape)}")


def _turned(image: Tensor, turn: Turn, size: tuple[int, int], border: Border) -> Tensor | None:
    """[3, H, W] moved by whole pixels; None where the edges would have to be reflected."""
    moved = image.transpose(1, 2) if turn.transposed else image
    moved = moved.flip([axis for axis, turned in ((1, turn.flip_y), (2, turn.flip_x)) if turned])
    y0, x0 = max(turn.top, 0), max(turn.left, 0)
    y1, x1 = min(turn.top + moved.shape[1], size[0]), min(turn.left + moved.shape[2], size[1])
    if (y0, x0, y1, x1) == (0, 0, *size):
        return moved[:, -turn.top : size[0] - turn.top, -turn.left : size[1] - turn.left]
    if border != "constant":
        return None
    out = image.new_zeros((len(image), *size))
    if y1 > y0 and x1 > x0:
        out[:, y0:y1, x0:x1] = moved[:, y0 - turn.top : y1 - turn.top, x0 - turn.left : x1 - turn.left]
    return out


def _averaged(image: Tensor, window: tuple[int, int, int, int], size: tuple[int, int]) -> Tensor:
    """[3, H, W] scaled down: every target pixel is the mean over its area, parts of pixels by their share."""
    import torch

    x0, y0, x1, y1 = window
    for axis, start, stop, count in ((1, y0, y1, size[0]), (2, x0, x1, size[1])):
        ratio = (stop - start) / count
        edges = start + np.arange(count + 1) * ratio
        shape = [-1 if i == axis else 1 for i in range(3)]
        total = image.new_zeros([count if i == axis else side for i, side in enumerate(image.shape)])
        for tap in range(int(np.ceil(ratio)) + 1):
            place = np.floor(edges[:-1] + 1e-9).astype(np.int64) + tap
            share = np.minimum(edges[1:], place + 1) - np.maximum(edges[:-1], place)
            weight = image.new_tensor(np.maximum(share, 0.0) / ratio).view(shape)
            places = torch.as_tensor(np.minimum(place, stop - 1), device=image.device)
            total.addcmul_(image.index_select(axis, places), weight)
        image = total
    return image


def _sampled(images: Tensor, warps: Sequence[Warp], density: tuple[int, int], border: Border) -> Tensor:
    """[N, 3, H', W']: `density` samples down and across in every target pixel, averaged."""
    from torch.nn import functional

    height, width = warps[0].target
    out = images.new_empty((*images.shape[:2], height, width))
    rows = max(1, _BAND // (len(warps) * width * density[0] * density[1]))
    mode = "zeros" if border == "constant" else "reflection"
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        places = _grids([sampling.fine(warp, density, top, bottom) for warp in warps], images)
        samples = functional.grid_sample(images, places, mode="bilinear", padding_mode=mode, align_corners=False)
        out[:, :, top:bottom] = samples if density == (1, 1) else functional.avg_pool2d(samples, density)
    return out


def _grids(samplings: Sequence[Sampling], images: Tensor) -> Tensor:
    """[N, H', W', 2] source x and y, from -1 at one edge of the picture to 1 at the other.

    OpenCV's count, from which a sampling starts, has its 0 at the first pixel's centre, half a pixel inside.
    """
    import torch

    height, width = images.shape[2:]
    unit = np.array([[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1.0]])
    places = images.new_empty((len(samplings), *samplings[0].size, 2))
    for sampling_, place in zip(samplings, places, strict=True):
        if sampling_.maps is not None:
            maps = torch.as_tensor(sampling_.maps, device=images.device)
            for axis in (0, 1):
                torch.add(maps[axis] * unit[axis, axis], unit[axis, 2], out=place[..., axis])
            continue
        assert sampling_.matrix is not None
        rows, columns = sampling_.size
        across, down = _sums(unit @ sampling_.matrix, rows, columns)
        x, y, w = (
            torch.as_tensor(across, device=images.device)[:, None]
            + torch.as_tensor(down, device=images.device)[:, :, None]
        )
        torch.div(x, w, out=place[..., 0])
        torch.div(y, w, out=place[..., 1])
    return places


def _sums(matrix: Float64, rows: int, columns: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """[3, W] and [3, H] parts of matrix @ (column, row, 1), each rounded from float64 once."""
    across = matrix[:, :1] * np.arange(columns)
    down = matrix[:, 1:2] * np.arange(rows) + matrix[:, 2:]
    return across.astype(np.float32), down.astype(np.float32)
