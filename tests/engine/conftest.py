"""What several tests of the engine ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models.tiny import build_tiny_sd


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny pipeline for the session; tests that change a folder copy it first."""
    return build_tiny_sd(tmp_path_factory.mktemp("tiny") / "sd")
