"""From nodes to objects: names, then types, then the call; every refusal names its slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthaug.engine import build as building
from synthaug.engine.annotations import convert
from synthaug.errors import ConfigError, InputError, SecurityError
from tests.plugins.stand_ins import Curve, Tint

PLUGIN = "tests.plugins.stand_ins"


def node(name: str, **fields: Any) -> dict[str, Any]:
    return {"_target_": f"{PLUGIN}.{name}", **fields}


def build(target: Mapping[str, Any], slot: str = "tint") -> Any:
    return building.build(target, slot, [PLUGIN])


def test_builds_with_nested_objects_and_converted_values() -> None:
    made = build(node("Tint", strength=1, colour=[1, 0.5, 0], curve=node("Curve", gamma=2)))
    assert isinstance(made, Tint)
    assert isinstance(made.curve, Curve)
    assert (made.strength, made.colour, made.curve.gamma) == (1.0, (1.0, 0.5, 0.0), 2.0)
    assert isinstance(made.strength, float)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (node("Tint", strenght=1), "tint: Tint has no field 'strenght'. Did you mean 'strength'?"),
        (node("Tint", strength="high"), "tint.strength: 'high' is a str, expected float"),
        (node("Tint", strength=True), "tint.strength: True is a bool, expected float"),
        (node("Tint", strength=float("nan")), "tint.strength: NaN"),
        (node("Tint", strength=1.5), "tint: strength 1.5 is out of range, expected 0 to 1"),
        (node("Tint", steps=1.0), "tint.steps: 1.0 is a float, expected int"),
        (node("Tint", soft="yes"), "tint.soft: 'yes' is a str, expected bool (true or false)"),
        (node("Tint", colour=[1, 2]), "tint.colour: 2 values [1, 2], expected 3"),
        (node("Tint", colour=[1, 2, "x"]), "tint.colour[2]: 'x' is a str, expected float"),
        (node("Tint", names={"a": "x"}), "tint.names.a: 'x' is a str, expected float"),
        (node("Tint", curve=node("Curve", gama=1)), "tint.curve: Curve has no field 'gama'. Did you mean 'gamma'?"),
        (node("Tint", curve=node("Writer")), "tint.curve: a Writer, expected"),
        (node("Tint", curve={"gamma": 1}), "tint.curve: {'gamma': 1} is a dict"),
        (node("Reader"), "tint.root is mandatory and has no value; give tint.root=VALUE"),
        (node("Reader", root="???"), "tint.root is mandatory"),
        (node("Reader", root=2024), "tint.root: 2024 is a int, expected str; quote it: tint.root=\"'2024'\""),
        (node("Reader", root="x", classes="car"), "tint.classes: 'car' is a str"),
        (node("Writer", masks="polygon"), "tint.masks: 'polygon' is not known. Did you mean 'polygons'?"),
        (node("Broken"), "tint: Broken cannot be built: OSError: no such device"),
    ],
)
def test_refusals_name_slot_and_way_out(target: Mapping[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(target)
    assert words in str(caught.value)


def test_other_refusals_keep_their_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Tint) -> None:
        raise InputError("two images share the id 7")

    monkeypatch.setattr(Tint, "__init__", refuse)
    with pytest.raises(InputError, match="tint: two images"):
        build(node("Tint"))


def test_verify_calls_nothing() -> None:
    building.verify(node("Broken"), "tint", [PLUGIN])
    with pytest.raises(ConfigError, match="gama"):
        building.verify(node("Tint", curve=node("Curve", gama=1)), "tint", [PLUGIN])


def test_root_of_the_writer_belongs_to_the_engine() -> None:
    assert build(node("Writer", root="/out"), "write").masks == "rle"
    with pytest.raises(ConfigError, match="no field 'root'"):
        build(node("Writer", root="/out"), "tint")


@pytest.mark.security
def test_nothing_outside_the_list_is_built() -> None:
    with pytest.raises(SecurityError):
        building.build(node("Tint"), "tint")
    with pytest.raises(SecurityError):
        build({"_target_": "os.system", "command": "true"})


def no_nested(_: Mapping[str, Any], where: str) -> tuple[type, object]:
    raise AssertionError(where)


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (int, [0, -3], [True, 1.0, "1", None]),
        (float, [0.5, 2, float("inf")], [True, "1", None, float("nan")]),
        (bool, [True], [1, "true", None]),
        (str, ["x", ""], [1, None, True]),
        (Path, ["a/b"], [1]),
        (int | None, [None, 1], ["", 1.5]),
        (float | Literal["auto"], [1, "auto"], ["automatic", True]),
        (Literal["a", 1], ["a", 1], ["b", 2, True]),
        (list[int], [[], [1, 2]], [["1"], "12", 3, None]),
        (Sequence[str], [["a"]], ["ab", [1]]),
        (tuple[int, int], [[1, 2]], [[1], [1, 2, 3], 1]),
        (tuple[float, ...], [[], [1, 2.5]], [["x"]]),
        (dict[str, int], [{}, {"a": 1}], [{"a": "x"}, [1]]),
        (Mapping[int, str], [{1: "car"}], [{"x": "car"}]),
        (Any, [None, [1], {"a": 2}], []),
    ],
)
def test_annotations(annotation: Any, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        convert(value, annotation, "slot.field", no_nested)
    for value in bad:
        with pytest.raises(ConfigError, match=r"slot\.field"):
            convert(value, annotation, "slot.field", no_nested)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("abc", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", min_size=1), inner, max_size=2),
    max_leaves=5,
)


@given(values)
def test_g4_a_value_is_converted_or_refused_never_bent(value: Any) -> None:
    for annotation, check in (
        (int, lambda v: type(v) is int),
        (float, lambda v: type(v) is float),
        (str | None, lambda v: v is None or type(v) is str),
        (tuple[int, ...], lambda v: isinstance(v, tuple) and all(type(i) is int for i in v)),
    ):
        try:
            got = convert(value, annotation, "slot.field", no_nested)
        except ConfigError:
            continue
        assert check(got)
        assert (list(got) if isinstance(got, tuple) else got) == value
