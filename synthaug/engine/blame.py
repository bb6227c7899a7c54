"""Whose fault it is: what a stage raises, and draws that are no JSON, with the name of the slot."""

from __future__ import annotations

import math
import traceback
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from synthaug.engine.pipeline import Slot
from synthaug.engine.workers import Failed
from synthaug.errors import Rejected, SynthaugError

DRAW = "draw"
"""Reason under which the ledger counts draws that cannot be stored."""


class Broken(Exception):
    """An error that a stage was not meant to raise; the cause is the error itself.

    Args:
        slot: Name of the stage's slot.
    """

    def __init__(self, slot: str) -> None:
        super().__init__(slot)
        self.slot = slot


@contextmanager
def at(slot: Slot) -> Generator[None]:
    """Around every call of a stage. A rejection gets the slot's name; other errors arrive as `Broken`."""
    try:
        yield
    except Rejected as rejected:
        named = slot.name if not rejected.slot else rejected.slot
        raise Rejected(rejected.reason, rejected.message, sample_id=rejected.sample_id, slot=named) from rejected
    except (SynthaugError, Broken):
        raise
    except (Exception, SystemExit) as error:
        raise Broken(slot.name) from error


def failed(error: BaseException) -> Failed:
    """The row of the ledger for an error that was not foreseen."""
    if isinstance(error, Broken):
        return Failed("error", told(error), error.slot)
    return Failed("error", told(error))


def told(error: BaseException) -> str:
    """The error and the line that raised it, so that a counted failure is not an unexplained one."""
    error = error.__cause__ if isinstance(error, Broken) and error.__cause__ else error
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno} in {last.name})"


def as_json(draw: object, what: str = "draw") -> dict[str, Any]:
    """A draw as the trail will hold it: numpy's numbers become Python's, tuples become lists.

    So a stage computes with what a replay would give it.

    Args:
        what: The word for it in messages; the `facts` of a picture are held likewise.

    Raises:
        Rejected: Under `draw`, naming the key, for anything that JSON does not give back: arrays, numbers that are
            not finite, keys that are no text, other objects.
    """
    if not isinstance(draw, Mapping):
        raise Rejected(DRAW, f"draw() returned a {type(draw).__name__}, expected a dict")
    found = _plain(cast("Mapping[Any, Any]", draw), "", what)
    return cast("dict[str, Any]", found)


def _plain(value: Any, key: str, what: str) -> Any:
    value = cast("Any", value.item() if isinstance(value, np.generic) else value)
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Rejected(DRAW, f"'{key}' of the {what} is {value}, which cannot be stored; expected a finite number")
        return value
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        for name, _ in items:
            if not isinstance(name, str):
                raise Rejected(DRAW, f"'{key}' of the {what} has the key {name!r}, which comes back as text; use text")
        return {name: _plain(own, f"{key}.{name}" if key else name, what) for name, own in items}
    if isinstance(value, (list, tuple)):
        return [_plain(own, f"{key}[{i}]", what) for i, own in enumerate(cast("list[Any]", value))]
    kind = type(cast("object", value)).__name__
    raise Rejected(
        DRAW, f"'{key}' of the {what} is a {kind}, which is no JSON{'; use .tolist()' * (kind == 'ndarray')}"
    )
