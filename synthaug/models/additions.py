"""What is added to a model besides its own weights: learnt words, LoRAs, another scheduler, photos as prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synthaug.errors import ConfigError, SynthaugError
from synthaug.models import image_prompt, loras, schedulers, textual
from synthaug.models.families import Family
from synthaug.models.image_prompt import ImagePrompt, Read, Viewer
from synthaug.models.loras import Lora
from synthaug.models.loras import parse as parse_loras
from synthaug.models.schedulers import Scheduler
from synthaug.models.textual import Learnt


@dataclass(frozen=True, slots=True)
class Additions:
    """Everything that was asked for; nothing by default.

    Attributes:
        loras: A stack, ordered by name.
        scheduler: In place of the model's own; None keeps that.
        image_prompt: An adapter and its photos, or None.
        embeddings: Learnt words, ordered by token.
    """

    loras: tuple[Lora, ...] = ()
    scheduler: Scheduler | None = None
    image_prompt: ImagePrompt | None = None
    embeddings: tuple[Learnt, ...] = ()

    @staticmethod
    def parse(
        *,
        loras: Mapping[str, Any] | None = None,
        scheduler: object = "",
        image_prompt: Mapping[str, Any] | None = None,
        embeddings: Mapping[str, Any] | None = None,
    ) -> Additions:
        """From configuration; touches no file.

        Args:
            loras: `{grain: {path: FILE, weight: 0.8}}`.
            scheduler: A name of `schedulers.KINDS`, or `{name: euler, karras: true, trailing: true}`; empty for none.
            image_prompt: `{adapter: FILE, encoder: DIR, photos: DIR, weight: 0.6}`.
            embeddings: `{<token>: FILE}`.

        Raises:
            ConfigError: Naming the field, its value and what was expected.
        """
        return Additions(
            parse_loras(loras), Scheduler.parse(scheduler), ImagePrompt.parse(image_prompt), textual.parse(embeddings)
        )

    @property
    def knobs(self) -> tuple[str, ...]:
        """Which of `families.KNOBS` are asked for."""
        found = {
            "loras": self.loras, "scheduler": self.scheduler, "image_prompt": self.image_prompt,
            "embeddings": self.embeddings,
        }  # fmt: skip
        return tuple(name for name, value in found.items() if value)

    @property
    def looks(self) -> ImagePrompt | None:
        """The image prompt, where it has any weight."""
        return self.image_prompt if self.image_prompt is not None and self.image_prompt.weight else None

    def check(self, family: Family, texts: Sequence[str]) -> None:
        """Holds it against family and prompts when a run is planned; whether the family has the knobs, `capabilities`
        says. Touches no file.

        Args:
            texts: All templates and words that can come into a prompt, for and against.

        Raises:
            ConfigError: A scheduler or an image prompt that the family cannot use; a learnt word in no prompt.
        """
        if self.scheduler is not None:
            self.scheduler.check(family.name, flow=family.flow)
        if self.image_prompt is not None and not family.guided:
            raise ConfigError(f"image_prompt is there for Stable Diffusion 1, 2 and XL, not for {family.name}")
        textual.check_used(self.embeddings, texts)

    def identity(self) -> dict[str, Any]:
        """For a run's fingerprint: contents in place of paths. Photos are told apart, by whoever lists them.

        Hashes every file once per process and stamp.

        Raises:
            ConfigError, InputError, SecurityError: Files that are missing, broken, or no plain data.
        """
        found: dict[str, Any] = {}
        if self.loras:
            found["loras"] = [{"weight": one.weight, "sha256": one.digest()} for one in self.loras]
        if self.scheduler is not None:
            found["scheduler"] = self.scheduler.identity()
        if self.image_prompt is not None:
            found["image_prompt"] = self.image_prompt.identity()
        if self.embeddings:
            found["embeddings"] = {one.token: one.digest() for one in self.embeddings}
        return found


def apply(pipe: Any, additions: Additions, *, steps: int, read: Read | None = None) -> Viewer | None:
    """Adds everything to a loaded pipeline, once, before its first prompt is encoded and before it is compiled.

    Args:
        pipe: On its device, in its dtype.
        additions: For which `check` has passed.
        steps: Denoising steps at strength 1.
        read: From a photo's name to its pixels [H, W, 3] uint8; needed where `additions.looks`.

    Returns:
        What encodes photos, for `latent.Job.photos`; None without an image prompt.

    Raises:
        ConfigError: Something that was made for another base, or cannot be run.
        InputError, SecurityError: Files that are broken, or no plain data.
    """
    if additions.embeddings:
        textual.teach(pipe, additions.embeddings)
    if additions.loras:
        loras.merge(pipe, additions.loras)
    if additions.scheduler is not None:
        schedulers.install(pipe, additions.scheduler, steps)
    if additions.looks is None:
        return None
    if read is None:
        raise SynthaugError("an image prompt needs something that reads its photos")
    return image_prompt.install(pipe, additions.looks, device=str(pipe.device), read=read)
