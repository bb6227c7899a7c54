"""The families of texture models side by side: does what they make look like tiles that they have never seen?

    python benchmarks/texture_families.py work=DIR out=STRIP.png [families=vae,ddpm samples=96 steps=0]

Tiles are split by groups of near-duplicates (closer than 0.05 over all rolls, linked one to the next), so that no
held-out tile has a twin among those that are learnt from; every fifth group is held out. Each family is trained by
`synthaug train texture` in DIR, or opened where it is trained already, on one CPU thread; minutes are CPU minutes.

`distance` is the sliced Wasserstein distance to the held-out tiles on local features of the encoder of taef2, each
channel in units of its spread there, the mean of three layers; tiles are repeated before they are looked at, so that
a seam counts. Intervals hold 90%: tiles of both sets are drawn anew. Beside the families: the tiles they learnt from,
rolled at random (`real`), these with random phases, which keeps every spectrum and mean colour (`noise`), those again
with the histogram of each channel put back (`noise, colours`), and white noise brought to the looks that the families
draw (`looks alone`): what a family adds to that is its own. `patches` is the same distance on 7x7 patches of a
Laplacian pyramid: it sees little more than spectra, and cannot tell noise from tiles. Without the weights of taef2 it
stands in.

`nearest` is the distance to the nearest tile that was learnt from, over all rolls, beside that of real tiles to each
other, twins left out; tiles of one flat colour are near to any such tile and left out as well (`flat`, spread below
0.02). A copy in other colours hides from that, so `structure` is the same distance between maps of lightness, each in
units of its own spread, to tiles that were learnt from and their mirror images; `real` has that of the held-out tiles,
and `copies`, tiles that were learnt from in their own blurred looks, shows what memorising gives. A family has not
memorised where its nearest sample is no nearer than real tiles are, and the 5% quantile and the median of `structure`
are no lower than those of held-out tiles; less than one copy in twenty does not show. The picture STRIP_nearest.png
shows the closest pairs. `seam` is `metrics.texture.mean_seam_energy` of the tiles as the networks made them, before
they are rolled, against lines 8 apart; beside it the mean of single tiles, which is above 1 for real ones. Same work:
as many pictures in every row but `real`, which has all there are, checked to be tiles in [0, 1], the same for the same
seed.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import measure, tile_sets

import cv2  # isort: skip
import numpy as np  # isort: skip
import torch  # isort: skip
from numpy.typing import NDArray  # isort: skip

from synthaug.metrics import realism, texture as figures  # isort: skip
from synthaug.metrics.features import LEVELS, Taef2  # isort: skip
from synthaug.models.texture.saving import open_texture_model  # isort: skip
from synthaug.models.texture.table import FAMILIES  # isort: skip
from synthaug.train.texture import Settings, train  # isort: skip

Tile = tile_sets.Tile
_ROOT = Path(os.environ.get("SYNTHAUG_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
SHOWN, PLACES, DIRECTIONS, ROUNDS, TWIN, CELL = 12, 100, 64, 40, 0.005, 8
TINY: dict[str, dict[str, Any]] = {
    "vae": {"width": 8, "latents": 2, "style": 4},
    "aae": {"width": 8, "code": 4},
    "ddpm": {"widths": [8, 16], "calls": 2},
    "latent_diffusion": {"latents": 2, "width": 8, "denoiser": [8, 16], "calls": 2},
    "pixelcnn": {"channels": 8, "layers": 2, "levels": 8, "reach": 3},
    "stylegan": {"widths": [8, 8, 8], "style": 8},
    "vq_transformer": {"width": 8, "codes": 16, "depth": 4, "hidden": 16, "layers": 1, "heads": 2},
}
"""For tiles below 64 pixels: a run that says nothing but that all runs."""


class Looks:
    """Sets of tiles as points along random directions, by layer: [K, tiles, places]."""

    def __init__(self, held: Sequence[Tile], weights: Path) -> None:
        self._network = Taef2(weights) if weights.is_file() and held[0].shape[0] >= 32 else None
        self.name = "distance" if self._network else "patches"
        self._scale: dict[str, list[tuple[Any, Any]]] = {}
        self.held = self(held)

    def __call__(self, tiles: Sequence[Tile]) -> dict[str, list[Any]]:
        found = {"patches": self._points("patches", [_patches(tile) for tile in tiles])}
        if self._network:
            seen = [self._network(_repeated(tile)).local for tile in tiles]
            found["distance"] = self._points("distance", [[one[level] for level in LEVELS] for one in seen])
        return found

    def _points(self, kind: str, rows: list[list[Any]]) -> list[Any]:
        """Of each layer; the first set that comes gives the scale."""
        draw, out = np.random.default_rng(0), list[Any]()
        for layer in range(len(rows[0])):
            some = [r[layer][draw.choice(len(r[layer]), min(PLACES, len(r[layer])), replace=False)] for r in rows]
            points = np.stack(some)
            scales = self._scale.setdefault(kind, [])
            if len(scales) == layer:
                scales.append((points.mean((0, 1)), points.std((0, 1)) + 1e-3))
            along = realism.directions(points.shape[-1], DIRECTIONS)
            out.append(realism.projected((points - scales[layer][0]) / scales[layer][1], along))
        return out

    def distance(self, kind: str, tiles: dict[str, list[Any]], rounds: int) -> dict[str, Any]:
        """The mean over layers, with its interval."""

        def score(rows: Any, columns: Any) -> float:
            pairs = zip(tiles[kind], self.held[kind], strict=True)
            flat = ((a[:, rows].reshape(len(a), -1), b[:, columns].reshape(len(b), -1)) for a, b in pairs)
            return float(np.mean([realism.quantile_distance(*pair) for pair in flat]))

        sizes = tiles[kind][0].shape[1], self.held[kind][0].shape[1]
        value = score(*(np.arange(size) for size in sizes))
        low, high = realism.interval(value, realism.bootstrap(score, sizes, rounds))
        return {"value": round(value, 4), "90%": [round(low, 4), round(high, 4)]}


def _repeated(tile: Tile) -> NDArray[np.uint8]:
    edge = tile.shape[0] // 4
    return np.rint(np.pad(tile, ((edge, edge), (edge, edge), (0, 0)), "wrap") * 255).astype(np.uint8)


def _patches(tile: Tile) -> list[Any]:
    """[places, 147] of three levels of a Laplacian pyramid that wraps."""
    bands, rest = list[Any](), tile
    for level in range(3):
        side = rest.shape[0]
        wide = np.pad(rest, ((side, side), (side, side), (0, 0)), "wrap")
        smaller = np.asarray(cv2.pyrDown(wide))
        band = rest if level == 2 else (wide - np.asarray(cv2.pyrUp(smaller)))[side : 2 * side, side : 2 * side]
        windows = np.lib.stride_tricks.sliding_window_view(
            np.pad(band, ((0, 6), (0, 6), (0, 0)), "wrap"), (7, 7), (0, 1)
        )
        bands.append(windows.reshape(-1, 147))
        rest = smaller[side // 2 : side, side // 2 : side]
    return bands


def trained(family: str, work: Path, data: Path, given: dict[str, Any]) -> tuple[Any, float]:
    """The model, and the CPU minutes of its training, all attempts together; trained where it is not yet."""
    out, log = work / family, work / f"{family}.json"
    spent = json.loads(log.read_text())["cpu_s"] if log.exists() else 0.0
    facts = open_texture_model(out).facts if (out / "model" / "model.safetensors").exists() else {}
    if not facts or facts["steps"] < facts["of"] or given["steps"]:
        begun = time.process_time()
        own = {"model": TINY[family]} if given["side"] < 64 else {}
        try:
            train(Settings.of({"family": family, "data": str(data), "out": str(out), "device": "cpu", **given, **own}))
        finally:
            spent += time.process_time() - begun
            log.write_text(json.dumps({"cpu_s": spent}))
    return open_texture_model(out), spent / 60


def sampled(model: Any, count: int) -> tuple[list[Tile], float]:
    """Tiles as 8-bit pictures in [0, 1] (checked), and CPU seconds for one, eight at a time."""
    begun, rows, seeds = time.process_time(), list[Any](), tile_sets.seeds_of(count)
    for first in range(0, count, 8):
        rows.append(model.sample(None, seeds[first : first + 8], model.side))
    seconds, found = (time.process_time() - begun) / count, torch.cat(rows)
    if found.shape != (count, 3, model.side, model.side) or not float(found.abs().max()) <= 1:
        raise SystemExit(f"not tiles in [-1, 1]: {tuple(found.shape)}, {found.min()} to {found.max()}")
    again = model.sample(None, [seeds[0]], model.side)[0]
    if float((again - found[0]).abs().max()) > 2e-2:
        raise SystemExit("the same seed gave two tiles")
    return tile_sets.pictures_of(found), seconds


def row_of(
    tiles: Sequence[Tile],
    looks: Looks,
    known: Sequence[Tile],
    rounds: int,
    made: Sequence[Tile] | None = None,
    period: int = 1,
) -> dict[str, Any]:
    """Distance, seam and memorisation of one set of tiles; the seam at the border with which they were `made`."""
    points = looks(tiles)
    to_known = tile_sets.apart(tiles[:1], known)
    if abs(to_known[0].min() - figures.nearest_distances(tiles[:1], known)[0]) > 1e-4:
        raise SystemExit("distances over rolls are not those of metrics.texture")
    found = {kind: looks.distance(kind, points, rounds) for kind in points}
    seams = [figures.seam_energy(tile) for tile in tiles]
    made = tiles if made is None else made
    return {
        **found,
        "seam": {"set": round(figures.mean_seam_energy(made, period), 3), "tile": round(float(np.mean(seams)), 3)},
        "nearest": nearest(tiles, known),
        "structure": quantiles(tile_sets.apart(tile_sets.structures(tiles), tile_sets.both_ways(known))),
        "flat": len(tiles) - len(tile_sets.structured(tiles)),
    }


def words(arguments: Sequence[str]) -> dict[str, str]:
    """`key=value` words over the defaults."""
    given = {
        "data": str(_ROOT / "textures" / "freedoom_flats"),
        "weights": str(_ROOT / "models" / "taef2" / "taef2_encoder.safetensors"),
        "work": "", "out": "texture_families.png", "families": ",".join(FAMILIES), "side": "64", "steps": "0",
        "samples": "384", "rounds": str(ROUNDS), "threads": "1",
    }  # fmt: skip
    for word in arguments:
        key, equals, value = word.partition("=")
        if not equals or key not in given:
            raise SystemExit(f"{word}: expected KEY=VALUE with one of {', '.join(given)}\n{__doc__}")
        given[key] = value
    return given


def nearest(tiles: Sequence[Tile], known: Sequence[Tile]) -> dict[str, float]:
    """Quantiles of the distances of tiles to the nearest known one that is not the same picture."""
    between = tile_sets.apart(tile_sets.structured(tiles), tile_sets.structured(known))
    if tiles is known:
        between[between < TWIN] = np.inf
    return quantiles(between)


def quantiles(between: NDArray[np.float64]) -> dict[str, float]:
    """Of the distances to the nearest, by name; zeros where there is none to compare."""
    found = np.quantile(between.min(1), [0, 0.05, 0.5]).round(4).tolist() if between.size else [0.0] * 3
    return dict(zip(("least", "5%", "median"), found, strict=True))


def compared(given: dict[str, str], work: Path) -> tuple[dict[str, Any], dict[str, Sequence[Tile]], list[Any]]:
    """Figures by row, tiles by row, and by family its sample closest to a tile that it learnt from, with that tile."""
    side, count, rounds = int(given["side"]), int(given["samples"]), int(given["rounds"])
    named = tile_sets.tiles_of(Path(given["data"]), side)
    every = [tile for _, tile in named]
    between = tile_sets.apart(every, every)
    held = tile_sets.split(between)
    folder = work / "tiles"
    folder.mkdir(parents=True, exist_ok=True)
    for (name, tile), out in zip(named, held, strict=True):
        if not out and not (folder / name).exists():
            cv2.imwrite(str(folder / name), np.rint(tile[..., ::-1] * 255).astype(np.uint8))
    known = [tile for tile, out in zip(every, held, strict=True) if not out]
    looks = Looks([tile for tile, out in zip(every, held, strict=True) if out], Path(given["weights"]))
    rng, some = np.random.default_rng(1), tile_sets.evenly(known, count)
    sets: dict[str, Sequence[Tile]] = {
        "real": [np.roll(tile, rng.integers(side, size=2), (0, 1)) for tile in known],
        "noise": [tile_sets.noise(tile, rng) for tile in some],
        "noise, colours": [tile_sets.coloured(tile, rng) for tile in some],
        "looks alone": tile_sets.looks_alone(known, count),
        "copies": tile_sets.copies(known, count),
    }
    table = {name: row_of(tiles, looks, known, rounds) for name, tiles in sets.items()}
    table["real"]["nearest"] = nearest(every, every)
    unseen = [tile for tile, out in zip(every, held, strict=True) if out]
    table["real"]["structure"] = quantiles(tile_sets.apart(tile_sets.structures(unseen), tile_sets.both_ways(known)))
    pairs: list[Any] = []
    options = {"steps": int(given["steps"]), "side": side, "threads": int(given["threads"])}
    for family in given["families"].split(","):
        opened, minutes = trained(family, work, folder, options)
        tiles, seconds = sampled(opened.model, count)
        sets[family] = tiles
        made = tile_sets.unrolled(opened.model, tiles)
        table[family] = row_of(tiles, looks, known, rounds, made, CELL) | {
            "seconds_per_sample": round(seconds, 4),
            "parameters": sum(v.numel() for n, v in opened.model.named_parameters() if n in opened.model.saved()),
            "training_minutes": round(minutes, 1),
            "steps": opened.facts["steps"],
        }
        pairs.append((family, tile_sets.closest(tiles, known, SHOWN // 2)))
    facts = {"tiles": len(every), "held_out": int(held.sum()), "features": looks.name, **options, "samples": count}
    return {"rows": table, "sizes": facts}, sets, pairs


def memorised(row: dict[str, Any], real: dict[str, Any]) -> bool:
    """As this page says."""
    near = row["nearest"]["least"] < real["nearest"]["least"]
    return bool(near or any(row["structure"][key] < real["structure"][key] for key in ("5%", "median")))


def main() -> int:
    given = words(sys.argv[1:])
    torch.set_num_threads(int(given["threads"]))
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as temporary:
        details, sets, pairs = compared(given, Path(given["work"] or temporary))
    out = Path(given["out"])
    cv2.imwrite(
        str(out),
        tile_sets.strip({name: tile_sets.evenly(tiles, min(SHOWN, len(tiles))) for name, tiles in sets.items()}),
    )
    cv2.imwrite(str(out.with_stem(out.stem + "_nearest")), tile_sets.strip(dict(pairs)))
    rows, kind = details["rows"], details["sizes"]["features"]
    claims: dict[str, Any] = {f"{name}_distance": row[kind]["value"] for name, row in rows.items()}
    for name, row in rows.items():
        if name in FAMILIES:
            claims[f"{name}_seam"] = row["seam"]["set"]
            for other in ("noise", "noise, colours", "looks alone"):
                claims[f"{name}_beats_{other}"] = row[kind]["value"] < rows[other][kind]["value"]
            claims[f"{name}_not_memorised"] = not memorised(row, rows["real"])
    if kind == "distance" and not memorised(rows["copies"], rows["real"]):
        raise SystemExit("copies of what was learnt from pass as new: the check for memorisation sees nothing")
    measure.publish("texture_families", claims, details, ("torch", "diffusers", "numpy"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
