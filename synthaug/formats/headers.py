"""What a picture file says of itself, read from its structure and before any decoder sees it.

Type is decided by content against a short list: PNG, JPEG, WebP, TIFF, BMP, NPY, OpenEXR. Every length is
checked against the bytes that are there, so a truncated file, a header that lies about its size, an
animation or an oversized text chunk is found here, in Python, for the price of a walk over chunks.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from isal import isal_zlib

from synthaug.errors import Rejected
from synthaug.formats import bmp, tiff
from synthaug.labels import Size

Kind = Literal["png", "jpeg", "webp", "tiff", "bmp", "npy", "exr"]
_MAGIC: tuple[tuple[bytes, Kind], ...] = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"BM", "bmp"),
    (b"\x93NUMPY", "npy"),
    (b"v/1\x01", "exr"),
)
READ = "PNG, JPEG, WebP, TIFF, BMP, NPY or OpenEXR"
_SCANS = 256
"""Most scans of a progressive JPEG; each costs a pass over the picture."""
_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)
_EXIF = b"Exif\x00\x00"
_ORIENTATION = 0x0112


@dataclass(frozen=True, slots=True)
class Header:
    """Facts of one file.

    Attributes:
        kind: Its type.
        size: (height, width) as stored, before any rotation; (0, 0) for NPY and EXR, whose readers check.
        bits: Per channel.
        channels: As stored; 1 for a palette.
        palette: Pixels are indices into a colour table.
        orientation: EXIF orientation, 1 to 8.
        frames: Pictures in the file; more than one is an animation or a document.
        lossy: Pixels are not exact.
        plain: Nothing but 8-bit RGB: no rotation, transparency, profile, nor bytes after its end.
        end: Where the picture ends.
        ancillary: The longest chunk beside the pixels, in bytes.
    """

    kind: Kind
    size: Size = (0, 0)
    bits: int = 8
    channels: int = 3
    palette: bool = False
    orientation: int = 1
    frames: int = 1
    lossy: bool = False
    plain: bool = False
    end: int = 0
    ancillary: int = 0


def kind_of(data: bytes) -> Kind:
    """The type by content. Raises `Rejected` under `decode` for anything off the list."""
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    shown = f"it starts with {data[:8].hex(' ')}" if data else "it is empty"
    raise Rejected("decode", f"no picture that is read here ({shown}); expected {READ}")


def scan(data: bytes) -> Header:
    """Facts of a whole file, its structure checked to the end.

    Raises:
        Rejected: Under `decode`: unknown type, truncated, damaged, or of a kind that is not read.
    """
    kind = kind_of(data)
    if kind in ("npy", "exr"):
        return Header(kind, end=len(data))
    try:
        scans = {"png": _scan_png, "jpeg": _scan_jpeg, "webp": _scan_webp, "tiff": _scan_tiff, "bmp": _scan_bmp}
        return scans[kind](data)
    except (struct.error, IndexError, KeyError) as error:
        raise Rejected("decode", f"truncated or damaged {kind.upper()}: its structure ends early") from error


def peek(head: bytes) -> Size | None:
    """(height, width) as stored from the first bytes of a file; None where they do not reach that far.

    Raises:
        Rejected: Under `decode`, for a type that is not read.
    """
    kind = kind_of(head)
    try:
        if kind == "png":
            return _png_header(head[12:16], head[16:29]).size
        if kind == "jpeg":
            return next(_jpeg_frame(head, *s).size for s in _segments(head) if s[0] in _FRAMES)
        if kind == "webp":
            return _webp_header(head[12:16], head[20:30]).size
        if kind == "tiff":
            listed = tiff.directory(head, whole=False)
            return listed.number(257), listed.number(256)
        if kind == "bmp":
            return bmp.bitmap(head, whole=False).size
    except (struct.error, IndexError, KeyError, StopIteration):
        return None
    return None


def orientation_of(exif: bytes) -> int:
    """EXIF orientation (CIPA DC-008, tag 0x0112), 1 where it is not said.

    Raises:
        Rejected: Under `decode`: the block is broken, so nobody knows which way is up.
    """
    try:
        value = tiff.directory(exif, whole=False).number(_ORIENTATION, 1) if exif else 1
    except struct.error as error:
        raise Rejected("decode", "broken EXIF block: which way is up is unknown; save the file without it") from error
    return value if 1 <= value <= 8 else 1


def _scan_png(data: bytes) -> Header:
    """ISO/IEC 15948: every chunk, every checksum, to IEND."""
    header, orientation, seen, at, longest = Header("png"), 1, set[bytes](), 8, 0
    view = memoryview(data)
    while b"IEND" not in seen:
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        (crc,) = struct.unpack_from(">I", data, end - 4)
        if isal_zlib.crc32(view[at + 4 : end - 4]) != crc:
            raise Rejected("decode", f"damaged PNG: chunk {name!r} fails its checksum")
        if not seen:
            header = _png_header(name, data[at + 8 : end - 4])
        if name == b"eXIf":
            orientation = orientation_of(data[at + 8 : end - 4])
        if name not in (b"IDAT", b"fdAT"):
            longest = max(longest, length)
        seen.add(name)
        at = end
    if b"IDAT" not in seen:
        raise Rejected("decode", "PNG without pixels")
    clean = not seen & {b"iCCP", b"gAMA", b"cICP", b"tRNS", b"acTL"} and orientation == 1 and at == len(data)
    return replace(
        header,
        orientation=orientation,
        frames=2 if b"acTL" in seen else 1,
        plain=clean and header.bits == 8 and header.channels == 3,
        end=at,
        ancillary=longest,
    )


def _png_header(name: bytes, body: bytes) -> Header:
    if len(body) < 13:
        raise struct.error("IHDR is cut off")
    width, height, bits, colour = struct.unpack_from(">IIBB", body)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour)
    if name != b"IHDR" or channels is None or bits not in (1, 2, 4, 8, 16):
        raise Rejected("decode", f"damaged PNG: {name!r} with colour type {colour} at {bits} bits")
    return Header("png", (height, width), bits, channels, palette=colour == 3)


_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """ITU-T T.81, annex B: (marker, start, end) of each segment, (0xD9, at, at) for the end of image."""
    at = 2
    while True:
        if data[at] != 0xFF:
            raise Rejected("decode", "damaged JPEG: no marker where one must stand")
        while data[at] == 0xFF:
            at += 1
        marker, at = data[at], at + 1
        if marker == 0xD9:
            yield marker, at, at
            return
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            continue
        (length,) = struct.unpack_from(">H", data, at)
        end = at + length
        if length < 2 or end > len(data):
            raise IndexError("a segment that leaves the file")
        yield marker, at + 2, end
        found = _MARKER.search(data, end) if marker == 0xDA else None
        if marker == 0xDA and found is None:
            raise IndexError("no end of image")
        at = found.start() if found else end


def _jpeg_frame(data: bytes, marker: int, start: int, end: int) -> Header:
    bits, height, width, channels = struct.unpack_from(">BHHB", data, start)
    if marker not in (0xC0, 0xC1, 0xC2) or bits != 8 or channels not in (1, 3) or height == 0 or end - start < 6:
        raise Rejected(
            "decode",
            f"JPEG of process {marker - 0xC0}, {bits} bits, {channels} components; expected baseline or progressive, "
            "8 bits, grey or colour. Convert CMYK pictures to sRGB first",
        )
    return Header("jpeg", (height, width), bits, channels, lossy=True)


def _scan_jpeg(data: bytes) -> Header:
    header: Header | None = None
    orientation, profile, scans, longest, at = 1, 0, 0, 0, 0
    for marker, start, end in _segments(data):
        if marker in _FRAMES:
            if header is not None:
                raise Rejected("decode", "damaged JPEG: two frame headers")
            header = _jpeg_frame(data, marker, start, end)
        elif marker == 0xE1 and data[start : start + 6] == _EXIF:
            orientation = orientation_of(data[start + 6 : end])
        elif marker == 0xE2 and data[start : start + 12] == b"ICC_PROFILE\x00":
            profile += end - start
        scans += marker == 0xDA
        longest, at = max(longest, profile), end
    if header is None or not 1 <= scans <= _SCANS:
        raise Rejected("decode", f"JPEG of {scans} scans, expected a frame and 1 to {_SCANS}")
    plain = orientation == 1 and not profile and header.channels == 3 and at == len(data)
    return replace(header, orientation=orientation, plain=plain, end=at, ancillary=longest)


def _webp_header(name: bytes, body: bytes) -> Header:
    """RFC 9649: the first chunk of a WebP file."""
    if len(body) < 10 and not (name == b"VP8L" and len(body) >= 5):
        raise struct.error("WebP header is cut off")
    if name == b"VP8X":
        width = 1 + int.from_bytes(body[4:7], "little")
        height = 1 + int.from_bytes(body[7:10], "little")
        return Header("webp", (height, width), channels=4 if body[0] & 0x10 else 3, frames=2 if body[0] & 2 else 1)
    if name == b"VP8L" and body[0] == 0x2F:
        (packed,) = struct.unpack_from("<I", body, 1)
        size = (1 + (packed >> 14 & 0x3FFF), 1 + (packed & 0x3FFF))
        return Header("webp", size, channels=4 if packed >> 28 & 1 else 3)
    if name == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", body, 6)
        return Header("webp", (height & 0x3FFF, width & 0x3FFF), lossy=True)
    raise Rejected("decode", f"damaged WebP: it starts with {name!r}")


def _scan_webp(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 4)
    end = 8 + size
    if end > len(data) or size < 12:
        raise IndexError("a file shorter than it says")
    header = _webp_header(data[12:16], data[20:30])
    orientation, longest, at, names = 1, 0, 12, set[bytes]()
    while at < end:
        name, length = struct.unpack_from("<4sI", data, at)
        if at + 8 + length > end:
            raise IndexError("a chunk that leaves the file")
        if name == b"EXIF":
            body = data[at + 8 : at + 8 + length]
            orientation = orientation_of(body.removeprefix(_EXIF))
        elif name not in (b"VP8 ", b"VP8L", b"ALPH", b"ANMF"):
            longest = max(longest, length)
        names.add(name)
        at += 8 + length + length % 2
    if not names & {b"VP8 ", b"VP8L", b"ANMF"}:
        raise Rejected("decode", "WebP without pixels")
    return replace(header, orientation=orientation, lossy=b"VP8 " in names, end=end, ancillary=longest)


def _scan_tiff(data: bytes) -> Header:
    listed = tiff.directory(data, whole=True)
    size = (listed.number(257), listed.number(256))
    offsets, lengths = (324, 325) if 324 in listed.entries else (273, 279)
    pieces = zip(listed.numbers(offsets), listed.numbers(lengths), strict=False)
    if any(start + length > len(data) for start, length in pieces):
        raise IndexError("pixels that leave the file")
    return Header(
        "tiff",
        size,
        bits=listed.number(258, 1),
        channels=listed.number(277, 1),
        palette=listed.number(262, 1) == 3,
        orientation=listed.number(274, 1),
        frames=2 if listed.following else 1,
        lossy=listed.number(259, 1) in (6, 7),
        end=len(data),
        ancillary=max((listed.longest() if t in (700, 34675) else 0 for t in listed.entries), default=0),
    )


def _scan_bmp(data: bytes) -> Header:
    found = bmp.bitmap(data, whole=True)
    return Header("bmp", found.size, channels=found.channels, palette=found.channels == 1, end=len(data))
