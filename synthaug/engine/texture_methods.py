"""The methods of `synthaug texture synthesize`: from settings to something that makes a tile of a seed."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from synthaug.engine.keyed import Keyed
from synthaug.engine.targets import find_conf
from synthaug.engine.vet import read_yaml
from synthaug.errors import ConfigError, InputError, Rejected, printable
from synthaug.formats.inputs import InputRoot
from synthaug.texture import prompted, surfaces, trained
from synthaug.texture.entry import checked_word
from synthaug.texture.exemplar import Tile
from synthaug.texture.surfaces import Limits

METHODS = ("noise", "patches", "prompt", "model")
_BY_EXAMPLE = {"noise": "noise_blend", "patches": "quilting"}
_DTYPES = ("auto", "float32", "bfloat16", "float16")
_STEM = re.compile(r"[a-z0-9]+")
_WORD = re.compile(r"[a-z][a-z0-9_-]{0,63}")


def _none(_seed: int) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """A method with everything decided but the seeds.

    Attributes:
        make: From seeds to their tiles, in order.
        stem: Of the names of its textures.
        source: Whom they come from, in words.
        parameters: JSON that an entry keeps, the same for all tiles.
        each: Likewise, by seed.
        model: Digest of the model; empty where there is none.
        material: Of a tile by its seed; empty for what its name suggests.
        licence: That is known without being told; empty where none is.
    """

    make: Callable[[Sequence[int]], Iterator[Tile]]
    stem: str
    source: str
    parameters: Mapping[str, Any]
    each: Callable[[int], Mapping[str, Any]] = _none
    model: str = ""
    material: Callable[[int], str] = lambda _seed: ""
    licence: str = ""

    def of(self, seed: int) -> Mapping[str, Any]:
        """All parameters of one tile."""
        return {**self.parameters, **self.each(seed)}


def maker(method: str, given: Keyed) -> Maker:
    """A method of `METHODS` by its settings; loads what it needs. Raises `Refusal` for what it cannot work with."""
    if method in _BY_EXAMPLE:
        return _by_example(method, given)
    return _by_prompt(given) if method == "prompt" else _by_model(given)


def _by_example(method: str, given: Keyed) -> Maker:
    path = given.needed("exemplar", "a picture to make it from")
    given.needed("licence", "of the exemplar; what is made from it stands under it")
    crop, told = _exemplar(given)
    make: Any = importlib.import_module(f"synthaug.texture.{_BY_EXAMPLE[method]}").synthesize
    knobs = {n: p.default for n, p in inspect.signature(make).parameters.items() if p.kind is p.KEYWORD_ONLY}
    device = given.text("device") or knobs.pop("device")
    settings = {name: _setting(given, name, default) for name, default in knobs.items() if name != "device"}
    side = given.whole("size", 1024, 16, 16384)

    def tiles(seeds: Sequence[int]) -> Iterator[Tile]:
        for seed in seeds:
            yield Tile(seed, make(crop, (side, side), seed, device=device, **settings))

    stem = Path(path).stem
    return Maker(
        make=tiles, stem=stem, source=f"made from {Path(path).name}", parameters={**told, "size": side, **settings}
    )


def _by_prompt(given: Keyed) -> Maker:
    from synthaug.models.loras import Lora
    from synthaug.models.opening import device_of
    from synthaug.models.tile_model import open_tiles

    path = Path(given.needed("model", "the folder of a diffusers pipeline")).expanduser()
    given.needed("licence", "that the model allows for what it makes")
    material = given.text("material") and checked_word("material", given.text("material"))
    if not material and not given.text("prompt"):
        raise ConfigError("texture synthesize method=prompt needs words: material=wood, or prompt='...'")
    prompts = _prompts()
    own = prompted.checked_prompt(given.text("prompt"), material) if given.text("prompt") else ""
    crop, told = _exemplar(given) if given.text("exemplar") else (None, {})
    lora = given.text("lora") and str(Path(given.text("lora")).expanduser())
    stack = [Lora("lora", lora, given.number("lora_weight", 1.0))] if lora else []
    device = device_of(given.text("device", "auto"))
    dtype = given.choice("dtype", _DTYPES)
    if dtype == "auto":
        dtype = "float32" if device == "cpu" else "bfloat16"
    base = given.text("base") and Path(given.text("base")).expanduser()
    model = open_tiles(path, device=device, dtype=dtype, base=base, stack=stack)
    takes = "negative_prompt" in model.snapshot.family.knobs
    side = given.whole("size", 512, 16, 16384)
    wish = prompted.Wish(
        size=(side, side),
        negative=given.given.get("negative", prompts.negative if takes else ""),
        steps=given.whole("steps", 30, 1, 1000),
        guidance=given.number("guidance", 5.0),
        strength=given.number("strength", 0.0) if "strength" in given.given else None,
        batch=given.whole("batch", 1, 1, 1024),
    )
    wish.check(model, start=crop is not None)

    def words(seed: int) -> str:
        return own or prompts.words(material, seed)

    told = {
        **told, "pipeline": model.snapshot.pipeline, "negative": wish.negative, "steps": wish.steps,
        "guidance": wish.guidance, "size": side, "dtype": dtype,
    }  # fmt: skip
    told |= {} if wish.strength is None else {"strength": wish.strength}
    told |= {"lora": Path(stack[0].path).name, "lora_weight": stack[0].weight} if stack else {}
    return Maker(
        make=lambda seeds: prompted.paint(model, [words(seed) for seed in seeds], seeds, wish, crop),
        stem=material or "_".join(_STEM.findall(own.lower())[:6]) or "tile",
        source=f"made by {model.snapshot.pipeline} of {path.name}",
        parameters=told, each=lambda seed: {"prompt": words(seed)}, model=model.snapshot.digest,
        material=lambda _seed: material,
    )  # fmt: skip


def _by_model(given: Keyed) -> Maker:
    from synthaug.models.opening import device_of
    from synthaug.models.texture.saving import SHIPPED, open_texture_model, pack

    opened = open_texture_model(given.text("model") or SHIPPED, device_of(given.text("device", "auto")))
    licence = str(opened.facts.get("licence", ""))
    if not licence:
        given.needed("licence", "that the training tiles allow for what is made of them")
    label, family = given.text("class"), opened.model.family
    if label:
        opened.number(label)
    side = given.whole("size", 0, 0, 16384) or opened.model.side
    opened.model.wanted(None, [], side)
    batch = given.whole("batch", 16, 1, 4096)

    def class_of(seed: int) -> str:
        return label or trained.drawn_class(opened, seed)

    return Maker(
        make=lambda seeds: trained.sample(opened, seeds, [class_of(seed) for seed in seeds], side=side, batch=batch),
        stem="_".join(_STEM.findall(f"{label} {family}".lower())),
        source=f"made by a {family} that was trained on textures",
        parameters={"family": family, "size": side},
        each=lambda seed: {"class": class_of(seed)},
        model=hashlib.sha256(pack(opened.model, opened.classes, opened.facts)).hexdigest(),
        material=lambda seed: class_of(seed) if _WORD.fullmatch(class_of(seed)) else "",
        licence=licence,
    )


def _prompts() -> prompted.Prompts:
    found, _ = read_yaml(find_conf() / "texture" / "synthesize" / "prompts.yaml")
    return prompted.Prompts(found["template"], found["negative"], found["surfaces"])


def _exemplar(given: Keyed) -> tuple[NDArray[Any], dict[str, Any]]:
    """The exemplar or a part of it, sRGB [H, W, 3] uint8, and what an entry keeps of it."""
    path, text = Path(given.text("exemplar")).expanduser(), given.text("crop")
    try:
        data = InputRoot(path.parent).read(path.name)
        pixels = surfaces.albedo(data, Limits(largest=16384, alpha="drop")).pixels
    except Rejected as error:
        raise InputError(f"exemplar={path}: {error}") from error
    told = {"exemplar": path.name, "exemplar_sha256": hashlib.sha256(data).hexdigest(), "crop": text}
    if not text:
        return pixels, told
    try:
        left, top, width, height = (int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"crop={printable(text)}: expected LEFT,TOP,WIDTH,HEIGHT in pixels") from error
    rows, columns = pixels.shape[:2]
    if not (0 <= left < left + width <= columns and 0 <= top < top + height <= rows):
        raise ConfigError(f"crop={printable(text)}: expected a part of {columns}x{rows} pixels")
    return pixels[top : top + height, left : left + width], told


def _setting(given: Keyed, name: str, default: Any) -> Any:
    """A knob of a method: its default where it is not given."""
    if name not in given.given:
        return default
    return given.flag(name) if isinstance(default, bool) else given.number(name, 0)
