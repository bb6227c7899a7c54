"""Every file of conf/augment names a class and says every constructor parameter with its true default."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml

FILES = sorted((Path(__file__).parents[2] / "conf" / "augment").glob("*.yaml"))
OTHERWISE = {("letterbox", "fit")}
"""Files that are there to set another default than the class."""


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else {} if value is None else value


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_parameters_and_defaults(file: Path) -> None:
    found = yaml.safe_load(file.read_text())
    module, _, name = found.pop("_target_").rpartition(".")
    parameters = dict(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
    assert set(found) == set(parameters)
    for key, parameter in parameters.items():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        if parameter.default is inspect.Parameter.empty:
            assert found[key] == "???"
        elif (file.stem, key) not in OTHERWISE:
            assert found[key] == plain(parameter.default)


def test_no_stage_without_a_file() -> None:
    assert len(FILES) == 23
