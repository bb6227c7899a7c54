"""Which files belong to one texture: the habits of naming maps, `oak_basecolor.png` beside `oak_normal_2k.jpg`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple

from synthaug.formats.inputs import natural_key
from synthaug.texture.entry import Kind

_NAMES: dict[Kind, str] = {
    "albedo": "albedo diffuse diff basecolor basecolour color colour col alb basegray basegrey",
    "height": "height heightmap displacement disp bump",
    "normal": "normal normals normalmap nor nrm norm normalgl norgl normalopengl",
    "roughness": "roughness rough rgh",
    "occlusion": "occlusion ambientocclusion occ ao",
    "metalness": "metalness metallic",
    "opacity": "opacity alpha",
}
_KINDS: dict[str, Kind] = {word: kind for kind, words in _NAMES.items() for word in words.split()}
_INVERTED = frozenset(("gloss", "glossiness", "smoothness"))
_DOWNWARD = frozenset(("normaldx", "nordx", "normaldirectx"))
_OTHERS = {
    **dict.fromkeys(("arm", "orm", "ord", "rma", "mra", "packed"), "several maps packed into one; split its channels"),
    **dict.fromkeys(("mask", "id", "ids"), "a mask: it says where, not what a surface looks like"),
    **dict.fromkeys(
        ("specular", "spec", "emissive", "emission", "scattering", "sss", "thickness", "transmission"),
        "a kind of map that the library does not keep",
    ),
}
_SEPARATOR = re.compile(r"[\s_.-]+")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_RESOLUTION = re.compile(r"(?:1|2|4|8|16)k|256|512|1024|2048|4096|8192|jpg|jpeg|png|tif|tiff", re.IGNORECASE)


class Claim(NamedTuple):
    """One file and what its name says of it.

    Attributes:
        path: Below the folder.
        kind: Which map it is.
        told: The name says so; otherwise it is taken for an albedo.
        inverted: It is gloss, the opposite of roughness.
        downward: Its green points down, DirectX' habit.
    """

    path: str
    kind: Kind
    told: bool = False
    inverted: bool = False
    downward: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """The files of one texture.

    Attributes:
        name: Path without suffixes.
        maps: One claim per kind, the albedo first.
    """

    name: str
    maps: tuple[Claim, ...]


@dataclass(slots=True)
class Grouping:
    """A folder's files as textures, and what is left over, with its reason."""

    groups: list[Group] = field(default_factory=list[Group])
    left: dict[str, str] = field(default_factory=dict[str, str])


def grouped(paths: Iterable[str], *, read_names: bool = True) -> Grouping:
    """Textures among the paths of pictures.

    The last words of a name say which map it is, after words of resolution (`1k`, `2048`, `jpg`); a folder with
    `albedo.png` and `normal.png` in it is one texture. A file whose name says nothing is an albedo. Further
    albedos of one texture become textures of their own; a second map of another kind is left over.

    Args:
        paths: Relative, `/` between components.
        read_names: Off, every file is the albedo of a texture of its own.
    """
    found = Grouping()
    sets: dict[str, list[tuple[str, Claim]]] = {}
    for path in sorted(paths, key=natural_key):
        name, claim = _read(path) if read_names else (path, Claim(path, "albedo"))
        if isinstance(claim, str):
            found.left[path] = claim
        else:
            sets.setdefault(name.casefold(), []).append((name, claim))
    for members in sets.values():
        _settle(members, found)
    found.groups.sort(key=lambda group: natural_key(group.maps[0].path))
    return found


def _settle(members: list[tuple[str, Claim]], found: Grouping) -> None:
    """One set of files with the same stem: a texture, others on their own, and what is left."""
    name = members[0][0]
    claims = [claim for _, claim in members]
    albedos = sorted((c for c in claims if c.kind == "albedo"), key=lambda c: not c.told)
    maps = {c.kind: c for c in reversed([c for c in claims if c.kind != "albedo" and not c.downward])}
    for claim in claims:
        if claim.kind == "albedo":
            continue
        # A normal map whose green points down only counts where there is no other.
        kept = maps.setdefault(claim.kind, claim)
        if not albedos:
            found.left[claim.path] = (
                f"a {claim.kind} map without an albedo: put {name}_albedo beside it, or say names=no where it is one"
            )
        elif kept is not claim:
            found.left[claim.path] = f"a second {claim.kind} map of {name}; {kept.path} is taken"
    for number, albedo in enumerate(albedos):
        rest = [maps[kind] for kind in sorted(maps)] if number == 0 else []
        whole = name if albedo.told and number == 0 else str(PurePosixPath(albedo.path).with_suffix(""))
        found.groups.append(Group(whole, (albedo, *rest)))


def _read(path: str) -> tuple[str, Claim | str]:
    """The stem that a file shares with its set, and its claim, or why it has none."""
    whole = PurePosixPath(path)
    words = _unsized([word for word in _SEPARATOR.split(whole.stem) if word])
    for taken, word in _endings(words):
        rest = [*words[:-1], taken] if taken else words[: -word.count(" ") - 1]
        claim = _claim(path, word.replace(" ", ""))
        if claim:
            return str(whole.parent / "_".join(_unsized(rest))) if rest else str(whole.parent), claim
    return str(whole.parent / "_".join(words)), Claim(path, "albedo")


def _unsized(words: list[str]) -> list[str]:
    """Without words of resolution at the end, unless there is nothing else."""
    count = len(words)
    while count > 1 and _RESOLUTION.fullmatch(words[count - 1]):
        count -= 1
    return words[:count]


def _endings(words: list[str]) -> list[tuple[str, str]]:
    """What may name a map: the last two words, the last one, the last two or one parts of a CamelCase word."""
    if not words:
        return []
    parts = _CAMEL.findall(words[-1])
    pairs = [("", " ".join(words[-2:]).lower())] if len(words) > 1 else []
    pairs.append(("", words[-1].lower()))
    if "".join(parts) == words[-1]:
        pairs += [("".join(parts[:-n]), "".join(parts[-n:]).lower()) for n in (2, 1) if len(parts) > n]
    return pairs


def _claim(path: str, word: str) -> Claim | str | None:
    if word in _OTHERS:
        return _OTHERS[word]
    if word in _INVERTED:
        return Claim(path, "roughness", told=True, inverted=True)
    if word in _DOWNWARD:
        return Claim(path, "normal", told=True, downward=True)
    kind = _KINDS.get(word)
    return Claim(path, kind, told=True) if kind else None
