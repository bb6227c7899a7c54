"""One texture of a library: which maps it has, how large it is in the world, and where it comes from."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, cast

from synthaug.errors import ConfigError, InputError, printable
from synthaug.formats import strictjson

FORMAT = 1
Kind = Literal["albedo", "height", "normal", "roughness", "occlusion", "metalness", "opacity"]
KINDS: tuple[Kind, ...] = ("albedo", "height", "normal", "roughness", "occlusion", "metalness", "opacity")
UNKNOWN = "unknown"
"""The material of a texture that nobody has named."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_WORD = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_LONGEST = 2000
METRES = (0.001, 1000.0)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a library knows of one texture. Never changes; another set of maps is another entry.

    Attributes:
        name: For people: the path it was imported from, or the method that made it.
        maps: SHA-256 of the PNG of each map, by kind; `albedo` is always there. Albedo is sRGB [H, W, 3] uint8;
            `normal` [H, W, 3] uint8 or uint16, x right and y up (OpenGL's habit), 0 to full scale for -1 to 1;
            the others [H, W] uint8 or uint16, 0 to full scale for 0 to 1.
        height: Of the albedo, pixels; other maps may have other sizes of the same shape.
        width: Likewise.
        metres: Width of the picture in the world; its height follows, pixels are square.
        material: One word, such as `wood`; `unknown` where nobody has said.
        tags: Sorted words to search by.
        source: Who made it or where it was found.
        licence: Under which it may be used.
        method: `import`, or the name of the method or model family that made it.
        model: Digest or name of the model, empty for none.
        seed: Of the method, None for none.
        parameters: Of the method, plain JSON.
        files: Names of the imported files, by kind.
        notes: What import changed, in words.
        colour: Mean in linear light, as OKLab.
        seam: Mean step across the wrap over the mean step inside, the worse of both directions.
        tileable: Whether it can be repeated without a visible seam.
        likeness: Perceptual fingerprint in hexadecimal (`likeness.fingerprint`).
    """

    name: str
    maps: Mapping[str, str]
    height: int
    width: int
    metres: float
    material: str
    licence: str
    colour: tuple[float, float, float]
    seam: float
    tileable: bool
    likeness: str
    tags: tuple[str, ...] = ()
    source: str = ""
    method: str = "import"
    model: str = ""
    seed: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    notes: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """SHA-256 over the kinds and digests of the maps: the same pictures are the same entry."""
        rows = "".join(f"{kind} {digest}\n" for kind, digest in sorted(self.maps.items()))
        return hashlib.sha256(rows.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` turns back into an equal entry."""
        plain = cast("dict[str, Any]", strictjson.loads(strictjson.dumps(asdict(self)), "entry"))
        return {"format": FORMAT, "id": self.id, **plain}


def sidecar_name(entry_id: str) -> str:
    """Path of an entry's JSON below the library."""
    return f"entries/{entry_id[:2]}/{entry_id}.json"


def object_name(digest: str) -> str:
    """Path of a map below the library."""
    return f"objects/{digest[:2]}/{digest}.png"


def from_json(found: Any, name: str) -> Entry:
    """An entry from plain data that came from a file.

    Args:
        found: What `to_json` gave.
        name: Of the file, for messages.

    Raises:
        InputError: Anything else, with the field.
    """
    if not isinstance(found, Mapping):
        raise _broken(name, "is no JSON object")
    told = dict(cast("Mapping[str, Any]", found))
    if told.pop("format", None) != FORMAT:
        raise _broken(name, f"is not of format {FORMAT}; a newer synthaug may have written it")
    entry_id = told.pop("id", None)
    known = {f.name for f in fields(Entry)}
    if told.keys() != known:
        raise _broken(name, f"has other fields than expected: {', '.join(sorted(told.keys() ^ known))}")
    for key in ("tags", "notes", "colour"):
        if not isinstance(told[key], list | tuple):
            raise _broken(name, f"{key} is no list")
        told[key] = tuple(told[key])
    entry = Entry(**told)
    fault = _fault(entry)
    if fault:
        raise _broken(name, fault)
    if entry.id != entry_id:
        raise _broken(name, "carries an id that is not the digest of its maps")
    return entry


def _broken(name: str, fault: str) -> InputError:
    return InputError(f"texture {printable(name)}: {fault}. Remove that file and import the texture again")


def _fault(entry: Entry) -> str:
    """What is wrong with the values of an entry from outside, in words; empty where nothing is."""
    texts = ("name", "material", "licence", "source", "method", "model", "likeness")
    for key in texts:
        if not isinstance(getattr(entry, key), str):
            return f"{key} is no text"
    if not isinstance(entry.maps, Mapping) or "albedo" not in entry.maps or set(entry.maps) - set(KINDS):
        return f"maps are not albedo and others of {', '.join(KINDS)}"
    if not all(isinstance(d, str) and _DIGEST.fullmatch(d) for d in entry.maps.values()):
        return "a map's digest is not 64 hexadecimal digits"
    sizes = (entry.height, entry.width)
    if not all(type(v) is int and v > 0 for v in sizes):
        return f"size {sizes} is not two whole numbers above 0"
    numbers = (entry.metres, entry.seam, *entry.colour)
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in numbers) or len(entry.colour) != 3:
        return "metres, seam or colour are no finite numbers"
    if not METRES[0] <= entry.metres <= METRES[1] or not entry.licence.strip():
        return "it has no size in the world, or no licence"
    if not all(isinstance(t, str) for t in (*entry.tags, *entry.notes)) or type(entry.tileable) is not bool:
        return "tags, notes or tileable are of another type"
    if entry.seed is not None and type(entry.seed) is not int:
        return "seed is no whole number"
    return (
        "" if isinstance(entry.parameters, Mapping) and isinstance(entry.files, Mapping) else "parameters are no object"
    )


def checked_word(key: str, text: str) -> str:
    """A material or tag in lower case.

    Raises:
        ConfigError: Not one word of letters, digits, - and _.
    """
    word = text.strip().lower()
    if not _WORD.fullmatch(word):
        raise ConfigError(f"{key}={printable(text)}: expected one word of letters a-z, digits, - and _, at most 64")
    return word


def checked_licence(text: str) -> str:
    """The licence as told.

    Raises:
        ConfigError: Empty, or a word that says none.
    """
    found = " ".join(text.split())
    if not found or found.lower() in ("none", "unknown", "?", "todo", "n/a", "-") or len(found) > _LONGEST:
        raise ConfigError(
            f"licence={printable(text)}: every texture enters with its licence. Say which, such as licence=CC0-1.0,"
            " licence=Apache-2.0 or licence='own work'; look for it where the textures come from"
        )
    return found


def checked_metres(value: float) -> float:
    """The width of a texture in the world. Raises `ConfigError` outside of 1 mm to 1 km."""
    if not METRES[0] <= value <= METRES[1]:
        raise ConfigError(f"size={value}: expected the width of the texture in metres, {METRES[0]:g} to {METRES[1]:g}")
    return float(value)
