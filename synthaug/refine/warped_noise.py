"""Noise that sticks to surfaces, so that a sequence of frames keeps its look.

Warped noise has to stay white, or the model sees a picture where there should be none ("How I Warped Your Noise",
Chang et al., ICLR 2024, who transport it as an integral over areas). The practical form here moves whole values
between fine pixels and uses none twice; what is uncovered gets fresh noise. Which value goes where depends on geometry
alone, so the result is exactly independent and exactly normal. `reduced` sums fine pixels to the model's grid, again
exactly normal; by it noise moves by parts of a latent place.

Two ways: `carry` takes the noise of one frame to the next, by the renderer's flow or by depth and poses
(`correspond`). `of_surfaces` needs no other frame: what the noise of a few pixels sums to is a hash of the place on
the surface that they show, so it is a function of the seed and of the frame's own labels, and frames can be done in any
order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from synthaug import seeds
from synthaug.errors import Rejected
from synthaug.labels import Labels
from synthaug.refine.correspond import SAME_DEPTH, Correspondence, camera_of, name_of, surfaces, through

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
UInt64 = NDArray[np.uint64]

_OFF_ROUND = np.sqrt([2.0, 3.0, 5.0]) / 100


def carry(noise: Float32, way: Correspondence, seed: int) -> tuple[Float32, float]:
    """The noise of one frame taken to the next; exactly white and normal if it was.

    Args:
        noise: [C, H, W], one value per pixel of the first frame.
        way: From it to the next frame.
        seed: 63 bits; fresh noise for what comes into view, and where surfaces are seen larger than before.

    Returns:
        [C, H', W'] float32, and the share of it that was carried.
    """
    fresh = seeds.normal(seed, (len(noise), *way.size))
    source = np.flatnonzero(np.isfinite(way.places).all(axis=-1))
    spots = way.places.reshape(-1, 2)[source].astype(np.float64)
    column = np.minimum(spots[:, 0].astype(np.int64), way.size[1] - 1)
    row = np.minimum(spots[:, 1].astype(np.int64), way.size[0] - 1)
    target = row * way.size[1] + column
    away = np.square(spots[:, 0] - column - 0.5) + np.square(spots[:, 1] - row - 0.5)
    # Of two on one pixel: the surface in front, in steps of 2%; on one surface, the one nearest to the centre.
    layer = np.round(np.log(np.maximum(way.near.reshape(-1)[source], 1e-6)) / SAME_DEPTH)
    order = np.lexsort((source, away, layer, target))
    winners = order[np.diff(target[order], prepend=-1) > 0]
    fresh.reshape(len(noise), -1)[:, target[winners]] = noise.reshape(len(noise), -1)[:, source[winners]]
    return fresh, len(winners) / (way.size[0] * way.size[1])


def of_surfaces(labels: Labels, channels: int, anchor: int, seed: int, cell: float = 2.5) -> tuple[Float32, float]:
    """Noise of a frame from the places on surfaces that its pixels show, with no other frame at hand.

    Space is cut into cubes a few pixels wide at that distance (sides are powers of 2, so that frames agree on them),
    objects with a pose and an `object_id` in their own axes. A cube's number, hashed into a normal deviate, is the sum
    of the fresh noise of its pixels, scaled to variance 1: an exchange of one direction in their space for another,
    so the whole stays exactly white and normal. What frames have in common is thus the noise at the scale of cubes
    and above, which is the scale of a latent place.

    Args:
        labels: With `depth` or `position`, and a camera with a pose.
        channels: Of the noise, from 1.
        anchor: 63 bits, the same for all frames of a sequence: from the draw of scope `group`.
        seed: 63 bits, this frame's own.
        cell: Side of a cube in pixels, 0.25 to 16. For latent places of 8 pixels 2 to 3 are best: larger cubes
            straddle more places, smaller ones are missed by pixels of one frame that another one hits.

    Returns:
        [C, H, W] float32, and cubes per pixel. On a grid of 8 pixels the noise of a surface that is seen again
        correlates by 0.5 to 0.8, about as much as after `carry`, whose values too move by parts of a place
        (`benchmarks/sequence.py`). About 0.25 s for 640x380, 4 channels.

    Raises:
        Rejected: Under `sequence`, where depth, a camera or its pose is missing.
    """
    z, points = surfaces(labels)
    points, owner = _own_axes(labels, points)
    size = cell * z / float(np.sqrt(abs(np.linalg.det(camera_of(labels).K[:2, :2]))))
    key = _cubes(points.reshape(-1, 3), size.reshape(-1), _mixed(owner.reshape(-1) ^ np.uint64(anchor)))
    cubes, which, pixels = np.unique(key, return_inverse=True, return_counts=True)
    noise = seeds.normal(seed, (channels, *labels.size))
    for channel, flat in enumerate(noise.reshape(channels, -1)):
        mean = np.bincount(which, flat, len(cubes)) / pixels
        told = _normal(_mixed(cubes ^ np.uint64(channel + 1))) / np.sqrt(pixels)
        flat += (told - mean)[which].astype(np.float32)
    return noise, len(cubes) / len(key)


def reduced(noise: Float32, factor: int) -> Float32:
    """[C, H, W] fine noise to [C, H / factor, W / factor]: block sums over `factor`, so that variance stays 1."""
    channels, height, width = noise.shape
    if height % factor or width % factor:
        raise Rejected("sequence", f"noise of {height}x{width} on a grid of {factor}: pad it to a multiple first")
    blocks = noise.reshape(channels, height // factor, factor, width // factor, factor)
    return (blocks.sum(axis=(2, 4), dtype=np.float64) / factor).astype(np.float32)


def _own_axes(labels: Labels, world: Float64) -> tuple[Float64, UInt64]:
    """World points with those of posed objects in the object's axes; and whose they are, 0 for the world."""
    owner = np.zeros(labels.size, np.uint64)
    ids = labels.passes.get("instance")
    to_camera = np.asarray(camera_of(labels).world_to_camera)
    for instance in labels.instances:
        if ids is not None and instance.pose is not None and instance.object_id:
            own = ids == instance.id
            world[own] = through(np.linalg.inv(np.array(instance.pose)) @ to_camera, world[own])
            owner[own] = name_of(instance)
    return world, owner


