"""A folder of textures made elsewhere, read one texture at a time; every file is taken, or named with its reason."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synthaug.errors import Rejected
from synthaug.formats import png
from synthaug.formats.inputs import InputRoot
from synthaug.texture import likeness, suffixes, surfaces
from synthaug.texture.entry import Entry, Kind, checked_licence, checked_metres, checked_word
from synthaug.texture.materials import suggested, words_of
from synthaug.texture.seam import seam
from synthaug.texture.surfaces import Limits, Map

READ = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".exr", ".npy")
UNREAD = (".tga", ".dds", ".ktx", ".ktx2", ".hdr", ".psd", ".gif", ".svg", ".avif", ".jxl", ".heic", ".basis", ".xcf")
"""Pictures that are not read here; other files (licences, scenes) are no pictures and are only counted."""


@dataclass(frozen=True, slots=True)
class About:
    """What the pictures themselves do not say.

    Attributes:
        licence: Under which they may be used; never empty.
        source: Who made them or where they were found.
        material: Of all of them; empty to take it from each file's name, `unknown` where that says nothing.
        tags: For all of them, beside the words of each name.
        metres: Width of a picture in the world.
        tileable: Whether they repeat; None to look at their borders.
    """

    licence: str
    source: str = ""
    material: str = ""
    tags: tuple[str, ...] = ()
    metres: float = 1.0
    tileable: bool | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "licence", checked_licence(self.licence))
        object.__setattr__(self, "metres", checked_metres(self.metres))
        if self.material:
            object.__setattr__(self, "material", checked_word("material", self.material))
        object.__setattr__(self, "tags", tuple(sorted({checked_word("tags", tag) for tag in self.tags})))


@dataclass(frozen=True, slots=True)
class Incoming:
    """A texture on its way into a library: its entry and the PNG of each map by SHA-256."""

    entry: Entry
    objects: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that is not taken, and why: a short code to count by, and words with the way out."""

    path: str
    reason: str
    message: str


@dataclass(slots=True)
class Survey:
    """What a folder holds, before anything is decoded.

    Attributes:
        groups: Its textures.
        refused: Pictures that cannot be part of one.
        others: Files that are no pictures.
    """

    groups: list[suffixes.Group]
    refused: list[Refused] = field(default_factory=list[Refused])
    others: list[str] = field(default_factory=list[str])


def survey(root: InputRoot, *, read_names: bool = True) -> Survey:
    """Lists a folder and groups its pictures by name (`suffixes.grouped`). Opens no file.

    Raises:
        InputError: No such folder, or names that no path may have.
        SecurityError: Links below it.
    """
    paths = root.listing()
    suffix = {path: PurePosixPath(path).suffix.lower() for path in paths}
    found = suffixes.grouped([p for p in paths if suffix[p] in READ], read_names=read_names)
    refused = [Refused(path, "name", why) for path, why in found.left.items()]
    refused += [
        Refused(path, "format", f"{suffix[path]} is not read; save it as PNG")
        for path in paths
        if suffix[path] in UNREAD
    ]
    others = [path for path in paths if suffix[path] not in READ + UNREAD]
    return Survey(found.groups, refused, others)


def read_folder(
    root: InputRoot,
    groups: Sequence[suffixes.Group],
    about: About,
    limits: Limits,
) -> Generator[Incoming | Refused]:
    """Textures of a folder in the order of its groups; a refused albedo takes its maps along, each named.

    Costs decoding and encoding: about 0.2 s for a 1024x1024 albedo.
    """
    for group in groups:
        yield from _read_group(root, group, about, limits)


def made(name: str, maps: Mapping[Kind, Map], about: About, **more: Any) -> Incoming:
    """A texture from arrays: the entry with its figures, and the bytes of its maps.

    Args:
        name: For people.
        maps: As `Entry.maps` describes them; `albedo` among them.
        about: What the pictures do not say.
        more: Further fields of `Entry`: `method`, `model`, `seed`, `parameters`, `files`, `notes`.
    """
    pixels: NDArray[np.uint8] = maps["albedo"].astype(np.uint8, copy=False)
    objects = {kind: png.encode(array) for kind, array in maps.items()}
    digests = {kind: hashlib.sha256(data).hexdigest() for kind, data in sorted(objects.items())}
    cover = maps.get("opacity")
    cover = cover.astype(np.uint8) if cover is not None and cover.shape == pixels.shape[:2] else None
    grid = likeness.means(pixels, cover)
    energy, repeats = seam(pixels)
    entry = Entry(
        name=name,
        maps=digests,
        height=pixels.shape[0],
        width=pixels.shape[1],
        metres=about.metres,
        material=about.material or suggested(name),
        licence=about.licence,
        colour=likeness.mean_colour(grid),
        seam=energy,
        tileable=repeats if about.tileable is None else about.tileable,
        likeness=likeness.fingerprint(grid).hex(),
        tags=tuple(sorted({*about.tags, *(w for w in words_of(name) if len(w) > 2)})),
        source=about.source,
        **more,
    )
    return Incoming(entry, {digests[kind]: data for kind, data in objects.items()})


def _read_group(root: InputRoot, group: suffixes.Group, about: About, limits: Limits) -> Generator[Incoming | Refused]:
    first, *rest = group.maps
    try:
        data = root.read(first.path)
        surface = surfaces.albedo(data, limits)
    except Rejected as error:
        yield Refused(first.path, error.reason, error.message)
        yield from (Refused(c.path, "alone", f"its albedo {first.path} is refused: {error.message}") for c in rest)
        return
    maps: dict[Kind, Map] = {"albedo": surface.pixels}
    notes, files = list(surface.notes), {"albedo": first.path}
    for claim in rest:
        try:
            array, changes = surfaces.data_map(root.read(claim.path), claim, surface.stored, limits)
        except Rejected as error:
            yield Refused(claim.path, error.reason, error.message)
            continue
        maps[claim.kind], files[claim.kind] = array, claim.path
        notes += [f"{claim.kind}: {change}" for change in changes]
    if surface.opacity is not None:
        maps.setdefault("opacity", surface.opacity)
    yield made(group.name, maps, about, files=files, notes=tuple(notes))
