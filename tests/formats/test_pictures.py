"""Colour pictures at the door: the gate, the budget, and one documented path for every oddity."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from synthaug.errors import Rejected
from synthaug.formats import headers, npy, pictures, png
from synthaug.formats.inputs import InputRoot
from tests.formats.files import GREY, RGB, RNG, exif, pixels, saved, seeds, with_chunk


@pytest.mark.parametrize("name", seeds())
def test_whole_files_are_read_and_say_their_size(name: str) -> None:
    data = seeds()[name]
    found = pixels(data, alpha="drop")
    assert found.shape == (24, 37, 3)
    assert pictures.size_of(data[:65536]) == (24, 37)
    inexact = ("jpeg", "lossy", "own 16", "palette", "1 bit")
    if not any(word in name for word in inexact):
        expected = np.repeat(GREY[:, :, None], 3, axis=2) if "grey" in name else RGB
        # A transparent WebP pixel keeps no colour.
        assert np.array_equal(found, expected) or name == "webp lossless"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_d5_the_canvas_of_the_labels_decides(kind: str, orientation: int) -> None:
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    data = saved(RGB, kind, exif=exif(orientation), **options)
    plain = pixels(saved(RGB, kind, **options))
    height, width = plain.shape[:2]
    assert np.array_equal(pixels(data, canvas=(height, width)), plain)
    with pytest.raises(Rejected) as caught:
        pixels(data, canvas=(height, width + 1))
    assert caught.value.reason == "size"
    if orientation >= 5:
        from PIL import ImageOps

        upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
        turned = pictures.decode(data, canvas=(width, height)).picture
        assert np.array_equal(turned.pixels, upright)
        assert not turned.source
    else:
        with pytest.raises(Rejected):
            pixels(data, canvas=(width, height))
    if orientation > 1:
        assert not pictures.decode(data, canvas=(height, width)).picture.source
        with pytest.raises(Rejected) as caught:
            pixels(data)
        assert caught.value.reason == "orientation"


def test_d5_the_alpha_channel_turns_with_the_picture() -> None:
    rgba = np.dstack([RGB, GREY])
    done = pictures.decode(saved(rgba, "PNG", exif=exif(6)), alpha="keep", canvas=(37, 24))
    assert done.alpha is not None
    assert np.array_equal(done.picture.pixels, np.rot90(RGB, -1))
    assert np.array_equal(done.alpha, np.rot90(GREY, -1).astype(np.float32) / 255)


def test_d5_a_broken_exif_block_is_refused() -> None:
    with pytest.raises(Rejected, match="which way is up"):
        pictures.decode(with_chunk(saved(RGB, "PNG"), b"eXIf", b"II*\x00\xff\xff\xff\x00"))


def test_d6_sixteen_bits_become_eight_by_rounding() -> None:
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(np.arange(65536) / 257).astype(np.uint8).reshape(256, 256)
    found = pixels(saved(Image.fromarray(ramp), "PNG"))
    assert np.array_equal(found, np.repeat(expected[:, :, None], 3, axis=2))
    colour = np.dstack([ramp, ramp.T, ramp[::-1]])
    wanted = np.dstack([expected, expected.T, expected[::-1]])
    assert np.array_equal(pixels(png.encode(colour)), wanted)
    other = cv2.imencode(".png", colour[:, :, ::-1])[1].tobytes()
    assert np.array_equal(pixels(other), wanted)
    deep = np.dstack([colour, np.full((256, 256), 65535, np.uint16)])
    found = pixels(cv2.imencode(".png", cv2.cvtColor(deep, cv2.COLOR_RGBA2BGRA))[1].tobytes(), alpha="refuse")
    assert np.array_equal(found, wanted)


def test_d7_cmyk_lab_and_floats_are_rejected_with_a_remedy() -> None:
    cmyk = Image.fromarray(RGB).convert("CMYK")
    files = {
        "CMYK JPEG": saved(cmyk, "JPEG"),
        "CMYK TIFF": saved(cmyk, "TIFF"),
        "Lab TIFF": saved(ImageCms.profileToProfile(Image.fromarray(RGB), *lab_profiles(), outputMode="LAB"), "TIFF"),
        "float TIFF": saved(GREY.astype(np.float32), "TIFF"),
        "int TIFF": saved(GREY.astype(np.int32), "TIFF"),
    }
    for name, data in files.items():
        with pytest.raises(Rejected, match="sRGB") as caught:
            pictures.decode(data)
        assert caught.value.reason == "decode", name


def lab_profiles() -> tuple[Any, Any]:
    return ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")


def profile_with_gamma(gamma: float) -> bytes:
    """An RGB profile with sRGB's primaries and a pure power curve, in 16.16 and 8.8 fixed point (ICC.1)."""

    def fixed(v: float) -> bytes:
        return struct.pack(">i", round(v * 65536))

    def xyz(*v: float) -> bytes:
        return b"XYZ " + bytes(4) + b"".join(fixed(x) for x in v)

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    text = b"desc" + bytes(4) + struct.pack(">I", 6) + b"power\x00" + bytes(4 + 4 + 2 + 1 + 67)
    text += bytes(-len(text) % 4)
    tags = {
        b"desc": text,
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": xyz(0.4360, 0.2225, 0.0139),
        b"gXYZ": xyz(0.3851, 0.7169, 0.0971),
        b"bXYZ": xyz(0.1431, 0.0606, 0.7141),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    at, table, body = 128 + 4 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", at + len(body), len(value))
        body += value
    size = at + len(body)
    head = struct.pack(">I", size) + bytes(4) + b"\x02\x10\x00\x00mntrRGB XYZ " + bytes(12) + b"acsp"
    head += bytes(68 - len(head)) + fixed(0.9642) + fixed(1.0) + fixed(0.8249)
    return head + bytes(128 - len(head)) + table + body


def test_d7_a_profile_is_applied_unless_it_is_srgb() -> None:
    levels = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(8, axis=0)
    linear = (np.arange(256) / 255) ** 1.0
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)  # IEC 61966-2-1
    for kind in ("PNG", "TIFF"):
        picture = pictures.decode(saved(levels, kind, icc_profile=profile_with_gamma(1.0))).picture
        assert np.abs(picture.pixels[0, :, 1].astype(int) - np.rint(encoded * 255)).max() <= 1
        assert not picture.source
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    named = pictures.decode(saved(RGB, "PNG", icc_profile=srgb)).picture
    assert np.array_equal(named.pixels, RGB)
    assert not named.source
    with pytest.raises(Rejected, match="profile"):
        pictures.decode(saved(RGB, "PNG", icc_profile=b"no profile at all" * 20))


