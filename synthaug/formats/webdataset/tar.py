"""Tar archives (POSIX.1-2017, pax interchange format, and ustar before it): members found and written, never extracted.

Own code, because the standard library's reader trusts what headers say: before CPython 3.11.14 a crafted
size makes it run for ever. Regular files count; folders are passed over; everything else is refused.
Archives are not compressed here, so no member can be larger than the file that holds it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from synthaug.errors import InputError, SecurityError, printable
from synthaug.formats.inputs import DEFAULT_LIMIT
from synthaug.formats.paths import fault_of

BLOCK = 512
MAX_MEMBERS = 1_000_000
"""Of one archive."""
_MAX_EXTRA = 2**16
"""Bytes of one pax header or long name."""
_PAX_RECORD = re.compile(rb"([1-9][0-9]{0,6}) ([^=\n]{1,200})=", re.DOTALL)
_KINDS = {b"1": "hard link", b"2": "symbolic link", b"3": "device", b"4": "device", b"6": "FIFO", b"S": "sparse file"}
_COMPRESSED = ((b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"), (b"\xfd7zXZ", "xz"), (b"(\xb5/\xfd", "zstd"))

Fetch = Callable[[int, int], bytes]
"""Up to `length` bytes from `start`."""


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file inside an archive: its name, and where its bytes are."""

    name: str
    start: int
    size: int


def members(fetch: Fetch, length: int, where: str, *, max_size: int = DEFAULT_LIMIT) -> Iterator[Member]:
    """The regular files of an archive, in order. Reads headers alone.

    Args:
        fetch: Reads the archive.
        length: Of the archive, in bytes.
        where: Its name, for messages.
        max_size: Bytes of one member.

    Raises:
        InputError: Damaged, truncated, compressed, or beyond the limits.
        SecurityError: A member that is no plain file, or whose name leaves its folder.
    """
    at, count = 0, 0
    extra: dict[str, bytes] = {}
    while True:
        block = fetch(at, BLOCK)
        if len(block) < BLOCK:
            raise InputError(f"{where}: the archive ends at byte {at + len(block)} without its end mark; it is cut off")
        if not any(block):
            _check_tail(fetch, at, length, where)
            return
        count += 1
        if count > MAX_MEMBERS:
            raise InputError(f"{where}: more than {MAX_MEMBERS} members; split it into shards")
        name, size, kind = _header(block, at, where)
        body, at_next = at + BLOCK, 0
        if kind in b"xgLK":
            extra |= _extra(kind, fetch(body, _bounded(size, _MAX_EXTRA, name, where)), name, where)
            at_next = body + size
        else:
            name, size = _overridden(extra, name, size, where)
            extra = {}
            at_next = body + (size if kind != b"5" else 0)
            if kind != b"5":
                _check_member(kind, name, size, max_size, where)
                yield Member(name.removeprefix("./"), body, size)
        if at_next > length:
            raise InputError(f"{where}: member '{printable(name[:80])}' reaches beyond the end; the archive is cut off")
        at = at_next + -at_next % BLOCK


def write(files: Iterable[tuple[str, bytes]]) -> bytes:
    """An archive of plain files with mode 0644, owner 0 and time 0: the same bytes for the same files.

    Args:
        files: ASCII names and contents, in the order of the archive.
    """
    parts: list[bytes] = []
    for name, data in files:
        raw = name.encode("ascii")
        if len(raw) > 100:
            record = _pax_record(b"path", raw)
            parts += [_block(b"././@PaxHeader", len(record), b"x"), record, b"\0" * (-len(record) % BLOCK)]
            raw = raw[:100]
        parts += [_block(raw, len(data), b"0"), data, b"\0" * (-len(data) % BLOCK)]
    return b"".join([*parts, b"\0" * 2 * BLOCK])


def _block(name: bytes, size: int, kind: bytes) -> bytes:
    """A ustar header."""
    head = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + b"%011o\0" % size + b"0" * 11 + b"\0"
    tail = kind + b"\0" * 100 + b"ustar\x0000" + b"\0" * 64 + b"0000000\0" * 2 + b"\0" * 167
    return head + b"%06o\0 " % (sum(head) + sum(tail) + 8 * 32) + tail


