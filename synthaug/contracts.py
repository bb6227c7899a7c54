"""The five contracts. What a stage may touch is decided here, by signature.

    Reader      ids(); describe(id) from headers alone; read(id) -> Sample
    Appearance  draw(rng, labels, attempt) -> draw;  paint(images, labels, draws) -> images
    Geometry    draw(rng, labels, attempt) -> draw;  warp(labels, draw) -> Warp
    Gate        judge(images, references, labels) -> verdicts
    Writer      encode(sample); add(encoded); close_shard() -> fragment; finalise(fragments)

A stage is built for free: its constructor checks its arguments and loads nothing; weights load in
`load(device)`. Constructor parameters are the configuration: keyword-only, typed, documented with unit
and range under `Args:`, and refused with `ConfigError` when out of range. A draw is JSON.

`place` says where a stage computes. `host`: numpy, batches of one, run in threads beside each other.
`device`: torch tensors on the configured device, in micro-batches of fixed shape cut by the plan.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from synthaug.exchange import DatasetInfo, Description, Encoded, File, Fragment, Painted, Verdict
from synthaug.labels import Category, Labels, Size
from synthaug.sample import Sample, Space
from synthaug.warp.motion import Warp
from synthaug.warp.steps import Border

__all__ = [
    "Appearance", "Border", "DatasetInfo", "Description", "Draw", "Encoded", "File", "Fragment", "Gate", "Geometry",
    "Painted", "Place", "Pointwise", "Reader", "Scope", "Stage", "Verdict", "Writer",
]  # fmt: skip

Scope = Literal["sample", "group", "object"]
Place = Literal["host", "device"]
Draw = dict[str, Any]


class Reader(ABC):
    """A door into the house. Everything leaves it in the canonical conventions."""

    operational: ClassVar[frozenset[str]] = frozenset()
    """Constructor parameters that may differ between two runs of one dataset."""

    @abstractmethod
    def categories(self) -> tuple[Category, ...]:
        """The classes of the dataset; class id = index + 1."""

    @abstractmethod
    def ids(self) -> Sequence[str]:
        """All sample ids, in natural order, without opening an image.

        Raises:
            InputError: The dataset as a whole is refused: counts and the first offenders.
        """

    @abstractmethod
    def describe(self, sample_id: str) -> Description:
        """From headers alone. Raises `Rejected` for a sample that cannot be read."""

    @abstractmethod
    def read(self, sample_id: str) -> Sample:
        """Decodes one sample; `Rejected` under a reason code when it cannot be trusted."""

    def files(self) -> tuple[str, ...]:
        """Files below the root that belong to the whole dataset (a COCO json, a class list)."""
        return ()

    def digest(self, file: str) -> str:
        """SHA-256 of one file named by `files` or a description; inputs are identified by content."""
        raise NotImplementedError(f"{type(self).__name__} names files but does not hash them")

    def stamp(self, file: str) -> tuple[int, ...]:
        """Cheap evidence that a file is untouched (size, times, inode); saves hashing it again."""
        raise NotImplementedError(f"{type(self).__name__} names files but does not stamp them")

    def notes(self) -> Mapping[str, int]:
        """Counts of what is allowed but worth knowing, from listings and label files; told at the end of a run."""
        return {}

    def identity(self) -> Mapping[str, Any]:
        """Facts beyond configuration and files that decide what is read, such as a renderer's version."""
        return {}

    def digests(self) -> Mapping[str, str]:
        """SHA-256 by relative path of every file opened since the last call (see `formats.inputs`)."""
        return {}


class Stage(ABC):  # noqa: B024 - its children have the abstract methods
    """What Appearance, Geometry and Gate share. Two ancestors at most stand between a stage and ABC."""

    scope: Scope = "sample"
    """Whose draw it is: each sample's own, one for all samples of a group, one for each object. An instance
    may say otherwise than its class, so that a user can configure it."""

    place: ClassVar[Place] = "host"
    needs: tuple[str, ...] = ()
    """Passes the stage reads; only these are copied for it, and the plan refuses input without them. Fixed when
    the stage is built, as `wants` is: its configuration may decide."""
    wants: tuple[str, ...] = ()
    """Passes it uses where they are present; copied for it likewise."""

    operational: ClassVar[frozenset[str]] = frozenset()
    """Parameters that may differ between two runs of one dataset: paths whose content `identity` names."""

    def expect(self, categories: Sequence[Category], passes: Sequence[str]) -> None:  # noqa: B027 - most ask nothing
        """Holds the configuration against the input, before anything loads. Called once, at plan time.

        Args:
            categories: Of the dataset.
            passes: That every sample of the input brings.

        Raises:
            ConfigError: Naming the field, what the input has, and the way out.
        """

    def load(self, device: str) -> None:  # noqa: B027 - a stage without weights has nothing to load
        """Loads weights onto `device` (`cpu`, `cuda:0`, ...). Called once, before the first sample."""

    def identity(self) -> Mapping[str, Any]:
        """Facts beyond the configuration that decide the output, such as hashes of weights or photos."""
        return {}


