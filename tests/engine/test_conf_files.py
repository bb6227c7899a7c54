"""Every group file tells the whole truth about its class: each parameter, with its default, documented."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from synthaug.engine import build, targets, vet
from synthaug.engine.annotations import convert, hints, parameters
from synthaug.engine.describe_config import arguments_of

CONF = targets.find_conf()
FILES = sorted(path.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml"))


def data_of(file: str) -> dict[str, Any]:
    return vet.read_yaml(CONF / file)[0]


def plain(value: Any) -> Any:
    """A default as YAML would hold it."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    # No signature can hold an empty mapping safely: null and {} are the same default.
    return {k: plain(v) for k, v in value.items()} or None if isinstance(value, Mapping) else value


WITH_CLASS = [file for file in FILES if "_target_" in data_of(file)]


@pytest.mark.parametrize("file", WITH_CLASS)
def test_every_conf_file_lists_every_parameter(file: str) -> None:
    data = data_of(file)
    slot = file.split("/")[0]
    known = parameters(build.find_class(data.pop("_target_"), file))
    for name in build.OUTSIDE.get(slot, frozenset()) - set(known):
        assert data.pop(name) == "???"
    # Another file of the class may set other values, but one of them must show the defaults.
    expected = {n: "???" if p.default is p.empty else plain(p.default) for n, p in known.items()}
    assert data.keys() == expected.keys()
    if len([other for other in WITH_CLASS if data_of(other)["_target_"] == data_of(file)["_target_"]]) == 1:
        # A reference takes a setting of the run, which is a value and not the default.
        assert {n: expected[n] if "${" in str(v) else plain(v) for n, v in data.items()} == expected


@pytest.mark.parametrize("file", WITH_CLASS)
def test_every_parameter_is_documented_and_keyword_only(file: str) -> None:
    cls = build.find_class(data_of(file)["_target_"], file)
    assert set(parameters(cls)) <= set(arguments_of(cls)), "each parameter needs a line under Args:"
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters(cls).values())
    assert cls.__doc__


@pytest.mark.parametrize("file", WITH_CLASS)
def test_every_conf_file_fits_the_annotations(file: str) -> None:
    data = data_of(file)
    cls = build.find_class(data.pop("_target_"), file)
    types = hints(cls)

    def nested(node: Mapping[str, Any], where: str) -> tuple[type, object]:
        return build.find_class(node["_target_"], where), None

    for name, value in data.items():
        if value != "???" and "${" not in str(value) and name in types:
            convert(value, types[name], f"{file}: {name}", nested)
