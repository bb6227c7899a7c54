"""What is asked of a transform from another library before it may act: which one, with what, moving what.

Nothing here imports such a library; `bridge` does, and hands over its classes.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from synthaug.augment import grid
from synthaug.errors import ConfigError, Rejected, nearest
from synthaug.labels import Size
from synthaug.warp.motion import Warp

Room = Literal["appearance", "geometry"]
Params = Mapping[str, Any]

_ERASES = "it erases labelled content, so the labels would no longer hold"
_LABELS = "it chooses its window from labels, which do not travel into the library; use augment=random_resized_crop"
_OTHERS = "it needs a second picture"
_STYLE = "it needs a second picture; use refine=look"
_RANGE = "it changes the range or type of the values, not the look"
REFUSED: Mapping[str, str] = {
    **dict.fromkeys(("AtLeastOneBBoxRandomCrop", "BBoxSafeRandomCrop", "CropNonEmptyMaskIfExists"), _LABELS),
    **dict.fromkeys(("RandomCropNearBBox", "RandomSizedBBoxSafeCrop"), _LABELS),
    **dict.fromkeys(("CoarseDropout", "ConstrainedCoarseDropout", "Erasing", "GridDropout", "MaskDropout"), _ERASES),
    **dict.fromkeys(("PixelDropout", "XYMasking", "TimeMasking", "FrequencyMasking", "RandomErasing"), _ERASES),
    **dict.fromkeys(("Mosaic", "OverlayElements"), _OTHERS),
    **dict.fromkeys(("FDA", "HistogramMatching", "PixelDistributionAdaptation"), _STYLE),
    **dict.fromkeys(("Normalize", "Denormalize", "ToFloat", "FromFloat", "ToRGB"), _RANGE),
    "TextImage": "it needs a text and a font for every picture",
    "Lambda": "it runs code from the configuration",
    "Morphological": "it grows and shrinks masks, which is no motion of the picture",
    "RandomGridShuffle": "it cuts objects into pieces, for which there is no box and no pose",
    "RandomFisheye": "its parameters are tensors, which a configuration cannot hold; use augment=lens",
    "RandomDissolving": "it downloads a diffusion model; use refine=img2img",
}
"""Transforms that no room takes, whatever their class says."""

_RESAMPLING = frozenset(
    {
        *("interpolation", "mask_interpolation", "border_mode", "fill", "fill_mask", "area_for_downscale"),
        *("keypoint_remapping_method", "resample", "padding_mode", "fill_value", "keepdim", "same_on_batch"),
    }
)
_MOVED = 2.0
"""Pixels of a 240-pixel picture from which on an Appearance counts as moving it; noise stays below 1."""


class Transform(Protocol):
    """One transform of another library, with its parameters."""

    name: str
    library: str

    @property
    def share(self) -> float:
        """The probability with which it acts."""
        ...

    def apply(self, picture: NDArray[Any], seed: int, *, sure: bool = False) -> NDArray[Any]:
        """[H, W, 3] float32 to a picture, by the seed alone; `sure`: whatever its probability."""
        ...


def chosen(name: str, room: Room, library: str, members: Mapping[Room, Mapping[str, type]]) -> type:
    """The class of a transform.

    Args:
        members: Classes by name, in the room that they belong to by what they derive from.

    Raises:
        ConfigError: Unknown, refused, or of the other room; with the reason.
    """
    if name in REFUSED:
        raise ConfigError(f"{library} {name} is refused: {REFUSED[name]}")
    if name in members[room]:
        return members[room][name]
    if name in members["geometry"]:
        raise ConfigError(f"{library} {name} moves pixels, which no Appearance may: use augment={library}_geometry")
    if name in members["appearance"]:
        raise ConfigError(f"{library} {name} changes colours and moves nothing: use augment={library}_appearance")
    known = [member for member in members[room] if member not in REFUSED]
    raise ConfigError(f"transform is {name!r}, which {library} does not offer as {room}." + nearest(name, known))


def checked(cls: type, room: Room, library: str, params: object) -> dict[str, Any]:
    """The parameters as keyword arguments, lists turned into tuples.

    Raises:
        ConfigError: No mapping, a name that the class does not have, one that is not the user's to set,
            or values that the library refuses (with its message).
    """
    if not isinstance(params, Mapping):
        raise ConfigError(f"params is {params!r}, expected a mapping of parameter names of {library} {cls.__name__}")
    known = [name for name in inspect.signature(cls.__init__).parameters if name not in ("self", "kwargs")]
    if room == "geometry":
        known = [name for name in known if name not in _RESAMPLING]
    arguments: dict[str, Any] = {}
    for name, value in params.items():
        if room == "geometry" and name in _RESAMPLING:
            raise ConfigError(
                f"params.{name}: {library} {cls.__name__} is only asked where pixels go; "
                "interpolation and borders are the same for all motions here, so leave it out"
            )
        if name not in known:
            raise ConfigError(f"params.{name} is no parameter of {library} {cls.__name__}." + nearest(str(name), known))
        arguments[name] = _tupled(value)
    try:
        cls(**arguments)
    except Exception as problem:  # a foreign constructor raises what it likes; its message is the user's help
        raise ConfigError(f"{library} {cls.__name__} refuses its parameters {dict(params)}: {problem}") from problem
    return arguments


def _tupled(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tupled(item) for item in value)
    if isinstance(value, Mapping):
        return {key: _tupled(item) for key, item in value.items()}
    return value


def refuse_movement(transform: Transform) -> None:
    """Sends spots through an Appearance and looks whether they stay; five seeds, the median counts.

    Raises:
        ConfigError: The picture moves, or the transform can't do an ordinary picture.
    """
    try:
        moves = [grid.movement(lambda p, s=seed: transform.apply(p, s, sure=True)) for seed in range(5)]
    except Exception as problem:  # whatever a foreign transform raises, it is refused with its own words
        raise ConfigError(f"{transform.library} {transform.name} fails on a test picture: {problem}") from problem
    if float(np.median(moves)) > _MOVED:
        raise ConfigError(
            f"{transform.library} {transform.name} moves the picture by {np.median(moves):.1f} px with these "
            "parameters, so the labels would no longer hold"
        )


def motion(transform: Transform, size: Size, seed: int) -> Warp:
    """The motion that a geometric transform carries out under a seed; about 5 ms at 512x512.

    Raises:
        Rejected: Under `warp`, when the transform leaves nothing of the picture.
    """
    return grid.to_warp(transform.apply(grid.picture(size), seed), size)


@lru_cache(maxsize=1024)
def canvas(transform: Transform, size: Size) -> Size:
    """The one size that a transform gives, found by eight trials and remembered.

    Raises:
        ConfigError: It gives several, or it cannot do this size.
    """
    picture = grid.picture(size)
    found: set[Size] = {size} if transform.share < 1 else set()
    if transform.share > 0:
        found |= {_size_of(transform, picture, seed) for seed in range(8)}
    if len(found) == 1:
        return found.pop()
    sizes = ", ".join(f"{w}x{h}" for h, w in sorted(found))
    raise ConfigError(
        f"{transform.library} {transform.name} turns {size[1]}x{size[0]} into several sizes ({sizes}), but a slot "
        "needs one: set its p to 1, or take augment=random_resized_crop, resize or rotate90"
    )


def _size_of(transform: Transform, picture: NDArray[np.float32], seed: int) -> Size:
    try:
        moved = transform.apply(picture, seed, sure=True)
    except Exception as problem:  # whatever a foreign transform raises, it is refused with its own words
        size = f"{picture.shape[1]}x{picture.shape[0]}"
        raise ConfigError(f"{transform.library} {transform.name} cannot do a {size} picture: {problem}") from problem
    return moved.shape[0], moved.shape[1]


def painted(transform: Transform, image: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """One picture [3, H, W] through a photometric transform; `Rejected` where its size comes back changed."""
    done = transform.apply(np.ascontiguousarray(image.transpose(1, 2, 0)), seed)
    if done.shape != (*image.shape[1:], 3):
        raise Rejected("size", f"{transform.library} {transform.name} returned {done.shape} for {image.shape[1:]}")
    return np.clip(done.transpose(2, 0, 1), 0.0, 1.0)
