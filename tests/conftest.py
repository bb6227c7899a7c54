"""What every test may ask for: the folder of real data, one torch thread, one hypothesis profile."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]

# Deadlines measure the machine, not the code; examples are derived from the test, so that a red is red again.
hypothesis.settings.register_profile("synthaug", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("synthaug")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The real data sets that tests read; they are no part of a checkout."""
    folder = Path(os.environ.get("SYNTHAUG_DATA") or ROOT.parent / "shared" / "data").resolve()
    if not (folder / "SOURCES.md").is_file():
        pytest.skip(f"no real data at {folder}: set SYNTHAUG_DATA to the folder that holds SOURCES.md")
    return folder


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    """Tests share the machine; torch is not imported for it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)
