"""New textures exactly: the same scene with tiles of a library on its bodies, rendered again.

The slow and true way of changing textures, which the fast one (`retexture`) is measured against; and a way to make a
directly textured dataset of a rendered scene. Light between bodies, shadows and coats follow the new surfaces. Geometry
does not change, so that every pass but `albedo` comes back byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from synthaug.errors import ConfigError, nearest, printable
from synthaug.render.scene import Affine, Body, Float32, Rgb, Scene, Texture
from synthaug.render.scene_reader import SceneReader
from synthaug.sample import Sample
from synthaug.texture.library import Library
from synthaug.texture.placement import Placement
from synthaug.transfer import linear_from_srgb


@dataclass(frozen=True, slots=True)
class Tile(Texture):
    """The albedo of an entry of a library.

    Attributes:
        library: Folder of the library.
        entry: Full id of the texture.
    """

    library: str
    entry: str

    def paint(self) -> Float32:
        """Raises `ConfigError` or `InputError` where library, entry or file are not there any more."""
        library = Library.open(self.library)
        pixels = library.read(library.get(self.entry))
        return linear_from_srgb(pixels.astype(np.float32) / 255).astype(np.float32)


def retextured(
    scene: Scene,
    library: Library,
    placements: Mapping[str, Placement],
    inks: Mapping[str, Rgb] | None = None,
    *,
    marks: bool = True,
) -> Scene:
    """The same scene with other textures. Coats stay, and bodies that are not named keep their surface.

    Args:
        scene: From a reader, `SceneReader.scene`.
        library: Where the entries of the placements are.
        placements: By name of the body, or by object id (`<scene id>/<name>`), as `retexture` notes them.
        inks: New colours of what is printed on a surface, linear, by the same names.
        marks: Whether what is printed on a surface stays, such as the pips of dice.

    Raises:
        ConfigError: A name that is no body of the scene, an entry that is not in the library, or a placement that is
            not on texture coordinates.
    """
    given = {name.removeprefix(f"{scene.id}/"): placement for name, placement in placements.items()}
    inked = {name.removeprefix(f"{scene.id}/"): ink for name, ink in (inks or {}).items()}
    names = {body.name for body in scene.bodies}
    strange = sorted(given.keys() - names)
    if strange:
        raise ConfigError(
            f"scene {scene.id} has no body called '{printable(strange[0])}'.{nearest(strange[0], sorted(names))}"
        )

    def covered(body: Body) -> Body:
        if body.name not in given:
            return body
        tile, tiling = _tile(body.name, library, given[body.name])
        if marks:
            tile, tiling = body.material.texture.covered(tile, tiling, inked.get(body.name))
        return replace(body, material=replace(body.material, texture=tile, tiling=tiling))

    return replace(scene, bodies=tuple(covered(body) for body in scene.bodies))


def rerender(
    reader: SceneReader,
    sample_id: str,
    library: Library,
    placements: Mapping[str, Placement],
    inks: Mapping[str, Rgb] | None = None,
    *,
    marks: bool = True,
) -> Sample:
    """A sample of a rendered dataset with other textures, exposed like the picture with the old ones.

    Costs two renders.

    Args:
        reader: Of the dataset; its settings decide noise, variant and encoding.
        sample_id: Of the sample.
        library, placements, inks, marks: As for `retextured`.

    Raises:
        ConfigError: As `retextured` does.
        Rejected: As the reader does.
    """
    scene = reader.scene(reader.parse(sample_id)[0])
    return reader.shoot(sample_id, retextured(scene, library, placements, inks, marks=marks), like=scene)


def _tile(name: str, library: Library, placement: Placement) -> tuple[Texture, Affine]:
    if placement.mode != "uv":
        raise ConfigError(
            f"body {name}: a texture laid on along {placement.mode} axes has no place in texture coordinates, so it"
            " cannot be rendered; place it in mode uv"
        )
    first, second = (tuple(float(v) for v in row) for row in placement.matrix)
    tiling: Affine = ((first[0], first[1], first[2]), (second[0], second[1], second[2]))
    return Tile(str(library.root), library.get(placement.entry).id), tiling
