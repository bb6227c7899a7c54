"""`key=value` words of a command: known keys, each once, as text."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from synthaug.errors import ConfigError, nearest, printable

_YES, _NO = ("yes", "true", "1"), ("no", "false", "0")


class Keyed:
    """The words after a command.

    Args:
        command: For messages.
        words: As they were typed.
        known: Keys that the command takes.

    Raises:
        ConfigError: A word without `=`, an unknown key, or a key twice.
    """

    def __init__(self, command: str, words: Sequence[str], known: Collection[str]) -> None:
        self._command = command
        self.given: dict[str, str] = {}
        for word in words:
            key, equals, value = word.partition("=")
            if not equals:
                raise ConfigError(f"{command}: '{printable(word)}' is no KEY=VALUE; it takes {', '.join(known)}")
            if key not in known:
                raise ConfigError(f"{command} does not know '{printable(key)}'.{nearest(key, known)}")
            if key in self.given:
                raise ConfigError(f"{key} is given twice; give it once")
            self.given[key] = value

    @classmethod
    def over(cls, command: str, words: Sequence[str], defaults: Mapping[str, Any]) -> Keyed:
        """Words over the values of a configuration file; `???`, null and empty texts are none.

        Raises:
            ConfigError: As the constructor.
        """
        found = cls(command, words, defaults)
        told = {key: value for key, value in defaults.items() if value not in ("???", None, "")}
        plain = {
            key: _YES[0] if value is True else _NO[0] if value is False else str(value) for key, value in told.items()
        }
        found.given = plain | found.given
        return found

    def text(self, key: str, default: str = "") -> str:
        """A value as it is."""
        return self.given.get(key, default)

    def needed(self, key: str, what: str) -> str:
        """A value that must be there. Raises `ConfigError` with `what` it is."""
        if not self.given.get(key):
            raise ConfigError(f"{self._command} needs {key}=...: {what}")
        return self.given[key]

    def several(self, key: str) -> tuple[str, ...]:
        """Values by commas; none where the key is missing."""
        return tuple(part.strip() for part in self.text(key).split(",") if part.strip())

    def number(self, key: str, default: float) -> float:
        """A finite number. Raises `ConfigError`."""
        try:
            value = float(self.text(key, str(default)))
        except ValueError:
            value = float("nan")
        if not abs(value) < float("inf"):
            raise ConfigError(f"{key}={printable(self.text(key))}: expected a number")
        return value

    def whole(self, key: str, default: int, low: int, high: int) -> int:
        """A whole number of a range. Raises `ConfigError`."""
        text = self.text(key, str(default)).strip()
        # Not by way of a float, which would round large seeds.
        value = int(text) if text.lstrip("+-").isdecimal() else self.number(key, default)
        if value != int(value) or not low <= value <= high:
            raise ConfigError(f"{key}={printable(self.text(key))}: expected a whole number, {low} to {high}")
        return int(value)

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """One of some words, the first where the key is missing. Raises `ConfigError`."""
        value = self.text(key, choices[0])
        if value not in choices:
            raise ConfigError(f"{key}={printable(value)}: expected {' or '.join(choices)}")
        return value

    def flag(self, key: str) -> bool | None:
        """Yes or no; None where the key is missing. Raises `ConfigError`."""
        value = self.given.get(key)
        if value is not None and value.lower() not in _YES + _NO:
            raise ConfigError(f"{key}={printable(value)}: expected yes or no")
        return None if value is None else value.lower() in _YES