class Appearance(Stage):
    """Changes how a picture looks, never what is true of it: it gets copies and returns pixels."""

    takes: ClassVar[Space] = "srgb"
    gives: ClassVar[Space] = "srgb"
    renews_reference: ClassVar[bool] = False
    generative: ClassVar[bool] = False
    """Invents content; the plan refuses such a stage after the last gate."""

    also_on_device: ClassVar[bool] = False
    """For host stages: `paint` takes a torch tensor of B pictures as well, and gives the host's values within
    1/255. Beside a device stage such a stage then runs on the device, and the pictures stay there."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        """The numbers for one sample (scope `sample`, `group`) or for one object (scope `object`)."""

    @abstractmethod
    def paint(self, images: Any, labels: Sequence[Labels], draws: Sequence[Draw]) -> Any:
        """New pixels.

        Args:
            images: [B, 3, H, W] float32 in [0, 1] (`takes` says in which space): a numpy array with
                B = 1 for `host`, a torch tensor for `device`. A copy; writing into it is harmless.
            labels: One per picture, with copies of the passes in `needs` and, where present, `wants`.
            draws: One per picture; under scope `object` a draw by object id.

        Returns:
            Same shape and type as `images`, or `Painted` with a reason per picture. Non-finite values
            may be handed back; the engine rejects such pictures one by one (`nonfinite`).

        Raises:
            Rejected: When this picture cannot be done. A stage that has a batch at hand cannot say by it whose
                picture it means: the engine then asks for each picture alone, in a batch of its copies.
                `Painted` with a reason says the same and computes nothing twice.
        """


class Pointwise(Appearance):
    """An Appearance that maps each channel value on its own, whatever stands around it.

    The engine composes neighbouring ones and applies 8-bit pictures through one table; `paint` comes
    for free and gives the same values.
    """

    @abstractmethod
    def curve(self, values: Any, draw: Draw) -> Any:
        """[N, 3] channel values in [0, 1] to [N, 3] new ones; the engine clips to [0, 1].

        A numpy array in, a numpy array out; under `also_on_device` a torch tensor likewise.
        """

    def paint(self, images: Any, labels: Sequence[Labels], draws: Sequence[Draw]) -> Any:
        on_host = issubclass(type(images), np.ndarray)
        done = np.empty_like(images) if on_host else images.clone()
        for image, draw, out in zip(images, draws, done, strict=True):
            flat = image.reshape(3, -1).T
            values = np.ascontiguousarray(flat) if on_host else flat
            out[...] = self.curve(values, draw).clip(0.0, 1.0).T.reshape(image.shape)
        return done


class Geometry(Stage):
    """Says how a picture moves. It moves nothing itself: `synthaug.warp` does."""

    sees: ClassVar[Literal["size", "camera", "instances"]] = "instances"
    """The most that draw and warp look at, of labels that earlier motions of the row have moved. Following
    instances, or the camera, through a row of composed warps costs more than most stages."""

    border: Border | None = None
    """What pictures show where the motion looks past their edges; an instance may say otherwise than its class.
    None leaves it to the neighbours. Those that contradict each other are resampled one after the other."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, labels: Labels, attempt: int) -> Draw:
        """The numbers for one sample or group."""

    @abstractmethod
    def warp(self, labels: Labels, draw: Draw) -> Warp:
        """The motion; its source size is `labels.size`, its target size `canvas(labels.size)`."""

    def canvas(self, size: Size) -> Size:
        """Size after the warp. Depends on the size alone, so that the plan knows it without a draw."""
        return size


class Gate(Stage):
    """Says whether the labels still hold. It can say no, and the no is counted."""

    @abstractmethod
    def judge(self, images: Any, references: Any, labels: Sequence[Labels]) -> Sequence[Verdict]:
        """One verdict per picture; arguments as in `Appearance.paint`, copies all."""


class Writer(ABC):
    """A door out. It turns samples into bytes; publishing them is the engine's.

    One writer object per shard in flight: `open` is called first, then `encode` from several threads,
    `add` in plan order, and `close_shard` once.
    """

    def open(self, dataset: DatasetInfo) -> None:
        """Takes note of the dataset. Raises `ConfigError` where the format cannot hold it."""
        self.dataset = dataset

    def reader(self) -> Mapping[str, Any] | None:
        """Configuration, without `root`, of the reader that reads the dataset back; None where there is none."""
        return None

    @abstractmethod
    def encode(self, sample: Sample) -> Encoded:
        """Bytes of one sample, decoded again and compared before they are returned. Thread-safe.

        Raises:
            Rejected: The format cannot hold this sample truthfully.
        """

    @abstractmethod
    def add(self, encoded: Encoded) -> None:
        """Takes an encoded sample into the shard, in plan order."""

    @abstractmethod
    def close_shard(self, shard: str) -> Fragment:
        """What the shard leaves, deterministic to the byte; `shard` is its name, such as `000007`."""

    @abstractmethod
    def finalise(self, fragments: Iterable[Fragment]) -> Sequence[File]:
        """What needs the whole dataset: pure, idempotent, the same bytes for the same fragments."""
