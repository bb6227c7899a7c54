"""PNG of a 512x512 RGB picture, an id mask and a 16-bit depth map against OpenCV's default encoder.

    python benchmarks/png.py [ROUNDS]

Checked first: Pillow and OpenCV decode our bytes to the array. Every library at hand that could have
replaced our own encoder is measured beside it: whole encoders, and the same Up filter with another deflate.
Real photos are used where SYNTHAUG_DATA has them, a textured picture with noise elsewhere.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from PIL import Image  # noqa: E402

from benchmarks import measure  # noqa: E402
from benchmarks.rle import MAPS, id_map  # noqa: E402
from synthaug.formats import png  # noqa: E402

SIDE = 512
LARGEST = 1.05
CLAIMS = {"rgb": (2.0, 3.5), "ids": (3.0, 5.0), "depth": (3.0, 3.3)}
Encoder = Callable[[NDArray[Any]], bytes]


def photos() -> dict[str, NDArray[np.uint8]]:
    """Pictures to encode, by a name that says where they come from."""
    root = Path(os.environ.get("SYNTHAUG_DATA") or HERE.parent.parent / "shared" / "data")
    found = {"generated": generated()}
    for folder, kind in (("dice/images", "photo"), ("carla/images", "render")):
        for n, path in enumerate(sorted((root / folder).glob("*.*"))[:3]):
            picture = np.asarray(Image.open(path).convert("RGB"))
            found[f"{kind} {n}"] = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return found


def generated() -> NDArray[np.uint8]:
    """Light falling over textured surfaces, with the noise of a sensor."""
    rng = np.random.default_rng(3)
    picture = np.zeros((SIDE, SIDE, 3), np.float32)
    for octave in range(2, 8):
        grain = rng.normal(size=(2**octave, 2**octave, 3)).astype(np.float32)
        picture += cv2.resize(grain, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC) / octave
    picture = 120 + 28 * picture + 3 * rng.normal(size=picture.shape)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def depth_map() -> NDArray[np.uint16]:
    """A floor with twenty rounded things on it, in millimetres."""
    ids = id_map(*MAPS["smooth"])
    y, x = np.mgrid[:SIDE, :SIDE]
    depth = 9000.0 - 8 * y
    for i in range(1, 21):
        inside = ids == i
        cy, cx = y[inside].mean(), x[inside].mean()
        reach = np.maximum(0, 1 - ((x - cx) ** 2 + (y - cy) ** 2) / 5000)
        depth = np.where(inside, 4000 + 50 * i - 300 * np.sqrt(reach), depth)
    return np.rint(depth).astype(np.uint16)


def opencv_ready(array: NDArray[Any]) -> Encoder:
    """OpenCV's encoder without the turn of the channels, which is not its work."""
    turned = np.ascontiguousarray(array[:, :, ::-1]) if array.ndim == 3 else array
    return lambda _: cv2.imencode(".png", turned)[1].tobytes()


def pillow(level: int) -> Encoder:
    def encode(array: NDArray[Any]) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(array).save(stream, "PNG", compress_level=level)
        return stream.getvalue()

    return encode


def up_filtered(array: NDArray[Any]) -> bytes:
    """What deflate gets: rows under the Up filter."""
    rows = (array.astype(">u2") if array.dtype == np.uint16 else array).reshape(len(array), -1).view(np.uint8)
    out = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
    out[:, 0] = 2
    out[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=out[1:, 1:])
    return out.tobytes()


def candidates() -> dict[str, Encoder]:
    """Everything that is installed and encodes without loss."""
    import zlib

    from isal import isal_zlib

    found: dict[str, Encoder] = {"synthaug": png.encode, "Pillow 6": pillow(6), "Pillow 1": pillow(1)}
    found["OpenCV level 1"] = lambda a: cv2.imencode(".png", a, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    found["Up + zlib 1"] = lambda a: zlib.compress(up_filtered(a), 1)
    found["Up + isal 0"] = lambda a: isal_zlib.compress(up_filtered(a), 0)
    found["Up + isal 2"] = lambda a: isal_zlib.compress(up_filtered(a), 2)
    try:
        zlib_ng: Any = importlib.import_module("zlib_ng.zlib_ng")
        found["Up + zlib-ng 1"] = lambda a: zlib_ng.compress(up_filtered(a), 1)
    except ImportError:
        print("zlib-ng is not installed: left out")
    try:
        codecs: Any = importlib.import_module("imagecodecs")
        found["imagecodecs libpng 1"] = lambda a: codecs.png_encode(a, 1)
        found["imagecodecs libspng 1"] = lambda a: codecs.spng_encode(a, 1)
        found["Up + libdeflate 1"] = lambda a: codecs.deflate_encode(up_filtered(a), 1)
    except ImportError:
        print("imagecodecs is not installed: left out")
    return found


def check(array: NDArray[Any]) -> None:
    """The same work: both decoders see the array again."""
    data = png.encode(array)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), array)
    seen = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert seen is not None
    assert np.array_equal(seen[:, :, ::-1] if seen.ndim == 3 else seen, array)
    assert np.array_equal(png.decode(data), array)


def measure_one(array: NDArray[Any], rounds: int) -> dict[str, Any]:
    """Times and sizes of every candidate on one array, OpenCV's default as the yardstick."""
    check(array)
    calls: dict[str, Encoder] = {"OpenCV default": opencv_ready(array), **candidates()}
    times = measure.alternate({name: (lambda f=f: f(array)) for name, f in calls.items()}, rounds)
    sizes = {name: len(call(array)) for name, call in calls.items()}
    return {
        "ratio": measure.ratio(times, "synthaug", "OpenCV default"),
        "size_ratio": round(sizes["synthaug"] / sizes["OpenCV default"], 3),
        "candidates": {name: {**times[name], "bytes": sizes[name]} for name in times},
        "decode": measure.alternate(decoders(png.encode(array)), rounds),
    }


def decoders(data: bytes) -> dict[str, Callable[[], object]]:
    """Reading our own file back."""
    return {
        "synthaug": lambda: png.decode(data),
        "OpenCV": lambda: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED),
        "Pillow": lambda: np.asarray(Image.open(io.BytesIO(data))),
    }


def main(rounds: int) -> None:
    cv2.setNumThreads(1)
    details: dict[str, Any] = {"rounds": rounds, "candidates_note": "Up + x is filter and deflate without PNG's frame"}
    details["rgb"] = {name: measure_one(picture, rounds) for name, picture in photos().items()}
    details["ids"] = {"twenty blobs": measure_one(id_map(*MAPS["lobed"]).astype(np.uint8), rounds)}
    details["depth"] = {"twenty blobs": measure_one(depth_map(), rounds)}
    claims: dict[str, Any] = {}
    for kind, (must, aim) in CLAIMS.items():
        # The slowest and the largest picture count, not the mean.
        rows = details[kind].values()
        reached, largest = min(row["ratio"] for row in rows), max(row["size_ratio"] for row in rows)
        claims[f"png_{kind}"] = {"must": must, "aim": aim, "reached": reached, "size": largest, "size_must": LARGEST}
        claims[f"png_{kind}"]["all"] = {name: row["ratio"] for name, row in details[kind].items()}
    packages = ["numpy", "isal", "opencv-python-headless", "pillow", "zlib-ng", "imagecodecs"]
    measure.publish("png", claims, details, packages)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