def test_d8_palette_pictures_become_rgb() -> None:
    image = Image.fromarray(RGB).quantize(200)
    assert np.array_equal(pixels(saved(image, "PNG")), np.asarray(image.convert("RGB")))
    see_through = Image.fromarray(RGB).quantize(4)
    data = saved(see_through, "PNG", transparency=1)
    alpha = pictures.decode(data, alpha="keep").alpha
    assert alpha is not None
    assert np.array_equal(alpha == 0, np.asarray(see_through) == 1)


def test_d9_alpha_rules() -> None:
    rgba = np.zeros((8, 9, 4), np.uint8)
    rgba[:, :, 0] = 200
    rgba[:, 0:3, 3], rgba[:, 3:6, 3], rgba[:, 6:9, 3] = 0, 128, 255
    data = saved(rgba, "PNG")
    assert np.array_equal(pixels(data, alpha="drop"), rgba[:, :, :3])
    over = pixels(data, alpha="composite", background=(0, 100, 255))
    assert over[0, 0].tolist() == [0, 100, 255]
    assert over[0, 8].tolist() == [200, 0, 0]
    assert over[0, 4].tolist() == [round(200 * 128 / 255), round(100 * 127 / 255), 127]
    with pytest.raises(Rejected, match="transparent; choose") as caught:
        pixels(data, alpha="refuse")
    assert caught.value.reason == "alpha"
    kept = pictures.decode(data, alpha="keep")
    assert kept.alpha is not None
    assert np.array_equal(kept.alpha, rgba[:, :, 3].astype(np.float32) / 255)
    assert np.array_equal(kept.picture.pixels, rgba[:, :, :3])
    assert not kept.picture.source
    rgba[:, :, 3] = 255
    for rule in pictures.ALPHA:
        assert np.array_equal(pixels(saved(rgba, "PNG"), alpha=rule, background=(9, 9, 9)), rgba[:, :, :3])
    grey = saved(np.dstack([GREY, np.zeros_like(GREY)]), "PNG")
    assert (pixels(grey, background=(1, 2, 3)) == (1, 2, 3)).all()
    assert pictures.decode(saved(RGB, "PNG"), alpha="keep").alpha is None


def test_d9_a_transparent_colour_counts_as_alpha() -> None:
    data = saved(GREY, "PNG", transparency=int(GREY[0, 0]))
    alpha = pictures.decode(data, alpha="keep").alpha
    assert alpha is not None
    assert np.array_equal(alpha == 0, GREY[0, 0] == GREY)
    assert not pictures.decode(saved(RGB, "PNG", transparency=(1, 2, 3))).picture.source
    deep = with_chunk(saved(GREY.astype(np.uint16), "PNG"), b"tRNS", b"\x00\x05")
    with pytest.raises(Rejected, match="alpha channel"):
        pixels(deep)


