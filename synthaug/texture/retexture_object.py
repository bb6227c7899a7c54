"""One object of one picture: where its tile lies, what is kept of the old surface, and the change of its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import Rejected
from synthaug.labels import Instance
from synthaug.texture import anchoring, attributes, protection, repaint, wear
from synthaug.texture.anchoring import Spots
from synthaug.texture.lighting import tripled
from synthaug.texture.placement import Placement, metres_per_uv, place, snapped
from synthaug.texture.retexture_view import Cut, View
from synthaug.texture.shading import base_of, pure_pixels
from synthaug.texture.tiles import Tile, Tiles

Float32 = NDArray[np.float32]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the stage has drawn and was told for one object.

    Attributes:
        drawn: As `Retexture.draw` gives it.
        mapping: `auto`, `uv` or `planes`.
        size: Metres of a unit of u and of v, where they were told.
        relief: How much of the relief is lit.
        index: Of refraction of the coat; 1 for none.
        protect: OKLab distance from which a mark is kept; 0 for none.
        fringe: Whether pixels beside the object change.
    """

    drawn: Mapping[str, Any]
    mapping: str
    size: tuple[float, float] | None
    relief: float
    index: float
    protect: float
    fringe: bool


def renewed(view: View, instance: Instance, wish: Wish, tiles: Tiles) -> dict[str, Any]:
    """Gives an object its new surface, in `view`; what was done, for the trail.

    Raises:
        Rejected: Under `anchor`, where nothing says how a texture is to be fixed to the object.
    """
    cut = view.cut(instance)
    inside = view.inside(instance, cut)
    spots = _spots(view, instance, wish, cut, inside)
    if not spots.pixels.any():
        return {"kept": "no finite coordinates"}
    tile = tiles.get(str(wish.drawn["texture"]))
    placement, measured = _placement(spots, instance, wish, tile)
    found = anchoring.look_up(spots, placement, tile, wish.relief > 0 and view.normals is not None)
    cover = view.cover(cut)
    pure = pure_pixels(inside, cover)
    shading = view.shading(cut, inside, pure, wish.index)
    share = np.zeros(inside.shape, np.float32)
    base = np.zeros((*inside.shape, 3), np.float32)
    where = np.flatnonzero(spots.pixels)
    share.reshape(-1)[where] = found.colour[:, 3] * _covered(spots, placement, wish, tiles)
    base.reshape(-1, 3)[where] = base_of(np.clip(found.colour[:, :3], 0, 1), wish.index)
    base *= view.gain(cut, spots.pixels, found.lean, wish.relief)
    marks, ink = None, None
    if wish.protect > 0 and view.albedo is not None:
        marks = protection.marks(view.albedo[cut], shading, view.image[cut], inside, wish.protect)
        if marks is not None:
            seen_through = bool((share[spots.pixels] < 1).any())
            grounds = (anchoring.spread(placement, tile), marks.ground[None])
            ink = protection.ink(marks, grounds[: 1 + seen_through], wish.index)
            if ink is False:
                return {"kept": "its marks would not be read on " + placement.entry[:12]}
    painted = None if ink is None else base_of(np.array(ink, np.float32), wish.index)
    surface = repaint.Surface(base, share, marks, painted)
    image, ids = view.image[cut], view.ids[cut]
    change = repaint.change(image, ids, inside, pure, shading, surface, cover, fringe=wish.fringe)
    mixed = np.asarray(shading.base + tripled(share) * (base - shading.base), np.float32)
    view.add(cut, instance.id, change, mixed)
    facts: dict[str, Any] = {**placement.to_json(), "covered": wish.drawn["cover"]}
    if measured:
        facts["metres_per_uv"] = [round(v, 6) for v in measured]
    if marks is not None:
        facts["marks"] = "repainted" if ink else "kept"
    return facts | ({"ink": [round(v, 6) for v in ink]} if isinstance(ink, tuple) else {})


def _spots(view: View, instance: Instance, wish: Wish, cut: Cut, inside: Bools) -> Spots:
    position = None if view.position is None else view.position[cut]
    if view.uv is not None and wish.mapping != "planes":
        uv = view.uv[cut]
        # Most of the object must have coordinates: the same answer in every view, whatever single pixels say.
        mapped = np.count_nonzero(np.isfinite(uv[..., 0] + uv[..., 1]) & inside) * 2 > np.count_nonzero(inside)
        if mapped or wish.mapping == "uv":
            return anchoring.on_uv(uv, inside, position)
    axes = anchoring.anchor(instance, view.labels.camera)
    if position is None or view.normals is None or axes is None:
        missing = [
            name
            for name, there in (
                ("uv coordinates", False),
                ("position, or depth and a camera", position is not None),
                ("normals", view.normals is not None),
                ("a pose of it or of the camera", axes is not None),
            )
            if not there
        ]
        raise Rejected(
            "anchor",
            f"object {instance.object_id or instance.id} has no {', no '.join(missing)}: nothing says where a texture"
            " lies. Bring uv, or what is missing, or set materials.CLASS=null",
        )
    return anchoring.on_planes(position, view.normals[cut], inside, axes)


def _placement(
    spots: Spots, instance: Instance, wish: Wish, tile: Tile
) -> tuple[Placement, tuple[float, float] | None]:
    """Where the tile lies, and the metres per uv that were measured for it, if they were."""
    drawn = wish.drawn
    offset = (float(drawn["offset"][0]), float(drawn["offset"][1]))
    size, measured = (1.0, 1.0), None
    if spots.mode == "uv":
        told = attributes.metres_per_uv(instance) or wish.size
        if told is None and spots.position is not None:
            measured = metres_per_uv(spots.values.transpose(1, 2, 0), spots.position.transpose(1, 2, 0), spots.pixels)
        size = told or (snapped(measured) if measured else size)
    factor = float(drawn["scale"])
    size = (size[0] / factor, size[1] / factor)
    return place(tile.entry, size, float(drawn["turn"]), offset, spots.mode), measured


def _covered(spots: Spots, placement: Placement, wish: Wish, tiles: Tiles) -> Float32 | float:
    """How much of each spot the new surface covers, 0 to 1."""
    kind, seed, coverage = str(wish.drawn["cover"]), int(wish.drawn["seed"]), float(wish.drawn["covered"])
    if kind == "full":
        return 1.0
    pyramid = tiles.mask(f"{kind} {seed} {coverage}", lambda: wear.mask(kind, seed, coverage))
    tile = Tile(tiles.library.get(placement.entry), pyramid, None)
    return anchoring.look_up(spots, placement, tile, False).colour[:, 0]
