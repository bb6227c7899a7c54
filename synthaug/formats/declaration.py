"""How a container says that synthaug wrote it: a marker, a version and the classes, inside or beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from synthaug.errors import InputError, Rejected
from synthaug.formats import facts, strictjson
from synthaug.formats.facts import Json
from synthaug.labels import Category


def checked_id(text: str, where: str) -> str:
    """A stored sample id; raises `InputError` for what is none."""
    if facts.stored_id({"id": text}) is None:
        raise InputError(f"{where}: '{text[:80]}' is no sample id, and the dataset says that synthaug wrote it")
    return text


def own_categories(told: Any, marker: str, version: int, where: str) -> tuple[Category, ...] | None:
    """The classes that a dataset of our own declares; None where `told` is not ours.

    Raises:
        InputError: Ours, but of another version or malformed.
    """
    if not isinstance(told, dict) or cast(Json, told).get("format") != marker:
        return None
    document = cast(Json, told)
    if document.get("version") != version:
        raise InputError(f"{where} has version {document.get('version')!r}, this release reads {version}")
    try:
        return tuple(facts.category_from(row) for row in document["categories"])
    except (KeyError, TypeError, Rejected) as error:
        raise InputError(f"{where}: categories are malformed: {error}") from error


def declaration(marker: str, version: int, categories: Sequence[Category], **more: Any) -> bytes:
    """What `own_categories` reads, as JSON."""
    told = {"format": marker, "version": version, "categories": [facts.category_to(c) for c in categories]}
    return strictjson.dumps(told | more)