def test_d13_a_picture_off_its_canvas_is_rejected() -> None:
    data = saved(RGB, "PNG")
    assert np.array_equal(pixels(data, canvas=(24, 37)), RGB)
    for canvas in ((23, 37), (25, 37), (24, 36), (24, 38), (37, 24), (48, 74)):
        with pytest.raises(Rejected, match="not adapted") as caught:
            pixels(data, canvas=canvas)
        assert caught.value.reason == "size"


def test_an_untouched_file_is_kept_where_its_bytes_decode_to_these_pixels() -> None:
    kept = [
        saved(RGB, "PNG"),
        png.encode(RGB),
        saved(RGB, "JPEG"),
        saved(RGB, "JPEG", progressive=True),
        saved(RGB, "JPEG", exif=exif(1)),
    ]
    for data in kept:
        picture = pictures.decode(data).picture
        assert picture.source == data
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(picture.source)).convert("RGB")), picture.pixels)
    plain = saved(RGB, "PNG")
    not_kept = [
        with_chunk(plain, b"gAMA", struct.pack(">I", 45455)),
        with_chunk(plain, b"cICP", b"\x09\x10\x00\x01"),
        plain + b"\x00",
        saved(GREY, "PNG"),
        saved(GREY, "JPEG"),
        saved(RGB, "JPEG") + b"tail",
        saved(RGB, "WEBP", lossless=True),
        saved(RGB, "TIFF"),
        png.encode(RGB.astype(np.uint16) * 257),
        npy.encode(RGB),
    ]
    for data in not_kept:
        assert not pictures.decode(data).picture.source


def test_float_arrays_are_linear_pictures() -> None:
    linear = RNG.uniform(0, 9, (8, 9, 3)).astype(np.float32)
    picture = pictures.decode(npy.encode(linear)).picture
    assert picture.space == "linear"
    assert np.array_equal(picture.pixels, linear)
    for bad in (np.nan, np.inf, -1.0):
        broken = linear.copy()
        broken[2, 3, 1] = bad
        with pytest.raises(Rejected) as caught:
            pictures.decode(npy.encode(broken))
        assert caught.value.reason == "nonfinite"


def test_openexr_is_read_as_a_linear_picture() -> None:
    openexr = pytest.importorskip("OpenEXR")
    linear = RNG.uniform(0, 9, (8, 9, 3)).astype(np.float32)
    data = exr(openexr, {"RGB": linear})
    assert pictures.size_of(data) == (8, 9)
    picture = pictures.decode(data).picture
    assert picture.space == "linear"
    assert np.array_equal(picture.pixels, linear)
    for length in range(0, len(data), 7):
        with pytest.raises(Rejected):
            pictures.decode(data[:length])


def exr(openexr: Any, channels: dict[str, NDArray[Any]]) -> bytes:
    """The bytes of an EXR file; the binding writes to names only."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.exr"
        openexr.File({"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}, channels).write(str(path))
        return path.read_bytes()


def test_size_from_the_head_alone_and_from_the_whole_file_where_it_must(tmp_path: Path) -> None:
    padded = saved(RGB, "JPEG", icc_profile=bytes(200_000))
    (tmp_path / "deep.jpg").write_bytes(padded)
    (tmp_path / "plain.png").write_bytes(saved(RGB, "PNG"))
    root = InputRoot(tmp_path)
    with pytest.raises(Rejected, match="does not say its size"):
        pictures.size_of(padded[:65536])
    assert pictures.size_at(root, "deep.jpg") == (24, 37)
    assert pictures.size_at(root, "plain.png") == (24, 37)
    assert list(root.take_digests()) == ["deep.jpg"]


def test_real_pictures_decode_as_pillow_decodes_them(data_root: Path) -> None:
    root = InputRoot(data_root)
    folders = ("carla/images", "dice/images", "grocery/images", "follow_me/train/images", "textures/miniworld", "solo")
    for folder in folders:
        for path in root.listing(folder, (".png", ".jpg", ".jpeg"))[:3]:
            data = root.read(path)
            image = Image.open(io.BytesIO(data))
            expected = np.asarray(image.convert("RGBA" if image.mode == "RGBA" else "RGB"))[:, :, :3]
            assert np.array_equal(pixels(data, alpha="drop"), expected), path
            assert pictures.size_at(root, path) == expected.shape[:2]
            assert headers.scan(data).end <= len(data)
