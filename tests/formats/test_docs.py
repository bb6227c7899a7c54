"""The page on formats says what the configurations say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from synthaug.formats import strays
from synthaug.formats.strays import Strays

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "formats.md").read_text("utf-8")
READERS = sorted(path.stem for path in (ROOT / "conf" / "read").glob("*.yaml"))


def rows(head: str) -> list[list[str]]:
    """Cells of the table whose first row begins with `head`, that row first."""
    lines = PAGE[PAGE.index(head) :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def told() -> dict[str, set[str]]:
    head, _, *body = rows("| `read=` |")
    fields = [cell.strip("`") for cell in head[1:]]
    found: dict[str, set[str]] = {}
    for names, *cells in body:
        assert set(cells) <= {"yes", ""}
        has = {field for field, cell in zip(fields, cells, strict=True) if cell == "yes"}
        found |= dict.fromkeys((name.strip("` ") for name in names.split(",")), has)
    return found


def test_every_reader_has_a_row() -> None:
    assert sorted(told()) == READERS


@pytest.mark.parametrize("name", READERS)
def test_a_reader_has_the_fields_that_the_table_says_and_no_other_of_them(name: str) -> None:
    fields = {cell.strip("`") for cell in rows("| `read=` |")[0][1:]}
    assert told()[name] == fields & yaml.safe_load((ROOT / "conf" / "read" / f"{name}.yaml").read_text("utf-8")).keys()


def test_the_first_table_says_what_is_read_and_written() -> None:
    written = {path.stem for path in (ROOT / "conf" / "write").glob("*.yaml")}
    body = rows("| format |")[2:]
    assert {row[0].strip("`") for row in body} == set(READERS) - {"follow_me"}
    assert {row[0].strip("`") for row in body if row[2]} == written


def test_the_example_of_a_count_is_what_is_counted() -> None:
    shown = PAGE[PAGE.index('"off_table": {') :].split("\n\n")[0]
    steps = strays.steps("FolderReader", {"semantic": Strays({"#808080": 35, "#ff00ff": 2})})
    assert yaml.safe_load("{" + shown + "}") == steps[0].facts
