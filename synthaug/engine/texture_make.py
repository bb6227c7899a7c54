"""`synthaug texture synthesize`: settings of a method from its configuration and words, its tiles into a library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from synthaug.engine import texture_methods
from synthaug.engine.keyed import Keyed
from synthaug.engine.shelf import Near, Shelf, check_place
from synthaug.engine.targets import find_conf
from synthaug.engine.texture_methods import METHODS, Maker
from synthaug.engine.vet import read_yaml
from synthaug.errors import ConfigError, InputError, nearest, printable
from synthaug.texture import importing
from synthaug.texture.entry import Entry, Kind
from synthaug.texture.exemplar import Tile
from synthaug.texture.importing import About
from synthaug.texture.library import Library
from synthaug.texture.maps import from_albedo
from synthaug.texture.surfaces import Map


def synthesize(words: Sequence[str]) -> int:
    """Makes tiles and puts each into the library as it is made; those that are there already are not made again.

    Returns:
        The exit status, 0.

    Raises:
        Refusal: Words, exemplars or models are not what they must be.
        Interrupted: The disk is full or broken; the same command goes on.
    """
    method, given = _given(words)
    into = Path(given.needed("into", "the folder of a library, new or not")).expanduser().absolute()
    check_place(into)
    near = cast(Near, given.choice("near", ("keep", "skip")))
    first = given.whole("seed", 0, 0, 2**62)
    numbers = range(first, first + given.whole("count", 1, 1, 100_000))
    metres, maps = importing.checked_metres(given.number("metres", 1.0)), bool(given.flag("maps"))
    maker = texture_methods.maker(method, given)
    told = replace(about(given, licence=maker.licence), metres=metres, source=given.text("source") or maker.source)
    stem, alone = given.text("name") or f"{maker.stem}_{method}", "name" in given.given and len(numbers) == 1
    names = {number: stem if alone else f"{stem}_{number}" for number in numbers}
    there = _there(into, method, maker, numbers, maps=maps)
    for number, entry in there.items():
        _tell(into, names[number], "there", entry)
    taken = len(there)
    for tile in maker.make([number for number in numbers if number not in there]):
        if tile.pixels is None:
            print(f"{into}: {printable(names[tile.seed])} refused: {tile.reason}")
            continue
        outcome = Shelf(into).add([_texture(names[tile.seed], tile, told, method, maker, maps=maps)], near=near)[0]
        _tell(into, names[tile.seed], outcome.result, outcome.entry)
        taken += 1
    if not taken:
        raise InputError(f"none of {len(numbers)} tiles could be taken, as said above; try other seeds or settings")
    return 0


def _tell(into: Path, name: str, result: str, entry: Entry) -> None:
    print(f"{into}: {printable(name)} {result}, {entry.id}, seam {entry.seam:.2f}")


def about(given: Keyed, licence: str = "") -> About:
    """What words say of textures that their pictures do not; `licence` stands in where they say none."""
    return About(
        licence=given.text("licence") or licence,
        source=given.text("source"),
        material=given.text("material"),
        tags=given.several("tags"),
        tileable=given.flag("tileable"),
    )


def _given(words: Sequence[str]) -> tuple[str, Keyed]:
    """The method, and its settings over `conf/texture/synthesize`."""
    told = [word.partition("=")[2] for word in words if word.startswith("method=")]
    method = told[0] if told else "noise"
    if method not in METHODS:
        raise ConfigError(f"method={printable(method)}: no such method.{nearest(method, METHODS)}")
    defaults, _ = read_yaml(find_conf() / "texture" / "synthesize" / f"{method}.yaml")
    return method, Keyed.over("texture synthesize", words, {"method": method, **defaults})


def _there(into: Path, method: str, maker: Maker, numbers: range, *, maps: bool) -> dict[int, Entry]:
    """Entries by seed that this very command has made before, whose maps can all be read."""
    if not check_place(into):
        return {}
    library, found = Library.open(into), dict[int, Entry]()
    for entry in library.entries:
        if entry.method != method or entry.model != maker.model or entry.seed is None or entry.seed not in numbers:
            continue
        same = all(entry.parameters.get(key) == value for key, value in maker.of(entry.seed).items())
        if same and ("height" in entry.maps) == maps and _readable(library, entry):
            found[entry.seed] = entry
    return dict(sorted(found.items()))


def _readable(library: Library, entry: Entry) -> bool:
    try:
        for kind in entry.maps:
            library.read(entry, cast(Kind, kind))
    except InputError:
        return False
    return True


def _texture(name: str, tile: Tile, told: About, method: str, maker: Maker, *, maps: bool) -> importing.Incoming:
    assert tile.pixels is not None
    albedo = np.rint(np.clip(tile.pixels, 0, 1) * 255).astype(np.uint8)
    told = told if told.material else replace(told, material=maker.material(tile.seed))
    kinds: dict[Kind, Map] = {"albedo": albedo}
    parameters = dict(maker.of(tile.seed))
    if maps:
        kinds |= _relief(albedo, parameters)
    return importing.made(
        name, kinds, told, method=method, model=maker.model, seed=tile.seed, parameters=parameters
    )  # fmt: skip


def _relief(albedo: Map, parameters: dict[str, Any]) -> Mapping[Kind, Map]:
    """Height, normal, roughness and occlusion of an albedo, in 16 bits; `parameters` takes up what height is worth."""
    found = from_albedo(albedo)
    parameters["relief"] = found.relief  # pixels from height 0 to height 1
    shares: dict[Kind, Any] = {
        "height": found.height,
        "normal": found.normal / 2 + 0.5,
        "roughness": found.roughness,
        "occlusion": found.occlusion,
    }
    return {kind: np.rint(np.clip(share, 0, 1) * 65535).astype(np.uint16) for kind, share in shares.items()}
