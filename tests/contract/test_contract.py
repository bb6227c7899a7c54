"""Every stage of the package, found by itself, through the contract suite of `synthaug.testing`."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

import synthaug
from synthaug import testing
from synthaug.contracts import Appearance, Gate, Geometry, Pointwise, Stage
from synthaug.engine.build import build
from synthaug.engine.shelf import Shelf
from synthaug.engine.targets import find_conf
from tests.texture.pictures import texture

ROOMS = ("texture", "refine", "effects", "augment", "gate")
CONTRACTS = (Stage, Appearance, Geometry, Gate, Pointwise)
NODES = {
    f"{p.parent.name}/{p.stem}": yaml.safe_load(p.read_text())
    for room in ROOMS
    for p in sorted(find_conf().glob(f"{room}/*.yaml"))
}


def found() -> Iterator[type[Stage]]:
    """Every concrete stage class that the package defines."""
    for module in pkgutil.walk_packages(synthaug.__path__, "synthaug."):
        if module.name.split(".")[1] not in ROOMS:
            continue
        for _, value in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if (
                issubclass(value, Stage)
                and value not in CONTRACTS
                and value.__module__ == module.name
                and not inspect.isabstract(value)
            ):
                yield value


def test_every_stage_has_a_configuration() -> None:
    configured = {node["_target_"] for node in NODES.values()}
    stages = {f"{cls.__module__}.{cls.__qualname__}" for cls in found()}
    assert len(stages) > 10
    assert {name for name in stages if not name.rsplit(".", 1)[1].startswith("_")} <= configured


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What has no default: photos, weights, the name of a foreign transform."""
    photos = tmp_path_factory.mktemp("photos")
    for i in range(3):
        picture = testing.make_sample(i + 20).image.pixels
        Image.fromarray(picture[:, ::-1]).save(photos / f"{i}.png")
    model = tmp_path_factory.mktemp("model") / "tiny"

    def tiny() -> str:
        from tests.models.tiny import build_tiny_sd

        build_tiny_sd(model)
        return str(model)

    textures = tmp_path_factory.mktemp("textures") / "lib"
    Shelf(textures).add([texture(0), texture(1)])
    canvas = {"height": 48, "width": 64}
    return {
        "augment/crop": canvas,
        "augment/letterbox": canvas,
        "augment/random_resized_crop": canvas,
        "augment/resize": canvas,
        "texture/retexture": {"library": str(textures)},
        "refine/look": {"photos": str(photos)},
        "refine/img2img": {"model": tiny},
        "augment/albumentations_appearance": {"transform": "RandomGamma", "params": {"p": 1.0}},
        "augment/albumentations_geometry": {"transform": "Affine", "params": {"p": 1.0, "rotate": [-10, 10]}},
        "augment/kornia_appearance": {"transform": "ColorJiggle", "params": {"brightness": 0.2, "p": 1.0}},
        "augment/kornia_geometry": {"transform": "RandomAffine", "params": {"degrees": 10.0, "p": 1.0}},
    }


@pytest.mark.parametrize("name", sorted(NODES))
def test_stage_keeps_its_contract(name: str, given: dict[str, dict[str, Any]]) -> None:
    import torch

    torch.set_num_threads(1)
    node = dict(NODES[name])
    for key, value in given.get(name, {}).items():
        node[key] = value() if callable(value) else value
    stage = build(node, name.partition("/")[0])
    assert isinstance(stage, Stage)
    stage.load("cpu")
    testing.check(stage)


def test_the_suite_notices_a_stage_that_cheats() -> None:
    from tests.fakes import FakeDeviceModel, FakeModel

    testing.check(FakeModel(strength=0.1))
    with pytest.raises(AssertionError, match=r"batch.* matter"):
        testing.check(FakeDeviceModel(leak=True))
    with pytest.raises(AssertionError, match="two draws"):
        testing.check(Forgetful())


PLUGIN = '''
"""A plug-in of one's own, as CONTRIBUTING says it."""
from synthaug.contracts import Appearance, Geometry, Pointwise
from synthaug.warp import motion

class Fade(Appearance):
    def __init__(self, *, share: float = 0.5) -> None:
        self.share = share

    def draw(self, rng, labels, attempt):
        return {"level": float(rng.uniform(0, self.share))}

    def paint(self, images, labels, draws):
        for image, draw in zip(images, draws):
            image *= 1 - draw["level"]
        return images

class Dim(Pointwise):
    takes = gives = "linear"

    def draw(self, rng, labels, attempt):
        return {"gain": float(rng.uniform(0.2, 1))}

    def curve(self, values, draw):
        return values * draw["gain"]

class Nudge(Geometry):
    def draw(self, rng, labels, attempt):
        return {"x": int(rng.integers(-5, 6))}

    def warp(self, labels, draw):
        height, width = labels.size
        return motion.crop(labels.size, (draw["x"], 0, draw["x"] + width, height))

class Wrong(Nudge):
    def canvas(self, size):
        return size[1], size[0]

class Hoarding(Fade):
    def draw(self, rng, labels, attempt):
        return {"rows": (1, 2)}
'''

TESTS = """
import pytest
from synthaug import testing
from my_stages import Dim, Fade, Hoarding, Nudge, Wrong

@pytest.mark.parametrize("stage", [Fade(), Dim(), Nudge()])
def test_mine(stage):
    testing.check(stage)

def test_cheats_are_noticed():
    with pytest.raises(AssertionError, match="not canvas"):
        testing.check(Wrong())
    with pytest.raises(AssertionError, match="not JSON"):
        testing.check(Hoarding())
"""


def test_a_plug_in_of_ones_own_is_checked_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "my_stages.py").write_text(PLUGIN)
    (tmp_path / "test_my_stages.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    package = str(Path(synthaug.__file__).parents[1])
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    done = subprocess.run(
        words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": package}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


class Forgetful(Appearance):
    """Draws from its own memory."""

    def __init__(self) -> None:
        self.calls = 0

    def draw(self, rng: Any, labels: Any, attempt: int) -> dict[str, Any]:
        self.calls += 1
        return {"n": self.calls}

    def paint(self, images: Any, labels: Any, draws: Any) -> Any:
        return images
