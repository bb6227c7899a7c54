"""Which relative paths from outside are followed at all, the ids they give, and the order people expect of names."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from synthaug.errors import SecurityError, printable
from synthaug.sample import escape_id

_LONGEST_PATH = 4096
_LONGEST_NAME = 255
_ESCAPED = re.compile(r"~(?:[0-9A-F]{2}|h[0-9a-f]{32}|v[0-9])")
"""How our own sample ids spell what is no letter: a name that a writer of ours gave is no home folder."""
_BYTE = re.compile(r"~([0-9A-F]{2})")
_VARIANT = re.compile(r"(?:~v[1-9][0-9]*)+\Z")
_HASHED = re.compile(r"(?=.{119,120}~h)(?:[A-Za-z0-9_-]|~[0-9A-F]{2})+(?:~[0-9A-F])?~h[0-9a-f]{32}")
IMAGES, KEPT_APART = "images", "images~"
"""ultralytics takes the last folder called `images` for the root of the pictures, so ours are called otherwise."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_DIGITS = re.compile(r"([0-9]+)")
NaturalKey = tuple[tuple[object, ...], str]


def natural_key(text: str) -> NaturalKey:
    """Sort key that puts `10` after `2`; ties (`01`, `1`) fall back to the text, so order is total."""
    parts = _DIGITS.split(text)
    # Digits compare by length first, so no number has to fit anywhere.
    key = tuple((len(p.lstrip("0")), p.lstrip("0")) if i % 2 else p for i, p in enumerate(parts))
    return key, text


def source_id(path: str) -> str:
    """The id of a path from outside without its suffix: `escape_id`, but a name that is an id of ours stays as it is.

    So names do not grow from one conversion to the next. Two paths may share an id then (`a b` and
    `a~20b`): whoever collects ids looks for that.
    """
    return "/".join(_unfolded(part) for part in path.split("/"))


def _unfolded(part: str) -> str:
    if part == KEPT_APART:
        return IMAGES
    return part if "~" in part and _is_escaped(_VARIANT.sub("", part)) else escape_id(part)


def _is_escaped(part: str) -> bool:
    """Whether a component is exactly what `escape_id` makes of some name."""
    if not part or _HASHED.fullmatch(part):
        return bool(part)
    if not part.isascii():
        return False
    raw = _BYTE.sub(lambda found: chr(int(found[1], 16)), part).encode("latin-1")
    return escape_id(raw.decode("utf-8", "surrogateescape").replace("/", "\0")) == part


def apart(paths: Sequence[str], folder: str, others: Sequence[str]) -> list[str]:
    """Paths below `folder` without those that lie in a deeper one of the `others`, which are listed for themselves."""
    start = f"{folder}/" if folder else ""
    inner = tuple(f"{other}/" for other in others if other != folder and other.startswith(start))
    return [path for path in paths if not path.startswith(inner)]


def check_path(relpath: str) -> tuple[str, ...]:
    """The components of a relative path that came from outside.

    Raises:
        SecurityError: Empty, absolute, a `..`, a backslash, a drive letter, a URL scheme or `pipe:`, a
            leading `~`, a control character, or longer than a file system takes.
    """
    fault = fault_of(relpath)
    if fault:
        shown = printable(relpath if len(relpath) <= 120 else relpath[:117] + "...")
        raise SecurityError(f"path '{shown}' {fault}; expected a plain path below the input root, such as images/1.png")
    return tuple(part for part in relpath.split("/") if part not in ("", "."))


def fault_of(path: str) -> str:
    """What is wrong with a path, in words that follow it; empty where nothing is."""
    parts = path.split("/")
    if not any(part not in ("", ".") for part in parts):
        return "names no file"
    if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in path):
        return "holds a control character"
    if path.startswith("/"):
        return "is absolute"
    if ".." in parts:
        return "climbs out of its folder"
    if "\\" in path:
        return "holds a backslash"
    if path.startswith("~") and not _ESCAPED.match(path):
        return "starts with ~"
    if _SCHEME.match(parts[0]):
        return "starts with a drive letter or a scheme"
    raw = os.fsencode(path) if _encodable(path) else b""
    if not raw:
        return "is no valid text"
    if len(raw) > _LONGEST_PATH or any(len(os.fsencode(part)) > _LONGEST_NAME for part in parts):
        return f"has {len(raw)} bytes, more than a file system takes"
    return ""


def _encodable(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True
