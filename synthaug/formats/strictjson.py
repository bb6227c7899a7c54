"""JSON that means one thing: what Python's reader lets pass silently is refused, with its place.

Refused are NaN, Infinity and numbers that would become infinite, a key twice in one object, integers of
more than 4,000 digits, nesting beyond 200, a byte order mark and bytes that are not UTF-8 (RFC 8259,
sections 4, 6 and 8). The whole document is held in memory: streaming is out of scope, and callers bound
the file's size.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn, cast

import numpy as np

from synthaug.errors import InputError, printable

MAX_DEPTH = 200
MAX_DIGITS = 4000

# Strings first, so that nothing inside one counts; a string before a colon is a key.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"(?P<key>\s*:)?|[\[\]{}]|-?[0-9][0-9.eE+-]*|NaN|-?Infinity', re.DOTALL)
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
# Numbers that may be too long or too large. Strings can hold such text too, so a hit is only a suspicion.
_SUSPECT = re.compile(rb"[0-9]{300}|[0-9][eE]\+?[0-9]{3}")
_SLICE = 2**22


class _Offence(ValueError):
    """Raised inside the parser, which does not know where it is."""


def loads(data: bytes, name: str) -> Any:
    """Parses one document.

    Args:
        data: UTF-8 without a byte order mark.
        name: Of the file, for messages.

    Raises:
        InputError: With line and column, or the byte, of the first offence.
    """
    text = _text(data, name)
    if _deepest(data) > MAX_DEPTH or _SUSPECT.search(data):
        _find_offence(text, name)
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{name}, {_place(text, error.pos)}: {error.msg}") from error
    except (RecursionError, ValueError) as error:
        # The parser knows the rule but not the place: a second, slower pass finds it.
        _find_offence(text, name)
        raise InputError(f"{name}: {error}") from error


def dumps(obj: Any) -> bytes:
    """Canonical bytes: sorted keys, no spaces, shortest floats that read back equal, UTF-8, a newline.

    Raises:
        ValueError: A number that is not finite, or text that is no Unicode.
        TypeError: Something that JSON cannot hold, or a key that is not a string.
    """
    _check_keys(obj)
    text = json.dumps(obj, sort_keys=True, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8") + b"\n"


def _text(data: bytes, name: str) -> str:
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{name}, byte 0: a byte order mark; save it as plain UTF-8")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}, byte {error.start}: not UTF-8 (0x{data[error.start]:02x})") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Offence("a key twice in one object")
    return found


def _no_constant(word: str) -> NoReturn:
    raise _Offence(f"{word} is no JSON number")


_NESTING = (dict, list, tuple)
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _deepest(data: bytes) -> int:
    """Deepest nesting of brackets outside strings; a slice at a time, so that memory stays flat."""
    plain = _ESCAPE.sub(b"  ", data) if b"\\" in data else data
    depth, deepest, quotes = 0, 0, 0
    for begin in range(0, len(plain), _SLICE):
        codes = np.frombuffer(plain, np.uint8, min(_SLICE, len(plain) - begin), begin)
        quoted = codes == ord('"')
        inside = np.bitwise_xor.accumulate(quoted) ^ bool(quotes % 2)
        quotes += int(np.count_nonzero(quoted))
        # '[' and '{', ']' and '}' differ in bit 5 alone.
        folded = codes | 0x20
        steps = ((folded == ord("{")).view(np.int8) - (folded == ord("}")).view(np.int8)) * ~inside
        level = depth + np.cumsum(steps[steps != 0], dtype=np.int64)
        if level.size:
            deepest, depth = max(deepest, int(level.max())), int(level[-1])
    return deepest


def _find_offence(text: str, name: str) -> None:
    """Walks the tokens and raises for the first that breaks a rule; returns where none does."""
    for at, message in _offences(text):
        raise InputError(f"{name}, {_place(text, at)}: {message}")


def _offences(text: str) -> Iterator[tuple[int, str]]:
    open_keys: list[set[str]] = []
    for token in _TOKEN.finditer(text):
        word, at = token.group(), token.start()
        if word in "[{":
            open_keys.append(set())
            if len(open_keys) > MAX_DEPTH:
                yield at, f"nested more than {MAX_DEPTH} deep"
        elif word in "]}":
            open_keys = open_keys[:-1]
        elif token["key"] and open_keys:
            key = _unquoted(word[: -len(token["key"])])
            if key in open_keys[-1]:
                yield at, f"the key '{printable(key[:80])}' a second time in one object"
            open_keys[-1].add(key)
        elif word[0] != '"':
            yield from ((at, message) for message in _number_faults(word))


def _number_faults(word: str) -> Iterator[str]:
    if word.endswith(("NaN", "Infinity")):
        yield f"{word} is no JSON number; write null"
    elif len(word.lstrip("-")) > MAX_DIGITS:
        yield f"a number of {len(word)} digits, the most is {MAX_DIGITS}"
    elif not word.lstrip("-").isdigit() and _float(word) in (math.inf, -math.inf):
        yield f"{word[:40]} is beyond the range of a float"


def _float(word: str) -> float:
    try:
        return float(word)
    except ValueError:  # not a number at all: the parser says so, with its place
        return 0.0


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except json.JSONDecodeError:  # a bad escape: the parser says so, with its place
        return text


def _place(text: str, at: int) -> str:
    return f"line {text.count(chr(10), 0, at) + 1}, column {at - text.rfind(chr(10), 0, at)}"


def _check_keys(obj: Any) -> None:
    """Python would write the key 1 as "1" and None as "null" without a word."""
    left: list[Any] = [obj]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            for key in cast("dict[Any, Any]", value):
                if not isinstance(key, str):
                    raise TypeError(f"JSON key {key!r} of type {type(key).__name__}, expected text")
            value = cast("dict[str, Any]", value).values()
        elif not isinstance(value, list | tuple):
            continue
        left += [item for item in cast("list[Any]", value) if isinstance(item, _NESTING)]
