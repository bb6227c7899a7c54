"""The rendered datasets, dice and a table with simple objects: nothing on disk, every sample made from its id."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from synthaug.errors import ConfigError
from synthaug.render import dice as dice_scene
from synthaug.render import tabletop
from synthaug.render.scene import Scene, View
from synthaug.render.scene_reader import SceneReader, Shots, in_range


class DiceReader(SceneReader):
    """Dice on a mat, in a tray or on a table, from roughly overhead; classes `1` to `6` are the face that points up.

    A sample of 256x256 at 16 samples per pixel costs about two seconds of one core with `scalar_rgb`, a fifth of that
    with LLVM.

    Args:
        scenes: Number of scenes, from 1.
        views: Cameras on each scene, from 1; the first is overhead, the others up to 25 degrees off.
        width: Of the pictures, pixels, 32 to 4096.
        height: Likewise.
        samples_per_pixel: Light paths per pixel, 1 to 4096.
        seed: Of everything: other seeds are other scenes.
        dice: Smallest and largest number of dice in a scene, 1 to 60; fewer where no more fit.
        zoom: 1 shows 32 cm of floor as the photographs do, 2 half of it; 0.25 to 10.
        variety: Share of scenes on paper, felt, cloth, wood or plastic instead of mat or tray, 0 to 1.
        environment: Radiance .hdr file that lights the scenes; empty for the procedural room.
        denoise: Whether Open Image Denoise cleans the picture (never the labels).
        coverage: Rays along each side of a pixel, 1 to 8, that measure the pass `alpha` (the share of the pixel that
            shows the object at its centre) and average `albedo` over that part; 0 for neither.
        variant: `auto`, `scalar_rgb`, `llvm_ad_rgb` or `cuda_ad_rgb`; `auto` takes the fastest that survives a
            trial. Variants differ in their pixels.
        linear: Scene-linear float32 pictures instead of tone-mapped sRGB uint8.
        split: Name of the split all samples belong to.
    """

    def __init__(
        self,
        *,
        scenes: int = 24,
        views: int = 1,
        width: int = 256,
        height: int = 256,
        samples_per_pixel: int = 16,
        seed: int = 0,
        dice: Sequence[int] = (1, 20),
        zoom: float = 1.0,
        variety: float = 0.15,
        environment: str = "",
        denoise: bool = True,
        coverage: int = 0,
        variant: str = "auto",
        linear: bool = False,
        split: str = "train",
    ) -> None:
        in_range("zoom", zoom, 0.25, 10)
        in_range("variety", variety, 0, 1)
        if len(dice) != 2 or not 1 <= dice[0] <= dice[1] <= 60:
            raise ConfigError(f"dice={list(dice)}: expected [smallest, largest] with 1 <= smallest <= largest <= 60")
        size = (height, width)
        shots = Shots(scenes, views, size, samples_per_pixel, environment, denoise, coverage, variant, linear, split)
        super().__init__(shots, dice_scene.CLASSES)
        self._seed, self._options = seed, dice_scene.Options((dice[0], dice[1]), size, zoom, variety, environment)

    def scene(self, index: int) -> Scene:
        return _dice(self._seed, index, self._options)

    def view(self, index: int, number: int) -> View:
        return dice_scene.view(self._seed, index, number, self._options)


class TabletopReader(SceneReader):
    """A table by a wall, with boxes, cylinders, balls, bowls, vases, rings and cushions on it, mostly without gloss.

    Classes are `table`, `wall` and the kinds of the objects, so every pixel but the sky has an instance. The texture
    coordinates of all of them are nearly true to scale: the attribute `metres_per_uv` of an instance says how long one
    unit of u and of v is, and `coat` the index of refraction of its clear coat, 1 for none. A sample of 256x256 at 16
    samples per pixel costs about six seconds of one core with `scalar_rgb`, half of them for `coverage`, and one and a
    half with LLVM.

    Args:
        scenes: Number of scenes, from 1.
        views: Cameras on each scene, from 1, all from the side that the wall leaves free, 20 to 60 degrees up.
        width: Of the pictures, pixels, 32 to 4096.
        height: Likewise.
        samples_per_pixel: Light paths per pixel, 1 to 4096.
        seed: Of everything: other seeds are other scenes.
        objects: Smallest and largest number of objects on the table, 1 to 16; fewer where no more fit.
        coated: Share of objects other than cushions that have a clear coat, 0 to 1.
        environment: Radiance .hdr file that lights the scenes; empty for the procedural room.
        denoise: Whether Open Image Denoise cleans the picture (never the labels).
        coverage: Rays along each side of a pixel, 1 to 8, that measure the pass `alpha` (the share of the pixel that
            shows the object at its centre) and average `albedo` over that part; 0 for neither.
        variant: `auto`, `scalar_rgb`, `llvm_ad_rgb` or `cuda_ad_rgb`; `auto` takes the fastest that survives a
            trial. Variants differ in their pixels.
        linear: Scene-linear float32 pictures instead of tone-mapped sRGB uint8.
        split: Name of the split all samples belong to.
    """

    def __init__(
        self,
        *,
        scenes: int = 24,
        views: int = 2,
        width: int = 256,
        height: int = 256,
        samples_per_pixel: int = 16,
        seed: int = 0,
        objects: Sequence[int] = (5, 9),
        coated: float = 0.15,
        environment: str = "",
        denoise: bool = True,
        coverage: int = 4,
        variant: str = "auto",
        linear: bool = False,
        split: str = "train",
    ) -> None:
        in_range("coated", coated, 0, 1)
        if len(objects) != 2 or not 1 <= objects[0] <= objects[1] <= 16:
            raise ConfigError(
                f"objects={list(objects)}: expected [smallest, largest] with 1 <= smallest <= largest <= 16"
            )
        size = (height, width)
        shots = Shots(scenes, views, size, samples_per_pixel, environment, denoise, coverage, variant, linear, split)
        super().__init__(shots, tabletop.CLASSES)
        self._seed, self._options = seed, tabletop.Options((objects[0], objects[1]), size, coated, environment)

    def scene(self, index: int) -> Scene:
        return _tabletop(self._seed, index, self._options)

    def view(self, index: int, number: int) -> View:
        return tabletop.view(self._seed, index, number, self._options)


@lru_cache(maxsize=4)
def _dice(seed: int, index: int, options: dice_scene.Options) -> Scene:
    return dice_scene.scene(seed, index, options)


@lru_cache(maxsize=4)
def _tabletop(seed: int, index: int, options: tabletop.Options) -> Scene:
    return tabletop.scene(seed, index, options)
