"""Gives a render what photos have and renders lack, by a network trained on unlabelled photos.

The network was shown photos that had been simplified until they looked rendered, and learnt to give the photo
back (`synthaug.train`). Its condition is the picture itself, pixel by pixel, so shapes stay where they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from synthaug import seeds
from synthaug.contracts import Appearance, Draw, Painted, Place
from synthaug.errors import ConfigError, SynthaugError, nearest
from synthaug.labels import Category, Labels
from synthaug.models import maps
from synthaug.models.pipelines import DTYPES
from synthaug.refine import conditions
from synthaug.refine.conditions import Conditions, Grid, Rules

_CELL = 1.0
"""Pixels: the network works at half the size and not, as diffusion in latents does, at an eighth."""
SHIPPED = Path(__file__).resolve().parents[1] / "models" / "weights" / "refiner"


class Restore(Appearance):
    """Adds the texture, grain and softness of real photos to a render, and keeps its shapes and colours.

    Works from pure noise (strength 1) as well as from the picture noised part of the way. A 256x256 picture
    takes about a second on two cores at the defaults; time grows with pixels and with `steps`.

    A refiner that was trained with maps (`models.maps`) is also shown the depth, normals and classes of each
    picture, as far as its sample has them; what is missing is absent, as it was in a share of its training.
    Classes are matched by name, and pixels of a class that the refiner does not know have none.

    What is protected gets a share of what the refiner adds, or none of it: then the output is the input, to the bit.

    Args:
        model: Folder of a refiner; empty for the one that comes with synthaug.
        strength: In (0, 1]; share of the way to noise that the flow starts from: 1 invents the most texture.
        steps: Calls of the network, 1 to 1000; few are enough. 0: as many as the refiner was made for, which are 8
            unless it was distilled.
        colour: 0 to 1; share of the input's coarse colours that is put back. 1: brightness cannot drift.
        smooth: 0 to 1; how strictly flat surfaces (skies, walls) get the grain that flat surfaces have in photos.
        grain: [low, high] within 0 to 1; range of quantiles of the photos' grain that each picture draws from.
        strength_decay: In (0, 1]; each repair multiplies the strength by it.
        protect: Share of what is added by class, attribute and small thing, and what is never touched, as in
            `Img2Img`: `{classes: {car: 0.5}, never_classes: [sign]}`.
        feather: Pixels, 0 to 256; how softly untouched regions meet the rest.
        sequence: Whether noise and grain stick to surfaces, so that the frames of a group look alike; or
            `{cell: 1.0}`, in pixels. Needs depth or position, and cameras with poses.
        dtype: `float32`, `bfloat16` or `float16`.
    """

    place: ClassVar[Place] = "device"
    generative: ClassVar[bool] = True
    operational: ClassVar[frozenset[str]] = frozenset({"model"})

    def __init__(
        self,
        *,
        model: str = "",
        strength: float = 1.0,
        steps: int = 0,
        colour: float = 1.0,
        smooth: float = 1.0,
        grain: Sequence[float] = (0.15, 0.35),
        strength_decay: float = 0.7,
        protect: Mapping[str, Any] | None = None,
        feather: float = 4.0,
        sequence: bool | Mapping[str, Any] = False,
        dtype: str = "float32",
    ) -> None:
        if not 0 < strength <= 1:
            raise ConfigError(f"strength={strength}: expected a share of the way to noise in (0, 1]")
        if not 0 <= steps <= 1000:
            raise ConfigError(f"steps={steps}: expected 1 to 1000, or 0 for the refiner's own number")
        for name, share in (("colour", colour), ("smooth", smooth)):
            if not 0 <= share <= 1:
                raise ConfigError(f"{name}={share}: expected 0 to 1")
        if len(grain) != 2 or not 0 <= grain[0] <= grain[1] <= 1:
            raise ConfigError(f"grain={list(grain)}: expected [low, high] with 0 <= low <= high <= 1")
        if not 0 < strength_decay <= 1:
            raise ConfigError(f"strength_decay={strength_decay}: expected a factor in (0, 1]")
        if dtype not in DTYPES:
            raise ConfigError(f"dtype={dtype}: unknown.{nearest(dtype, DTYPES)}")
        self.model = model
        self.strength = strength
        self.steps = steps
        self.colour = colour
        self.smooth = smooth
        self.grain = (float(grain[0]), float(grain[1]))
        self.strength_decay = strength_decay
        self.dtype = dtype
        self.rules = Rules.parse(None, protect, feather, 0, 0, _with_cell(sequence))
        # Frames of a group share the number that names the noise of a place, and how grainy they are.
        self.scope = "sample" if self.rules.anchoring is None else "group"
        self._loaded: Any = None
        self._maps = maps.peek(Path(self.model)) if self.model else maps.NONE
        told = () if self.rules.plain else self.rules.wants
        self.wants = tuple(sorted({*self._maps.passes, *told}))

    def _folder(self) -> Path:
        folder = Path(self.model) if self.model else SHIPPED
        if not self.model and not folder.is_dir():
            raise ConfigError(
                "model is empty, and this copy of synthaug comes without a refiner;"
                " train one: synthaug train refiner data=PHOTOS out=DIR, then model=DIR/model"
            )
        return folder

    def identity(self) -> Mapping[str, Any]:
        """SHA-256 of the weights, and the numbers beside them."""
        from synthaug.models.refiner import read_facts

        return {"refiner": read_facts(self._folder()).digest}

    def expect(self, categories: Sequence[Category], passes: Sequence[str]) -> None:
        """Holds protection against the classes of the dataset, and a sequence against its passes."""
        self.rules.check(categories, passes)

    def load(self, device: str) -> None:
        """Opens the refiner on `device`. Raises as `open_refiner`."""
        from synthaug.models.refiner import open_refiner

        self._loaded = open_refiner(self._folder(), device=device, dtype=self.dtype)
        if self._loaded.facts.maps != self._maps:
            raise ConfigError(f"model={self.model}: it takes other maps than when this run was planned; start anew")

    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        """The seed of all noise, the strength of this attempt, and how grainy a photo this is."""
        low, high = self.grain
        return {
            "seed": seeds.fork(rng),
            "strength": self.strength * self.strength_decay**attempt,
            "grain": round(low + (high - low) * float(rng.random()), 6),
        }

    def paint(self, images: Any, labels: Sequence[Labels], draws: Sequence[Draw]) -> Painted:
        """About `steps` x 0.15 s for 256x256 on one core in float32."""
        from synthaug.models.refiner import Wish

        if self._loaded is None:
            raise SynthaugError("Restore.paint before load(device)")
        wishes = [Wish(d["seed"], d["strength"], d["grain"]) for d in draws]
        told, facts = self._told(images, labels)
        about = self._about(images, labels, draws)
        fields = {"steps": self.steps, "colour": self.colour, "smooth": self.smooth}
        done = self._loaded(images, wishes, maps=told, noise=about.extras and about.extras.noise, **fields)
        if self.rules.plain:
            return Painted(done.images, done.reasons, facts)
        refined = conditions.weakened(done.images, images, about)
        pasted = conditions.pasted(refined, images, about)
        seen = conditions.told(pasted, refined, images, about)
        own = facts or ({},) * len(draws)
        return Painted(pasted, done.reasons, tuple({**a, **b} for a, b in zip(own, seen, strict=True)))

    def _about(self, images: Any, labels: Sequence[Labels], draws: Sequence[Draw]) -> Conditions:
        """What is protected, and noise on surfaces for the network and for the grain that it leaves to be added."""
        from synthaug.models.refiner import NOISE

        grid = Grid(1, self._loaded.multiple, NOISE, holds=False)
        return conditions.make(images, labels, self.rules, (), grid, [d["seed"] for d in draws])

    def _told(self, images: Any, labels: Sequence[Labels]) -> tuple[Any, tuple[Mapping[str, Any], ...]]:
        """What the refiner is told of each picture, and the kinds of maps it had, for the trail."""
        if not self._maps.kinds:
            return None, ()
        arrays = [self._arrays(own) for own in labels]
        size = tuple(images.shape[2:])
        stacked = np.stack([self._maps.encode(own, size) for own in arrays])
        return images.new_tensor(stacked), tuple({"maps": list(own)} for own in arrays)

    def _arrays(self, labels: Labels) -> dict[str, NDArray[Any]]:
        found = {
            kind: labels.passes[maps.KINDS[kind]] for kind in self._maps.kinds if maps.KINDS[kind] in labels.passes
        }
        if "depth" in found:
            found["depth"] = maps.relative(found["depth"])
        if "classes" in found:
            found["classes"] = self._maps.known([c.name for c in labels.categories])[found["classes"]]
        return found


def _with_cell(sequence: bool | Mapping[str, Any]) -> bool | Mapping[str, Any]:
    if isinstance(sequence, bool):
        return {"cell": _CELL} if sequence else False
    return {"cell": _CELL, **sequence}
