"""`synthaug texture import|list|show`: words in, a library of textures out. `texture_make` has `synthesize`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from synthaug.engine.keyed import Keyed
from synthaug.engine.model_lock import tidy
from synthaug.engine.publish import Output
from synthaug.engine.shelf import Existing, Near, Outcome, Shelf
from synthaug.engine.texture_make import about, synthesize
from synthaug.errors import ConfigError, InputError, printable
from synthaug.formats import png
from synthaug.formats.inputs import InputRoot
from synthaug.report.textures import textures
from synthaug.texture import importing
from synthaug.texture.entry import Entry
from synthaug.texture.importing import Incoming, Refused
from synthaug.texture.library import Library
from synthaug.texture.oklab import hex_of
from synthaug.texture.search import Query, find
from synthaug.texture.surfaces import ALPHA, Alpha, Limits

ACTIONS = ("import", "list", "show", "synthesize")
_ABOUT = ("licence", "source", "material", "tags", "tileable")
_IMPORT = ("into", *_ABOUT, "size", "near", "existing", "names", "alpha", "largest")
_QUERY = ("material", "tags", "name", "colour", "within", "tileable", "limit")
_SHOW = (*_QUERY, "out", "side", "columns")
_BATCH_BYTES = 64 << 20
_BATCH = 32


def run(action: str, words: Sequence[str]) -> int:
    """Runs one action and returns the exit status, 0.

    Raises:
        Refusal: Words, folders or pictures are not what they must be.
        Interrupted: The disk is full or broken; the same command goes on.
    """
    if action == "synthesize":
        return synthesize(words)
    if not words or "=" in words[0]:
        what = "FOLDER into=LIB licence=..." if action == "import" else "LIB"
        raise ConfigError(f"texture {action} needs a folder first: synthaug texture {action} {what}")
    folder = Path(words[0]).expanduser()
    return {"import": _import, "list": _list, "show": _show}[action](folder, words[1:])


def _import(folder: Path, words: Sequence[str]) -> int:
    given = Keyed("texture import", words, _IMPORT)
    into = Path(given.needed("into", "the folder of a library, new or not")).expanduser()
    root = InputRoot(folder)
    found = importing.survey(root, read_names=given.flag("names") is not False)
    if not given.text("licence"):
        files = [path for path in found.others if "licen" in path.lower() or "copying" in path.lower()]
        told = f" {printable(files[0])} lies there; read it." if files else ""
        raise ConfigError(
            f"texture import needs licence=...: every texture enters with its licence.{told} For example"
            " licence=CC0-1.0 or licence='own work'"
        )
    if not found.groups:
        raise InputError(f"{folder}: no textures below it, and {len(found.others)} other files.{_rows(found.refused)}")
    told = replace(about(given), metres=importing.checked_metres(given.number("size", 1.0)))
    limits = Limits(given.whole("largest", 4096, 64, 16384), cast(Alpha, given.choice("alpha", ALPHA)))
    near = cast(Near, given.choice("near", ("skip", "keep")))
    existing = cast(Existing, given.choice("existing", ("keep", "update")))
    shelf = Shelf(into)
    refused, outcomes, batch = list(found.refused), list[Outcome](), list[Incoming]()
    for item in importing.read_folder(root, found.groups, told, limits):
        if isinstance(item, Refused):
            refused.append(item)
            continue
        batch.append(item)
        if len(batch) == _BATCH or sum(len(d) for i in batch for d in i.objects.values()) > _BATCH_BYTES:
            outcomes += shelf.add(batch, near=near, existing=existing)
            batch = []
    outcomes += shelf.add(batch, near=near, existing=existing)
    _report(shelf.library(), outcomes, refused, found.others)
    if not outcomes:
        raise InputError(f"{folder}: none of its textures could be taken; the reasons are above")
    return 0


def _report(library: Library, outcomes: Sequence[Outcome], refused: Sequence[Refused], others: Sequence[str]) -> None:
    """Every texture that did not simply come in, and every file that is not taken."""
    counts = Counter(outcome.result for outcome in outcomes)
    reasons = Counter(item.reason for item in refused)
    print(f"{library.root}: {len(library)} textures")
    print("  " + (", ".join(f"{result} {n}" for result, n in sorted(counts.items())) or "nothing came in"))
    told = ", ".join(f"{reason} {n}" for reason, n in sorted(reasons.items()))
    print(f"  files refused {len(refused)}{f' ({told})' if told else ''}, no pictures {len(others)}")
    alike = [o for o in outcomes if o.other is not None and o.result in ("near", "kept near")]
    _block(
        "look like others (left out, unless near=keep)",
        (f"{_shown(o.entry)}: like {_shown(o.other)} ({o.other.id[:12]})" for o in alike if o.other),
    )
    new = [o.entry for o in outcomes if o.result in ("added", "updated", "kept near")]
    _block("changed on the way", (f"{entry.name}: {'; '.join(entry.notes)}" for entry in new if entry.notes))
    _block("material unknown (say material=...)", (entry.name for entry in new if entry.material == "unknown"))
    _block("refused", (f"{item.path}: {item.reason}: {item.message}" for item in refused))


def _block(title: str, rows: Iterable[str]) -> None:
    lines = [f"  - {printable(row)}" for row in rows]
    if lines:
        print(f"{title}: {len(lines)}", *lines, sep="\n")


def _shown(entry: Entry) -> str:
    return entry.files.get("albedo", entry.name)


def _rows(refused: Sequence[Refused]) -> str:
    return "".join(f"\n  - {printable(item.path)}: {item.message}" for item in refused)


def _query(given: Keyed) -> Query:
    return Query(
        material=given.text("material"),
        tags=given.several("tags"),
        name=given.text("name"),
        colour=given.text("colour"),
        within=given.number("within", 0),
        tileable=bool(given.flag("tileable")),
        limit=given.whole("limit", 0, 0, 10**9),
    )


def _list(folder: Path, words: Sequence[str]) -> int:
    query = _query(Keyed("texture list", words, _QUERY))
    library = Library.open(folder)
    hits = find(library.entries, query)
    heads = ["id", "material", "pixels", "metres", "colour", "seam", "tiles", "maps", "licence", "name"]
    rows = [
        [
            hit.entry.id[:12],
            hit.entry.material,
            f"{hit.entry.width}x{hit.entry.height}",
            f"{hit.entry.metres:g}",
            hex_of(np.array(hit.entry.colour)) + (f" {hit.distance:.3f}" if query.colour else ""),
            f"{hit.entry.seam:.2f}",
            "yes" if hit.entry.tileable else "no",
            "+".join(hit.entry.maps),
            hit.entry.licence,
            hit.entry.name,
        ]
        for hit in hits
    ]
    cells = [[printable(cell) for cell in row] for row in [heads, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"{len(hits)} of {len(library)} textures")
    return 0


def _show(folder: Path, words: Sequence[str]) -> int:
    given = Keyed("texture show", words, _SHOW)
    out = Path(given.needed("out", "the PNG file of the contact sheet")).expanduser().absolute()
    side, columns = given.whole("side", 160, 32, 1024), given.whole("columns", 8, 1, 64)
    if out.suffix.lower() != ".png" or not out.parent.is_dir():
        raise ConfigError(f"out={out}: expected the name of a .png file in a folder that exists")
    library = Library.open(folder)
    entries = [hit.entry for hit in find(library.entries, _query(given))]
    if not entries:
        raise ConfigError(f"none of the {len(library)} textures of {library.root} is like that; ask for less")
    output = Output(out.parent)
    output.publish_file(out.name, png.encode(textures(library, entries, side=side, columns=columns)))
    tidy(output)
    print(f"{out}: {len(entries)} textures")
    return 0