def _cubes(points: Float64, size: Float64, key: UInt64) -> UInt64:
    """For each point a hash of the cube around it.

    Between two powers of 2, some of the larger cubes are cut up and some are not, more of them the nearer the size
    is to the smaller power: who walks toward a wall finds most of it as it was.
    """
    exact = np.log2(np.maximum(size, 1e-9))
    level = np.ceil(exact)
    # Floors and walls stand at round numbers: a side of a cube there would be a matter of rounding.
    points = points + _OFF_ROUND
    whole = np.floor(points / np.exp2(level)[:, None])
    large = _hashed(key, whole, level)
    cut = (_mixed(large) >> np.uint64(11)).astype(np.float64) / 2**53 >= exact - level + 1
    cubes = np.floor(points / np.exp2(np.where(cut, level - 1, level))[:, None])
    return np.where(cut, _hashed(key, cubes, level - 1), large)


def _hashed(key: UInt64, cubes: Float64, level: Float64) -> UInt64:
    for part in (cubes[:, 0], cubes[:, 1], cubes[:, 2], level):
        key = _mixed(key ^ part.astype(np.int64).astype(np.uint64))
    return key


def _mixed(values: UInt64) -> UInt64:
    """splitmix64 (Steele, Lea and Flood, OOPSLA 2014): a bijection of 64 bits that leaves no trace of order."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _normal(bits: UInt64) -> Float32:
    """Standard normal deviates of 64 random bits each (Box and Muller 1958)."""
    high = ((bits >> np.uint64(32)).astype(np.float64) + 0.5) / 2**32
    low = (bits & np.uint64(0xFFFFFFFF)).astype(np.float64) / 2**32
    return (np.sqrt(-2 * np.log(high)) * np.cos(2 * np.pi * low)).astype(np.float32)