def _pax_record(key: bytes, value: bytes) -> bytes:
    """`length key=value` with a newline; the length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _header(block: bytes, at: int, where: str) -> tuple[str, int, bytes]:
    """Name, size and type; the checksum decides whether it is a header at all."""
    plain = sum(block) - sum(block[148:156]) + 8 * 32
    try:
        if _number(block[148:156]) != plain:
            raise ValueError("wrong checksum")
        size = _number(block[124:136])
    except ValueError as error:
        packed = next((kind for magic, kind in _COMPRESSED if at == 0 and block.startswith(magic)), None)
        advice = f"it is packed with {packed}; unpack it to .tar first" if packed else f"{error} at byte {at}"
        raise InputError(f"{where}: no tar archive, or a damaged one: {advice}") from error
    name = block[:100].split(b"\0")[0]
    prefix = block[345:500].split(b"\0")[0]
    if block[257:263] == b"ustar\0" and prefix:
        name = prefix + b"/" + name
    return name.decode("utf-8", "surrogateescape"), size, block[156:157]


def _number(field: bytes) -> int:
    """Octal text, or base 256 where the first bit is set (GNU)."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=False) & ((1 << (8 * len(field) - 1)) - 1)
        if field[0] & 0x40:
            raise ValueError("a negative number in a header")
        return value
    text = field.split(b"\0")[0].strip()
    if not text or not all(c in b"01234567" for c in text):
        raise ValueError("a number that is not octal in a header")
    return int(text, 8)


def _bounded(size: int, limit: int, name: str, where: str) -> int:
    if size > limit:
        raise InputError(f"{where}: header '{printable(name[:80])}' of {size} bytes, the limit is {limit}")
    return size


def _extra(kind: bytes, data: bytes, name: str, where: str) -> dict[str, bytes]:
    """What an extended header says of the next member."""
    if kind == b"L":
        return {"path": data.rstrip(b"\0")}
    if kind == b"K":
        raise SecurityError(f"{where}: a link with a long target; links are refused")
    found: dict[str, bytes] = {}
    at = 0
    while at < len(data.rstrip(b"\0")):
        record = _PAX_RECORD.match(data, at)
        end = at + int(record[1]) if record else 0
        if record is None or end > len(data) or end <= record.end() or data[end - 1 : end] != b"\n":
            raise InputError(f"{where}: damaged pax header")
        found[record[2].decode("utf-8", "replace")] = data[record.end() : end - 1]
        at = end
    decisive = found.keys() & {"path", "size", "linkpath"} or {k for k in found if k.startswith("GNU.sparse")}
    if decisive - {"path", "size"} or (kind == b"g" and decisive):
        raise SecurityError(f"{where}: pax header with {', '.join(sorted(decisive))}; expected plain files")
    return {k: v for k, v in found.items() if k in ("path", "size")} if kind == b"x" else {}


def _overridden(extra: dict[str, bytes], name: str, size: int, where: str) -> tuple[str, int]:
    if "path" in extra:
        name = extra["path"].decode("utf-8", "surrogateescape")
    if "size" in extra:
        if not re.fullmatch(rb"[0-9]{1,18}", extra["size"]):
            raise InputError(f"{where}: damaged pax header: a size that is no number")
        size = int(extra["size"])
    return name, size


def _check_member(kind: bytes, name: str, size: int, max_size: int, where: str) -> None:
    shown = printable(name[:120])
    if kind not in (b"\0", b"0", b"7"):
        told = _KINDS.get(kind, f"member of type {kind!r}")
        raise SecurityError(f"{where}: '{shown}' is a {told}; expected regular files")
    # A leading ~ is one of our escapes; nothing here ever becomes a path.
    fault = fault_of(name[1:] if name.startswith("~") else name)
    if fault:
        raise SecurityError(f"{where}: member '{shown}' {fault}; expected plain relative names")
    if size > max_size:
        raise InputError(f"{where}: '{shown}' has {size} bytes, the limit is {max_size}")


def _check_tail(fetch: Fetch, at: int, length: int, where: str) -> None:
    """Behind the end mark there is padding only: a second archive there would be lost without a word."""
    while at < length:
        part = fetch(at, 1 << 20)
        if not part or any(part):
            raise InputError(f"{where}: data behind the end mark at byte {at}; write concatenated archives as shards")
        at += len(part)
