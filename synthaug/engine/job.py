"""A composed configuration, built: reader, pipeline, writer, plan. Everything but the doing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthaug.contracts import DatasetInfo, Reader, Stage, Writer
from synthaug.engine import hashing, identity, manifest, plan, roots
from synthaug.engine.build import build
from synthaug.engine.finalise import dataset_info
from synthaug.engine.pipeline import Pipeline, Slot
from synthaug.engine.plan import Cut, Plan
from synthaug.engine.publish import PRIVATE, Output
from synthaug.engine.workers import ReaderSpec
from synthaug.errors import ConfigError, Rejected

if TYPE_CHECKING:
    from synthaug.engine.configure import RunConfig

STAMPS = f"{PRIVATE}/stamps.json"


@dataclass(frozen=True, slots=True)
class Job:
    """What a configuration describes, built for free: no weights, no processes, nothing written."""

    config: RunConfig
    reader: Reader
    pipeline: Pipeline
    make_writer: Callable[[], Writer]
    cut: Cut
    device: str

    @property
    def root(self) -> Path:
        """Where the dataset goes."""
        return Path(str(self.config.write["root"]))

    def plan(self, known: Mapping[str, str] | None) -> Plan:
        """Describes, hashes and cuts the input; checks the slots against it.

        Args:
            known: Hashes of files that are proven untouched since they were last hashed; None: no hashing.
        """
        config = self.config
        operational = {slot.name: slot.stage.operational for slot in self.pipeline.slots}
        operational["read"] = self.reader.operational
        made = plan.make(
            self.reader,
            self.pipeline,
            self.cut,
            config=identity.config_identity(_composed(config), operational) | {"plugins": dict(config.plugins)},
            environment=identity.environment(
                self.pipeline.needs_device, self.device, sorted({t.rpartition(".")[0] for t in config.targets})
            ),
            known=known,
        )
        ungated = bool(config.settings["ungated"])
        space = self.pipeline.check(
            passes=made.passes, space=made.space, ungated=ungated, categories=self.reader.categories()
        )
        if space == "linear" and not getattr(self.make_writer(), "holds_linear", False):
            raise ConfigError(
                "the pictures are scene-linear (HDR) at the end and slot write cannot hold them; "
                "put a tone mapping stage in the recipe, or use write=folder"
            )
        return made

    def dataset(self, made: Plan) -> DatasetInfo:
        """What the writer may know before the first sample."""
        card = {"synthaug": identity.code_version().split("+")[0], "seed": self.cut.seed, "recipe": self.config.name}
        info = dataset_info(made, self.pipeline, self.reader.categories(), card)
        self.make_writer().open(info)
        return info

    def notes(self) -> dict[str, int]:
        """What the reader has to say of the input as a whole, zeros left out."""
        return {name: int(count) for name, count in sorted(self.reader.notes().items()) if count}

    def reader_spec(self, made: Plan) -> ReaderSpec:
        """How worker processes build the same reader."""
        return ReaderSpec(dict(self.config.read), tuple(self.config.plugins), dict(made.inputs))


def open_job(config: RunConfig) -> Job:
    """Builds a composed configuration.

    Raises:
        ConfigError: Naming the slot and the field.
    """
    modules = tuple(config.plugins)
    roots.refuse_empty("write", config.write)
    reader = build(config.read, "read", modules)
    if not isinstance(reader, Reader):
        raise ConfigError(f"slot read holds a {type(reader).__name__}, expected a Reader")
    slots: list[Slot] = []
    for name, node in config.stages.items():
        stage = build(node, name, modules)
        if not isinstance(stage, Stage):
            raise ConfigError(f"slot {name} holds a {type(stage).__name__}, expected an Appearance, Geometry or Gate")
        slots.append(Slot(name, stage))
    pipeline = Pipeline(tuple(slots))

    def make_writer() -> Writer:
        writer = build(config.write, "write", modules)
        if not isinstance(writer, Writer):
            raise ConfigError(f"slot write holds a {type(writer).__name__}, expected a Writer")
        return writer

    make_writer()
    return Job(config, reader, pipeline, make_writer, _cut(config), _device(config, pipeline))


def _composed(config: RunConfig) -> dict[str, Any]:
    """Every field with the value it has: an interpolation as written could hide a change of what it points to."""
    return {**config.settings, "read": config.read, **config.stages, "write": config.write, "engine": config.engine}


def _cut(config: RunConfig) -> Cut:
    settings, engine = config.settings, config.engine
    return Cut(engine["shard_size"], engine["micro_batch"], settings["variants"], settings["split"], settings["seed"])


def _device(config: RunConfig, pipeline: Pipeline) -> str:
    """The torch device; asks torch only where a stage computes on one."""
    wanted = str(config.engine["device"])
    if not pipeline.needs_device:
        return "cpu"
    if wanted != "auto":
        return wanted
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"


def refuse_absent_device(job: Job) -> None:
    """Asks torch for the devices that a run wants by name, before it plans anything.

    Raises:
        ConfigError: Naming those that are there.
    """
    wanted, processes = str(job.config.engine["device"]), int(job.config.engine["devices"])
    if not wanted.startswith("cuda") and not job.device.startswith("cuda"):
        return
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = ", ".join(["cpu", *(f"cuda:{i}" for i in range(count))])
    if count <= int(wanted.partition(":")[2] or 0):
        raise ConfigError(f"engine.device={wanted}: this machine has no such device; available: {there}")
    if processes > count:
        raise ConfigError(f"engine.devices={processes}: one process per device, and there are {count}: {there}")


def known_hashes(output: Output, reader: Reader) -> dict[str, str]:
    """Hashes from the stored plan, of files whose stamps say that nobody touched them.

    The stamp holds size, inode, modification and change time; the last one cannot be set back by hand.
    """
    stored, stamps = output.read(manifest.PLAN), output.read(STAMPS)
    if stored is None or stamps is None:
        return {}
    try:
        inputs: Mapping[str, str] = json.loads(stored)["inputs"]
        recorded: Mapping[str, list[int]] = json.loads(stamps)
    except (ValueError, KeyError):
        return {}
    known: dict[str, str] = {}
    for file, digest in inputs.items():
        try:
            if list(reader.stamp(file)) == recorded.get(file):
                known[file] = digest
        except (OSError, Rejected):
            continue
    return known


def stamps_of(reader: Reader, made: Plan) -> dict[str, Any]:
    """Stamps of all inputs, for the next resume."""
    files = list(made.inputs)
    return dict(zip(files, map(list, hashing.each(reader.stamp, files)), strict=True))
