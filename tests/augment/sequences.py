"""A plug-in of short sequences with flow, and a writer that says which passes it was given."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from synthaug.contracts import Description, Encoded
from synthaug.sample import Sample
from tests.fakes import FakeReader, FakeWriter


class FlowReader(FakeReader):
    """The stand-in's pictures, three frames to a group, each with flow to the next."""

    def __init__(self, *, count: int = 9, width: int = 48, height: int = 32) -> None:
        super().__init__(count=count, width=width, height=height, frames=3)

    def describe(self, sample_id: str) -> Description:
        found = super().describe(sample_id)
        return replace(found, passes=(*found.passes, "flow"))

    def read(self, sample_id: str) -> Sample:
        sample = super().read(sample_id)
        flow = np.zeros((*sample.labels.size, 2), np.float32)
        flow[...] = (3.0, -1.5)
        labels = replace(sample.labels, passes={**sample.labels.passes, "flow": flow})
        return replace(sample, labels=labels)


class PassWriter(FakeWriter):
    """Rows with the names and hashes of the passes, and the instances' boxes."""

    def encode(self, sample: Sample) -> Encoded:
        encoded = super().encode(sample)
        digests = {n: hashlib.sha256(a.tobytes()).hexdigest() for n, a in sample.labels.passes.items()}
        return replace(encoded, row={**encoded.row, "passes": digests, "group": sample.group})
