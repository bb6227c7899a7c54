"""Ids, colours, depth and normals out of files: nothing rescaled, nothing invented, invalid stays invalid."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import cv2
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from synthaug.camera import from_fov
from synthaug.errors import Rejected
from synthaug.formats import maps, npy, png
from synthaug.formats.inputs import InputRoot

RNG = np.random.default_rng(21)
IDS = np.kron(RNG.integers(0, 256, (6, 7)), np.ones((3, 4), int)).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def palette_png(ids: NDArray[np.uint8], **options: Any) -> bytes:
    """A palette picture whose colours say nothing about its indices."""
    image = Image.frombytes("P", (ids.shape[1], ids.shape[0]), np.ascontiguousarray(ids).tobytes())
    image.putpalette(RNG.permutation(256).astype(np.uint8).repeat(3).tolist())
    return saved(image, "PNG", **options)


def test_d8_palette_png_keeps_ids() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(maps.decode_ids(palette_png(every)), every)
    assert np.array_equal(maps.decode_ids(palette_png(every, transparency=3)), every)
    for bits in (1, 2, 4):
        few = every % 2**bits
        data = palette_png(few, bits=bits)
        assert data[24] == bits
        assert np.array_equal(maps.decode_ids(data), few)


def test_d6_sub_byte_greys_are_not_stretched() -> None:
    for bits in (1, 2, 4):
        values = np.arange(8 * 8, dtype=np.uint8).reshape(8, 8) % 2**bits
        assert np.array_equal(maps.decode_ids(grey_png(values, bits)), values)


def grey_png(values: NDArray[np.uint8], bits: int) -> bytes:
    """A grey PNG of 1, 2 or 4 bits, which no writer at hand makes."""
    import zlib

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width = values.shape
    planes = ((values[:, :, None] >> np.arange(bits)[::-1]) & 1).reshape(height, -1).astype(np.uint8)
    rows = np.hstack([np.zeros((height, 1), np.uint8), np.packbits(planes, axis=1)])
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(rows.tobytes()))
    return png.SIGNATURE + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def test_d6_ids_of_sixteen_and_more_bits_come_through() -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    files = [
        png.encode(ramp),
        cv2.imencode(".png", ramp)[1].tobytes(),
        saved(Image.fromarray(ramp), "TIFF"),
        saved(Image.fromarray(ramp.astype(np.int32)), "TIFF"),
        saved(Image.fromarray(ramp.astype(np.float32)), "TIFF"),
        npy.encode(ramp),
        npy.encode(ramp.astype(np.int64)[:, :, None]),
        npy.encode(ramp.astype(">u4")),
    ]
    for data in files:
        found = maps.decode_ids(data)
        assert found.dtype == np.int32
        assert np.array_equal(found, ramp)


def test_ids_that_are_none_are_rejected() -> None:
    grey = Image.fromarray(IDS)
    files = {
        "lossy JPEG": saved(grey, "JPEG", quality=100),
        "lossy WebP": saved(grey.convert("RGB"), "WEBP", quality=100),
        "colours": saved(grey.convert("RGB"), "PNG"),
        "grey and alpha": saved(grey.convert("LA"), "PNG"),
        "fractions": npy.encode(IDS + np.float32(0.5)),
        "NaN": npy.encode(np.full((8, 8), np.nan, np.float32)),
        "infinite": npy.encode(np.full((8, 8), np.inf, np.float32)),
        "too large": npy.encode(np.full((8, 8), 2**31, np.int64)),
        "three channels": npy.encode(np.zeros((8, 8, 3), np.int32)),
    }
    for name, data in files.items():
        with pytest.raises(Rejected) as caught:
            maps.decode_ids(data)
        assert caught.value.reason == "label", name
    rotated = Image.Exif()
    rotated[0x0112] = 6
    for reader in (maps.decode_ids, maps.decode_colours):
        with pytest.raises(Rejected, match="upright"):
            reader(saved(grey, "PNG", exif=rotated))


TABLE = {(255, 0, 0): 0, (0, 255, 0): 7, (0, 0, 255): 70000, (1, 2, 3): 4}


def test_d14_colours_become_ids_and_strangers_are_counted() -> None:
    names = np.array(list(TABLE), dtype=np.uint8)
    pick = RNG.integers(0, 4, (12, 15))
    colours = names[pick]
    colours[0, :3] = (9, 9, 9)
    colours[1, 0] = (255, 1, 0)
    for array in (colours, np.dstack([colours, RNG.integers(0, 256, (12, 15), dtype=np.uint8)])):
        ids, unknown = maps.colours_to_ids(array, TABLE)
        known = np.ones((12, 15), bool)
        known[0, :3] = known[1, 0] = False
        assert ids.dtype == np.int32
        assert np.array_equal(ids[known], np.array(list(TABLE.values()))[pick][known])
        assert (ids[~known] == maps.UNKNOWN).all()
        assert unknown == {(9, 9, 9): 3, (255, 1, 0): 1}
        assert list(unknown) == [(9, 9, 9), (255, 1, 0)]
    near, unknown = maps.colours_to_ids(colours, TABLE, tolerance=1)
    assert near[1, 0] == 0
    assert near[0, 0] == maps.UNKNOWN
    assert unknown == {(9, 9, 9): 3, (255, 1, 0): 1}  # snapped, and still reported
    assert maps.colours_to_ids(colours, TABLE, tolerance=8)[0][0, 0] == 4
    empty, unknown = maps.colours_to_ids(colours, {})
    assert (empty == maps.UNKNOWN).all()
    assert sum(unknown.values()) == colours.shape[0] * colours.shape[1]


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)), elements=st.integers(0, 3)))
def test_colours_to_ids_equals_a_loop_over_pixels(colours: NDArray[np.uint8]) -> None:
    table = {(0, 0, 0): 5, (1, 2, 3): 6, (3, 3, 3): 0}
    for tolerance in (0, 1):
        ids, unknown = maps.colours_to_ids(colours, table, tolerance)
        lost: dict[tuple[int, ...], int] = {}
        for place in np.ndindex(colours.shape[:2]):
            colour = tuple(int(v) for v in colours[place])
            far = [max(abs(a - b) for a, b in zip(colour, name, strict=True)) for name in table]
            nearest = int(np.argmin(far))
            expected = list(table.values())[nearest] if far[nearest] <= tolerance else maps.UNKNOWN
            assert ids[place] == expected
            if far[nearest]:
                lost[colour] = lost.get(colour, 0) + 1
        assert unknown == lost


def test_d14_smoothed_and_jpeg_masks_are_rejected() -> None:
    names = np.array(list(TABLE), dtype=np.uint8)
    sharp = np.kron(RNG.integers(0, 4, (6, 6)), np.ones((12, 12), int))
    colours = names[sharp]
    with pytest.raises(Rejected, match="invents colours"):
        maps.decode_colours(saved(Image.fromarray(colours), "JPEG", quality=95))
    with pytest.raises(Rejected, match="invents ids"):
        maps.decode_ids(saved(Image.fromarray(sharp.astype(np.uint8)), "JPEG"))
    blurred = cv2.GaussianBlur(colours, (5, 5), 1.0)
    laundered = np.asarray(Image.open(io.BytesIO(saved(Image.fromarray(colours), "JPEG", quality=90))).convert("RGB"))
    for broken in (blurred, laundered):
        back = maps.decode_colours(saved(Image.fromarray(broken), "PNG"))
        with pytest.raises(Rejected, match="smoothed") as caught:
            maps.colours_to_ids(back, TABLE, most_unknown=0.01)
        assert caught.value.reason == "label"
    assert not maps.colours_to_ids(colours, TABLE, most_unknown=0.0)[1]


def test_colour_masks_keep_their_colours() -> None:
    colours = RNG.integers(0, 256, (8, 9, 4), dtype=np.uint8)
    colours[:, :4, 3] = 0
    assert np.array_equal(maps.decode_colours(saved(Image.fromarray(colours), "PNG")), colours)
    assert np.array_equal(maps.decode_colours(png.encode(colours[:, :, :3])), colours[:, :, :3])
    palette = Image.fromarray(colours[:, :, :3]).quantize(8)
    assert np.array_equal(maps.decode_colours(saved(palette, "PNG")), np.asarray(palette.convert("RGB")))
    assert np.array_equal(maps.decode_colours(saved(Image.fromarray(IDS), "PNG"))[:, :, 1], IDS)
    with pytest.raises(Rejected, match="8-bit"):
        maps.decode_colours(png.encode(colours[:, :, :3].astype(np.uint16)))


DEPTH = RNG.uniform(0.2, 60, (9, 11)).astype(np.float32)


def test_d12_invalid_depth_is_nan_whatever_it_was() -> None:
    metres = DEPTH.copy()
    strange = [np.nan, np.inf, -np.inf, -1.0, 0.0, 1e10, 65.0]
    metres[0, : len(strange)] = strange
    for data in (npy.encode(metres), saved(Image.fromarray(metres), "TIFF"), npy.encode(metres[:, :, None])):
        found = maps.decode_depth(data, unit=1.0, invalid=[1e10, 65.0])
        assert found.dtype == np.float32
        assert np.isnan(found[0, : len(strange)]).all()
        assert np.isnan(found).sum() == len(strange)
        assert np.array_equal(found[1:], metres[1:])
        assert maps.invalid_share(found) == len(strange) / metres.size
    assert maps.decode_depth(npy.encode(metres), unit=1.0)[0, 6] == 65.0


def test_d12_units_are_applied_once_and_sixteen_bits_in_full() -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.arange(65536) * 0.001
    for data in (png.encode(ramp), cv2.imencode(".png", ramp)[1].tobytes(), saved(Image.fromarray(ramp), "TIFF")):
        found = maps.decode_depth(data, unit=0.001, invalid=[65535]).reshape(-1)
        assert np.isnan(found[[0, 65535]]).all()
        assert np.array_equal(found[1:65535], expected[1:65535].astype(np.float32))
    assert maps.decode_depth(png.encode(ramp), unit=0.01)[0, 5] == np.float32(0.05)
    for data in (
        saved(Image.fromarray(IDS), "JPEG"),
        saved(Image.fromarray(IDS).convert("RGB"), "PNG"),
        palette_png(IDS),
    ):
        with pytest.raises(Rejected, match="one exact channel"):
            maps.decode_depth(data, unit=1.0)


def test_openexr_depth(tmp_path: Path) -> None:
    openexr = pytest.importorskip("OpenEXR")
    head = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
    metres = DEPTH.copy()
    metres[2, 3] = np.inf
    for channels in ({"R": metres}, {"Z": metres}, {"R": metres, "G": metres, "B": metres}):
        path = tmp_path / "depth.exr"
        openexr.File(head, channels).write(str(path))
        found = maps.decode_depth(path.read_bytes(), unit=1.0)
        assert np.isnan(found[2, 3])
        assert np.array_equal(np.nan_to_num(found), np.nan_to_num(np.where(np.isfinite(metres), metres, np.nan)))


def normals() -> NDArray[np.float32]:
    n = RNG.normal(size=(9, 11, 3))
    n /= np.linalg.norm(n, axis=2, keepdims=True)
    return n.astype(np.float32)


def test_normals_come_back_as_unit_vectors() -> None:
    n = normals()
    stored = {
        8: np.rint((n * 0.5 + 0.5) * 255).astype(np.uint8),
        16: np.rint((n * 0.5 + 0.5) * 65535).astype(np.uint16),
    }
    for bits, error in ((8, 0.5), (16, 0.002)):
        coded = stored[bits].copy()
        coded[0, 0] = 0
        found = maps.decode_vectors(png.encode(coded), "unit")
        assert np.isnan(found[0, 0]).all()
        assert np.isnan(found).sum() == 3
        assert np.allclose(np.linalg.norm(found, axis=2)[1:], 1, atol=1e-6)
        cosine = np.clip((found[1:] * n[1:]).sum(axis=2), -1, 1)
        assert np.degrees(np.arccos(cosine.astype(np.float64))).max() < max(error, 0.05)
    assert np.allclose(maps.decode_vectors(npy.encode(n), "signed"), n, atol=1e-6)
    assert np.allclose(maps.decode_vectors(npy.encode(n * 0.5 + 0.5), "unit"), n, atol=1e-5)
    background = n.copy()
    background[1, 1] = 0
    background[2, 2] = np.inf
    found = maps.decode_vectors(npy.encode(background), "signed")
    assert np.isnan(found[[1, 2], [1, 2]]).all()
    for data in (png.encode(IDS), saved(Image.fromarray(stored[8]), "JPEG")):
        with pytest.raises(Rejected):
            maps.decode_vectors(data, "unit")
    with pytest.raises(Rejected, match="encoding 'unit' only"):
        maps.decode_vectors(png.encode(stored[8]), "signed")


def test_planar_depth_of_a_wall_is_flat() -> None:
    camera = from_fov(64, 48, 75.0)
    pixels = np.stack(np.meshgrid(np.arange(64) + 0.5, np.arange(48) + 0.5), axis=-1).reshape(-1, 2)
    length = np.linalg.norm(camera.rays(pixels), axis=1).reshape(48, 64)
    ray = (7.5 * length).astype(np.float32)
    ray[3, 3] = np.nan
    z = maps.planar(ray, camera.K)
    assert z.dtype == np.float32
    assert np.isnan(z[3, 3])
    assert np.nanmax(np.abs(z - 7.5)) < 1e-5
    assert ray[0, 0] > 8.5  # the corner is visibly further along its ray


def test_real_colour_masks_name_their_three_classes(data_root: Path) -> None:
    root = InputRoot(data_root)
    table = {(255, 0, 0): 0, (0, 255, 0): 1, (0, 0, 255): 2}
    seen = set[int]()
    for path in root.listing("follow_me/validation", [".png"])[:40]:
        colours = maps.decode_colours(root.read(path))
        ids, unknown = maps.colours_to_ids(colours, table, tolerance=20)
        assert ids.shape == (256, 256)
        assert sum(unknown.values()) < ids.size / 10
        seen |= set(np.unique(ids).tolist())
    assert {0, 1, 2} <= seen
