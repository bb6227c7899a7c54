"""The few exceptions that users see.

Each says what arrived, what was expected and the way out, and carries the slot and the sample id
where there is one. A `Refusal` means that the run does not start (exit status 2); `Rejected` means
that one sample is left out, counted under a reason code, and that the run goes on.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SynthaugError(Exception):
    """Base of every error that is meant to be read by a user."""

    exit_status = 1


class Refusal(SynthaugError):
    """The run does not start, or cannot go on, with what it was given."""

    exit_status = 2


class ConfigError(Refusal):
    """A configuration that cannot be built or planned."""


class InputError(Refusal):
    """Input data that is refused as a whole: dangling references, duplicate ids, unknown classes."""


class SecurityError(Refusal):
    """Something that would run code or leave its root: never a matter of configuration."""


class Interrupted(SynthaugError):
    """The run stopped before its end and can be resumed with the same command (status 75)."""

    exit_status = 75


class Rejected(SynthaugError):
    """One sample is left out of the dataset.

    Args:
        reason: Short code under which the ledger counts it: `decode`, `label`, `nonfinite`, ...
        message: What arrived, what was expected.
        sample_id: The sample, where the raiser knows it; the engine fills it in otherwise.
        slot: The slot that rejected, filled in by the engine likewise.
    """

    def __init__(self, reason: str, message: str, *, sample_id: str = "", slot: str = "") -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message
        self.sample_id = sample_id
        self.slot = slot

    def __str__(self) -> str:
        where = ", ".join(part for part in (self.slot and f"slot {self.slot}", self.sample_id) if part)
        return f"{self.reason}: {self.message}" + (f" ({where})" if where else "")

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_rejected, (self.reason, self.message, self.sample_id, self.slot))


def _rebuild_rejected(reason: str, message: str, sample_id: str, slot: str) -> Rejected:
    """Lets a rejection cross a process border with its keyword arguments."""
    return Rejected(reason, message, sample_id=sample_id, slot=slot)


def nearest(word: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the closest of `known`, or the list of them where none is close."""
    choices = sorted(set(known))
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    if close:
        return f" Did you mean '{close[0]}'?"
    return f" Known: {', '.join(choices)}." if choices else ""


def first_of(items: Iterable[str], limit: int = 20) -> str:
    """The first offenders of a list, one a line, with the number left out."""
    rows = list(items)
    lines = "".join(f"\n  - {printable(row)}" for row in rows[:limit])
    return lines + (f"\n  ... and {len(rows) - limit} more" if len(rows) > limit else "")


def printable(text: str) -> str:
    """Text from outside with its control characters escaped, safe for a terminal and a log."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
