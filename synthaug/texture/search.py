"""Finding textures: by material, tags, words of the name, and colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synthaug.errors import ConfigError
from synthaug.texture import oklab
from synthaug.texture.entry import Entry


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for; empty fields ask for nothing.

    Attributes:
        material: This one.
        tags: All of them.
        name: Part of the name, in any case.
        colour: `#rrggbb`: the nearest come first, by distance of the mean colour in OKLab.
        within: Distance in OKLab up to which a colour counts, above 0; 0 for any.
        tileable: Only those that repeat without a seam.
        limit: The most that are found; 0 for all.
    """

    material: str = ""
    tags: tuple[str, ...] = ()
    name: str = ""
    colour: str = ""
    within: float = 0.0
    tileable: bool = False
    limit: int = 0


@dataclass(frozen=True, slots=True)
class Hit:
    """An entry, and how far its mean colour is from the one asked for (OKLab; 0 where none was)."""

    entry: Entry
    distance: float = 0.0


def find(entries: Sequence[Entry], query: Query) -> list[Hit]:
    """The entries that a query asks for, nearest colours first, else by material and name.

    Raises:
        ConfigError: A colour that is none, a limit or distance below 0, or a distance without a colour.
    """
    if query.limit < 0 or query.within < 0:
        raise ConfigError(f"limit={query.limit} within={query.within}: expected 0 or more")
    if query.within and not query.colour:
        raise ConfigError("within= is a distance from colour=, which is missing")
    found = [entry for entry in entries if _fits(entry, query)]
    hits = [Hit(entry) for entry in sorted(found, key=lambda e: (e.material, e.name, e.id))]
    if query.colour:
        wanted = oklab.parsed(query.colour)
        hits = [Hit(h.entry, float(np.linalg.norm(np.array(h.entry.colour) - wanted))) for h in hits]
        hits.sort(key=lambda hit: (hit.distance, hit.entry.id))
        hits = [hit for hit in hits if not query.within or hit.distance <= query.within]
    return hits[: query.limit] if query.limit else hits


def _fits(entry: Entry, query: Query) -> bool:
    return (
        (not query.material or entry.material == query.material)
        and set(query.tags) <= set(entry.tags)
        and query.name.lower() in entry.name.lower()
        and (entry.tileable or not query.tileable)
    )
