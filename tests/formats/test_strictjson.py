"""JSON that says one thing: every silent leniency of Python's reader is an error with a place."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from synthaug.errors import InputError
from synthaug.formats import strictjson

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_documents_survive_a_round_trip(value: Any) -> None:
    try:
        data = strictjson.dumps(value)
    except UnicodeEncodeError:
        assert "\\ud" in json.dumps(value)  # a lone surrogate is text for Python and nothing for UTF-8
        return
    assert strictjson.loads(data, "x.json") == value
    assert data.endswith(b"\n")


@given(VALUES)
def test_reads_what_python_reads(value: Any) -> None:
    assert strictjson.loads(json.dumps(value, indent=1).encode(), "x.json") == value


def test_dumps_is_canonical() -> None:
    assert strictjson.dumps({"b": [1, 1.5, 1e300, None], "a": "ä"}) == '{"a":"ä","b":[1,1.5,1e+300,null]}\n'.encode()
    assert strictjson.dumps({"b": 1, "a": 2}) == strictjson.dumps({"a": 2, "b": 1})
    for value in (math.nan, [math.inf], {"a": -math.inf}):
        with pytest.raises(ValueError, match="JSON compliant"):
            strictjson.dumps(value)
    for value in ({1: 2}, {"a": {None: 1}}, [{True: 1}], {"a": object()}):
        with pytest.raises(TypeError):
            strictjson.dumps(value)


# What, the text, and the words that the message must hold.
FAULTS = {
    "NaN": (b'{"a": 1,\n "b": NaN}', "line 2, column 7"),
    "Infinity": (b"[1, Infinity]", "line 1, column 5"),
    "minus Infinity": (b"[-Infinity]", "line 1, column 2"),
    "number that overflows": (b"[1,\n\n1e400]", "line 3, column 1"),
    "long number that overflows": (b"[" + b"9" * 400 + b".0]", "line 1, column 2"),
    "duplicate key": (b'{"a": 1,\n "a": 2}', "line 2, column 2"),
    "duplicate key, spelt differently": (b'{"a": 1, "\\u0061": 2}', "line 1, column 10"),
    "duplicate key, deep": (b'[{"x": {"k": {}, "l": [], "k": 1}}]', "line 1, column 27"),
    "int of 4,001 digits": (b"[1, " + b"7" * 4001 + b"]", "line 1, column 5"),
    "int of 5,000 digits": (b"[1, -" + b"7" * 5000 + b"]", "line 1, column 5"),
    "nesting of 201": (b"[" * 201 + b"]" * 201, "line 1, column 201"),
    "nesting of 100,000": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "line 1, column 1001"),
    "nesting that never closes": (b"[" * 100_000, "line 1, column 201"),
    "byte order mark": (b"\xef\xbb\xbf{}", "byte 0"),
    "UTF-16": ("{}".encode("utf-16"), "byte 0"),
    "bad UTF-8": (b'{"a": "\xff"}', "byte 7"),
    "overlong UTF-8": (b'["\xc0\xaf"]', "byte 2"),
    "surrogate in UTF-8": (b'["\xed\xa0\x80"]', "byte 2"),
    "truncated": (b'{"a": [1, 2', "line 1, column 12"),
    "trailing comma": (b"[1, 2,]", "line 1"),
    "two documents": (b"{} {}", "line 1, column 4"),
    "comment": (b"[1] // x", "line 1, column 5"),
    "single quotes": (b"{'a': 1}", "line 1, column 2"),
    "control character": (b'["a\nb"]', "line 1"),
    "empty": (b"", "line 1, column 1"),
    "leading zero": (b"[01]", "line 1"),
    "hex": (b"[0x10]", "line 1"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_e8_refused_with_its_place(name: str) -> None:
    data, place = FAULTS[name]
    begin = time.monotonic()
    with pytest.raises(InputError) as caught:
        strictjson.loads(data, "labels.json")
    assert str(caught.value).startswith("labels.json, ")
    assert place in str(caught.value)
    assert time.monotonic() - begin < 1.0


def test_e8_text_that_only_looks_like_an_offence_is_read() -> None:
    brackets = "[{" * 500 + '"' + "\\"
    value = {
        "NaN": "NaN",
        "deep": brackets,
        "digits": "7" * 5000,
        "escaped": '"a": 1, "a": 2 \\',
        "exponent": "1e999",
        "limit": int("7" * 4000),
        "small": 1e-300,
        "nested": [{"a": 1}, {"a": 2}],
    }
    assert strictjson.loads(json.dumps(value).encode(), "x.json") == value
    deep = b"[" * 200 + b"]" * 200
    assert strictjson.loads(deep, "x.json") == json.loads(deep)


def test_depth_is_counted_across_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strictjson, "_SLICE", 7)
    text = '{"a\\"[": ["[[[", {"b": [[1]]}], "c": "]]"}'
    assert strictjson._deepest(text.encode()) == 5
    assert strictjson.loads(text.encode(), "x.json") == json.loads(text)
