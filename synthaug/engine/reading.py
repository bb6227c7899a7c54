"""One sample read and checked, in whatever process that happens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synthaug.contracts import Reader
from synthaug.engine import failpoints
from synthaug.errors import InputError, Rejected, SynthaugError
from synthaug.sample import Sample


@dataclass(frozen=True, slots=True)
class Failed:
    """A sample that was lost to a fault of the machinery, not of its own data; `slot` where a stage raised it."""

    reason: str
    message: str
    slot: str = ""


Outcome = Sample | Rejected | Failed


@dataclass(frozen=True, slots=True)
class ReaderSpec:
    """How a worker builds its reader: the checked configuration, not an object.

    Attributes:
        node: Configuration of the reader.
        plugins: Modules whose classes the configuration may name, as the user listed them.
        inputs: Expected SHA-256 by file; what is read must match, so no change goes unnoticed.
    """

    node: Mapping[str, Any]
    plugins: tuple[str, ...]
    inputs: Mapping[str, str]

    def build(self) -> Reader:
        """The reader, built as the plan built it."""
        from synthaug.engine.build import build

        reader = build(self.node, "read", self.plugins)
        if not isinstance(reader, Reader):
            raise InputError(f"slot read holds a {type(reader).__name__}, expected a Reader")
        return reader


def read_one(reader: Reader, sample_id: str, inputs: Mapping[str, str]) -> Sample | Rejected:
    """One sample, checked against the labels' own rules and against the content that was planned.

    Raises:
        InputError: A file changed, or vanished, since the plan was made.
    """
    failpoints.crash_at("worker.segv", sample_id)
    failpoints.hang_at("worker.hang", sample_id)
    failpoints.abort_at("decode.crash", sample_id)
    try:
        sample = reader.read(sample_id)
        sample.labels.check()
        if sample.image.size != tuple(sample.labels.size):
            raise Rejected("label", f"image is {sample.image.size}, its labels are for {sample.labels.size}")
        outcome: Sample | Rejected = sample
    except Rejected as rejected:
        _refuse_vanished(reader, sample_id, inputs)
        outcome = Rejected(rejected.reason, rejected.message, sample_id=sample_id, slot="read")
    for file, found in reader.digests().items():
        expected = inputs.get(file)
        if expected is not None and found != expected:
            raise InputError(
                f"{file} (sample {sample_id}) changed since the plan was made: SHA-256 {found[:16]}, "
                f"planned {expected[:16]}. Restore it, or use another write.root"
            )
    return outcome


def _refuse_vanished(reader: Reader, sample_id: str, inputs: Mapping[str, str]) -> None:
    """A file that was there when it was planned and is gone now is no fault of its sample: nothing may hang on when.

    Raises:
        InputError: Naming the file.
    """
    if not inputs:
        return
    try:
        files = [file for file in reader.describe(sample_id).files if file in inputs]
        for file in files:
            reader.stamp(file)
    except Rejected as gone:
        if gone.reason == "missing":
            raise InputError(
                f"a file of sample {sample_id} has vanished since the plan was made ({gone.message}). Restore it, or "
                "use another write.root"
            ) from gone


def built(spec: ReaderSpec) -> Reader:
    """The reader; one that cannot be built is no fault of the sample that happened to come first."""
    try:
        return spec.build()
    except SynthaugError:
        raise
    except Exception as error:
        raise SynthaugError(f"slot read cannot be built: {type(error).__name__}: {error}") from error
