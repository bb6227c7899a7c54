"""The model with all that was asked of it beside words: what whole pictures and their windows are painted with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from synthaug.labels import Labels
from synthaug.models.pipelines import Img2ImgModel, Output, Request
from synthaug.refine import conditions
from synthaug.refine.conditions import Conditions, Rules
from synthaug.refine.protect import Protected


@dataclass(frozen=True, slots=True)
class Brush:
    """A loaded model, its ControlNets, and the rules of the stage.

    Attributes:
        model: The pipeline.
        nets: One loaded ControlNet per control of the rules.
        rules: Guidance, protection, tiles, noise.
        steps: Denoising steps at strength 1.
        guidance: Classifier-free guidance.
    """

    model: Img2ImgModel
    nets: Sequence[Any]
    rules: Rules
    steps: int
    guidance: float

    def told(
        self, images: Any, labels: Sequence[Labels], anchors: Sequence[int], maps: Sequence[Protected] | None = None
    ) -> Conditions:
        """What is true of these pictures, as `conditions.make` makes it. Raises as it does."""
        channels = 0 if self.rules.anchoring is None else self.model.channels
        grid = conditions.Grid(self.model.factor, self.model.multiple, channels, self.model.loop is not None)
        return conditions.make(images, labels, self.rules, self.nets, grid, anchors, maps)

    def __call__(self, images: Any, requests: Sequence[Request], about: Conditions) -> Output:
        """One batch through the model."""
        return self.model(images, requests, steps=self.steps, guidance=self.guidance, extras=about.extras)
